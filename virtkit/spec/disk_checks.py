"""Disks and drives of a guest: their names, folders and discs must differ, and be there. Pure."""

from __future__ import annotations

from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.model import drive_name
from virtkit.spec.problem import Problem


def check(draft: Draft, problems: Problems) -> None:
    """Errors of guests' disks and drives go to ``problems``."""
    for entry in draft.entries:
        _discs(entry, problems)
        _drives(entry, problems)


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
