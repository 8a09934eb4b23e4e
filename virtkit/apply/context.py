"""What steps work with: the host, how a plan is carried out, what earlier steps found out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virtkit.apply.pool_record import PoolRecords
from virtkit.host import Host
from virtkit.spec.command import virtkit_command
from virtkit.state import record
from virtkit.state.desired import Guest, ImageFiles
from virtkit.state.record import GuestRecord

#: Seconds that a guest with disks that stay gets to shut down before it is forced off.
SHUTDOWN_TIMEOUT = 60.0


@dataclass(frozen=True)
class StepOptions:
    """What steps know of the request that they are part of.

    Attributes:
        spec: the spec's absolute path; ``folder``: its folder; ``settings``: what was set in it.
        wait: wait until all guests are ready, not only those that others are ``after``.
        restart: restart the guests that lack what only a restart brings.
        volumes: disks with ``keep: true`` go with their guests.
        inventory: how Ansible reaches the guests that there are, and what it is to know of them,
            as its YAML files have it.
        vault: the file with the password of Ansible's vaults; empty where Ansible's own settings
            say it, or there is none.
    """

    spec: str
    folder: Path
    settings: tuple[str, ...] = ()
    wait: bool = True
    restart: bool = False
    volumes: bool = False
    inventory: Callable[[], Mapping[str, Any]] = dict
    vault: str = ""

    def command(self, verb: str, *arguments: str) -> str:
        """The command that does ``verb`` to the spec as it was read."""
        return virtkit_command(verb, self.spec, *arguments, settings=self.settings)


@dataclass
class Context:
    """What steps work with: the host, and what earlier steps found out."""

    host: Host
    options: StepOptions
    image_files: dict[str, ImageFiles] = field(default_factory=dict)
    pool_records: PoolRecords = field(init=False)

    def __post_init__(self) -> None:
        self.pool_records = PoolRecords(self.host)

    def record_of_guest(self, guest: Guest, rendered: str = "") -> GuestRecord:
        """The record of a guest that this run makes: nothing made yet."""
        return record.of_guest(guest, self.options.spec, rendered, self.host.made_from)
