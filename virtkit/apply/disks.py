"""Volumes on their way out, and disks that outlive their guest: only what a record lists."""

from __future__ import annotations

from collections.abc import Iterable

from virtkit.host import Host, rotations
from virtkit.record import GuestRecord, KeptDisk, PoolRecord, VolumeRecord


def delete(host: Host, volume: VolumeRecord) -> None:
    """Deletes what the record lists; a console log with its rotations."""
    names = [volume.name]
    if volume.role == "console":
        names = list(rotations(host.storage.names(), volume.name))
    for name in names:
        host.storage.delete(name)


def keep(host: Host, owner: GuestRecord, volumes: Iterable[VolumeRecord]) -> None:
    """Moves disks from their guest's record to the pool's, before the guest's is gone."""
    entries = {
        each.name: KeptDisk(owner.environment, owner.guest, each.name, each.key)
        for each in volumes
        if each.state == "made"
    }
    if not entries:
        return
    with host.storage.lock.held():
        pool = host.storage.record()
        host.storage.write_record(PoolRecord(pool.images, {**pool.kept, **entries}))


def unkeep(host: Host, names: Iterable[str]) -> None:
    """Takes disks out of the pool's record: a guest's own lists them again, or they are gone."""
    with host.storage.lock.held():
        pool = host.storage.record()
        left = {name: each for name, each in pool.kept.items() if name not in set(names)}
        if left != pool.kept:
            host.storage.write_record(PoolRecord(pool.images, left))
