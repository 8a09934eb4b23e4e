"""Disks that a spec says exist, against what the host has, and who else has them.

Only what is to be made or started is looked at: what runs goes on, whatever became of the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from virtkit._dataclass import dataclass
from virtkit.drivers.fields import row_key
from virtkit.errors import RequestError
from virtkit.facts import HostFacts
from virtkit.plan.changes import Change
from virtkit.state.desired import DiskTarget, Guest
from virtkit.state.observed import Observed, ObservedGuest


def errors(
    changes: Iterable[Change], facts: HostFacts, observed: Observed
) -> Iterator[RequestError]:
    """What stops ``changes`` on the host that ``facts`` describe."""
    for change in changes:
        guest = change.desired
        if isinstance(guest, Guest) and _needs_disks(change):
            for disk in guest.disks:
                if disk.volume.content == "existing":
                    yield from _missing(disk, guest, facts)
                    yield from _of_others(disk, guest, observed)


def _needs_disks(change: Change) -> bool:
    """Whether a guest starts, or gets other disks."""
    current = change.observed
    off = isinstance(current, ObservedGuest) and current.state == "stopped"
    keys = {row_key(each.field).partition(".")[0] for each in change.reasons}
    made = change.action in ("create", "replace", "start")
    return made or off or change.effect == "restart" or bool(keys & {"disk", "disks"})


def _where(disk: DiskTarget, guest: Guest) -> str:
    return guest.positions.get(disk.volume.source, guest.where())


def _missing(disk: DiskTarget, guest: Guest, facts: HostFacts) -> Iterator[RequestError]:
    """A disk that is not there, or none of a kind that the guest can have."""
    name = disk.volume.source
    source = facts.disk_sources.get(name)
    if source is not None and not source.kind:
        yield RequestError(
            f"guest {guest.name}: host {guest.host} has no disk {name}",
            why=source.why,
            cure=source.cure,
            where=_where(disk, guest),
        )
    elif disk.kind not in guest.driver.existing:
        yield RequestError(
            f"guest {guest.name}: a guest of type {guest.driver.type} can't have the disk {name}",
            why="it has no path on the host, and only QEMU reaches it without",
            cure="use a file or a block device, or another type",
            where=_where(disk, guest),
        )
    elif source is not None and source.format not in ("", disk.volume.format):
        yield RequestError(
            f"guest {guest.name}: the disk {name} would be read as {disk.volume.format}",
            why=f"its pool finds in it what begins as a {source.format}; the spec alone decides, "
            "as a guest can write that into a raw disk",
            cure=f"set `format: {source.format}` if it was made as one",
            where=_where(disk, guest),
        )


@dataclass(frozen=True)
class _Holder:
    """Who has a file of the host's, and how it can be had by others too."""

    what: str
    readonly: bool = False
    shared: bool = False


def _of_others(disk: DiskTarget, guest: Guest, observed: Observed) -> Iterator[RequestError]:
    """A disk that is virtkit's own, which it would delete, or another guest's."""
    options, path = disk.options, disk.volume.key
    for holder in _holders(guest, observed).get(path, ()):
        if (holder.readonly and options.readonly) or (holder.shared and options.shared):
            continue
        yield RequestError(
            f"guest {guest.name}: the disk {disk.volume.source} is {holder.what}",
            why="two guests can't write to one disk, and a volume goes with its guest",
            cure="name another disk; or copy it, under a name of your own",
            where=_where(disk, guest),
        )


def _holders(guest: Guest, observed: Observed) -> Mapping[str, list[_Holder]]:
    """The paths of virtkit's own volumes on the host, and of disks that other guests have."""
    answer: dict[str, list[_Holder]] = {}

    def add(path: str, holder: _Holder) -> None:
        answer.setdefault(path, []).append(holder)

    for record in observed.records():
        for volume in record.volumes:
            add(volume.key, _Holder(f"a volume of guest {record.domain}"))
        own = (record.environment, record.guest) == (guest.environment, guest.name)
        options = {"root": record.requested.get("disk")}
        options |= {each["name"]: each for each in record.requested.get("disks") or ()}
        for disk in () if own else record.existing:
            said = options.get(disk.name)
            has = said if isinstance(said, Mapping) else {}
            holder = f"a disk of guest {record.domain}, too"
            add(disk.path, _Holder(holder, has.get("readonly") is True, has.get("shared") is True))
    for kept in observed.pool.kept.values():
        add(kept.key, _Holder(f"a kept disk of guest {kept.environment}-{kept.guest}"))
    for image in observed.pool.images.values():
        for path in filter(None, (image.files.root, image.files.kernel, image.files.initrd)):
            add(path, _Holder(f"part of the image {image.name}"))
    return answer
