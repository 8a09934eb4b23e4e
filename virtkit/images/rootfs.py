"""The image of a root file system's archive: what containers start from, without a boot loader.

What is in the archive may come from anybody. It is unpacked in namespaces of its own, and no
program of it is run here.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from virtkit.errors import RequestError, VirtkitError
from virtkit.images import (
    build,
    build_errors,
    file_checks,
    file_types,
    formats,
    prepare_tree,
    sandbox,
    unpack,
)
from virtkit.progress import Progress
from virtkit.system import commands

ROOT = build.ROOT


def fingerprint() -> str:
    """A digest of all that virtkit puts into such an image."""
    own_files = build.guest_files()
    return hashlib.sha256(f"{_script()}\n{_program()}".encode() + own_files).hexdigest()


def check(archive: Path) -> str:
    """Looks, in a second, whether an image can be made of an archive here.

    Returns:
        what will be done with it, as a plan says it.

    Raises:
        RequestError: it can't.
    """
    if not archive.is_file():
        raise RequestError(
            f"there is no root file system {archive}", cure="correct the image's `rootfs:`"
        )
    head = file_checks.head_of(archive)
    kind = file_types.recognise(head)
    inner = file_types.unpacked(head, kind)
    packed = kind is not None and kind.name in formats.UNPACKERS
    # what a zstd has is not known before it is unpacked
    if kind is not file_types.TAR and not (packed and inner in (None, file_types.TAR)):
        what = (inner or kind).what if kind else "no archive"
        raise RequestError(
            f"{archive} is {what}",
            why="a root file system is a tar archive, as it is or packed with gz, xz, bz2 or zst",
            cure="name such an archive; a disk goes under `path:`, for virtual machines",
        )
    programs = ("tar", "mke2fs", "unshare", "setpriv", "qemu-img")
    commands.require(*programs, purpose="to make an image of a root file system")
    if packed and kind is not None:
        commands.require(formats.UNPACKERS[kind.name][0])
    build.check_namespaces()
    return "made a file system of, with virtkit's own files in it"


def make(archive: Path, into: Path, progress: Progress) -> None:
    """Makes ``ROOT`` in a folder: one ext4 file system, labelled as a built image's.

    Args:
        archive: the tar archive, which may be packed; it stays.
        into: an empty folder.

    Raises:
        RequestError: it lacks what a container needs, is for another processor, or damaged.
        VirtkitError: there is no room for it.
        Interrupted: the work should end.
    """
    check(archive)
    tree = archive.absolute()
    head = file_checks.head_of(archive)
    kind = file_types.recognise(head)
    if kind is not None and kind is not file_types.TAR:
        tree = into / "tree.tar"
        unpack.unpack_file(archive, str(archive), tree, kind, progress)
    own_files = into / "guest.tar"
    own_files.write_bytes(build.guest_files())
    progress("making the file system")

    def failed(lines: Sequence[str]) -> VirtkitError:
        return _failure(archive, lines, into)

    words = ("sh", "-c", _script(), "pack_rootfs.sh", str(tree), sys.executable, _program())
    command = commands.command_line(*words, str(own_files))
    try:
        sandbox.run(command, root="own", work=into, failed=failed, progress=progress)
    finally:
        sandbox.remove(into / "tree")
        own_files.unlink()
        if tree != archive.absolute():
            tree.unlink()


def _failure(archive: Path, lines: Sequence[str], folder: Path) -> VirtkitError:
    marks = dict(line.split(": ", 1) for line in lines if line.startswith(("MISSING", "MACHINE")))
    if "MISSING" in marks:
        names = marks["MISSING"].split()
        known = prepare_tree.PROGRAMS | prepare_tree.UNITS
        packages = dict.fromkeys(known.get(each, each) for each in names)
        return RequestError(
            f"the root file system {archive} lacks {', '.join(names)}",
            why="virtkit's containers start systemd, and need this on the way",
            cure=f"install it before it is packed (Debian: {' '.join(packages)}), or take an "
            "image with `build:`",
        )
    if "MACHINE" in marks:
        return RequestError(
            f"the root file system {archive} is for another processor",
            why=marks["MACHINE"],
            cure="get the one for this machine's processor",
        )
    return build_errors.failure(f"no image was made of {archive}", lines, folder=folder)


def _script() -> str:
    return (files("virtkit.images") / "guest" / "pack_rootfs.sh").read_text()


def _program() -> str:
    return Path(prepare_tree.__file__).read_text()
