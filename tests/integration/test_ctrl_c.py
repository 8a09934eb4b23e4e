"""Ctrl-c: the first ends what is under way and says what is left, the second ends at once."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from integration.lab import Lab, domains, laboratory, run, tiny_disk, until, virsh

pytestmark = pytest.mark.long

SPEC = """
name: ctrl
images: {ctrl: {path: ctrl.raw}}
networks: {front: {cidr: 10.94.6.0/24}}
defaults: {image: ctrl, type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {disks: [{name: data, size: 2MiB, keep: true}]}
  b: {after: [a]}
"""
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("ctrl")
    (folder / "ctrl.raw").write_bytes(tiny_disk(os.urandom(1024)))
    with laboratory(folder, "ctrl", SPEC, XDG_CACHE_HOME=str(folder / "cache")) as lab:
        yield lab


@pytest.fixture(autouse=True)
def nothing(lab: Lab) -> Iterator[None]:
    lab.write(SPEC)
    yield
    lab.write(SPEC).virtkit("down", "--volumes")
    assert not lab.left()


def until_it_says(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    said = ""
    while words not in said:
        line = process.stderr.readline()
        assert line, said
        said += line


def interrupted(
    process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT, within: float = 2.0
) -> tuple[str, str]:
    """What it says when it is interrupted: it must end in time, with 130 and no traceback."""
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    elapsed = time.monotonic() - began
    assert process.returncode == 130, (out, err)
    assert elapsed < within, (elapsed, out, err)
    assert "Traceback" not in out + err
    assert err.endswith("interrupted; run again: it continues where it stopped\n")
    return out, err


@contextmanager
def frozen() -> Iterator[None]:
    """libvirtd answers nothing meanwhile."""
    pid = int(Path("/run/libvirt/libvirtd.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@BOTH
@pytest.mark.parametrize("ready", ["{port: 22, timeout: 2m}", "ssh"])
def test_who_waits_for_a_guest(lab: Lab, number: signal.Signals, ready: str) -> None:
    """A connect is under way nearly all the time, and takes seconds to fail."""
    lab.write(SPEC.replace("ready: none", f"ready: {ready}"))
    with lab.starts("up") as up:
        until_it_says(up, "guest/a ready")
        time.sleep(1)  # the connect is under way
        out, err = interrupted(up, number)
    assert out.endswith(" s)\n")
    assert "ctrl: interrupted" in out
    assert "left: guest/a: ready, finish\n" in err
    assert "left: guest/b: start, ready, finish\n" in err
    assert "failed" not in err
    reasons = {
        (change["object"], reason["cause"])
        for change in lab.json("plan")["changes"]
        for reason in change["reasons"]
    }
    assert {("guest/a", "unfinished"), ("guest/b", "unfinished")} <= reasons
    lab.write(SPEC)
    assert lab.json("up")["ok"]
    lab.virtkit("plan", "--exit-code")


def test_in_json(lab: Lab) -> None:
    lab.write(SPEC.replace("ready: none", "ready: {port: 22, timeout: 2m}"))
    with lab.starts("up", "--json") as up:
        until_it_says(up, "guest/a ready")
        out, _ = interrupted(up)

    report = json.loads(out)
    assert report["interrupted"]
    assert not report["ok"]
    left = [(e["object"], e["step"]) for e in report["steps"] if e["outcome"] != "done"]
    assert left == [
        ("guest/a", "ready"),
        ("guest/a", "finish"),
        ("guest/b", "start"),
        ("guest/b", "ready"),
        ("guest/b", "finish"),
    ]


def test_who_waits_for_a_guest_to_stop(lab: Lab) -> None:
    """A guest with a disk that stays is asked, and is not forced off once nobody waits."""
    (lab.folder / "deaf.raw").write_bytes(bytes(2 * 1024 * 1024))  # boots nothing
    lab.write(SPEC.replace("ctrl.raw", "deaf.raw")).virtkit("up")
    with lab.starts("down") as down:
        until_it_says(down, "guest/b undefine done")
        time.sleep(0.5)
        out, err = interrupted(down)
    assert "ctrl: interrupted" in out
    assert "left: guest/a: stop, volumes, undefine\n" in err
    assert "left: network/front: delete\n" in err
    assert domains() == {"ctrl-a": "qemu:///system"}
    virsh("destroy", "ctrl-a")
    assert lab.json("down", "--volumes")["ok"]


def test_who_waits_for_the_lock(lab: Lab) -> None:
    path = Path("/run/lock/virtkit-env-ctrl.lock")
    path.touch(0o444)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with lab.starts("up") as up:
            until_it_says(up, "waiting at most")
            interrupted(up)
    assert domains() == {}


def test_while_planning_though_libvirt_hangs(lab: Lab) -> None:
    with frozen(), lab.starts("plan") as plan:
        time.sleep(2)
        interrupted(plan)


def test_the_second_is_the_end(lab: Lab) -> None:
    """Steps are in calls of libvirt's that don't return."""
    lab.write(SPEC.replace("b: {after: [a]}", "b: {}"))
    with lab.starts("up") as up:
        until_it_says(up, "network/front start done")
        with frozen():
            time.sleep(0.5)
            up.send_signal(signal.SIGINT)
            time.sleep(1)
            assert up.poll() is None
            interrupted(up, within=1.0)
    assert lab.json("up")["ok"]
    lab.virtkit("plan", "--exit-code")


@pytest.mark.parametrize("presses", [1, 2])
def test_on_a_terminal(lab: Lab, presses: int) -> None:
    """The cursor comes back, and the terminal's own ctrl-c reaches the programs that we run."""
    lab.write(SPEC.replace("ready: none", "ready: {port: 22, timeout: 2m}"))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(lab.line("up")[0], lab.line("up"), os.environ | lab.settings | {"TERM": "xterm"})
    said = b""

    def reads() -> None:
        nonlocal said
        while True:
            try:
                said += os.read(terminal, 4096)
            except OSError:  # its other side is gone
                return

    reader = threading.Thread(target=reads)
    reader.start()
    assert until(lambda: (b"ready" in said and b"No route" in said) or b"port 22" in said, 60)
    began = time.monotonic()
    if presses == 1:
        os.write(terminal, b"\x03")
    else:
        with frozen():
            os.write(terminal, b"\x03")
            time.sleep(0.4)
            os.write(terminal, b"\x03")
            until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG), 10, 0.05)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert time.monotonic() - began < 2.5
    reader.join(5)
    os.close(terminal)
    text = said.decode()
    assert "Traceback" not in text
    assert text.count("\x1b[?25l") >= 1
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown again
    assert "interrupted" in text


# --- images: no real ones are made here, what matters is what is left of the programs ---------

#: Like mmdebstrap: it mounts into its folder, starts others, and takes its time.
MMDEBSTRAP = """#!/bin/sh
mkdir "$TMPDIR/tree" && mount -t tmpfs virtkit-test-tree "$TMPDIR/tree"
echo 'I: downloading packages with apt...'
sleep 4711.25 &
wait
"""


def programs() -> list[str]:
    return [line for line in run("ps", "-eo", "args").splitlines() if line == "sleep 4711.25"]


@contextmanager
def built(tmp_path: Path, verb: str) -> Iterator[tuple[Lab, subprocess.Popen[str]]]:
    """A run of virtkit that builds an image, and whose mmdebstrap runs."""
    program = tmp_path / "bin/mmdebstrap"
    program.parent.mkdir()
    program.write_text(MMDEBSTRAP)
    program.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    spec = """
images: {own: {build: {distribution: debian, release: bookworm, packages: [hello]}}}
guests: {a: {image: own, type: qemu, networks: []}}
"""
    settings = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "tmp"),
    }
    with (
        laboratory(tmp_path, "builds", spec, **settings) as lab,
        lab.starts(verb, *(["own"] if " " in verb else [])) as building,
    ):
        assert until(programs, 30)
        assert "virtkit-test-tree" not in Path("/proc/mounts").read_text()
        yield lab, building


@pytest.mark.parametrize("verb", ["up", "image build"])
@BOTH
def test_while_an_image_is_built(tmp_path: Path, verb: str, number: signal.Signals) -> None:
    with built(tmp_path, verb) as (_, building):
        _, err = interrupted(building, number, within=3.0)
        heard = "ending image/own make" if verb == "up" else "ending the build"
        assert f"interrupted: {heard}; interrupt again" in err
        assert programs() == []
        images = tmp_path / "cache/virtkit/images"
        assert [p.name for p in images.rglob("*") if "build-" in p.name] == []
        assert list((tmp_path / "tmp").iterdir()) == []
        if verb == "up":
            assert "left: image/own: make\n" in err
            assert "failed" not in err
            assert "left: guest/a: define, volumes, start, finish\n" in err.replace(" ready,", "")


def test_a_kill_while_an_image_is_built(tmp_path: Path) -> None:
    """Nobody is there to end the programs, and they end; the next run builds beside nothing."""
    with built(tmp_path, "up") as (lab, building):
        building.kill()
        assert until(lambda: programs() == [], 3)
        building.communicate()
        assert "virtkit-test-tree" not in Path("/proc/mounts").read_text()
        with lab.starts("up") as again:
            assert until(programs, 30)
            assert len(programs()) == 1
            interrupted(again, within=3.0)
        assert programs() == []


def test_while_an_image_is_uploaded(lab: Lab) -> None:
    """libvirt lets go of the volume at once, so that the next run can make it again."""
    piece = os.urandom(1024 * 1024)
    with (lab.folder / "large.raw").open("wb") as file:
        for _ in range(512):
            file.write(piece)
    lab.write(SPEC.replace("ctrl.raw", "large.raw"))
    with lab.starts("up") as up:
        until_it_says(up, "uploading, ")
        _, err = interrupted(up)
    assert "left: image/ctrl: make\n" in err
    assert lab.json("up")["ok"]
    lab.virtkit("plan", "--exit-code")


def test_while_an_image_is_downloaded_from_a_server_that_hangs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/disk.raw"
        spec = f"""
images: {{far: {{url: {url}, sha256: "{"0" * 64}"}}}}
guests: {{a: {{image: far, type: qemu, networks: []}}}}
"""
        settings = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "no_proxy": "127.0.0.1"}
        with laboratory(tmp_path, "far", spec, **settings) as lab:
            for verb, words in (("up", []), ("image pull", ["far"])):
                with lab.starts(verb, *words) as loading:
                    asked, _ = server.accept()
                    asked.recv(4096)
                    time.sleep(0.5)
                    _, err = interrupted(loading)
                    asked.close()
                assert "left: image/far: make\n" in err or verb != "up"
