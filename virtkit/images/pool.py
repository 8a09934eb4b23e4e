"""Images in a host's pool: volumes named by content, listed in the pool's record, made once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from virtkit.host import Host
from virtkit.images.cache import LocalImage
from virtkit.progress import Progress
from virtkit.state.desired import ImageFiles, ImageRef
from virtkit.state.record import StoredImage
from virtkit.xml import render

#: Readable by the hypervisors' users; nothing in an image is secret.
_MODE = "0644"


def put(host: Host, ref: ImageRef, image: LocalImage, progress: Progress) -> ImageFiles:
    """Makes the image's volumes where the pool has not got them.

    The pool's record says ``made`` only after the last byte: what a broken upload left is
    made again, and so is what somebody removed or cut off since.
    """
    folder = host.storage.describe().path
    files = ImageFiles.named(
        folder,
        image.content,
        format=image.format,
        size=image.size,
        bootable=not image.kernel,
    )
    length = Path(image.root).stat().st_size
    lock = host.connections.lock(f"image-{image.content}", f"image {ref.name} in the pool")
    with lock.acquire(on_wait=progress, sleep=progress.sleep):
        stored = host.storage.record().images.get(image.content)
        if stored is None or not stored.made or host.storage.damage(stored):
            _note(host, ref, files, length, made=False)
            sources = {files.root: image.root, files.kernel: image.kernel}
            for key, source in (sources | {files.initrd: image.initrd}).items():
                if key:
                    _upload(host, key, Path(source), progress)
            _note(host, ref, files, length, made=True)
        elif ref.identity not in stored.identities:  # the same content by another entry
            _note(host, ref, files, length, made=True)
    return files


def drop(host: Host, content: str) -> tuple[str, ...]:
    """Removes an image's volumes and its line in the pool's record.

    Returns:
        the identities of the entries that it was had by.
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
    """Writes an image into the pool's record, with the entries that it was had by."""
    with host.storage.lock.acquire():
        pool = host.storage.record()
        stored = pool.images.get(files.content)
        identities = tuple({*(stored.identities if stored else ()), ref.identity})
        image = StoredImage(ref.name, identities, files, made=made, bytes=length)
        images = {**pool.images, files.content: image}
        host.storage.write_record(replace(pool, images=images))


def _upload(host: Host, key: str, source: Path, progress: Progress) -> None:
    name, size = PurePosixPath(key).name, source.stat().st_size
    host.storage.delete(key)  # only ever a broken upload of the same content
    host.storage.create(render.volume(name, size, "raw", mode=_MODE))
    host.storage.upload(name, source, lambda sent: progress(f"uploading, {100 * sent // size} %"))
