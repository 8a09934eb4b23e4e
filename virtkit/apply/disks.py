"""Volumes on their way out: only what a record lists."""

from __future__ import annotations

from pathlib import PurePosixPath

from virtkit.host import Storage, rotations
from virtkit.record import VolumeRecord


def delete(storage: Storage, volume: VolumeRecord) -> None:
    """Deletes what the record lists, by its key; a console log with its rotations."""
    keys = [volume.key]
    if volume.role == "console":
        names = rotations(storage.names(), volume.name)
        keys = [str(PurePosixPath(volume.key).with_name(each)) for each in names]
    for key in keys:
        storage.delete(key)
