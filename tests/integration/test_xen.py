"""A real Xen host that ssh reaches: what doctor says of it, its locks, its key, its images."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from integration.lab import POOL, VIRTKIT, obey, run, tiny_disk, until
from integration.xen import XenLab, remote, xen_laboratory
from integration.xen_tiny import tiny_kernel
from xenhost.xenhost import XenHost

from virtkit.errors import RequestError
from virtkit.host import RemoteLock

SPEC = """
guests: {web: {type: xen-pv}}
"""
LOST = """
images: {lone: {path: lone.raw}}
networks: {front: {mode: bridge, bridge: xenbr0, cidr: 10.0.2.0/24, gateway: 10.0.2.2}}
defaults: {image: lone, type: xen-pv, memory: 16MiB, ready: none, networks: [front]}
guests: {a: {kernel: {path: tiny.elf}}}
"""


#: CI has one case on the Xen host, `test_models.py`.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


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
    with one.acquire():
        with pytest.raises(RequestError, match="the test is in use"), other.acquire(timeout=2):
            pass
        waiter = threading.Thread(target=lambda: _take(other, heard))
        waiter.start()
        with (
            pytest.raises(RequestError),
            RemoteLock(remote(lab.xen), "test", "x").acquire(timeout=1),
        ):
            pass
        assert until(lambda: heard, 60)  # the way there takes its time
        assert "on host xen1" in heard[0]
        assert "taken" not in heard
    waiter.join(60)
    assert heard[-1] == "taken"


def _take(lock: RemoteLock, heard: list[str]) -> None:
    with lock.acquire(timeout=60, on_wait=heard.append):
        heard.append("taken")


def test_a_lock_dies_with_its_holder(lab: XenLab) -> None:
    lock = RemoteLock(remote(lab.xen), "dying", "the test")
    with pytest.raises(ValueError, match="gone"), lock.acquire():
        raise ValueError("gone")
    with lock.acquire(timeout=10):
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
    (error,) = wrong.write(text).json("plan", code=2)["errors"]
    assert "host xen1 can't be reached" in error["what"]
    assert "verification failed" in error["why"]


def test_each_of_xens_types_becomes_another(lab: XenLab) -> None:
    """What libvirt adds for the one machine, a mouse on Xen's bus, the other does not take."""
    kinds = XenLab(lab.folder, "kinds", xen=lab.xen)
    for type in ("xen-pv", "xen-hvm", "xen-pvh", "xen-pv"):
        guest = f"{{type: {type}, memory: 128MiB, ready: none, networks: []}}"
        kinds.write(f"{lab.xen.spec}guests: {{a: {guest}}}\n")
        assert kinds.json("up", "--yes")["ok"]
        found = kinds.status("a")
        assert (found["type"], found["state"]) == (type, "running")
        assert kinds.json("plan")["changes"] == []
    assert kinds.json("down")["ok"]
    assert kinds.left() == []


def test_more_cpus_than_the_host_has_wait_for_a_restart(lab: XenLab) -> None:
    many = XenLab(lab.folder, "many", xen=lab.xen)
    guest = "{type: xen-pv, memory: 128MiB, ready: none, networks: [], max: {cpus: 2}}"
    many.write(f"{lab.xen.spec}guests: {{a: {guest}}}\n")
    assert many.json("up")["ok"]
    many.write(many.spec.read_text().replace("max:", "cpus: 2, max:"))
    assert many.json("up")["ok"]
    found = many.json("plan")
    assert found["changes"] == []
    assert [each["field"] for each in found["pending"][0]["reasons"]] == ["cpus"]
    assert many.json("restart", "--timeout", "0")["ok"]  # it is too young to hear a question
    assert many.virsh("vcpucount", "many-a", "--live", "--active") == "2"
    assert many.json("plan")["pending"] == []
    assert many.json("down")["ok"]


def test_a_way_whose_socket_is_gone_is_recreated(lab: XenLab) -> None:
    way = remote(lab.xen)
    way.connect()
    socket = Path(unquote(way.uri("xen").partition("=")[2]))
    socket.unlink()  # as what clears /tmp does; ssh does not notice
    assert lab.status("web")["state"] == "missing"
    assert socket.is_socket()


def test_what_is_left_on_a_host_is_told_with_what_removes_it(lab: XenLab) -> None:
    lost = XenLab(lab.folder, "lost", xen=lab.xen).write(lab.xen.spec + LOST)
    (lab.folder / "lone.raw").write_bytes(tiny_disk(b"lone"))
    (lab.folder / "tiny.elf").write_bytes(tiny_kernel())
    assert lost.json("up")["ok"]
    lost.spec.unlink()
    obey("""echo '{"name": "lost"}' | virtkit down -f -""")  # looks here only, and keeps the keys
    unsure = {each["environment"]: each["why"] for each in left() if not each["sure"]}
    assert "it may have some on xen1, which were not looked at" in unsure["lost"]
    lab.virsh("vol-create-as", "default", "gone-vm-root", "1MiB", "--format", "raw")
    found = {each["kind"]: each for each in left(lab.spec) if each["host"] == "xen1"}
    assert {kind: each["sure"] for kind, each in found.items()} == {
        "guest": False,  # its spec may lie on the machine that made it
        "image": True,
        "volume": False,
    }
    assert f"virsh -c xen+ssh://{lab.xen.address}:{lab.xen.port}/system" in found["volume"]["cure"]
    obey(found["guest"]["cure"])
    assert lost.left() == []
    assert "lost" not in {each["environment"] for each in left()}


def test_an_image_is_removed_from_a_specs_hosts(lab: XenLab) -> None:
    listed = {each["name"]: each for each in lab.json("image list")["images"]}
    assert set(listed) == {"debian-12", "lone"}
    assert all((each["host"], each["users"]) == ("xen1", []) for each in listed.values())
    assert "lone on xen1" in lab.virtkit("image list").out
    assert "no image 'loan'" in lab.errors("image rm", "loan")[0]
    (found,) = (each for each in left(lab.spec) if each["why"].startswith("image lone "))
    obey(found["cure"])
    assert [each["name"] for each in lab.json("image list")["images"]] == ["debian-12"]
    assert found["name"] not in lab.run_on_host(f"ls {POOL}").split()


def left(*spec: Path) -> list[dict[str, Any]]:
    """What `doctor` calls left over."""
    found: list[dict[str, Any]] = json.loads(run(VIRTKIT, "doctor", "--orphans", "--json", *spec))[
        "orphans"
    ]
    return found
