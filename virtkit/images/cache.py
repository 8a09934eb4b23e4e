"""Images on the caller's side: built, downloaded or probed once, kept in the cache folder."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import filelock
import platformdirs

from virtkit._dataclass import dataclass
from virtkit.images import build, build_folder, download, file_checks, file_types, formats, sandbox
from virtkit.images import rootfs as rootfs_images
from virtkit.images import unpack as unpacking
from virtkit.images.checksums import Digest
from virtkit.images.disk_probe import probe
from virtkit.progress import Progress
from virtkit.spec import Build, Image
from virtkit.state.desired import ImageRef
from virtkit.system import commands

#: What a downloaded image's file is called, whatever it is; and a disk that was made of a file.
_ROOT = "root.img"
#: Probed images by path, as they are now: the hosts of a run need one only once.
_probed: dict[tuple[str, int, int, int], LocalImage] = {}
_probing = threading.Lock()


@dataclass(frozen=True)
class LocalImage:
    """Files of an image on this machine. ``size`` is the virtual size in bytes.

    ``kernel`` and ``initrd`` are empty for an image that boots by itself; ``builder`` tells
    the version of the code that built it, ``length`` is that of the root's file in bytes.
    """

    content: str
    root: str
    format: str
    size: int
    kernel: str = ""
    initrd: str = ""
    builder: str = ""
    length: int = 0


def folder() -> Path:
    """Where images are kept, one folder per entry of the spec."""
    return platformdirs.user_cache_path("virtkit") / "images"


def cached(identity: str) -> LocalImage | None:
    """The image of an entry, where it was made before and is complete.

    The cache may have been moved or copied since: only the files' names count. Older versions
    wrote whole paths.
    """
    image_folder = folder() / identity
    try:
        image = _in(
            image_folder, LocalImage(**json.loads((image_folder / "image.json").read_text()))
        )
        files = [Path(each) for each in (image.root, image.kernel, image.initrd) if each]
        complete = image.length in (0, files[0].stat().st_size)
    except (OSError, ValueError, TypeError, IndexError):
        return None
    return image if complete and all(each.is_file() for each in files) else None


def _in(image_folder: Path, image: LocalImage) -> LocalImage:
    """The image with its files in a folder."""
    root, kernel, initrd = (
        str(image_folder / Path(each).name) if each else ""
        for each in (image.root, image.kernel, image.initrd)
    )
    return replace(image, root=root, kernel=kernel, initrd=initrd)


def forget(identity: str) -> None:
    """Removes an entry's files from the cache."""
    with _locked(identity, Progress()):
        shutil.rmtree(folder() / identity, ignore_errors=True)


def leftovers(identities: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Folders that nobody works in and no image of ``identities`` came from, and what they are: in
    the cache, and where images are built."""
    for path in build_folder.leftovers():
        yield path, "what an interrupted build left"
    if not folder().is_dir():
        return
    for path in sorted(each for each in folder().iterdir() if each.is_dir()):
        identity = path.name.removesuffix(".part")
        try:
            with filelock.FileLock(folder() / f"{identity}.lock", timeout=0):
                pass
        except filelock.Timeout:
            continue
        if path.name.endswith(".part"):
            yield path, "what an interrupted build or download left"
        elif identity not in identities:
            yield path, "a built or downloaded image that is in no pool here"


def local_image(ref: ImageRef, spec_folder: Path, progress: Progress) -> LocalImage:
    """The image's files here: built, downloaded or, for a ``path`` that is a disk, where they are.
    What is packed, in an archive or another tool's becomes a disk in the cache, as does a
    ``rootfs``.

    A second run, or one at the same time, does not make them again.

    Args:
        spec_folder: what a relative ``path`` is relative to.

    Raises:
        VirtkitError: it can't be built or downloaded, or is not a disk image.
    """
    if ref.entry.file is not None:
        path = spec_folder / Path(ref.entry.file).expanduser()
        return _given(path, progress, is_rootfs=ref.entry.rootfs is not None)
    with _locked(ref.identity, progress):
        image = _usable(ref)
        return image if image is not None else _make(ref, _builder(ref), progress)


def check(ref: ImageRef, spec_folder: Path) -> str:
    """Looks, in a second, whether ``local_image`` can work here.

    Returns:
        what will be done with the file to make a disk of it, as a plan says it; of a download, as
        far as its name tells. Empty for a disk, and for an image that is in the cache.

    Raises:
        RequestError: a ``path`` is no disk image; or what it needs on this machine is missing.
    """
    if ref.entry.rootfs is not None:
        return rootfs_images.check(spec_folder / Path(ref.entry.rootfs).expanduser())
    if ref.entry.path is not None:
        path = spec_folder / Path(ref.entry.path).expanduser()
        steps = formats.steps_of(path) if path.is_file() else ""
        if not steps:
            probe(path)
        return steps
    if _usable(ref) is not None:
        return ""
    commands.require("qemu-img")
    if ref.entry.build is not None:
        folder().mkdir(parents=True, exist_ok=True)
        build.check(_recipe(ref.entry.build), folder())
    return formats.steps_by_name(ref.entry.url or "")


def check_builds() -> None:
    """Looks whether this machine can build images.

    Raises:
        RequestError: it can't; the error says what fixes it.
    """
    folder().mkdir(parents=True, exist_ok=True)
    build.check_machine(folder())


def _usable(ref: ImageRef) -> LocalImage | None:
    """The image in the cache, where it need not be made again."""
    image = cached(ref.identity)
    return image if image is not None and image.builder == _builder(ref) else None


def _builder(ref: ImageRef) -> str:
    return build.fingerprint() if ref.entry.build is not None else ""


def _recipe(requested: Build) -> build.Recipe:
    return build.Recipe(
        requested.distribution, requested.release, requested.packages, requested.size
    )


def _make(ref: ImageRef, builder: str, progress: Progress) -> LocalImage:
    final = folder() / ref.identity
    part = final.with_name(f"{final.name}.part")
    entry = ref.entry
    if entry.build is not None:
        sandbox.remove(part)
        part.mkdir(parents=True)
        build.build(_recipe(entry.build), part, progress=progress)
        files = [build.ROOT, build.KERNEL, build.INITRD]
    else:
        assert entry.url is not None
        part.mkdir(parents=True, exist_ok=True)
        look_up = partial(download.digest_in, entry.checksums or "", entry.url)
        expected = given_digest(entry) or progress.run_interruptible(look_up)
        download.fetch(entry.url, part / _ROOT, expected, progress)
        files = [_ROOT]
    progress("computing the image's digest")
    content = _content([part / name for name in files], progress)
    if entry.url is not None:
        _unpack(part / _ROOT, entry.url, part, progress=progress)
    root, kernel, initrd = [*files, "", ""][:3]
    image = LocalImage(content, root, "", 0, kernel, initrd, builder)
    return _finish(part, final, image, progress)


def _finish(part: Path, final: Path, image: LocalImage, progress: Progress) -> LocalImage:
    """The image whose files are in ``part``, in its place and complete."""
    root = part / image.root
    format, size = probe(root, progress)
    image = replace(image, format=format, size=size, length=root.stat().st_size)
    (part / "image.json").write_text(json.dumps(asdict(image)))
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    return _in(final, image)


def _unpack(source: Path, name: str, part: Path, *, progress: Progress) -> None:
    """Makes ``_ROOT`` in ``part`` of a file that may be packed.

    Args:
        name: what errors call the file.
    """
    work = part / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    disk = unpacking.make_disk(source, name, work, progress)
    if disk != part / _ROOT:
        disk.replace(part / _ROOT)
    shutil.rmtree(work)


def given_digest(entry: Image) -> Digest | None:
    """The digest that the spec itself gives."""
    return Digest("sha256", entry.sha256.lower()) if entry.sha256 is not None else None


def _given(path: Path, progress: Progress, *, is_rootfs: bool) -> LocalImage:
    with _probing:
        progress.check_cancelled()
        status = path.stat() if path.exists() else None
        key = (
            (f"{path} {is_rootfs}", status.st_ino, status.st_size, status.st_mtime_ns)
            if status
            else None
        )
        if key in _probed:
            return _probed[key]
        image = _of_rootfs(path, progress) if is_rootfs else _of_file(path, progress)
        if key is not None:
            _probed[key] = image
        return image


def _of_file(path: Path, progress: Progress) -> LocalImage:
    """The image that a file is, or that is made of it."""
    ready = not path.is_file() or formats.is_ready(file_types.recognise(file_checks.head_of(path)))
    format, size = probe(path, progress) if ready else ("", 0)
    progress("computing the image's digest")
    content = _content([path], progress)
    if ready:
        return LocalImage(content, str(path), format, size)
    make = partial(_unpack, path, str(path), progress=progress)
    return _made_of_file(content, make, progress)


def _of_rootfs(path: Path, progress: Progress) -> LocalImage:
    """The image that is made of a root file system's archive."""
    rootfs_images.check(path)
    progress("computing the image's digest")
    content = content_of(_content([path], progress), rootfs_images.fingerprint())
    make = partial(rootfs_images.make, path, progress=progress)
    return _made_of_file(content, make, progress)


def _made_of_file(content: str, make: Callable[[Path], None], progress: Progress) -> LocalImage:
    """The image of a content that ``make`` makes in a folder, where the cache has not got it."""
    with _locked(content, progress):
        final = folder() / content
        part = final.with_name(f"{content}.part")
        image = cached(content)
        if image is not None:
            return image
        sandbox.remove(part)
        part.mkdir()
        make(part)
        return _finish(part, final, LocalImage(content, _ROOT, "", 0), progress)


def _content(paths: list[Path], progress: Progress) -> str:
    """One hash over files, by their digests in this order."""
    digests = [progress.run_interruptible(partial(download.digest, path)) for path in paths]
    return content_of(*digests)


def content_of(*digests: str) -> str:
    """The hash that names an image, of its files' SHA-256."""
    return sha256("".join(digests).encode()).hexdigest()


@contextmanager
def _locked(identity: str, progress: Progress) -> Iterator[None]:
    """One maker per entry at a time; the lock dies with its holder."""
    folder().mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder() / f"{identity}.lock")
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except filelock.Timeout:
            progress("waiting for another run that is making it")
            progress.sleep(0.5)
    try:
        yield
    finally:
        lock.release()
