"""Root file systems of others: what is looked at before anything is made, and what is refused."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from virtkit.errors import RequestError, VirtkitError
from virtkit.images import cache, prepare_tree
from virtkit.progress import Progress
from virtkit.spec import Image
from virtkit.state.desired import ImageRef, image_identity

pytestmark = [
    pytest.mark.skipif(not shutil.which("debugfs"), reason="needs e2fsprogs"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, or ids of the user's own"),
]
quiet = Progress()
#: The files of a tree that will do: programs that nobody runs here, one of this machine's.
SMALL: Mapping[str, str | bytes] = {
    **{f"usr/bin/{name}": b"" for name in prepare_tree.PROGRAMS},
    "usr/bin/sh": Path("/bin/sh").read_bytes(),
    "usr/lib/systemd/systemd": b"",
    "usr/lib/systemd/system/systemd-networkd.service": b"",
    "usr/sbin/init": "../lib/systemd/systemd",
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "usr/bin/sudo": b"setuid",
    "etc/group": b"root:x:0:\n",
    "etc/machine-id": b"f" * 32,
    "etc/ssh/ssh_host_rsa_key": b"secret",
}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def archive(path: Path, files: Mapping[str, str | bytes], *, under: str = "") -> Path:
    """A packed archive; a text is where a symbolic link leads."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{under}{name}")
            member.mode = 0o4755 if content == b"setuid" else 0o755
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def ref_of(path: Path) -> ImageRef:
    entry = Image(rootfs=str(path))
    return ImageRef("tree", entry, image_identity(entry))


def made(path: Path) -> cache.LocalImage:
    return cache.local_image(ref_of(path), Path("/"), quiet)


def debugfs(image: cache.LocalImage, words: str) -> str:
    line = ["debugfs", "-R", words, image.root]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def refused(path: Path) -> VirtkitError:
    with pytest.raises(VirtkitError) as caught:
        made(path)
    assert caught.value.cure
    assert not [*cache.folder().glob("*/image.json")]
    return caught.value


@pytest.mark.parametrize("under", ["", "./", "rootfs/"])
def test_a_small_tree(under: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "rootfs.tar.gz", SMALL, under=under)
    assert "a file system" in cache.check(ref_of(path), Path("/"))
    image = made(path)
    assert (image.format, image.kernel) == ("raw", "")
    assert image.size >= 1024**3
    assert Path(image.root).stat().st_blocks * 512 < 64 * 1024**2, "it is sparse"
    assert "LABEL" not in debugfs(image, "stats -h")
    assert "virtkit-root" in debugfs(image, "stats -h")
    assert "#!/bin/sh" in debugfs(image, "cat /usr/lib/virtkit/init")
    assert "0755" in debugfs(image, "stat /usr/lib/virtkit/init")
    assert "04755" in debugfs(image, "stat /usr/bin/sudo")
    wants = "/etc/systemd/system/sysinit.target.wants/virtkit-seed.service"
    assert "/usr/lib/systemd/system/virtkit-seed.service" in debugfs(image, f"stat {wants}")
    assert debugfs(image, "cat /etc/machine-id") == ""
    assert debugfs(image, "cat /etc/ssh/ssh_host_rsa_key") == "", "each guest has its own"
    assert debugfs(image, "cat /etc/group") == "root:x:0:\nadm:x:4:\n"
    assert [each.name for each in Path(image.root).parent.iterdir()] != ["root.img"]
    assert {each.name for each in Path(image.root).parent.iterdir()} == {"image.json", "root.img"}
    before = Path(image.root).stat().st_mtime_ns
    cache._probed.clear()
    assert made(path) == image
    assert Path(image.root).stat().st_mtime_ns == before, "it is made once"


def test_links_lead_nowhere_outside(tmp_path: Path) -> None:
    """Whatever the tree says, nothing of this machine is written, and no program of it is run."""
    outside = tmp_path / "outside"
    (outside / "systemd").mkdir(parents=True)
    files = {
        **SMALL,
        "usr/lib/virtkit": str(outside),
        "etc/systemd": str(outside / "systemd"),
        "etc/fstab": str(outside / "fstab"),
        "var/lib/cloud": "../../../../../../../../" + str(outside),
    }
    before = Path("/etc/machine-id").read_bytes() if Path("/etc/machine-id").exists() else None
    refused(archive(tmp_path / "rootfs.tar.gz", files))  # they lead to nothing in the tree
    assert [each.name for each in outside.rglob("*")] == ["systemd"]
    after = Path("/etc/machine-id").read_bytes() if Path("/etc/machine-id").exists() else None
    assert after == before


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    files = {k: v for k, v in SMALL.items() if k not in ("usr/bin/setpriv", "usr/sbin/init")}
    error = refused(archive(tmp_path / "rootfs.tar.gz", files))
    assert isinstance(error, RequestError)
    assert "lacks setpriv, systemd" in error.what
    assert "(Debian: util-linux systemd)" in error.cure


def test_another_processor(tmp_path: Path) -> None:
    header = bytearray(Path("/bin/sh").read_bytes()[:64])
    header[18:20] = b"\xf3\x00"  # RISC-V
    error = refused(archive(tmp_path / "rootfs.tar.gz", {**SMALL, "usr/bin/sh": bytes(header)}))
    assert "for another processor" in error.what


def test_an_archive_that_was_cut_off(tmp_path: Path) -> None:
    path = archive(tmp_path / "rootfs.tar.gz", SMALL)
    os.truncate(path, path.stat().st_size // 2)
    assert "can't be unpacked" in refused(path).what
    plain = tmp_path / "rootfs.tar"
    plain.write_bytes(gzip.decompress(archive(path, SMALL).read_bytes())[:100_000])
    assert "no image was made of" in refused(plain).what


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"QFI\xfb\0\0\0\x03" + bytes(1000), "is a qcow2"),
        (gzip.compress(b"QFI\xfb\0\0\0\x03" + bytes(1000), mtime=0), "is a qcow2"),
        (b"<html>" + b"x" * 1000, "is a web page"),
        (bytes(1000), "is no archive"),
        (b"PK\x03\x04" + bytes(1000), "is a zip archive"),
    ],
)
def test_what_is_no_archive(content: bytes, what: str, tmp_path: Path) -> None:
    """Told by the plan."""
    path = tmp_path / "rootfs.tar.xz"
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        cache.check(ref_of(path), Path("/"))
    assert what in caught.value.what
    assert "`path:`" in caught.value.cure
    with pytest.raises(RequestError, match="there is no root file system"):
        cache.check(ref_of(tmp_path / "none"), Path("/"))


def test_an_image_of_before_there_were_these_is_the_same() -> None:
    """Its identity, by which guests that are there know it."""
    entry = Image(path="./disk.qcow2")
    assert image_identity(entry) == (
        "5a13b3c8c61df0d53d2bdde74b4bcca135833cac8a71c8c5ab1bc14afd67e24d"
    )
