"""Disks that a spec says exist, against what the host has, and who else has them.

Only what is to be made or started is looked at: what runs goes on, whatever became of the host.
"""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Iterable, Iterator, Mapping

from virtkit._dataclass import dataclass
from virtkit.drivers.fields import row_key
from virtkit.errors import RequestError
from virtkit.facts import HostFacts
from virtkit.plan.changes import Change
from virtkit.state.desired import DiskTarget, Guest
from virtkit.state.observed import Observed, ObservedGuest


def paths(observed: Observed) -> set[str]:
    """The paths of a host that must be known without links, to tell whose a disk is: disks that
    guests have, and folders of virtkit's own volumes."""
    records = observed.records()
    disks = {each.path for record in records for each in record.existing}
    return {each for each in disks if each.startswith("/")} | {
        posixpath.dirname(path) for path in _own_files(observed)
    }


def errors(
    changes: Iterable[Change], facts: HostFacts, observed: Observed
) -> Iterator[RequestError]:
    """What stops ``changes`` on the host that ``facts`` describe."""
    changes = list(changes)
    guests = [each.desired for each in changes if isinstance(each.desired, Guest)]
    for change in changes:
        guest = change.desired
        if isinstance(guest, Guest) and _needs_disks(change):
            seen: set[str] = set()
            for disk in guest.disks:
                if disk.volume.content == "existing":
                    yield from _missing(disk, guest, facts)
                    yield from _of_others(disk, guest, _holders(guest, guests, facts, observed))
                    yield from _twice(disk, guest, _real(disk.volume.key, facts), seen)


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
    elif source is not None and source.mounted and not disk.options.readonly:
        yield RequestError(
            f"guest {guest.name}: host {guest.host} uses the disk {name} itself",
            why=_use(source.mounted),
            cure="name another disk; or have the host give it up, for good (umount or swapoff, "
            "and /etc/fstab); or `readonly: true`",
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


def _use(place: str) -> str:
    """What a host has on a disk."""
    what = "swap space" if place == "swap" else f"what is mounted on {place}"
    return f"it is {what}, or a part of it is, and two systems that write to one disk destroy it"


@dataclass(frozen=True)
class _Holder:
    """Who has a file of the host's, and how it can be had by others too."""

    what: str
    readonly: bool = False
    shared: bool = False


def _of_others(
    disk: DiskTarget, guest: Guest, holders: Mapping[str, list[_Holder]]
) -> Iterator[RequestError]:
    """A disk that is virtkit's own, which it would delete, or another guest's."""
    options = disk.options
    for holder in dict.fromkeys(holders.get(disk.volume.key, ())):
        if (holder.readonly and options.readonly) or (holder.shared and options.shared):
            continue
        yield RequestError(
            f"guest {guest.name}: the disk {disk.volume.source} is {holder.what}",
            why="two guests can't write to one disk, and a volume goes with its guest",
            cure="name another disk; or copy it, under a name of your own",
            where=_where(disk, guest),
        )


def _twice(disk: DiskTarget, guest: Guest, real: str, seen: set[str]) -> Iterator[RequestError]:
    """A disk that the guest has already, by another of its names."""
    if real in seen:
        yield RequestError(
            f"guest {guest.name}: it would have the disk {disk.volume.source} twice",
            why=f"{real} has several names",
            cure="remove one of them",
            where=_where(disk, guest),
        )
    seen.add(real)


def _real(path: str, facts: HostFacts) -> str:
    """A path without links, as far as that is known; of a file in a known folder, with that."""
    if path in facts.real_paths:
        return facts.real_paths[path]
    folder, slash, name = path.rpartition("/")
    return f"{facts.real_paths.get(folder, folder)}{slash}{name}"


def _holders(
    guest: Guest, guests: Iterable[Guest], facts: HostFacts, observed: Observed
) -> Mapping[str, list[_Holder]]:
    """Who else has each of a guest's disks: virtkit's own volumes on the host, and other guests.

    Args:
        guests: those that are made or changed with it.
    """
    by_path: dict[str, list[_Holder]] = {}
    others = _recorded(guest, observed), _wanted(guest, guests)
    for path, holder in itertools.chain(_own_files(observed).items(), *others):
        by_path.setdefault(_real(path, facts), []).append(holder)
    keys = (each.volume.key for each in guest.disks)
    return {key: by_path.get(_real(key, facts), []) for key in keys}


def _wanted(guest: Guest, guests: Iterable[Guest]) -> Iterator[tuple[str, _Holder]]:
    """The disks that other guests are to have."""
    for other in guests:
        for disk in other.disks if other.name != guest.name else ():
            options = disk.options
            if disk.volume.content == "existing":
                what = f"a disk of guest {other.domain}, too"
                has = _Holder(what, bool(options.readonly), bool(options.shared))
                yield disk.volume.key, has


def _recorded(guest: Guest, observed: Observed) -> Iterator[tuple[str, _Holder]]:
    """The disks that other guests have, whoever made these."""
    for record in observed.records():
        own = (record.environment, record.guest) == (guest.environment, guest.name)
        options = {"root": record.requested.get("disk")}
        options |= {each["name"]: each for each in record.requested.get("disks") or ()}
        for disk in () if own else record.existing:
            said = options.get(disk.name)
            has = said if isinstance(said, Mapping) else {}
            what = f"a disk of guest {record.domain}, too"
            yield (
                disk.path,
                _Holder(what, has.get("readonly") is True, has.get("shared") is True),
            )


def _own_files(observed: Observed) -> Mapping[str, _Holder]:
    """virtkit's own volumes on the host, by their paths."""
    answer: dict[str, _Holder] = {}
    for record in observed.records():
        for volume in record.volumes:
            answer[volume.key] = _Holder(f"a volume of guest {record.domain}")
    for kept in observed.pool.kept.values():
        answer[kept.key] = _Holder(f"a kept disk of guest {kept.environment}-{kept.guest}")
    for image in observed.pool.images.values():
        for path in filter(None, (image.files.root, image.files.kernel, image.files.initrd)):
            answer[path] = _Holder(f"part of the image {image.name}")
    return answer
