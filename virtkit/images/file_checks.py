"""Refuses files that are not what they are named as: a packed disk as a disk, a text as a kernel.

It reads a file's beginning and never changes one.
"""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from virtkit.errors import RequestError
from virtkit.images import file_types
from virtkit.images.file_types import FileType

#: Groups of files that a kernel or an initrd is none of.
_NO_BOOT = ("archive", "foreign", "medium", "document", "disk")


class NoDisk(RequestError):
    """A file is no disk, kernel or initrd, whatever it is named as."""


def head_of(path: Path) -> bytes:
    """A file's first bytes.

    Raises:
        RequestError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(file_types.HEAD)
    except OSError as error:
        raise RequestError(
            f"{path} can't be read",
            why=error.strerror or str(error),
            cure=f"see who may read it: namei -l {shlex.quote(str(path))}",
        ) from error


def check_disk(path: Path) -> None:
    """Looks at a file that is to be a disk.

    Raises:
        NoDisk: it is something else; the cure is the command that makes a disk of it, where
            there is one.
    """
    head = head_of(path)
    kind = file_types.recognise(head)
    if kind is not None and kind.group != "disk":
        raise no_disk(str(path), head, kind)
    if 0 < len(head) < file_types.SECTOR:
        raise NoDisk(
            f"image {path} is too small for a disk",
            why=f"it has {len(head)} bytes, and a disk's first sector has {file_types.SECTOR}",
            cure="get it again: it is damaged or cut off",
        )


def no_disk(name: str, head: bytes, kind: FileType) -> NoDisk:
    """The error for a file that begins with ``head`` and is no disk but of this kind; the cure is
    the command that makes a disk of it."""
    unpacked = file_types.unpacked(head, kind)
    return NoDisk(
        f"image {name} is {_what(kind, unpacked)}",
        why="its first bytes are not a disk's, but those of such a file",
        cure=_cure(name, kind, unpacked),
    )


def check_download(head: bytes, url: str) -> None:
    """The same for the first bytes of a download.

    Raises:
        NoDisk: it will be no disk.
    """
    kind = file_types.recognise(head)
    if kind is None or kind.group == "disk":
        return
    unpacked = file_types.unpacked(head, kind)
    name = PurePosixPath(unquote(urlsplit(url).path)).name or "disk"
    if kind.group == "document":
        why = f"the server sent {kind.what}: usually an error, a login or a page about the file"
        cure = "correct `url:`: open it in a browser; it must be the address of the file itself"
    else:
        why = "its first bytes are not a disk's, so the rest was not downloaded"
        get = f"wget -O {shlex.quote(name)} {shlex.quote(url)}"
        cure = f"{get}, check its digest, then {_cure(name, kind, unpacked)}"
    raise NoDisk(f"{url} is {_what(kind, unpacked)}", why=why, cure=cure)


def check_boot(path: Path, role: Literal["kernel", "initrd"]) -> None:
    """Looks at a file that is to be a kernel or an initrd. Packed ones are as good as others.

    Raises:
        NoDisk: it is something else.
    """
    head = head_of(path)
    kind = file_types.recognise(head)
    unpacked = file_types.unpacked(head, kind)
    content = unpacked or kind
    if not head:
        what = "an empty file"
    elif content is None or not _unfit(content, role):
        return
    else:
        what = content.what
    key = "`kernel: {path: …}`" if role == "kernel" else "`kernel: {initrd: …}`"
    cure = f"name the {role}'s own file in {key}"
    if content is not None and content.group in ("initrd", "program"):
        cure += "; `path:` is the kernel, `initrd:` the initrd"
    raise NoDisk(f"the {role} {path} is {what}", cure=cure)


def check_disc(path: Path, where: str = "") -> None:
    """Looks at a file that is to be a disc in a drive.

    Args:
        where: where the spec names it.

    Raises:
        NoDisk: it is something else.
    """
    head = head_of(path)
    kind = file_types.recognise(head)
    if head and (kind is None or kind.group == "medium"):
        return
    what = _what(kind, file_types.unpacked(head, kind)) if kind else "an empty file"
    line = file_types.command(str(path), kind, None)[0] if kind and kind.group == "packed" else ""
    cure = f"unpack it: {line}" if line else "name the image of a disc (.iso)"
    raise NoDisk(f"the disc {path} is {what}", cure=cure, where=where)


def _unfit(kind: FileType, role: str) -> bool:
    other_role = "initrd" if role == "kernel" else "program"
    return kind.group in (*_NO_BOOT, other_role)


def _what(kind: FileType, unpacked: FileType | None) -> str:
    return f"{kind.what} ({unpacked.what} in it)" if unpacked else kind.what


def _cure(path: str, kind: FileType, unpacked: FileType | None) -> str:
    """What makes a disk of a file; or what to name in its place."""
    line, out = file_types.command(path, kind, unpacked)
    quoted = shlex.quote(path)
    needed = f" (apt-get install {kind.package})" if kind.package else ""
    if kind.group == "medium":
        return (
            "name a disk with an installed system, such as a distribution's cloud image; a live "
            "system can be used as a disk: "
            f"qemu-img convert -f raw -O qcow2 {quoted} {quoted}.qcow2"
        )
    if kind.group == "program":
        return "name a disk; a kernel to boot goes under the guest's `kernel: {path: …}`"
    if kind.group == "initrd":
        return "name a disk; an initrd goes under the guest's `kernel: {initrd: …}`"
    if kind.group == "document":
        return line or "name a disk image: a qcow2 or raw file"
    if not line:
        return "unpack it; then name the disk that was in it, if there was one"
    verb = "convert it" if kind.group == "foreign" else "unpack it"
    return f"{verb}{needed}: {line}; then name {out or 'the disk that was in it'}"
