"""What a file is, by its first bytes: packed, an archive, a disk of another tool's, a document.

Pure: it knows bytes and names, and opens nothing. What it does not know may be a raw disk, whose
first bytes can be anything: it must never call one of those something else.
"""

from __future__ import annotations

import bz2
import lzma
import shlex
import zlib
from pathlib import PurePath
from typing import Literal

from virtkit._dataclass import dataclass

#: Bytes from a file's beginning that are looked at: an ISO 9660 says what it is after 32 KiB.
HEAD = 64 * 1024
#: Bytes of a sector: no disk is smaller.
SECTOR = 512

#: ``disk``: a disk image that guests can start from. ``packed``: one file in a smaller form.
#: ``archive``: files in a file. ``foreign``: a disk image that needs to be converted. ``medium``:
#: a CD or DVD. ``initrd``, ``program``: what is booted, not what is on a disk. ``document``: for
#: readers.
Group = Literal["disk", "packed", "archive", "foreign", "medium", "initrd", "program", "document"]


@dataclass(frozen=True)
class FileType:
    """What a file can be.

    Attributes:
        name: one word; of a disk image, qemu-img's.
        what: the same in words.
        group: what can be done with it.
        suffix: what such files' names end with.
        command: unpacks or converts a file of that name, with ``{file}`` and ``{out}``.
        bare: the same for a file of any other name; empty where the name does not matter.
        package: Debian's, that brings the command; empty where every Debian has it.
        becomes: what the name of a converted disk ends with.
    """

    name: str
    what: str
    group: Group
    suffix: str = ""
    command: str = ""
    bare: str = ""
    package: str = ""
    becomes: str = ".qcow2"


def _packed(name: str, suffix: str, command: str, package: str = "") -> FileType:
    program, _, options = command.partition(" ")
    bare = f"{program} {options.replace('k', '')}c {{file}} >{{out}}"
    return FileType(
        name, f"compressed with {name}", "packed", suffix, f"{command} {{file}}", bare, package
    )


def _foreign(name: str) -> FileType:
    command = f"qemu-img convert -f {name} -O qcow2 {{file}} {{out}}"
    return FileType(name, f"of format {name}", "foreign", command=command)


def _archive(name: str, what: str, command: str, package: str = "") -> FileType:
    return FileType(name, what, "archive", command=command, package=package)


QCOW2 = FileType("qcow2", "a qcow2", "disk")
TAR = _archive("tar", "a tar archive", "tar -xf {file}")
_KERNEL = FileType("kernel", "a Linux kernel", "program")
_ISO = FileType("iso", "a CD or DVD (ISO 9660)", "medium")
_CPIO = FileType("cpio", "an initrd, or another cpio archive", "initrd")
_PROGRAM = FileType("program", "a program", "program")
_HTML = FileType("html", "a web page", "document")
_LFS = FileType("git-lfs", "a Git LFS pointer file", "document", command="git lfs pull")
_TEXT = FileType("text", "text", "document")
_TO_LZ4 = "lz4 -d {file} {out}"
_LZ4 = FileType("lz4", "compressed with lz4", "packed", ".lz4", _TO_LZ4, _TO_LZ4, "lz4")
_LZMA = FileType(
    "lzma",
    "compressed with lzma",
    "packed",
    ".lzma",
    "xz -dk {file}",
    "xz --format=lzma -dc {file} >{out}",
)

#: Where a file of a kind has which bytes. The first that fits says what the file is.
MAGIC: tuple[tuple[int, bytes, FileType], ...] = (
    (0, b"QFI\xfb\0\0\0\x02", QCOW2),
    (0, b"QFI\xfb\0\0\0\x03", QCOW2),
    (0, b"\x1f\x8b\x08", _packed("gzip", ".gz", "gzip -dk")),
    (0, b"\xfd7zXZ\0", _packed("xz", ".xz", "xz -dk")),
    (0, b"BZh", _packed("bzip2", ".bz2", "bzip2 -dk", "bzip2")),
    (0, b"\x28\xb5\x2f\xfd", _packed("zstd", ".zst", "zstd -dk", "zstd")),
    (0, b"\x04\x22\x4d\x18", _LZ4),
    (0, b"\x02\x21\x4c\x18", _LZ4),
    (0, b"LZIP", _packed("lzip", ".lz", "lzip -dk", "lzip")),
    (0, b"\x89LZO\0\r\n\x1a\n", _packed("lzop", ".lzo", "lzop -d", "lzop")),
    (257, b"ustar", TAR),
    (0, b"PK\x03\x04", _archive("zip", "a zip archive", "unzip {file}", "unzip")),
    (0, b"7z\xbc\xaf\x27\x1c", _archive("7z", "a 7z archive", "7z x {file}", "p7zip-full")),
    (0, b"Rar!\x1a\x07", _archive("rar", "a rar archive", "unar {file}", "unar")),
    (0, b"!<arch>\n", _archive("ar", "a Debian package, or another ar archive", "")),
    (0, b"\xed\xab\xee\xdb", _archive("rpm", "an RPM package", "")),
    (0, b"MSWIM\0\0\0", _archive("wim", "a Windows image (WIM), which is no disk", "")),
    (0, b"070701", _CPIO),
    (0, b"070702", _CPIO),
    (0, b"KDMV", _foreign("vmdk")),
    (0, b"COWD", _foreign("vmdk")),
    (0, b"# Disk DescriptorFile", _foreign("vmdk")),
    (64, b"\x7f\x10\xda\xbe", _foreign("vdi")),
    (0, b"vhdxfile", _foreign("vhdx")),
    (0, b"conectix", _foreign("vpc")),
    (0, b"QED\0", _foreign("qed")),
    (0, b"QFI\xfb\0\0\0\x01", _foreign("qcow")),
    (0, b"WithoutFreeSpace", _foreign("parallels")),
    (0, b"WithouFreSpacExt", _foreign("parallels")),
    (
        0,
        b"\x3a\xff\x26\xed",
        FileType(
            "sparse",
            "a sparse image of Android's",
            "foreign",
            command="simg2img {file} {out}",
            package="android-sdk-libsparse-utils",
            becomes=".raw",
        ),
    ),
    (32769, b"CD001", _ISO),
    (32769, b"BEA01", _ISO),
    (514, b"HdrS", _KERNEL),
    (56, b"ARM\x64", _KERNEL),
    (0, b"\x27\x05\x19\x56", _KERNEL),
    (0, b"\x7fELF", FileType("elf", "a program or kernel (ELF)", "program")),
    (0, b"%PDF-", FileType("pdf", "a PDF", "document")),
    (0, b"\x89PNG\r\n", FileType("png", "a picture", "document")),
    (0, b"\xff\xd8\xff", FileType("jpeg", "a picture", "document")),
)

#: What a raw disk may have, where weaker signs than those above are not looked at.
_DISK = (
    (510, b"\x55\xaa"),  # a boot sector
    (512, b"EFI PART"),
    (4096, b"EFI PART"),
    (1080, b"\x53\xef"),  # ext2, 3, 4
)


def recognise(head: bytes) -> FileType | None:
    """What a file is whose first ``HEAD`` bytes, or all that it has, are ``head``.

    Returns:
        None where it may be a raw disk.
    """
    for offset, sign, kind in MAGIC:
        if head[offset : offset + len(sign)] == sign:
            return kind
    if any(head[offset : offset + len(sign)] == sign for offset, sign in _DISK):
        return None
    if _is_lzma(head):
        return _LZMA
    if _is_windows(head):
        return _PROGRAM
    return _text(head)


def unpacked(head: bytes, kind: FileType | None) -> FileType | None:
    """What a packed file has in it; None where that can't be told, or may be a raw disk."""
    data = b""
    try:
        if kind is not None and kind.name == "gzip":
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD)
        elif kind is not None and kind.name in ("xz", "lzma"):
            data = lzma.LZMADecompressor(memlimit=128 * 1024**2).decompress(head, HEAD)
        elif kind is not None and kind.name == "bzip2":
            data = bz2.BZ2Decompressor().decompress(head, HEAD)
    except (zlib.error, lzma.LZMAError, OSError):
        return None
    return recognise(data) if len(data) >= SECTOR else None


def command(path: str, kind: FileType, unpacked: FileType | None) -> tuple[str, str]:
    """The shell command that unpacks or converts a file, and the name of what comes of it.

    Each is empty where it can't be told.
    """
    name = PurePath(path)
    if unpacked is TAR:
        return TAR.command.format(file=shlex.quote(path)), ""
    if not kind.command or kind.group in ("archive", "document"):
        return kind.command.format(file=shlex.quote(path)), ""
    if kind.group == "packed" and name.suffix == kind.suffix:
        line, out = kind.command, str(name.with_suffix(""))
    elif kind.group == "packed":
        line, out = kind.bare, f"{path}.unpacked"
    else:
        line, out = kind.command, str(name.with_suffix(kind.becomes))
    if out == path:
        out = f"{path}{kind.becomes}"
    return line.format(file=shlex.quote(path), out=shlex.quote(out)), out


def _is_lzma(head: bytes) -> bool:
    """An .lzma file has no magic number: its usual properties, and a length or none."""
    length = head[5:13]
    return (
        head[:3] == b"\x5d\0\0"
        and len(length) == 8
        and (length == b"\xff" * 8 or (length[5:] == bytes(3) and any(length)))
    )


def _is_windows(head: bytes) -> bool:
    start = int.from_bytes(head[60:64], "little")
    return head[:2] == b"MZ" and head[start : start + 4] == b"PE\0\0"


def _text(head: bytes) -> FileType | None:
    """Text has no zeros, and every disk has: in its first 64 KiB, too."""
    if not head or b"\0" in head:
        return None
    try:
        text = head[: HEAD - 4].decode()
    except UnicodeDecodeError as error:
        if error.start < min(len(head), HEAD - 4) - 4:
            return None
        text = head[: error.start].decode()
    if not all(each.isprintable() or each in "\t\n\r\f\x1b\ufeff" for each in text):
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html")):
        return _HTML
    return _LFS if start.startswith("version https://git-lfs") else _TEXT
