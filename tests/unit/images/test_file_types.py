"""What no disk is made of is told as what it is, with the command that makes one of it; disks stay
(what virtkit itself makes disks of: test_unpack.py)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Literal

import pytest
import samples

from virtkit.api._checks import check
from virtkit.errors import RequestError
from virtkit.host import Host
from virtkit.images import cache, check_boot, check_disc, file_types, probe
from virtkit.plan import diff
from virtkit.plan.resolve import resolve
from virtkit.spec import Image
from virtkit.state.desired import Decided, ImageRef, image_identity
from virtkit.state.observed import Observed

pytestmark = pytest.mark.skipif(
    not shutil.which("qemu-img"), reason="needs qemu-img: apt-get install qemu-utils"
)
MIB = 1024 * 1024


def at(offset: int, sign: bytes, size: int = MIB) -> bytes:
    """A file of zeros with a sign in it."""
    return (bytes(offset) + sign).ljust(size, b"\0")


BOOT_SECTOR = at(510, b"\x55\xaa")


def made(path: Path, program: str, *words: str | Path, output: bool = False) -> Path:
    """What a program makes; skipped where this machine has not got it."""
    if not shutil.which(program):
        pytest.skip(f"needs {program}")
    done = subprocess.run([program, *map(str, words)], check=True, capture_output=True)
    if output:
        path.write_bytes(done.stdout)
    return path


def refused(path: Path) -> RequestError:
    """What `plan` says of it."""
    entry = Image(path=str(path))
    with pytest.raises(RequestError) as caught:
        cache.check(ImageRef("i", entry, image_identity(entry)), Path("/"))
    assert caught.value.exit_code == 2
    assert caught.value.cure
    return caught.value


def mended(error: RequestError, folder: Path) -> Path:
    """Does what the cure says, and gives what it says to name then."""
    match = re.fullmatch(r"(?:unpack|convert) it(?: \(.*?\))?: (.*); then name (.*)", error.cure)
    assert match, error.cure
    done = subprocess.run(["sh", "-c", match[1]], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, (error.cure, done.stderr)
    return Path(match[2])


@pytest.mark.parametrize(
    ("program", "suffix"),
    [
        ("lzma", ".lzma"),
        ("lz4", ".lz4"),
        ("lzip", ".lz"),
        ("lzop", ".lzo"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_packed(program: str, suffix: str, named: bool, tmp_path: Path) -> None:
    """Also under a name that says otherwise; and what the cure says makes a disk of it."""
    disk = tmp_path / "disk.qcow2"
    made(disk, "qemu-img", "create", "-f", "qcow2", disk, "8M")
    path = tmp_path / f"a disk.qcow2{suffix if named else ''}"
    made(path, program, "-c", disk, output=True)
    error = refused(path)
    assert f"is compressed with {program}" in error.what
    assert probe(mended(error, tmp_path)) == ("qcow2", 8 * MIB)
    assert path.exists(), "what was given stays"


@pytest.mark.parametrize("format", ["vpc", "qed", "qcow", "parallels"])
@pytest.mark.parametrize("name", ["disk", "disk.img", "disk.qcow2"])
def test_disks_of_others(format: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    made(path, "qemu-img", "create", "-f", format, path, "8M")
    error = refused(path)
    assert f"is of format {format}" in error.what
    as_format, size = probe(mended(error, tmp_path))
    assert as_format == "qcow2"
    assert 8 * MIB <= size < 9 * MIB, "some round it up"


def test_a_zip_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "disk.img", "w") as archive:
        archive.writestr("disk.vhd", b"x" * 1000)
    error = refused(tmp_path / "disk.img")
    assert "is a zip archive" in error.what
    assert f"(apt-get install unzip): unzip {tmp_path}/disk.img;" in error.cure


@pytest.mark.parametrize(
    ("content", "what", "cure"),
    [
        (at(32769, b"CD001"), "CD or DVD", "cloud image"),
        (BOOT_SECTOR[:32769] + b"CD001" + bytes(MIB), "CD or DVD", "cloud image"),
        (at(0, b"\x7fELF\x02\x01\x01"), "ELF", "`kernel:"),
        (BOOT_SECTOR[:514] + b"HdrS" + bytes(MIB), "a Linux kernel", "`kernel:"),
        (at(0, b"070701" + b"0" * 104 + b"."), "an initrd", "initrd:"),
        (at(0, b"%PDF-1.7\n"), "a PDF", "a qcow2 or raw file"),
        (b"<!DOCTYPE html>\n<html><body>Log in</body></html>" * 20, "a web page", "qcow2"),
        (b"\xef\xbb\xbf<html>" + b"x" * 1000, "a web page", "qcow2"),
        (b"name: lab\nguests: {}\n" * 100, "is text", "a qcow2 or raw file"),
        ("Über\r\n".encode() * 200_000, "is text", "a qcow2 or raw file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        (at(0, b"!<arch>\ndebian-binary"), "a Debian package", "name the disk"),
        (at(0, b"\xed\xab\xee\xdb\x03"), "an RPM", "name the disk"),
        (at(0, b"7z\xbc\xaf\x27\x1c"), "a 7z archive", "7z x"),
        (at(0, b"\x3a\xff\x26\xed\x01"), "a sparse image", "disk.raw"),
        (
            at(0, b"MZ".ljust(60, b"\0") + b"\x80\0\0\0" + bytes(64) + b"PE\0\0"),
            "a program",
            "disk",
        ),
        (bytes(100), "too small", "get it again"),
        (b"", "a disk of 0 bytes", "get it again"),
    ],
)
def test_what_is_no_disk(content: bytes, what: str, cure: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(content)
    error = refused(path)
    assert what in error.what
    assert cure in error.cure


def btrfs() -> bytes:
    return at(65600, b"_BHRfS_M")


@pytest.mark.parametrize(
    "content",
    [
        bytes(MIB),
        BOOT_SECTOR,
        at(0, b"\xeb\x63\x90").replace(bytes(1), b"\x01", 1),
        at(512, b"EFI PART"),
        at(4096, b"EFI PART"),
        at(1080, b"\x53\xef"),
        at(0, b"XFSB"),
        btrfs(),
        at(512, b"LABELONE"),
        at(0, b"LUKS\xba\xbe\0\x02"),
        at(0, b"hsqs"),
        at(4096 - 10, b"SWAPSPACE2"),
        at(3, b"NTFS    "),
        bytes(range(256)) * 4096,
        # weak signs count for nothing where a disk's are
        b"\x5d\0\0\x80\0" + b"\xff" * 8 + BOOT_SECTOR[13:],
        b"MZ" + BOOT_SECTOR[2:],
        at(MIB - 512, b"conectix"),
    ],
)
def test_raw_disks_stay(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(content)
    assert probe(path) == ("raw", len(content))


def test_file_systems_stay(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    for program in ("mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "mkfs.vfat"):
        if shutil.which(program):
            path.unlink(missing_ok=True)
            with path.open("wb") as file:
                file.truncate(512 * MIB)
            subprocess.run([program, path], check=True, capture_output=True)
            assert probe(path) == ("raw", 512 * MIB)


def test_a_qcow2_under_another_name_and_a_sparse_disk_stay(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    made(path, "qemu-img", "create", "-f", "qcow2", path, "8M")
    assert probe(path) == ("qcow2", 8 * MIB)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * 1024 * MIB)
    assert probe(tmp_path / "sparse") == ("raw", 100 * 1024 * MIB)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(MIB))
    script = "from pathlib import Path; from virtkit.images import probe; "
    script += "from virtkit.errors import RequestError\n"
    script += f"try: probe(Path({str(path)!r}))\nexcept RequestError as error: print(error.what)"
    path.chmod(0)
    line = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script]
    done = subprocess.run(line, capture_output=True, text=True)
    assert f"{path} can't be read" in done.stdout, done.stderr


# --- kernels --------------------------------------------------------------------------------


def refusal(path: Path, role: Literal["kernel", "initrd"]) -> str:
    """What is said against a file for that; nothing where it will do."""
    try:
        check_boot(path, role)
    except RequestError as error:
        return error.what
    return ""


def newc() -> bytes:
    return b"070701" + b"0" * 104 + b"init\0".ljust(1000, b"\0")


KERNEL = BOOT_SECTOR[:514] + b"HdrS" + bytes(4096)


@pytest.mark.parametrize(
    "content",
    [
        KERNEL,
        b"MZ" + KERNEL[2:],
        at(0, b"\x7fELF\x02"),
        at(56, b"ARM\x64"),
        gzip.compress(at(56, b"ARM\x64"), mtime=0),
        b"one".ljust(65536, b"\0"),
    ],
)
def test_kernels(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(content)
    assert refusal(path, "kernel") == ""


@pytest.mark.parametrize(
    "content",
    [
        newc(),
        gzip.compress(newc(), mtime=0),
        lzma.compress(newc()),
        lzma.compress(newc(), lzma.FORMAT_ALONE),
        bz2.compress(newc()),
        b"\x28\xb5\x2f\xfd" + bytes(1000),
        b"\x02\x21\x4c\x18" + bytes(1000),
        at(1080, b"\x53\xef"),
    ],
)
def test_initrds(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(content)
    assert refusal(path, "initrd") == ""


@pytest.mark.parametrize(
    ("role", "content", "what"),
    [
        ("kernel", newc(), "an initrd"),
        ("kernel", gzip.compress(newc(), mtime=0), "an initrd"),
        ("initrd", KERNEL, "a Linux kernel"),
        ("initrd", b"", "an empty file"),
        ("kernel", b"", "an empty file"),
        ("kernel", b"<html>" + b"x" * 1000, "a web page"),
        ("initrd", at(32769, b"CD001"), "CD or DVD"),
        ("kernel", b"QFI\xfb\0\0\0\x03" + bytes(1000), "a qcow2"),
        ("kernel", b"# a script\n" * 100, "text"),
        ("initrd", at(257, b"ustar"), "a tar archive"),
    ],
)
def test_what_is_no_kernel_or_initrd(role: str, content: bytes, what: str, tmp_path: Path) -> None:
    """Told by the plan."""
    (tmp_path / "vmlinuz").write_bytes(content if role == "kernel" else KERNEL)
    (tmp_path / "initrd").write_bytes(content if role == "initrd" else newc())
    text = "{type: qemu, networks: [], kernel: {path: vmlinuz, initrd: initrd}}"
    spec = samples.spec_of(f"guests: {{a: {text}}}\nname: lab\n", str(tmp_path))
    desired = resolve(spec, samples.WITH_KVM, Decided())
    with pytest.raises(RequestError) as caught:
        check(diff(desired, Observed("local"), spec_path="/lab.yaml"), spec, Host())
    (error,) = [each for each in caught.value.every() if role in each.what]
    assert what in error.what
    assert error.exit_code == 2


# --- the table ------------------------------------------------------------------------------


def test_each_sign_is_looked_for_where_it_is_read() -> None:
    for offset, sign, kind in file_types.MAGIC:
        assert offset + len(sign) <= file_types.HEAD
        assert file_types.recognise(at(offset, sign)) in (kind, *_same(kind))


def _same(kind: file_types.FileType) -> list[file_types.FileType]:
    return [each for _, _, each in file_types.MAGIC if each.name == kind.name]


def test_a_packed_disk_may_be_large_and_damaged(tmp_path: Path) -> None:
    """What is in it is looked at in bounds, and told only where it can be."""
    bomb = gzip.compress(bytes(64 * MIB))
    assert file_types.unpacked(bomb[: file_types.HEAD], file_types.recognise(bomb)) is None
    broken = bytearray(gzip.compress(struct.pack(">I", 7) * 1000))
    broken[12:20] = b"\xff" * 8
    assert file_types.unpacked(bytes(broken), file_types.recognise(bytes(broken))) is None
    assert io.BytesIO(broken).read(2) == b"\x1f\x8b"


def test_discs(tmp_path: Path) -> None:
    path = tmp_path / "disc.iso"
    for content in (at(32769, b"CD001"), at(32769, b"BEA01"), at(510, b"\x55\xaa"), bytes(MIB)):
        path.write_bytes(content)
        check_disc(path)


@pytest.mark.parametrize(
    ("content", "what", "cure"),
    [
        (
            gzip.compress(at(32769, b"CD001"), mtime=0),
            "compressed with gzip (a CD or DVD",
            "gzip -dk",
        ),
        (b"QFI\xfb\0\0\0\3".ljust(4096, b"\0"), "a qcow2", "name the image of a disc"),
        (b"<!DOCTYPE html><title>Sign in</title>\n" * 20, "a web page", "name the image of a disc"),
        (b"", "an empty file", "name the image of a disc"),
    ],
)
def test_what_is_no_disc(content: bytes, what: str, cure: str, tmp_path: Path) -> None:
    path = tmp_path / "disc.iso.gz"
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        check_disc(path)
    assert what in caught.value.what
    assert cure in caught.value.cure
