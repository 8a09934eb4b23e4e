"""A command runs once: what began by one way is not tried by the next. A real ssh server is the
second way; the agent is what libvirt says of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import libvirt_qemu
import pytest
from ssh_guest import running_guest

from virtkit.access import log, run
from virtkit.errors import VirtkitError
from virtkit.host import OutcomeUnknown, Unreachable

BEGUN, RUNNING = '{"return": {"pid": 7}}', '{"return": {"exited": false}}'


class Guest:
    """A guest with an agent that answers with these texts, and an ssh server that lets us in."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *replies: str) -> None:
        self.folder, self.replies = folder, list(replies)
        monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", self._agent)
        login, host_key = running_guest(folder)
        self.record: Any = SimpleNamespace(
            type="qemu",
            environment="lab",
            guest="web",
            domain="lab-web",
            spec="/lab.yaml",
            requested={"user": "root"},
            addresses=["10.20.0.10"],
            host_key=host_key,
            keys=login.keys,
            key_files=[f"{each}.pub" for each in login.identities],
        )
        domain = SimpleNamespace(lookupByName=lambda _: None)
        remote = SimpleNamespace(proxy_command=lambda **_: login.proxy)
        connections = SimpleNamespace(get=lambda _: domain)
        domains = SimpleNamespace(state=lambda *_: "running")
        self.host: Any = SimpleNamespace(
            name="rack1", connections=connections, remote=remote, domains=domains
        )

    def _agent(self, *_: object) -> str:
        if not self.replies:
            raise libvirt.libvirtError("the agent is gone")
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def commands(self) -> int:
        """How many commands came by ssh."""
        path = self.folder / "commands"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("replies", [(BEGUN, RUNNING), (BEGUN, "nonsense")])
def test_a_command_that_began_is_not_run_by_the_next_way(
    replies: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = Guest(tmp_path, monkeypatch, *replies)
    with pytest.raises(OutcomeUnknown, match=r"^agent: "):
        run(guest.host, guest.record, tmp_path, ["true"], 0.5)
    assert guest.commands() == 0


def test_a_command_that_did_not_begin_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(tmp_path, monkeypatch)
    assert run(guest.host, guest.record, tmp_path, ["echo", "hi"], 20).out == b"hi\n"
    assert guest.commands() == 1


def test_no_way_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(tmp_path, monkeypatch)
    guest.host.remote.proxy_command = lambda **_: "false"
    with pytest.raises(Unreachable, match=r"^agent: .*; ssh: ") as caught:
        run(guest.host, guest.record, tmp_path, ["true"], 5)
    assert not isinstance(caught.value, OutcomeUnknown)


# --- journals, for which a command is run -------------------------------------------------------


def test_a_journal_that_something_else_would_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the guest's address answers who has another host key: that is told, with its cure."""
    guest = Guest(tmp_path, monkeypatch)
    guest.record.type, guest.record.host_key = "uml", "ssh-ed25519 AAAA"
    with pytest.raises(VirtkitError, match="journal of guest web can't be read") as caught:
        log(guest.host, guest.record, tmp_path)
    assert "a different host key" in caught.value.why
    assert "something else answers at its address" in caught.value.cure
    assert guest.commands() == 0


def test_a_guest_without_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(tmp_path, monkeypatch)
    guest.record.type = "uml"
    monkeypatch.setenv("GREETING", "PATH=/nowhere; ")
    with pytest.raises(VirtkitError, match="journal of guest web can't be read") as caught:
        log(guest.host, guest.record, tmp_path)
    assert "journalctl exits with 127" in caught.value.why
