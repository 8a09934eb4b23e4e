"""Images in a host's pool: volumes named by content, listed in the pool's record, made once."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from virtkit.errors import RUN_AGAIN, VirtkitError
from virtkit.host import Host, data_length
from virtkit.images.cache import LocalImage
from virtkit.progress import Meter, Progress
from virtkit.state.desired import ImageFiles, ImageRef
from virtkit.state.record import StoredImage
from virtkit.xml import render

#: Readable by the hypervisors' users; nothing in an image is secret.
_MODE = "0644"
_MIB = 1024 * 1024


def upload(host: Host, ref: ImageRef, image: LocalImage, progress: Progress) -> ImageFiles:
    """Makes the image's volumes where the pool has not got them."""
    files = ImageFiles.named(
        host.storage.describe().path,
        image.content,
        format=image.format,
        size=image.size,
        bootable=not image.kernel,
    )
    pairs = ((files.root, image.root), (files.kernel, image.kernel), (files.initrd, image.initrd))
    sources = {key: Path(source) for key, source in pairs if key}

    def fill() -> None:
        _check_room(host, ref, list(sources.values()))
        for key, source in sources.items():
            create_volume(host, key, source.stat().st_size)
            name = PurePosixPath(key).name
            host.storage.upload(name, source, Meter(progress, "uploading"))

    ensure(host, ref, files, Path(image.root).stat().st_size, fill, progress)
    return files


def ensure(
    host: Host,
    ref: ImageRef,
    files: ImageFiles,
    length: int,
    fill: Callable[[], None],
    progress: Progress,
) -> None:
    """Has an image's volumes made by ``fill`` where the pool has not got them.

    The pool's record says ``made`` only after the last byte: what a broken upload left is
    made again, and so is what somebody removed or cut off since.

    Args:
        length: of the root's file, in bytes.
    """
    lock = host.connections.lock(f"image-{files.content}", f"image {ref.name} in the pool")
    with lock.acquire(on_wait=progress, sleep=progress.sleep):
        stored = host.storage.record().images.get(files.content)
        if stored is None or not stored.made or host.storage.image_damage(stored):
            _note(host, ref, files, length, made=False)
            fill()
            _note(host, ref, files, length, made=True)
        elif ref.identity not in stored.identities:  # the same content by another entry
            _note(host, ref, files, length, made=True)


def create_volume(host: Host, key: str, length: int) -> None:
    """Makes one of an image's volumes, empty; what an interrupted run left of it is deleted."""
    host.storage.delete(key)  # only ever a broken upload of the same content
    host.storage.create(render.volume_xml(PurePosixPath(key).name, length, "raw", mode=_MODE))


def delete(host: Host, content: str) -> tuple[str, ...]:
    """Removes an image's volumes and its line in the pool's record.

    Returns:
        the identities of the spec's entries that it came from.
    """
    with host.storage.lock.acquire():
        pool = host.storage.record()
        image = pool.images[content]
        for key in (image.files.root, image.files.kernel, image.files.initrd):
            if key:
                host.storage.delete(key)
        remaining = {each: image for each, image in pool.images.items() if each != content}
        host.storage.write_record(replace(pool, images=remaining))
        return image.identities


def _note(host: Host, ref: ImageRef, files: ImageFiles, length: int, *, made: bool) -> None:
    """Writes an image into the pool's record, with the spec's entries that it came from."""
    with host.storage.lock.acquire():
        pool = host.storage.record()
        stored = pool.images.get(files.content)
        identities = tuple({*(stored.identities if stored else ()), ref.identity})
        image = StoredImage(ref.name, identities, files, made=made, bytes=length)
        images = {**pool.images, files.content: image}
        host.storage.write_record(replace(pool, images=images))


def _check_room(host: Host, ref: ImageRef, sources: Sequence[Path]) -> None:
    """Looks whether an image fits into the pool, before minutes are spent on it.

    Raises:
        VirtkitError: it does not.
    """
    free, need = host.storage.free(), 0
    for exact in (False, True):  # to look for zeros, all of it is read
        need = sum(data_length(each, exact=exact) for each in sources)
        if need <= free:
            return
    check_room(host, ref, need)


def check_room(host: Host, ref: ImageRef, need: int) -> None:
    """The same, of so many bytes."""
    free = host.storage.free()
    if free >= need:
        return
    pool = host.storage.describe()
    raise VirtkitError(
        f"pool {pool.name} on host {host.name} has no room for image {ref.name}",
        why=f"No space left: it takes {need / _MIB:.0f} MiB, and {free / _MIB:.0f} MiB are free in "
        f"{pool.path}",
        cure=f"free some space on the host (df -h {shlex.quote(pool.path)}), or name a larger "
        f"pool (`hosts: {{{host.name}: {{pool: NAME}}}}`), then {RUN_AGAIN}",
        where=host.name,
    )
