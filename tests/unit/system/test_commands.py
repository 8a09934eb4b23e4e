"""Programs of the host: found in one way, told of in one way, and ended together with us."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtkit
from virtkit.apply import filesystems
from virtkit.errors import Interrupted, RequestError
from virtkit.progress import Progress
from virtkit.system import commands

#: What a user of Debian has: no folder of the administrator's programs.
DEBIAN = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
#: Programs of another machine's or of its own that are started otherwise.
APART = {
    "ansible/reaper.py",
    *(f"host/programs/{each}.py" for each in ("fetch", "lxc_hook", "nsenter")),
}
ROOT = Path(virtkit.__file__).parent

needs_e2fsprogs = pytest.mark.skipif(
    not commands.find("mke2fs"), reason="needs mke2fs: apt-get install e2fsprogs"
)


@needs_e2fsprogs
@pytest.mark.parametrize("path", [DEBIAN, "", "/nonexistent"])
def test_what_makes_volumes_needs_no_path(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path)
    with filesystems.ext4(64 * 1024**2, "data") as image:
        assert image.stat().st_size == 64 * 1024**2
    seed = filesystems.ext4_seed({"user-data": "a: 1\n"})
    assert filesystems.read_ext4_seed(seed) == {"user-data": "a: 1\n"}


@needs_e2fsprogs
def test_a_folder_for_temporary_files_with_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'it\'s a "folder" of $mine'
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    seed = filesystems.ext4_seed({"user-data": "a: 1\n"})
    assert filesystems.read_ext4_seed(seed) == {"user-data": "a: 1\n"}


def test_the_caller_s_own_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "mke2fs"
    own.write_text("#!/bin/sh\necho mine\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{DEBIAN}")
    assert commands.find("mke2fs") == str(own)
    assert commands.run("mke2fs").stdout == "mine\n"
    # and what it starts itself is found as well
    assert commands.run("sh", "-c", "command -v mke2fs; echo $PATH").stdout.split() == [
        str(own),
        commands.search_path(),
    ]


def test_what_is_missing_is_told_with_its_package() -> None:
    """No debugfs on the machine: nothing says then that a guest has no seed."""
    script = (
        "from virtkit.system import commands; from virtkit.apply import filesystems\n"
        "from virtkit.errors import RequestError\n"
        "try: print(filesystems.read_ext4_seed(b'x'))\n"
        "except RequestError as error: print(error.what); print(error.cure)\n"
    )
    debugfs = commands.find("debugfs") or "/usr/sbin/debugfs"
    hidden = 'mount --bind /dev/null "$1" && shift && exec "$@"'
    line = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    line += ["sh", "-c", hidden, "sh", debugfs, sys.executable, "-c", script]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "debugfs is missing on this machine",
        "sudo apt-get install e2fsprogs",
    ], done.stderr


def test_several_that_are_missing() -> None:
    with pytest.raises(RequestError) as caught:
        commands.require("sh", "no-such-program", "no-other")
    assert caught.value.what == "no-such-program, no-other are missing on this machine"
    assert caught.value.cure


# --- all of them ------------------------------------------------------------------------------


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name not in APART and not name.startswith(("images/guest/", "host/machine/")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield f"{name}:{node.lineno}", node


def test_nothing_is_started_past_the_search_path() -> None:
    """Whatever starts a program gives it the environment in which all are found."""
    starting = {"Popen", "run", "call", "check_output", "check_call"}
    places = []
    for place, call in calls():
        text = ast.unparse(call.func)
        if text in {f"subprocess.{each}" for each in starting}:
            given = {each.arg: ast.unparse(each.value) for each in call.keywords}
            assert given.get("env", "").startswith(("commands.environment(", "environment(")), place
            places.append(place)
        elif text.startswith(("os.exec", "os.spawn", "os.posix_spawn", "os.popen")):
            assert text == "os.execve", place
            assert ast.unparse(call.args[2]) == "commands.environment()", place
            places.append(place)
        assert text != "shutil.which" or place.startswith("system/commands.py"), place
    assert len(places) > 8


def test_doctor_knows_all_that_is_started_by_name() -> None:
    """One table: what a build, a disk or a login needs is what doctor looks for."""
    always = {"sh", "rm", "true", "chown"}  # coreutils and the shell
    names = set()
    for _, call in calls():
        if ast.unparse(call.func) in {"commands.run", "commands.command_line", "commands.require"}:
            words = [each.value for each in call.args if isinstance(each, ast.Constant)]
            words = words if ast.unparse(call.func) == "commands.require" else words[:1]
            names |= {each for each in words if isinstance(each, str) and not each.startswith("-")}
    assert {"mke2fs", "debugfs", "qemu-img", "unshare", "mmdebstrap"} <= names
    assert names - always <= commands.PROGRAMS.keys()


# --- how they end -----------------------------------------------------------------------------


def running(mark: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().split(b"\0")[1:2] == [mark.encode()]:
                return True
        except OSError:
            continue
    return False


def until(what: object, seconds: float) -> bool:
    end = time.monotonic() + seconds
    assert callable(what)
    while not what() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(what())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_they_end_with_us(number: signal.Signals) -> None:
    mark = f"4711.{os.getpid()}"
    script = f"from virtkit.system import commands; commands.run('sleep', '{mark}')"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as process:
        assert until(lambda: running(mark), 20)
        process.send_signal(number)
        process.wait(10)
    assert until(lambda: not running(mark), 20)


def test_they_end_where_the_work_should_end() -> None:
    mark, stop = f"4712.{os.getpid()}", threading.Event()
    threading.Timer(0.5, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        commands.run("sleep", mark, progress=Progress(stop=stop))
    assert time.monotonic() - began < 5
    assert not running(mark)
