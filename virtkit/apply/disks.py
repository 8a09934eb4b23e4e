"""Volumes on their way out, and disks that outlive their guest: only what a record lists."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from virtkit.host import Storage, rotations
from virtkit.record import GuestRecord, KeptDisk, PoolRecord, VolumeRecord


def delete(storage: Storage, volume: VolumeRecord) -> None:
    """Deletes what the record lists, by its key; a console log with its rotations."""
    keys = [volume.key]
    if volume.role == "console":
        names = rotations(storage.names(), volume.name)
        keys = [str(PurePosixPath(volume.key).with_name(each)) for each in names]
    for key in keys:
        storage.delete(key)


def keep(storage: Storage, owner: GuestRecord) -> None:
    """Writes a guest's kept disks into the record of their pool, so that they outlive its own;
    takes out those that are no longer to be kept."""
    if not any(each.role == "disk" for each in owner.volumes):
        return
    with storage.lock.held():
        pool = storage.record()
        kept = dict(pool.kept)
        for each in owner.volumes:
            if each.keep and each.state != "wanted":
                entry = KeptDisk(owner.environment, owner.guest, each.name, each.key, owner.spec)
                kept[each.name] = entry
            elif not each.keep:
                kept.pop(each.name, None)
        if kept != pool.kept:
            storage.write_record(PoolRecord(pool.images, kept))


def unkeep(storage: Storage, names: Iterable[str]) -> None:
    """Takes disks that are gone out of the pool's record."""
    with storage.lock.held():
        pool = storage.record()
        left = {name: each for name, each in pool.kept.items() if name not in set(names)}
        if left != pool.kept:
            storage.write_record(PoolRecord(pool.images, left))


def delete_kept(storage: Storage, name: str) -> None:
    """Deletes a kept disk, and its line in the pool's record; one that has none stays."""
    disk = storage.record().kept.get(name)
    if disk is not None:
        storage.delete(disk.key)
        unkeep(storage, {name})
