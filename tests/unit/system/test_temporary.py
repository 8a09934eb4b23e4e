"""Folders for temporary files: nothing is left of a killed run, and nothing of others' is taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from virtkit.apply import filesystems
from virtkit.system import commands, temporary

#: Works as a run that makes a disk does, and waits with it.
MAKES = """
import sys
from virtkit.apply import filesystems
with filesystems.ext4(64 * 1024 * 1024, "data") as image:
    print(image, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


@contextmanager
def run() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another run of virtkit's, and the disk that it makes."""
    if not commands.find("mke2fs"):
        pytest.skip("needs mke2fs: apt-get install e2fsprogs")
    line = [sys.executable, "-c", MAKES]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_run_removes_what_a_killed_one_left(base: Path, number: int) -> None:
    with run() as (process, disk):
        assert disk.is_file()
        process.send_signal(number)
        process.wait()
        assert disk.is_file()
        assert list(temporary.leftovers()) == [disk.parent], "doctor --orphans tells it"
        filesystems.ext4_seed({"meta-data": "{}"})
        assert not disk.parent.exists()


def test_a_run_that_goes_on_is_left_alone(base: Path) -> None:
    with run() as (process, disk):
        assert list(temporary.leftovers()) == []
        with temporary.folder() as own:
            assert oct(own.stat().st_mode & 0o777) == "0o700"
            assert disk.is_file()
        assert disk.is_file()
        process.communicate("")
    assert not disk.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_what_is_another_users_is_left_alone(base: Path) -> None:
    other = base / "virtkit-work-other"
    other.mkdir()
    os.chown(other, 12345, 12345)
    link = base / "virtkit-work-link"
    target = base / "target"
    target.mkdir()
    link.symlink_to(target)
    temporary.sweep()
    assert other.is_dir()
    assert target.is_dir()
    link.unlink()
    for each in (other, target):
        each.rmdir()


def test_many_at_once(base: Path) -> None:
    """Each makes one, and removes what it takes for a leftover."""

    def work(number: int) -> bool:
        with temporary.folder() as own:
            (own / "file").write_text(str(number))
            return (own / "file").read_text() == str(number)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(300)))
