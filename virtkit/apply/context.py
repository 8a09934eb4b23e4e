"""What steps work with: the host, how a plan is carried out, what earlier steps found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Protocol

from virtkit._dataclass import dataclass
from virtkit.apply.pool_record import PoolRecords
from virtkit.host import Host
from virtkit.spec.command import virtkit_command
from virtkit.state import record
from virtkit.state.desired import Guest, ImageFiles
from virtkit.state.record import GuestRecord

#: Seconds that a guest with disks that stay gets to shut down before it is forced off.
SHUTDOWN_TIMEOUT = 60.0


class RunInventory(Protocol):
    """How Ansible reaches the guests that there are, as a run changes them."""

    def note(self, host: Host, record: GuestRecord, *, running: bool) -> None:
        """Takes a guest as a step has left it."""

    def note_removed(self, host: Host, domain: str) -> None:
        """Takes that a guest is gone."""

    def tree(self) -> Mapping[str, Any]:
        """As Ansible's YAML files have it."""


@dataclass(frozen=True)
class StepOptions:
    """What steps know of the request that they are part of.

    Attributes:
        spec: the spec's absolute path; ``folder``: its folder; ``settings``: what was set in it.
        wait: wait until all guests are ready, not only those that others are ``after``.
        restart: restart the guests that lack what only a restart brings.
        volumes: disks with ``keep: true`` go with their guests.
        inventory: told what each step makes of a guest; None where no playbooks can be run.
        vault: the file with the password of Ansible's vaults; empty where Ansible's own settings
            say it, or there is none.
    """

    spec: str
    folder: Path
    settings: tuple[str, ...] = ()
    wait: bool = True
    restart: bool = False
    volumes: bool = False
    inventory: RunInventory | None = None
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

    def note(self, guest: GuestRecord, *, running: bool) -> None:
        """Has the run's inventory know a guest as a step has left it."""
        if self.options.inventory is not None:
            self.options.inventory.note(self.host, guest, running=running)

    def note_removed(self, domain: str) -> None:
        """Has the run's inventory know that a guest is gone."""
        if self.options.inventory is not None:
            self.options.inventory.note_removed(self.host, domain)
