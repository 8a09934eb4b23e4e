"""Runs at once: on one environment the second waits or is told; on two, nobody waits."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from integration.lab import POOL, Lab, domains, laboratory, networks, tiny_disk, until, virsh
from lxml import etree

from virtkit.host import Host
from virtkit.state.record import KeptDisk, PoolRecord

LOCKS = Path("/run/lock")
SPEC = """
name: both
images: {both: {path: both.raw}}
networks: {front: {cidr: 10.94.7.0/24}}
defaults: {image: both, type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {}
"""
MORE = SPEC + "  b: {}\n"
OTHER = SPEC + "  c: {}\n"
#: Nobody listens there, so whoever waits for it waits.
NEVER = SPEC.replace("ready: none", "ready: {port: 22, timeout: 5m}")
#: Defines and removes networks without a bridge's name, in the same moments as another does.
DEFINES = """
import sys, time
from virtkit.host import Host
from virtkit.state.record import NetworkRecord
name, start, count = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
host = Host()
host.connections.any()
time.sleep(max(0.0, start - time.time()))
for number in range(count):
    xml = f"<network><name>{name}-{number}</name><ip address='10.9.9.1' prefix='24'/></network>"
    record = NetworkRecord(name, str(number), "", {}, "10.9.9.0/24", rendered=xml)
    host.networks.define(record)
"""
#: Reads the pool's record until it is told to stop; others need no lock for that.
READS = """
import select, sys
from virtkit.host import Host
storage = Host().storage
reads = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    assert storage.record().kept, "the record is never gone"
    reads += 1
print(reads)
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "both.raw").write_bytes(tiny_disk(os.urandom(1024)))
    with laboratory(tmp_path, "both", SPEC, XDG_CACHE_HOME=str(tmp_path / "cache")) as lab:
        yield lab
        lab.write(SPEC)


@contextmanager
def held(environment: str) -> Iterator[Callable[[], None]]:
    """The test itself has the lock of an environment; what it yields lets go of it."""
    path = LOCKS / f"virtkit-env-{environment}.lock"
    path.touch(0o444)
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield lambda: fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def says(process: subprocess.Popen[str], words: str) -> str:
    """Reads a run's stderr until it says ``words``."""
    assert process.stderr is not None
    said = ""
    while words not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


def ended(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, (process.args, process.returncode, out, err)
    assert "Traceback" not in err
    return out, err


def test_two_ups(lab: Lab) -> None:
    with held("both") as let_go:
        both = [lab.starts("up") for _ in range(2)]
        for each in both:
            said = says(each, "waiting at most 600 s")
            assert f"environment both: waiting at most 600 s for process {os.getpid()} of" in said
            assert "since 20" in said
        assert "both-a" not in domains()
        let_go()
        told = [err for _, err in map(ended, both)]
    # one did it; the other was planned to and saw that there is nothing left
    assert sorted("nothing left to change" in each for each in told) == [False, True]
    assert sorted("guest/a finish done" in each for each in told) == [False, True]
    assert "both-a" in domains()
    assert lab.json("plan")["changes"] == []


def test_down_waits_for_up_and_is_told_for_whom(lab: Lab) -> None:
    lab.write(NEVER)
    with lab.starts("up") as up:
        says(up, "guest/a ready")
        for line in ("down", "stop", "restart", "pause"):
            began = time.monotonic()
            ran = lab.virtkit(line, "--lock-timeout", "0.5", "--json", code=2)
            assert time.monotonic() - began < 10
            error = ran.data["error"]
            assert error["what"] == "environment both is in use"
            assert f"process {up.pid} of root" in error["why"]
            assert "virtkit up" in error["why"]
            assert "since 20" in error["why"]
            assert "kill" in error["cure"]
            assert ran.err.count("waiting at most") == 1
        assert virsh("domstate", "both-a") == "running"
        # what only looks does not wait
        assert lab.status("a")["state"] == "running"
        lab.json("plan")
        # the lock dies with its holder, and who waits goes on
        down = lab.starts("down")
        says(down, f"process {up.pid} of root")
        up.send_signal(signal.SIGKILL)
        up.communicate()
        ended(down)
    assert not lab.left()


def test_where_there_is_nothing_to_do_nobody_waits(lab: Lab) -> None:
    with held("both"):
        lab.virtkit("down", "--lock-timeout", "0")
    lab.virtkit("up")
    with held("both"):
        began = time.monotonic()
        lab.virtkit("up", "--lock-timeout", "0")
        assert lab.json("up", "--lock-timeout", "0")["steps"] == []
        lab.virtkit("plan", "--exit-code")
        lab.json("status")
        lab.virtkit("start", "--lock-timeout", "0")
        lab.virtkit("resume", "--lock-timeout", "0")
        assert time.monotonic() - began < 30
        lab.write(MORE)
        ran = lab.virtkit("up", "--lock-timeout", "0", code=2)
        assert f"process {os.getpid()} of" in ran.err
    assert "both-b" not in domains()


def test_another_environment_does_not_wait(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    spec = SPEC.replace("name: both", "name: next").replace("both.raw", "../both.raw")
    spec = spec.replace("10.94.7", "10.94.8")
    with laboratory(tmp_path / "next", "next", spec, **lab.settings) as other, held("both"):
        other.virtkit("up", "--lock-timeout", "0")
        other.virtkit("down", "--lock-timeout", "0")


def test_more_would_be_lost_than_was_shown(lab: Lab, tmp_path: Path) -> None:
    """What the plan did not say is not done, whoever agreed to the rest; --yes agrees to all."""
    lab.virtkit("up")
    lab.write(MORE)
    other = tmp_path / "other.yaml"
    other.write_text(OTHER)
    with held("both") as let_go:
        waits = [lab.starts("up"), lab.starts("up", "--yes")]
        for each in waits:
            says(each, "waiting at most")
            each.send_signal(signal.SIGSTOP)
        let_go()
    line = [sys.executable, "-m", "virtkit", "up", str(other)]
    subprocess.run(line, check=True, capture_output=True, env=os.environ | lab.settings)
    assert {"both-a", "both-c"} <= set(domains())
    waits[0].send_signal(signal.SIGCONT)
    _, err = ended(waits[0], 2)
    assert "now this would lose more than was shown" in err
    assert "guest/c: both-c-root" in err
    assert "run again: it shows" in err
    assert "both-b" not in domains()
    waits[1].send_signal(signal.SIGCONT)
    _, err = ended(waits[1])
    assert "planning again" in err
    assert "both-b" in domains()
    assert "both-c" not in domains()


def test_an_image_is_not_removed_below_an_up(lab: Lab) -> None:
    lab.write(NEVER)
    image = [lab.line("up")[0], "image", "rm", "both", "--lock-timeout", "0.5"]
    options = {"capture_output": True, "text": True, "check": False}
    with lab.starts("up") as up:
        says(up, "guest/a ready")
        done = subprocess.run(image, **options, env=os.environ | lab.settings)
        up.kill()
        up.communicate()
    assert done.returncode == 2
    assert "image both is in use" in done.stderr  # a guest uses it: one need not wait
    lab.write(SPEC)
    lab.virtkit("down")
    lock = LOCKS / "virtkit-images.lock"
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        done = subprocess.run(image, **options, env=os.environ | lab.settings)
        assert done.returncode == 2
        assert "the image store is in use" in done.stderr
        lab.virtkit("up", "--lock-timeout", "5")  # another up is no hindrance
        lab.virtkit("down")
    done = subprocess.run(image, **options, env=os.environ | lab.settings)
    assert done.returncode == 0, done.stderr


def test_networks_of_two_processes_have_bridges_of_their_own() -> None:
    """libvirt itself gives one bridge to two that are defined at the same time."""
    start = str(time.time() + 2)
    names, count = ("one", "two", "three"), 12
    lines = [[sys.executable, "-c", DEFINES, name, start, str(count)] for name in names]
    try:
        both = [subprocess.Popen(line) for line in lines]
        assert [each.wait(60) for each in both] == [0] * len(names)
        made = {f"{name}-{number}" for name in names for number in range(count)}
        assert made <= networks()
        found = [etree.fromstring(virsh("net-dumpxml", each)).find("bridge") for each in made]
        bridges = [each.get("name") for each in found if each is not None]
        assert len(set(bridges)) == len(made)
    finally:
        for each in networks():
            virsh("net-undefine", each)


def test_two_environments_at_once(lab: Lab, tmp_path: Path) -> None:
    """Both whole runs: image, pool, networks and guests of both are there in the end."""
    (tmp_path / "next").mkdir()
    spec = SPEC.replace("name: both", "name: next").replace("both.raw", "../both.raw")
    with laboratory(
        tmp_path / "next", "next", spec.replace("10.94.7", "10.94.8"), **lab.settings
    ) as other:
        for _ in range(3):
            for run in [lab.starts("up"), other.starts("up")]:
                ended(run)
            xml = [etree.fromstring(virsh("net-dumpxml", f"{n}-front")) for n in ("both", "next")]
            bridges = {each.find("bridge").get("name") for each in xml}  # type: ignore[union-attr]
            assert len(bridges) == 2
            assert {"both-a", "next-a"} <= set(domains())
            for run in [lab.starts("down"), other.starts("down")]:
                ended(run)
            assert until(lambda: not lab.left() and not other.left(), 20)


def test_the_pools_record_reads_while_others_write_it() -> None:
    host = Host()
    host.storage.ensure()
    before = host.storage.record()
    disk = KeptDisk("both", "a", "both-a-data", str(POOL / "both-a-data"))
    new = PoolRecord(before.images, {disk.name: disk})
    host.storage.write_record(new)
    line = [sys.executable, "-c", READS]
    readers = [
        subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            host.storage.write_record(new)
        for each in readers:
            said, _ = each.communicate("stop\n", timeout=30)
            assert each.returncode == 0
            assert int(said) > 10
    finally:
        host.storage.write_record(before)
        for each in readers:
            each.kill()
            each.wait()
