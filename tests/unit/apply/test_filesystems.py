"""What new volumes start with, read back by the programs that will read them."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pycdlib
import pytest
import samples

from virtkit import seed
from virtkit.apply import filesystems
from virtkit.errors import RequestError, VirtkitError

FILES = {
    **seed.files(samples.guest_of("name: lab\nguests: {web: {type: qemu}}\n"), samples.KEYS, "one"),
    "big": "é\n" * 20_000,
}
needs_ext4 = pytest.mark.skipif(
    not (shutil.which("mke2fs") and shutil.which("debugfs")), reason="needs e2fsprogs"
)


def debugfs(image: Path, command: str) -> str:
    done = subprocess.run(["debugfs", "-R", command, image], capture_output=True, check=True)
    return done.stdout.decode()


def label(image: Path) -> str:
    listing = subprocess.run(["dumpe2fs", "-h", image], capture_output=True, check=True, text=True)
    (line,) = [each for each in listing.stdout.splitlines() if each.startswith("Filesystem volume")]
    return line.partition(":")[2].strip()


def test_a_file_of_the_caller_s_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "vmlinuz").write_text("a kernel")
    assert filesystems.existing_file(Path("~/vmlinuz")) == tmp_path / "vmlinuz"


def test_iso9660() -> None:
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(filesystems.iso9660(FILES)))
    assert iso.pvd.volume_identifier.decode().strip() == "cidata"
    for kind in ("joliet_path", "rr_path"):
        for name, text in FILES.items():
            content = io.BytesIO()
            iso.get_file_from_iso_fp(content, **{kind: f"/{name}"})
            assert content.getvalue().decode() == text, f"{kind} {name}"
    iso.close()


def test_a_seed_whose_upload_was_cut_off() -> None:
    """At any block: what can be read of it, or nothing, and never an error."""
    data = filesystems.iso9660(FILES)
    assert filesystems.read_iso9660(data) == FILES
    for end in range(0, len(data), 2048):
        cut = data[:end] + bytes(len(data) - end)
        for torn in (data[:end], cut):
            assert set(filesystems.read_iso9660(torn)) <= set(FILES), end


@needs_ext4
@pytest.mark.slow
def test_an_ext4_seed_whose_upload_was_cut_off() -> None:
    data = filesystems.ext4_seed(FILES)
    assert filesystems.read_ext4_seed(data) == FILES
    for end in range(0, len(data), len(data) // 8):
        files = filesystems.read_ext4_seed(data[:end] + bytes(len(data) - end))
        assert set(files) <= set(FILES), end


@needs_ext4
def test_ext4_seed(tmp_path: Path) -> None:
    image = tmp_path / "seed"
    image.write_bytes(filesystems.ext4_seed(FILES))
    assert label(image) == "cidata"
    for name, text in FILES.items():
        assert debugfs(image, f"cat /{name}") == text


@needs_ext4
def test_a_link_in_a_seed_leads_to_no_file_here(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the caller's")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "user-data").symlink_to(secret)
    (tree / "meta-data").write_bytes(b"a: 1\r\n")
    image = tmp_path / "seed"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image, "1M"], check=True)
    assert filesystems.read_ext4_seed(image.read_bytes()) == {"meta-data": "a: 1\r\n"}


@needs_ext4
def test_ext4(tmp_path: Path) -> None:
    with filesystems.ext4(64 * 1024 * 1024, "data") as image:
        assert image.stat().st_size == 64 * 1024 * 1024
        assert image.stat().st_blocks * 512 < 16 * 1024 * 1024, "it is sparse"
        assert image.stat().st_mode & 0o077 == 0 or image.parent.stat().st_mode & 0o077 == 0
        assert label(image) == "data"
        assert "lost+found" in debugfs(image, "ls /")
    assert not image.exists()


@needs_ext4
def test_too_small_for_a_file_system() -> None:
    with pytest.raises(VirtkitError) as caught, filesystems.ext4(1000, "data"):
        pass
    assert caught.value.cure


def test_a_given_file(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"")
    assert filesystems.existing_file(tmp_path / "kernel") == tmp_path / "kernel"
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(RequestError):
            filesystems.existing_file(missing)


@needs_ext4
def test_a_seed_has_room_for_large_files() -> None:
    """As many as a guest may be given, in the script and in the user-data."""
    files = {**FILES, "virtkit.sh": "x" * 730_000, "user-data": "y" * 720_000}
    assert filesystems.read_ext4_seed(filesystems.ext4_seed(files)) == files
    assert filesystems.read_iso9660(filesystems.iso9660(files)) == files
    assert len(filesystems.ext4_seed(FILES)) == 1024 * 1024
