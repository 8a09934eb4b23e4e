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


def keep(host: Host, owner: GuestRecord) -> None:
    """Writes a guest's kept disks into the pool's record, so that they outlive its own; takes out
    those that are no longer to be kept."""
    if not any(each.role == "disk" for each in owner.volumes):
        return
    with host.storage.lock.held():
        pool = host.storage.record()
        kept = dict(pool.kept)
        for each in owner.volumes:
            if each.keep and each.state != "wanted":
                entry = KeptDisk(owner.environment, owner.guest, each.name, each.key)
                kept[each.name] = entry
            elif not each.keep:
                kept.pop(each.name, None)
        if kept != pool.kept:
            host.storage.write_record(PoolRecord(pool.images, kept))


def unkeep(host: Host, names: Iterable[str]) -> None:
    """Takes disks that are gone out of the pool's record."""
    with host.storage.lock.held():
        pool = host.storage.record()
        left = {name: each for name, each in pool.kept.items() if name not in set(names)}
        if left != pool.kept:
            host.storage.write_record(PoolRecord(pool.images, left))
