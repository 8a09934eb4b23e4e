"""What virtkit makes disks of: which files it unpacks, opens and converts, and in which steps.

It reads files' beginnings and lists of archives, and changes nothing. What it does not know how to
make a disk of is `file_checks`' to refuse.
"""

from __future__ import annotations

import re
import shlex
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from virtkit.errors import RequestError
from virtkit.images import disk_probe, file_checks, file_types
from virtkit.images.file_types import FileType
from virtkit.spec.problem import quote
from virtkit.system import commands

#: Words of a program that unpacks its input, by the kind of file: it takes no more memory than the
#: strongest usual settings of the packer need.
UNPACKERS = {
    "gzip": ("gzip", "-dc"),
    "xz": ("xz", "-dc", "--threads=1", "--memlimit-decompress=256MiB"),
    "bzip2": ("bzip2", "-dc"),
    "zstd": ("zstd", "-dcq", "--memory=256MB"),
}
#: Disks of other tools that qemu-img converts.
CONVERTED = ("vmdk", "vdi", "vhdx")
#: What names of such files end with, and what is done with them.
_SUFFIXES = {
    **dict.fromkeys((".gz", ".xz", ".bz2", ".zst"), "unpacked"),
    **dict.fromkeys((".ova", ".box", ".tar", ".tgz", ".txz"), "taken out of its archive"),
    **dict.fromkeys((".vmdk", ".vdi", ".vhdx"), "converted to qcow2"),
}
#: Names of members of an archive that are disks although their first bytes may be anything.
_RAW = (".img", ".raw")
#: Members of an archive that are looked at. A box or an appliance has a handful.
_MAX_MEMBERS = 1000
_SECTOR = 512
#: Bytes of a VMDK's descriptor that are looked at; the format has 20 sectors.
_MAX_DESCRIPTOR = 64 * 1024


def is_taken(kind: FileType | None) -> bool:
    """Whether a disk can be made of a file of a kind, as far as that alone tells."""
    return (
        kind is None
        or kind.group == "disk"
        or kind is file_types.TAR
        or kind.name in (*UNPACKERS, *CONVERTED)
    )


def opens(head: bytes) -> bool:
    """Whether a disk can be made of a file that begins with ``head``, as far as that tells: what is
    packed there is looked at, too."""
    kind = file_types.recognise(head)
    return is_taken(kind) and is_taken(file_types.unpacked(head, kind))


def is_refused(path: Path) -> bool:
    """Whether surely no disk can be made of a file; not so of a short one."""
    head = file_checks.head_of(path)
    return len(head) == file_types.HEAD and not opens(head)


def check_download(head: bytes, url: str) -> None:
    """Looks at the first bytes of a download.

    Raises:
        NoDisk: no disk can be made of it.
    """
    if not opens(head):
        file_checks.check_download(head, url)


def is_ready(kind: FileType | None) -> bool:
    """Whether a file of a kind is a disk as it is, or may be one."""
    return kind is None or kind.group == "disk"


def steps_by_name(url: str) -> str:
    """What will be done with a download, by its name: empty where that tells nothing."""
    path = PurePosixPath(unquote(urlsplit(url).path))
    done: list[str] = []
    while path.suffix.lower() in _SUFFIXES:
        step = _SUFFIXES[path.suffix.lower()]
        done += [step] if step not in done else []
        path = path.with_suffix("")
    return _sentence(done)


def steps_of(path: Path) -> str:
    """What will be done with a file to make a disk of it; empty for one that is a disk.

    Raises:
        RequestError: it is something else, or an archive with no disk or several; or the program
            that unpacks it is missing.
    """
    head = file_checks.head_of(path)
    kind = file_types.recognise(head)
    done: list[str] = []
    while kind is not None and not is_ready(kind):
        inner: FileType | None = None
        if not opens(head):
            raise file_checks.no_disk(str(path), head, kind)
        if kind.name in UNPACKERS:
            commands.require(UNPACKERS[kind.name][0])
            inner = file_types.unpacked(head, kind)
            done.append(f"unpacked ({kind.name})")
        elif kind is file_types.TAR:
            done.append("taken out of its archive")
            inner = member_kind(path, str(path)) if len(done) == 1 else None
        else:
            commands.require("qemu-img")
            if len(done) == 0:
                check_convertible(path, kind, str(path))
            done.append(f"converted from {kind.name} to qcow2")
        head, kind = b"", inner
    return _sentence(done)


def _sentence(done: Sequence[str]) -> str:
    return ", then ".join(done)


@contextmanager
def opened_member(archive: Path, name: str) -> Iterator[IO[bytes]]:
    """The one disk in a tar archive.

    Args:
        name: what errors call the archive.

    Raises:
        RequestError: it has none or several, or it is damaged.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            disk = _disk_of(tar, name)
            file = tar.extractfile(disk)
            assert file is not None
            yield file
    except (tarfile.TarError, EOFError) as error:
        raise RequestError(
            f"the archive {name} is damaged or cut off", why=str(error), cure="get it again"
        ) from error


def member_kind(archive: Path, name: str) -> FileType | None:
    """What the one disk in an archive is; None for one that may be raw."""
    with opened_member(archive, name) as file:
        return file_types.recognise(file.read(file_types.HEAD))


def _disk_of(tar: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    disks: list[tarfile.TarInfo] = []
    others: list[str] = []
    for count, member in enumerate(tar):
        if count >= _MAX_MEMBERS:
            raise RequestError(
                f"the archive {name} has more than {_MAX_MEMBERS} files",
                why="one with a disk has a handful",
                cure="name a disk; a root file system's archive goes under `rootfs:`",
            )
        if _is_disk(tar, member):
            disks.append(member)
        elif member.isfile():
            others.append(member.name)
    if len(disks) == 1:
        return disks[0]
    names = ", ".join(quote(each.name) for each in disks[:5])
    if disks:
        raise RequestError(
            f"the archive {name} has {len(disks)} disks: {names}",
            why="an image is one disk, and nothing says which of them is meant",
            cure="unpack it, name the one with the system as `path:`, and give the others to the "
            "guest as disks of its own",
        )
    raise RequestError(
        f"the archive {name} has no disk",
        why=f"it has {', '.join(map(quote, others[:5])) or 'no file'}",
        cure="name a disk; a root file system's archive goes under `rootfs:`",
    )


def _is_disk(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    """Whether a member of an archive is a disk, by its first bytes, or else by its name."""
    if not member.isfile() or member.size < _SECTOR:
        return False
    file = tar.extractfile(member)
    assert file is not None
    kind = file_types.recognise(file.read(file_types.HEAD))
    if kind is not None:
        return kind.group in ("disk", "foreign")
    return PurePosixPath(member.name).suffix.lower() in _RAW


def check_convertible(path: Path, kind: FileType, name: str) -> None:
    """Looks at a disk of another tool's before qemu-img opens it: a VMDK's descriptor can name any
    file of this machine as its content.

    Raises:
        RequestError: its content is in other files, or encrypted.
    """
    if kind.name != "vmdk":
        return
    with path.open("rb") as file:
        head = file.read(_SECTOR)
        text = head
        has_content = True
        if head[:4] == b"KDMV":
            has_content = bool(int.from_bytes(head[12:20], "little"))
            start, length = (int.from_bytes(head[at : at + 8], "little") for at in (28, 36))
            file.seek(min(start * _SECTOR, path.stat().st_size))
            text = file.read(min(length * _SECTOR, _MAX_DESCRIPTOR))
    if head.startswith(b"# Disk DescriptorFile") or not has_content:
        raise RequestError(
            f"image {name} is a VMDK whose content is in other files",
            why="it names them, and they could be any file of this machine",
            cure="make one file of them, where they are: qemu-img convert -f vmdk -O qcow2 "
            f"{shlex.quote(PurePosixPath(name).name)} whole.qcow2; then name whole.qcow2",
        )
    if re.search(rb"^\s*encryption\.", text, re.MULTILINE):
        raise disk_probe.encrypted_error(name)
