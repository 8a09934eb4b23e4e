"""Thirty guests on three hosts, and the same on one: what happens to them where a host's libvirt is
killed in the middle, and where a host is off; and what it costs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.lab import tiny_disk
from integration.several_hosts import HostsLab, LibvirtHost, hosts_laboratory, several_hosts

from virtkit.host.machine import preparation

CONTAINERS, EMULATED = 20, 10

#: What the containers' systemds take together of what the kernel gives root of the machine.
INSTANCES = CONTAINERS * preparation.INOTIFY_EACH
LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        int(LIMIT.read_text()) < 2 * INSTANCES,
        reason="needs fs.inotify.max_user_instances=512: virtkit host prepare local",
    ),
]


def spec(disk: Path) -> str:
    guests = {
        "lone": {"type": "lxc", "memory": "128MiB", "place": {}, "networks": []},
        "box": {
            "count": CONTAINERS,
            "type": "lxc",
            "memory": "128MiB",
            "place": {"spread": "zone"},
        },
        "vm": {
            "count": EMULATED,
            "type": "qemu",
            "memory": "64MiB",
            "image": "tiny",
            "networks": [],
            "place": {"spread": "host", "apart": "lone"},
        },
    }
    return f"images: {{tiny: {{path: {disk}}}}}\nguests: {json.dumps(guests)}\n"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "tiny.img"
    path.write_bytes(tiny_disk())
    return path


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[LibvirtHost]]:
    with several_hosts(tmp_path, 3) as hosts:
        yield hosts


def statuses(lab: HostsLab) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in lab.json("status")["guests"]}


def all_well(lab: HostsLab) -> None:
    guests = statuses(lab)
    assert len(guests) == CONTAINERS + EMULATED + 1
    assert {(each["state"], each["ready"]) for each in guests.values()} == {("running", True)}
    assert lab.json("plan")["changes"] == []


def test_a_libvirt_killed_in_the_middle_a_host_that_is_off_and_the_end(
    hosts: list[LibvirtHost], disk: Path, tmp_path: Path
) -> None:
    for each, zone in zip(hosts, "xyy", strict=True):
        each.labels["zone"] = zone
    with hosts_laboratory(tmp_path, "thirty", spec(disk), hosts) as lab:
        killed = hosts[0]
        running = lab.starts("up")
        while len(lab.on(killed).domains()) < 2:
            assert running.poll() is None
        killed.ssh(f"kill -KILL {killed.libvirtd()}")
        assert running.wait(600) in (0, 1)
        killed.start_libvirtd()
        assert lab.json("up")["ok"]
        all_well(lab)
        where = {name: each["host"] for name, each in statuses(lab).items()}
        on_x = sum(host == "h1" for name, host in where.items() if name.startswith("box"))
        assert on_x == CONTAINERS // 2
        assert where["lone"] not in {h for name, h in where.items() if name.startswith("vm")}

        off = hosts[2]
        there = {name for name, host in where.items() if host == off.name}
        lab.virtkit("stop", "box-1", "box-2", "box-3", "--timeout", "20")
        off.off()
        report = lab.json("up", code=1)
        ended = {each["object"]: each["outcome"] for each in report["steps"]}
        assert ended["host/h3"] == "failed"
        assert {ended[f"guest/{name}"] for name in there} == {"skipped"}
        now = statuses(lab)
        assert {name for name, each in now.items() if each["state"] == "unknown"} == there
        assert {each["state"] for name, each in now.items() if name not in there} == {"running"}

        report = lab.json("down", code=1)
        for each in hosts[:2]:
            assert lab.on(each).left() == []


def test_three_hosts_take_no_longer_than_one(
    hosts: list[LibvirtHost], disk: Path, tmp_path: Path
) -> None:
    """The machine's processors are the same, so three hosts are not faster; what they cost more is
    ours."""
    for each in hosts:
        each.labels["zone"] = each.name
    seconds = {}
    for count in (1, 3, 1, 3):
        chosen = hosts[:count]
        with hosts_laboratory(tmp_path, f"on{count}", spec(disk), chosen) as lab:
            lab.json("up", "lone")  # the images are there, on each
            began = time.monotonic()
            assert lab.json("up")["ok"]
            took = time.monotonic() - began
            seconds.setdefault(count, []).append(took)
            assert lab.json("down")["ok"]
            for each in chosen:
                assert lab.on(each).left() == []
    print("seconds of up by the number of hosts:", seconds)
    assert min(seconds[3]) <= 1.2 * min(seconds[1])
