"""Disks and drives of a guest: their names, folders and discs must differ, and be there. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.model import (
    BOOT_DISK,
    LOCAL,
    NO_IMAGE,
    DiskDevice,
    GuestFields,
    drive_name,
)
from virtkit.spec.model.ignition import IGNITION_VOLUME
from virtkit.spec.nodes import Path
from virtkit.spec.problem import Problem

#: What a guest boots from, in words.
_DEVICES = {"disk": "a disk", "cdrom": "a disc", "network": "a network"}


def check(draft: Draft, problems: Problems) -> None:
    """Errors of guests' disks and drives go to ``problems``."""
    for entry in draft.entries:
        _discs(entry, problems)
        _drives(entry, problems)
        _boot(entry, problems)
        _root(entry, problems)
    _one_guest_each(draft, problems)


def _discs(entry: Entry, problems: Problems) -> None:
    """One disc in two drives."""
    for index, path in enumerate(entry.fields.cdroms):
        if path in entry.fields.cdroms[:index]:
            problem = Problem(
                f"the disc {path} is in two drives of the guest", cure="remove one of them"
            )
            problems.at(entry.node, ("cdroms", index), problem)


def _drives(entry: Entry, problems: Problems) -> None:
    """Disks that are called as a drive is, or as the Ignition file's volume."""
    drives = {drive_name(number) for number in range(1, len(entry.fields.cdroms) + 1)}
    taken = dict.fromkeys(drives, "a drive of the guest's `cdroms:`")
    if entry.fields.ignition is not None:
        taken[IGNITION_VOLUME] = "the volume of the guest's `ignition:`"
    for index, disk in enumerate(entry.fields.disks):
        if disk.name in taken:
            problem = Problem(
                f"a disk can't be called '{disk.name}'",
                why=f"{taken[disk.name]} is called so",
                cure="choose another name",
            )
            problems.at(entry.node, ("disks", index, "name"), problem)


def _boot(entry: Entry, problems: Problems) -> None:
    """Devices to boot from that the guest lacks."""
    fields = entry.fields
    if fields.boot == BOOT_DISK:
        return
    has_root = fields.image != NO_IMAGE or fields.disk.size is not None or fields.disk.existing
    has = {
        "disk": has_root or fields.disks,
        "cdrom": fields.cdroms,
        "network": fields.networks != (),
    }
    for index, device in enumerate(fields.boot):
        if not has[device]:
            problem = Problem(
                f"the guest is to boot from {_DEVICES[device]}, and has none",
                cure=f"give it one, or remove {device} from `boot:`",
            )
            problems.at(entry.node, ("boot", index), problem)


def _root(entry: Entry, problems: Problems) -> None:
    """A root disk that exists beside an image to make one of."""
    if entry.fields.disk.existing is not None and entry.fields.image != NO_IMAGE:
        problem = Problem(
            f"the root disk {entry.fields.disk.existing} has a system, and starts from no image",
            why="virtkit never writes an image over a disk that exists",
            cure="add `image: none`, or remove `existing:`",
        )
        problems.at(entry.node, ("disk", "existing"), problem)


def _one_guest_each(draft: Draft, problems: Problems) -> None:
    """A disk that exists and that two guests of a host, or one twice, would write to."""
    hosts = [*draft.hosts.nodes] or [LOCAL]
    default = hosts[0] if len(hosts) == 1 else ""
    users: dict[tuple[str, str], list[tuple[str, DiskDevice]]] = {}
    reported: set[tuple[str, Path]] = set()
    for entry, guest in draft.guests():
        for path, disk in existing_disks(guest):
            others = users.setdefault((disk.existing or "", guest.host or default), [])
            conflict = next((n for n, e in others if n == guest.name or not _share(e, disk)), None)
            others.append((guest.name, disk))
            if conflict is not None and (entry.base, path) not in reported:
                reported.add((entry.base, path))
                problems.at(entry.node, path, _conflict(conflict, guest.name, disk))


def existing_disks(guest: GuestFields) -> Iterator[tuple[Path, DiskDevice]]:
    """The disks of a guest that its host has already, with the place of each."""
    for path, disk in (
        (("disk", "existing"), guest.disk),
        *((("disks", index, "existing"), each) for index, each in enumerate(guest.disks)),
    ):
        if disk.existing is not None:
            yield path, disk


def _share(first: DiskDevice, second: DiskDevice) -> bool:
    """Whether two guests can have one disk."""
    return bool((first.readonly and second.readonly) or (first.shared and second.shared))


def _conflict(first: str, second: str, disk: DiskDevice) -> Problem:
    if first == second:
        return Problem(
            f"the guest '{first}' would have the disk {disk.existing} twice",
            cure="remove one of them",
        )
    return Problem(
        f"'{first}' and '{second}' would both have the disk {disk.existing}",
        why="what two systems write to one disk destroys it",
        cure="give each its own; or set `readonly: true` for both, or `shared: true` where its "
        "file system is made for that",
    )
