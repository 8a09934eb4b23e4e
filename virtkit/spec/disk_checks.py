"""Disks and drives of a guest: their names, folders and discs must differ, and be there. Pure."""

from __future__ import annotations

from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.model import BOOT_DISK, NO_IMAGE, drive_name
from virtkit.spec.problem import Problem

#: What a guest boots from, in words.
_DEVICES = {"disk": "a disk", "cdrom": "a disc", "network": "a network"}


def check(draft: Draft, problems: Problems) -> None:
    """Errors of guests' disks and drives go to ``problems``."""
    for entry in draft.entries:
        _discs(entry, problems)
        _drives(entry, problems)
        _boot(entry, problems)


def _discs(entry: Entry, problems: Problems) -> None:
    """One disc in two drives."""
    for index, path in enumerate(entry.fields.cdroms):
        if path in entry.fields.cdroms[:index]:
            problem = Problem(
                f"the disc {path} is in two drives of the guest", cure="remove one of them"
            )
            problems.at(entry.node, ("cdroms", index), problem)


def _drives(entry: Entry, problems: Problems) -> None:
    """Disks that are called as a drive is."""
    drives = {drive_name(number) for number in range(1, len(entry.fields.cdroms) + 1)}
    for index, disk in enumerate(entry.fields.disks):
        if disk.name in drives:
            problem = Problem(
                f"a disk can't be called '{disk.name}'",
                why="a drive of the guest's `cdroms:` is called so",
                cure="choose another name",
            )
            problems.at(entry.node, ("disks", index, "name"), problem)


def _boot(entry: Entry, problems: Problems) -> None:
    """Devices to boot from that the guest lacks."""
    fields = entry.fields
    if fields.boot == BOOT_DISK:
        return
    has_root = fields.image != NO_IMAGE or fields.disk.size is not None
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
