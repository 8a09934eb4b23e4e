"""An image gets into a host's pool: from this machine, or fetched by the host itself.

What a host fetches is checked as what is fetched here, by the same digest and the same words.
"""

from __future__ import annotations

import base64
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from virtkit.errors import RequestError, VirtkitError
from virtkit.host import Host
from virtkit.images import (
    cache,
    checksums,
    disk_probe,
    download,
    file_checks,
    file_types,
    formats,
    pool,
)
from virtkit.progress import Meter, Progress
from virtkit.state.desired import ImageFiles, ImageRef
from virtkit.state.record import StoredImage

if TYPE_CHECKING:
    from virtkit.host.fetch import Fetch

#: What a host needs to fetch images, and the Debian packages that bring it.
_PROGRAMS = {"qemu-img": "qemu-utils", "virsh": "libvirt-clients"}


def check(host: Host, ref: ImageRef, spec_folder: Path) -> str:
    """Looks, in a second, whether ``provide`` can work.

    Returns:
        what ``cache.check`` returns; nothing for what the host fetches, which must be a disk.

    Raises:
        RequestError: a ``path`` is no disk image; or what it needs is missing.
    """
    if not _is_fetched_by_host(host, ref):
        return cache.check(ref, spec_folder)
    if host.remote is None:
        raise RequestError(
            f"host {host.name} can't fetch image {ref.name}",
            why="it is reached by libvirt's own URI only, and fetching goes by ssh",
            cure=f"give it an address (`hosts: {{{host.name}: {{address: …}}}}`), or remove "
            "`fetch: host`, and this machine fetches it",
            where=host.name,
        )
    missing = host.ask(f"missing_programs={','.join(_PROGRAMS)}")["missing_programs"]
    if missing:
        packages = " ".join(_PROGRAMS[each] for each in missing)
        raise RequestError(
            f"host {host.name} can't fetch image {ref.name}",
            why=f"it has no {' and no '.join(missing)}",
            cure=f"on host {host.name}: sudo apt-get install {packages}; or remove `fetch: host`, "
            "and this machine fetches it",
            where=host.name,
        )
    return ""


def provide(host: Host, ref: ImageRef, spec_folder: Path, progress: Progress) -> ImageFiles:
    """Makes the image's volumes in the host's pool, where they are not there yet.

    Args:
        spec_folder: what a relative ``path`` is relative to.
    """
    if _is_fetched_by_host(host, ref):
        return _fetch_by_host(host, ref, progress)
    return pool.upload(host, ref, cache.local_image(ref, spec_folder, progress), progress)


def _is_fetched_by_host(host: Host, ref: ImageRef) -> bool:
    """Whether another machine is to fetch it."""
    return ref.entry.fetch == "host" and host.connections.elsewhere


def _fetch_by_host(host: Host, ref: ImageRef, progress: Progress) -> ImageFiles:
    """An image that the host downloads, looks at and gives to its libvirt."""
    lock = host.connections.lock(f"fetch-{ref.identity}", f"image {ref.name} on its way")
    with lock.acquire(on_wait=progress, sleep=progress.sleep):
        known = _known(host, ref)
        if known is not None:
            pool.ensure(host, ref, known.files, known.bytes, lambda: None, progress)
            return known.files
        assert ref.entry.url is not None
        with host.fetching(ref.entry.url, progress) as fetch:
            return _download(host, ref, fetch, progress)


def _known(host: Host, ref: ImageRef) -> StoredImage | None:
    """The image where the pool has it: another run, or another entry, brought it."""
    digest = cache.given_digest(ref.entry)
    content = cache.content_of(digest.value) if digest else ""
    for each in host.storage.record().images.values():
        same = ref.identity in each.identities or each.files.content == content
        if same and each.made and not host.storage.image_damage(each):
            return each
    return None


def _download(host: Host, ref: ImageRef, fetch: Fetch, progress: Progress) -> ImageFiles:
    url = ref.entry.url or ""
    meter = Meter(progress, f"host {host.name} downloads it")

    def on_progress(so_far: dict[str, Any]) -> None:
        if "head" in so_far:
            _check_head(base64.b64decode(so_far["head"]), url)
        meter(so_far["have"], so_far["total"])

    expected = cache.given_digest(ref.entry)
    if expected is None:
        sums = ref.entry.checksums or ""
        expected = checksums.find_digest(fetch.read(sums), sums, url)
    file = fetch.download(expected.kind, on_progress)
    if file.digests[expected.kind] != expected.value:
        raise download.mismatch_error(url, expected, file.digests[expected.kind], file.length)
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    format, size = disk_probe.probe_with(url, name, fetch.qemu_img)
    folder, content = host.storage.describe().path, cache.content_of(file.digests["sha256"])
    files = ImageFiles.named(folder, content, format=format, size=size, bootable=True)

    def fill() -> None:
        pool.check_room(host, ref, file.data)
        pool.create_volume(host, files.root, file.length)
        progress("giving it to libvirt")
        try:
            fetch.upload(PurePosixPath(files.root).name)
        except VirtkitError:
            host.storage.delete(files.root)  # so does the space that it took
            raise

    pool.ensure(host, ref, files, file.length, fill, progress)
    return files


def _check_head(head: bytes, url: str) -> None:
    """Looks at the first bytes of what a host downloads.

    Raises:
        NoDisk: it will be no disk.
    """
    kind = file_types.recognise(head)
    if kind is not None and kind.group != "disk" and formats.opens(head):
        raise file_checks.NoDisk(
            f"{url} is {kind.what}",
            why="with `fetch: host` the host takes disks as they are; only this machine makes "
            "disks of other files",
            cure="remove `fetch: host`, and this machine fetches it and makes a disk of it",
        )
    file_checks.check_download(head, url)
