"""One volume made with what it starts with, or deleted; ``guest.volumes`` says which and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from virtkit.apply import filesystems
from virtkit.host import Storage, rotations
from virtkit.progress import Meter, Progress
from virtkit.state.desired import Guest, Volume
from virtkit.state.record import VolumeRecord
from virtkit.xml import render

_SEED_READERS = {"iso9660": filesystems.read_iso9660, "ext4": filesystems.read_ext4_seed}


def make_volume(storage: Storage, volume: Volume, progress: Progress) -> None:
    """Makes a volume that doesn't exist. Seeds are made by ``make_seed``, what the spec names by
    ``make_given``, console logs by libvirt.

    Raises:
        RequestError: the caller's file that it starts with is gone.
    """
    if volume.content in ("file", "disc"):
        source = filesystems.existing_file(Path(volume.source))
        storage.create(_xml(volume, source.stat().st_size))
        storage.upload(volume.name, source, Meter(progress, f"uploading {source.name}"))
    elif volume.content == "copied":
        storage.copy(render.guest_volume_xml(volume), volume.source)
    else:
        storage.create(render.guest_volume_xml(volume))
        if volume.content == "ext4":
            with filesystems.ext4(volume.size, volume.label, progress) as image:
                storage.upload(volume.name, image, Meter(progress, f"uploading {volume.name}"))


def make_seed(
    storage: Storage, volume: Volume, form: str, files: Mapping[str, str], progress: Progress
) -> None:
    """Makes a seed of these files.

    Args:
        form: its driver's: ``iso9660`` or ``ext4``.
    """
    data = (
        filesystems.iso9660(files) if form == "iso9660" else filesystems.ext4_seed(files, progress)
    )
    storage.create(_xml(volume, len(data)))
    storage.write(volume.name, data)


def make_given(storage: Storage, volume: Volume, content: bytes) -> None:
    """Makes a volume of what the spec names for it, which may hold secrets."""
    storage.create(_xml(volume, len(content)))
    storage.write(volume.name, content)


def seed_files(storage: Storage, guest: Guest) -> dict[str, str]:
    """The files in a guest's seed; none where there is no seed, or one that was cut off."""
    volume = guest.volume("seed")
    data = storage.read(volume.name) if volume else b""
    return _SEED_READERS[guest.driver.seed](data) if data else {}


def _xml(volume: Volume, size: int) -> str:
    """The volume's XML once its size is known, in bytes."""
    return render.guest_volume_xml(replace(volume, size=size))


def delete_volume(storage: Storage, volume: VolumeRecord) -> None:
    """Deletes what the record lists, by its key; a console log with its rotations."""
    keys = [volume.key]
    if volume.role == "console":
        names = rotations(storage.names(), volume.name)
        keys = [str(PurePosixPath(volume.key).with_name(each)) for each in names]
    for key in keys:
        storage.delete(key)
