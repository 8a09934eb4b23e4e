"""A real Xen host that ssh reaches, without guests: what doctor says of it, its locks, its key."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator

import pytest
from integration.lab import until
from integration.xen import XenLab, remote, xen_laboratory
from xenhost.xenhost import XenHost

from virtkit.errors import RequestError
from virtkit.host import RemoteLock

SPEC = """
guests: {web: {type: xen-pv}}
"""


@pytest.fixture(scope="module")
def lab(xen: XenHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[XenLab]:
    with xen_laboratory(tmp_path_factory.mktemp("xenlab"), "xenlab", SPEC, xen) as lab:
        yield lab


def test_doctor_finds_all_well(lab: XenLab) -> None:
    checks = lab.virtkit("doctor", "--json").data["checks"]
    well = {each["name"] for each in checks if each["ok"]}
    assert {"type xen-pv", "type xen-pvh", "type xen-hvm", "xen toolstack", "xen pv"} <= well
    assert {"xen hvm", "xen memory", "xen hotplug scripts", "xen console logs"} <= well
    assert {"type lxc", "type qemu"} & well == set(), "not on a host that ssh reaches, so far"


def test_a_lock_of_the_host_is_had_by_one(lab: XenLab) -> None:
    one, other = (RemoteLock(remote(lab.xen), "test", "the test") for _ in range(2))
    heard: list[str] = []
    with one.held():
        with pytest.raises(RequestError, match="the test is in use"), other.held(timeout=2):
            pass
        waiter = threading.Thread(target=lambda: _take(other, heard))
        waiter.start()
        with pytest.raises(RequestError), RemoteLock(remote(lab.xen), "test", "x").held(timeout=1):
            pass
        assert until(lambda: heard, 60)  # the way there takes its time
        assert "on host xen1" in heard[0]
        assert "taken" not in heard
    waiter.join(60)
    assert heard[-1] == "taken"


def _take(lock: RemoteLock, heard: list[str]) -> None:
    with lock.held(timeout=60, waiting=heard.append):
        heard.append("taken")


def test_a_lock_dies_with_its_holder(lab: XenLab) -> None:
    lock = RemoteLock(remote(lab.xen), "dying", "the test")
    with pytest.raises(ValueError, match="gone"), lock.held():
        raise ValueError("gone")
    with lock.held(timeout=10):
        holds = remote(lab.xen).run("pidof flock cat || true")
        assert holds.strip()


def test_a_host_with_another_key_is_refused(lab: XenLab) -> None:
    other = lab.folder / "other_hosts"
    key = subprocess.run(
        ["ssh-keygen", "-y", "-f", lab.xen.folder / "id"],
        capture_output=True,
        text=True,
        check=True,
    )
    other.write_text(f"[127.0.0.1]:{lab.xen.port} {key.stdout}")
    wrong = XenLab(lab.folder, "wrong", xen=lab.xen)
    text = lab.xen.spec.replace(f"{lab.xen.folder}/known_hosts", str(other)) + SPEC
    (error,) = wrong.write(text).json("plan", code=1)["errors"]
    assert "host xen1 can't be reached" in error["what"]
    assert "verification failed" in error["why"]
