"""Images that are files: looked at with qemu-img before anything of them is used."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from virtkit.errors import RequestError
from virtkit.images import cache, local_image, probe
from virtkit.progress import Progress
from virtkit.spec import Image
from virtkit.state.desired import ImageRef, image_identity

pytestmark = pytest.mark.skipif(
    not shutil.which("qemu-img"), reason="needs qemu-img: apt-get install qemu-utils"
)
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


def refused(path: Path) -> RequestError:
    with pytest.raises(RequestError) as caught:
        probe(path)
    assert caught.value.exit_code == 2
    assert caught.value.cure
    return caught.value


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_formats_that_are_taken(format: str, tmp_path: Path) -> None:
    path = tmp_path / "disk with blanks"
    qemu_img("create", "-f", format, path, "8M")
    assert probe(path) == (format, 8 * MIB)


@pytest.mark.parametrize("format", ["vmdk", "vdi", "vpc", "vhdx", "qed"])
def test_formats_that_are_not(format: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    qemu_img("create", "-f", format, path, "8M")
    assert f"of format {format}" in refused(path).what


@pytest.mark.parametrize("backing", ["base", "/etc/passwd"])
def test_a_backing_file(backing: str, tmp_path: Path) -> None:
    qemu_img("create", "-f", "raw", tmp_path / "base", "8M")
    path = tmp_path / "disk"
    qemu_img("create", "-u", "-f", "qcow2", "-b", backing, "-F", "raw", path, "8M")
    error = refused(path)
    assert f"has a backing file: {backing}" in error.what
    assert "qemu-img convert" in error.cure


def test_a_data_file(tmp_path: Path) -> None:
    path, data = tmp_path / "disk", tmp_path / "data"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={data}", path, "8M")
    assert "has a data file" in refused(path).what


def test_no_file(tmp_path: Path) -> None:
    assert "no image file" in refused(tmp_path / "none").what
    assert "no image file" in refused(tmp_path).what


def test_a_name_that_looks_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """qemu-img would take `json:…` or `nbd:…` for an address."""
    monkeypatch.chdir(tmp_path)
    name = 'json:{"driver":"file","filename":"secret"}'
    (tmp_path / "secret").write_bytes(b"\0" * MIB)
    Path(name).write_bytes(b"\0" * 2 * MIB)
    assert probe(tmp_path / name) == ("raw", 2 * MIB)


def test_half_an_image(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    qemu_img("create", "-f", "qcow2", path, "8M")
    path.write_bytes(path.read_bytes()[:60])
    error = refused(path)
    assert error.why


def test_a_given_file_stays_where_it_is(tmp_path: Path) -> None:
    entry = Image(path="disk.qcow2")
    ref = ImageRef("mine", entry, image_identity(entry))
    qemu_img("create", "-f", "qcow2", tmp_path / "disk.qcow2", "8M")
    image = local_image(ref, tmp_path, Progress())
    assert image.root == str(tmp_path / "disk.qcow2")
    (tmp_path / "disk.qcow2").unlink()
    qemu_img("create", "-f", "qcow2", tmp_path / "disk.qcow2", "16M")
    again = local_image(ref, tmp_path, Progress())
    assert again.content != image.content, "its content counts, not its name"
    assert cache.cached(ref.identity) is None


def test_a_disk_of_no_size(tmp_path: Path) -> None:
    qemu_img("create", "-f", "qcow2", tmp_path / "disk.qcow2", "0")
    (tmp_path / "disk.raw").touch()
    for path in tmp_path.iterdir():
        assert "a disk of 0 bytes" in refused(path).what


def test_a_qcow2_that_was_cut_off(tmp_path: Path) -> None:
    """qemu-img info finds nothing wrong with it; a guest would read zeros."""
    (tmp_path / "raw").write_bytes(os.urandom(MIB))
    path = tmp_path / "disk"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", tmp_path / "raw", path)
    os.truncate(path, path.stat().st_size - MIB // 2)
    error = refused(path)
    assert "damaged or cut off" in error.what
    assert error.why


def test_a_qcow2_whose_beginning_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", path, "8M")
    with path.open("r+b") as file:
        file.write(bytes(4))
    assert "is not a qcow2 image" in refused(path).what
