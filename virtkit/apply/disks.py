"""A guest's volumes, one by one: made with what they start with, and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from virtkit import render
from virtkit.apply import contents
from virtkit.host import Storage, rotations
from virtkit.record import VolumeRecord
from virtkit.resources import Guest, Volume
from virtkit.voice import Voice

_SEED_READERS = {"iso9660": contents.read_iso9660, "ext4": contents.read_ext4_seed}


def make(storage: Storage, volume: Volume, say: Voice) -> None:
    """Makes a volume that there is not; a seed is made by ``make_seed``, a console log by libvirt.

    Raises:
        RequestError: the caller's file that it starts with is gone.
    """
    if volume.content == "file":
        source = contents.given(Path(volume.source))
        storage.create(_xml(volume, source.stat().st_size))
        storage.upload(volume.name, source)
    elif volume.content == "copied":
        storage.copy(render.guest_volume(volume), volume.source)
    else:
        storage.create(render.guest_volume(volume))
        if volume.content == "ext4":
            with contents.ext4(volume.size, volume.label, say) as image:
                storage.upload(volume.name, image)


def make_seed(
    storage: Storage, volume: Volume, form: str, files: Mapping[str, str], say: Voice
) -> None:
    """Makes a seed of these files.

    Args:
        form: its driver's: ``iso9660`` or ``ext4``.
    """
    data = contents.iso9660(files) if form == "iso9660" else contents.ext4_seed(files, say)
    storage.create(_xml(volume, len(data)))
    storage.write(volume.name, data)


def seed_files(storage: Storage, guest: Guest) -> dict[str, str]:
    """The files in a guest's seed; none where there is no seed, or one that was cut off."""
    volume = guest.volume("seed")
    data = storage.read(volume.name) if volume else b""
    return _SEED_READERS[guest.driver.seed](data) if data else {}


def _xml(volume: Volume, size: int) -> str:
    """The volume's XML once its size is known, in bytes."""
    return render.guest_volume(replace(volume, size=size))


def delete(storage: Storage, volume: VolumeRecord) -> None:
    """Deletes what the record lists, by its key; a console log with its rotations."""
    keys = [volume.key]
    if volume.role == "console":
        names = rotations(storage.names(), volume.name)
        keys = [str(PurePosixPath(volume.key).with_name(each)) for each in names]
    for key in keys:
        storage.delete(key)
