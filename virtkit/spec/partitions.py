"""Disks that a guest sees as partitions of its first one. Pure."""

from __future__ import annotations

from virtkit.spec.draft import Entry
from virtkit.spec.errors import Problems
from virtkit.spec.model import NO_IMAGE
from virtkit.spec.problem import Problem, quote


def check(entry: Entry, problems: Problems) -> None:
    """Two disks as one partition, and partitions of a root disk that is there as a whole."""
    root = entry.fields.disk
    has_root = entry.fields.image != NO_IMAGE or root.size is not None or root.existing is not None
    taken = {root.partition: "root"}
    for index, disk in enumerate(entry.fields.disks):
        if disk.partition is None:
            continue
        problem = None
        if has_root and root.partition is None:
            problem = Problem(
                f"the disk {quote(disk.name)} can't be a partition of the root disk",
                why="the guest sees the root disk as a whole, with the partitions that are on it",
                cure="give the root disk one, too (`disk: {partition: …}`), or remove `partition:`",
            )
        elif disk.partition in taken:
            problem = Problem(
                f"the disks {taken[disk.partition]} and {disk.name} would both be partition "
                f"{disk.partition}",
                cure="choose another number",
            )
        taken[disk.partition] = disk.name
        if problem is not None:
            problems.at(entry.node, ("disks", index, "partition"), problem)
