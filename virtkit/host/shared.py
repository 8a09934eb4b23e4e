"""What a host has that its guests are given: folders and devices, looked at for a plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from virtkit.facts import DeviceFacts, FolderFacts, SharedFacts
from virtkit.host import questions
from virtkit.host.connection import Connections


def shared(connections: Connections, folders: Iterable[str], devices: Iterable[str]) -> SharedFacts:
    """What is known of folders, by their paths, and of devices, by their names.

    Raises:
        VirtkitError: the host was not reached, or has no Python.
    """
    paths = ",".join(quote(each) for each in sorted(set(folders)))
    names = ",".join(sorted(set(devices)))
    answers = questions.ask(
        connections.remote, f"folders={paths}", f"devices={names}", "virtiofsd", "hook_interface"
    )
    interface = answers["hook_interface"]
    return SharedFacts(
        folders={path: FolderFacts(**each) for path, each in answers["folders"].items()},
        devices={name: _device(**each) for name, each in answers["devices"].items()},
        virtiofsd=answers["virtiofsd"],
        hook_interface=int(interface) if interface.isdecimal() else 0,
        prepare=connections.prepare_command,
    )


def _device(**answer: Any) -> DeviceFacts:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in answer.items()
    }
    return DeviceFacts(**values)
