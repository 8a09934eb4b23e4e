"""Images in a host's pool: volumes named by content, listed in the pool's record, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import filelock
import platformdirs

from virtkit import render
from virtkit.host import Host
from virtkit.images.local import LocalImage
from virtkit.record import PoolRecord, StoredImage
from virtkit.resources import ImageFiles, ImageRef

Progress = Callable[[str], None]
#: Readable by the hypervisors' users; nothing in an image is secret.
_MODE = "0644"


def put(host: Host, ref: ImageRef, image: LocalImage, say: Progress) -> ImageFiles:
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
    with record_locked(host):
        pool = host.storage.record()
        known = pool.images.get(image.content)
        others = known.identities if known else ()
        length = Path(image.root).stat().st_size
        entry = StoredImage(ref.name, tuple({*others, ref.identity}), files, bytes=length)
        if known is None or not known.made or host.storage.damage(known):
            host.storage.write_record(_with(pool, entry))
            sources = {files.root: image.root, files.kernel: image.kernel}
            for key, source in (sources | {files.initrd: image.initrd}).items():
                if key:
                    _upload(host, PurePosixPath(key).name, Path(source), say)
            host.storage.write_record(_with(pool, replace(entry, made=True)))
        elif ref.identity not in known.identities:  # the same content by another entry
            host.storage.write_record(_with(pool, replace(entry, made=True)))
    return files


def drop(host: Host, content: str) -> None:
    """Removes an image's volumes and its line in the pool's record."""
    with record_locked(host):
        pool = host.storage.record()
        image = pool.images[content]
        for key in (image.files.root, image.files.kernel, image.files.initrd):
            if key:
                host.storage.delete(PurePosixPath(key).name)
        left = {each: image for each, image in pool.images.items() if each != content}
        host.storage.write_record(PoolRecord(left, pool.kept))


def _with(pool: PoolRecord, image: StoredImage) -> PoolRecord:
    return PoolRecord({**pool.images, image.files.content: image}, pool.kept)


def _upload(host: Host, name: str, source: Path, say: Progress) -> None:
    size = source.stat().st_size
    host.storage.delete(name)  # only ever a broken upload of the same content
    host.storage.create(render.volume(name, size, "raw", mode=_MODE))
    host.storage.upload(name, source, lambda sent: say(f"uploading, {100 * sent // size} %"))


@contextmanager
def record_locked(host: Host) -> Iterator[None]:
    """One writer of the pool's record at a time, among the programs of this user."""
    folder = platformdirs.user_cache_path("virtkit")
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / f"pool-{host.name}.lock"):
        yield
