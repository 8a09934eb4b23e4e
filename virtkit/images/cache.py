"""Images on the caller's side: built, downloaded or probed once, kept in the cache folder."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import filelock
import platformdirs

from virtkit._dataclass import dataclass
from virtkit.images import build, build_folder, download, sandbox
from virtkit.images.checksums import Digest
from virtkit.images.disk_probe import probe
from virtkit.progress import Progress
from virtkit.spec import Build, Image
from virtkit.state.desired import ImageRef
from virtkit.system import commands

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
    """The image's files here: built, downloaded or, for ``path``, where they are.

    A second run, or one at the same time, does not make them again.

    Args:
        spec_folder: what a relative ``path`` is relative to.

    Raises:
        VirtkitError: it can't be built or downloaded, or is not a disk image.
    """
    if ref.entry.path is not None:
        return _given(spec_folder / Path(ref.entry.path).expanduser(), progress)
    with _locked(ref.identity, progress):
        image = _usable(ref)
        return image if image is not None else _make(ref, _builder(ref), progress)


def check(ref: ImageRef, spec_folder: Path) -> None:
    """Looks, in a second, whether ``local_image`` can work here.

    Raises:
        RequestError: a ``path`` is no disk image; or what it needs on this machine is missing.
    """
    if ref.entry.path is not None:
        probe(spec_folder / Path(ref.entry.path).expanduser())
    elif _usable(ref) is None:
        commands.require("qemu-img")
        if ref.entry.build is not None:
            folder().mkdir(parents=True, exist_ok=True)
            build.check(_recipe(ref.entry.build), folder())


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
        files = {"root": build.ROOT, "kernel": build.KERNEL, "initrd": build.INITRD}
    else:
        assert entry.url is not None
        part.mkdir(parents=True, exist_ok=True)
        look_up = partial(download.digest_in, entry.checksums or "", entry.url)
        expected = given_digest(entry) or progress.run_interruptible(look_up)
        download.fetch(entry.url, part / "root.img", expected, progress)
        files = {"root": "root.img"}
    progress("computing the image's digest")
    format, size = probe(part / "root.img", progress)
    image = LocalImage(
        content=_content([part / name for name in files.values()], progress),
        format=format,
        size=size,
        builder=builder,
        length=(part / "root.img").stat().st_size,
        **files,
    )
    (part / "image.json").write_text(json.dumps(asdict(image)))
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    return _in(final, image)


def given_digest(entry: Image) -> Digest | None:
    """The digest that the spec itself gives."""
    return Digest("sha256", entry.sha256.lower()) if entry.sha256 is not None else None


def _given(path: Path, progress: Progress) -> LocalImage:
    with _probing:
        progress.check_cancelled()
        status = path.stat() if path.exists() else None
        key = (str(path), status.st_ino, status.st_size, status.st_mtime_ns) if status else None
        if key in _probed:
            return _probed[key]
        format, size = probe(path, progress)
        progress("computing the image's digest")
        image = LocalImage(_content([path], progress), str(path), format, size)
        if key is not None:
            _probed[key] = image
        return image


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
