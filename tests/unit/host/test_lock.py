"""Locks between processes and users: who has one, who waits, what others may have left there."""

from __future__ import annotations

import os
import pwd
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import ssh_guest

from virtkit.errors import RequestError
from virtkit.host import lock
from virtkit.host.lock import Lock, RemoteLock

HOLDS = """
import sys
from pathlib import Path
from virtkit.host.lock import Lock
with Lock("lab", "environment lab", Path(sys.argv[1])).acquire(5, shared="shared" in sys.argv):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One like /run/lock."""
    path = tmp_path / "locks"
    path.mkdir()
    path.chmod(0o1777)
    for parent in (tmp_path, *tmp_path.parents[:3]):  # pytest's own are closed to other users
        parent.chmod(parent.stat().st_mode | 0o011)
    return path


@pytest.fixture
def lab(folder: Path) -> Lock:
    return Lock("lab", "environment lab", folder)


@contextmanager
def holder(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    line = [sys.executable, "-c", HOLDS, str(folder), *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def taken(lock: Lock, timeout: float = 0.0, *, shared: bool = False) -> bool:
    try:
        with lock.acquire(timeout, shared=shared):
            return True
    except RequestError:
        return False


def test_one_at_a_time_in_one_process_too(lab: Lock, folder: Path) -> None:
    with lab.acquire():
        assert not taken(lab)
        assert taken(Lock("other", "environment other", folder))
    assert taken(lab)


def test_who_has_it_is_told(lab: Lock, folder: Path) -> None:
    said: list[str] = []
    with (
        holder(folder) as other,
        pytest.raises(RequestError) as error,
        lab.acquire(0.3, said.append),
    ):
        pass
    who = f"process {other.pid} of "
    assert error.value.exit_code == 2
    assert error.value.what == "environment lab is in use"
    assert who in error.value.why
    assert sys.executable in error.value.why
    assert f"since {time.strftime('%Y-%m-%d')}" in error.value.why
    assert "--lock-timeout" in error.value.cure
    assert len(said) == 1
    assert who in said[0]


def test_whoever_looks_takes_nothing(lab: Lock, folder: Path) -> None:
    assert lab.holder() == ""
    assert list(folder.iterdir()) == []
    with holder(folder) as other:
        assert f"process {other.pid} of " in lab.holder()
        assert sys.executable in lab.holder()
    other.wait()
    assert lab.holder() == ""
    with lab.acquire() as before:
        assert before == ""


def test_whom_one_waited_for_is_known_afterwards(lab: Lock, folder: Path) -> None:
    with holder(folder) as other:
        assert other.stdin is not None
        threading.Timer(0.3, other.stdin.close).start()
        with lab.acquire(20) as before:
            assert f"process {other.pid} of " in before


def test_a_shell_sees_the_holder_as_we_do() -> None:
    """What is run on other machines, run on this one."""
    name = f"whose test-{os.getpid()}"
    script = f"file={shlex.quote(f'virtkit-{quote(name)}.lock')}\n{lock.FIND_HOLDER}"

    def seen() -> str:
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        return done.stdout

    named_lock = Lock(name, "it")
    assert seen() == ""
    with named_lock.acquire():
        user = pwd.getpwuid(os.geteuid()).pw_name
        assert seen() == f"process {os.getpid()} of {user}\n"
        waiter = subprocess.Popen(["flock", str(named_lock._path()), "true"])
        time.sleep(0.3)
        assert f"process {os.getpid()} of" in seen()
        assert named_lock.holder().startswith(seen().strip())
    waiter.wait()
    assert seen() == ""
    named_lock._path().unlink()


def test_it_dies_with_its_holder(lab: Lock, folder: Path) -> None:
    with holder(folder) as other:
        assert not taken(lab)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert taken(lab)


def test_it_is_had_as_soon_as_it_is_free(lab: Lock, folder: Path) -> None:
    with holder(folder) as other:
        assert other.stdin is not None
        threading.Timer(0.3, other.stdin.close).start()
        began = time.monotonic()
        with lab.acquire(20):
            assert 0.2 < time.monotonic() - began < 5


def test_shared(lab: Lock, folder: Path) -> None:
    with holder(folder, "shared"):
        assert taken(lab, shared=True)
        assert not taken(lab)


def test_giving_up_leaves_nothing_open(lab: Lock, folder: Path) -> None:
    def gives_up(_seconds: float) -> None:
        raise ZeroDivisionError

    with holder(folder):
        before = descriptors()
        with pytest.raises(ZeroDivisionError), lab.acquire(5, sleep=gives_up):
            pass
        assert descriptors() == before


def test_a_file_that_goes_away_is_made_again(lab: Lock, folder: Path) -> None:
    with lab.acquire():
        pass
    (file,) = folder.iterdir()
    file.unlink()
    with lab.acquire():
        assert list(folder.iterdir()) == [file]
        assert not taken(lab)


@pytest.mark.parametrize("kind", ["symlink", "dangling", "pipe", "folder"])
def test_what_is_no_plain_file_is_refused(kind: str, lab: Lock, folder: Path) -> None:
    path, target = folder / "virtkit-lab.lock", folder / "target"
    target.write_text("precious")
    if kind == "symlink":
        path.symlink_to(target)
    elif kind == "dangling":
        path.symlink_to(folder / "made-by-root")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(RequestError, match="can't be taken") as error, lab.acquire(5):
        pass
    assert str(path) in error.value.why
    assert error.value.cure
    assert target.read_text() == "precious"
    assert not (folder / "made-by-root").exists()


def test_what_others_wrote_there_stays(lab: Lock, folder: Path) -> None:
    path = folder / "virtkit-lab.lock"
    path.write_text("of somebody")
    with lab.acquire():
        assert path.read_text() == "of somebody"
    assert path.exists()


def test_all_users_may_take_it(lab: Lock, folder: Path) -> None:
    before = os.umask(0o077)
    try:
        with lab.acquire():
            pass
    finally:
        os.umask(before)
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    # flock(1) as nobody, on the same file as root's; it opens it for reading
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert subprocess.run([*nobody, "flock", "-n", file, "true"], check=False).returncode == 0
    with lab.acquire():
        assert subprocess.run([*nobody, "flock", "-n", file, "true"], check=False).returncode == 1
    # and root on nobody's
    file.unlink()
    subprocess.run([*nobody, "touch", file], check=True)
    assert file.stat().st_uid == 65534
    assert taken(lab)


def test_the_first_folder_that_is_open_to_all(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, loose = tmp_path / "closed", tmp_path / "loose"
    closed.mkdir(mode=0o755)
    loose.mkdir()
    loose.chmod(0o777)  # anybody could remove anybody's lock there
    monkeypatch.setattr(lock, "FOLDERS", (tmp_path / "none", closed, loose, folder))
    with Lock("a/b", "it").acquire():
        assert [each.name for each in folder.iterdir()] == ["virtkit-a%2Fb.lock"]
    monkeypatch.setattr(lock, "FOLDERS", (closed,))
    with pytest.raises(RequestError, match="no folder for locks"), Lock("a", "it").acquire():
        pass


# --- of another machine ---------------------------------------------------------------------------


@pytest.fixture
def remote_lock(tmp_path: Path) -> Iterator[RemoteLock]:
    """One of this machine, by ssh."""
    with tempfile.TemporaryDirectory() as short, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", short)  # ssh's sockets have short paths
        with ssh_guest.host(tmp_path) as remote:
            yield RemoteLock(remote, f"far-{os.getpid()}", "environment lab")
    Lock(f"far-{os.getpid()}", "it")._path().unlink(missing_ok=True)


def test_the_way_to_a_host_is_no_waiting_for_its_lock(remote_lock: RemoteLock) -> None:
    with remote_lock.acquire(0) as before:
        assert before == ""


def test_a_lock_of_another_machine_is_not_waited_for(remote_lock: RemoteLock) -> None:
    said: list[str] = []
    with (
        Lock(f"far-{os.getpid()}", "it").acquire(),
        pytest.raises(RequestError, match="environment lab is in use") as error,
        remote_lock.acquire(0, said.append),
    ):
        pass
    assert "after 0 s of waiting another run still holds it, on host rack1" in error.value.why
    assert said == [], "nobody waits"
    with remote_lock.acquire(0):
        pass
