"""A guest's disks, processor and cards as the spec describes them, seen from inside; and their
changes while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, document, early, editing, lives, why
from integration.lab import run, tiny_disk, virsh

MORE = {"name": "more", "size": "32MiB", "mount": "/srv/more", "bus": "scsi"}
DATA = {"name": "data", "size": "32MiB", "mount": "/srv/data"}
CPU = {"model": "maximum", "features": {"rdrand": "disable"}, "topology": {"cores": 2}}
SPEC: dict[str, Any] = {
    "name": "options",
    "images": {"tiny": {"path": "tiny.raw"}},
    "networks": {"front": {"cidr": "10.94.31.0/24"}},
    "defaults": {"type": "qemu", "ssh_keys": ["id.pub"]},
    "guests": {
        "scsi": {
            "memory": "256MiB",
            "cpus": 2,
            "cpu": CPU,
            "networks": [{"name": "front", "mtu": 1400, "queues": 2}],
            "disk": {"bus": "scsi", "cache": "none", "io": "native"},
            "disks": [DATA, {"name": "raw", "size": "16MiB", "bus": "scsi", "discard": False}],
        },
        "tiny": {
            "image": "tiny",
            "memory": "32MiB",
            "networks": [],
            "ready": "none",
            "disks": [{"name": "data", "size": "1MiB"}],
        },
        "off": {"image": "tiny", "memory": "32MiB", "networks": [], "start": False},
    },
}


@pytest.fixture(scope="module")
def edits(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("options")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
    with editing(folder, early(request, SPEC, "scsi")) as edits:
        yield edits


def inside(edits: Edits, script: str) -> list[str]:
    """What a script prints in the guest ``scsi``, as root."""
    return edits.lab.virtkit("exec", "scsi", "--", "sh", "-c", script).out.splitlines()


def disks(edits: Edits) -> dict[str, tuple[str, str]]:
    """The guest's disks by serial: the device's kind of name, and where it is mounted."""
    listed = json.loads("\n".join(inside(edits, "lsblk -J -o NAME,SERIAL,MOUNTPOINT")))
    return {
        each["serial"]: (each["name"][:2], each["mountpoint"] or "")
        for each in listed["blockdevices"]
        if each["serial"]
    }


@pytest.mark.long  # the guest has a system, which boots for two minutes
def test_each_disk_is_on_its_bus(edits: Edits) -> None:
    assert disks(edits) == {
        "root": ("sd", "/"),
        "raw": ("sd", ""),
        "seed": ("sd", ""),
        "data": ("vd", "/srv/data"),
    }
    drivers = {
        each.findtext("serial"): dict(each.find("driver").attrib)
        for each in document("options-scsi").iterfind("./devices/disk")
    }
    assert (drivers["root"]["cache"], drivers["root"]["io"]) == ("none", "native")
    assert (drivers["raw"]["discard"], drivers["data"]["discard"]) == ("ignore", "unmap")
    (max_discard,) = inside(edits, "cat /sys/block/sda/queue/discard_max_bytes")
    assert int(max_discard) > 0


@pytest.mark.long  # of the same guest
def test_the_processor_is_laid_out_so(edits: Edits) -> None:
    cpus = json.loads("\n".join(inside(edits, "lscpu -J")))["lscpu"]

    def flat(rows: Any) -> Iterator[tuple[str, str]]:
        for each in rows:
            yield each["field"].rstrip(":"), each["data"]
            yield from flat(each.get("children", ()))

    told = dict(flat(cpus))
    assert (told["CPU(s)"], told["Socket(s)"], told["Core(s) per socket"]) == ("2", "1", "2")
    assert " aes " in f" {told['Flags']} "
    assert " rdrand " not in f" {told['Flags']} "


@pytest.mark.long  # of the same guest
def test_the_card_has_its_mtu_and_its_queues(edits: Edits) -> None:
    (mtu, queues) = inside(edits, "cd /sys/class/net/e*; cat mtu; ls -d queues/rx-* | wc -l")
    assert (mtu, queues) == ("1400", "2")


def test_a_guest_that_is_left_off_is_made_and_not_started(edits: Edits) -> None:
    assert virsh("domstate", "options-off") == "shut off"
    assert edits.plan() == {}
    edits.lab.virtkit("start", "off")
    assert virsh("domstate", "options-off") == "running"
    assert edits.plan() == {}, "somebody started it, and so it stays"
    edits.lab.virtkit("stop", "off", "--timeout", "0")
    edits.guest("off", start=True, ready="none")
    assert why(edits.plan()["guest/off"])["start"] == ("spec", "none")
    edits.up()
    assert virsh("domstate", "options-off") == "running"


@pytest.mark.long  # of the same guest
def test_a_disk_on_scsi_comes_and_goes_while_the_guest_runs(edits: Edits) -> None:
    before = lives("options-scsi")
    first = edits.spec["guests"]["scsi"]["disks"]
    edits.guest("scsi", disks=[*first, MORE])
    assert why(edits.plan()["guest/scsi"]) == {"disks.more": ("spec", "live")}
    edits.up()
    assert disks(edits)["more"] == ("sd", "/srv/more")
    assert edits.pending() == {}
    edits.guest("scsi", disks=first)
    edits.up("--yes")
    assert "more" not in disks(edits)
    assert edits.pending() == {}
    assert lives("options-scsi") == before, "it is the same run"


def test_the_first_disk_on_scsi_brings_its_controller(edits: Edits) -> None:
    before = lives("options-tiny")
    first = edits.spec["guests"]["tiny"]["disks"]
    edits.guest("tiny", disks=[*first, {"name": "more", "size": "1MiB", "bus": "scsi"}])
    assert why(edits.plan()["guest/tiny"]) == {"disks.more": ("spec", "live")}
    edits.up()
    live = document("options-tiny")
    assert [e.get("model") for e in live.iterfind("./devices/controller[@type='scsi']")] == [
        "virtio-scsi"
    ]
    assert edits.pending() == {}
    assert lives("options-tiny") == before, "it is the same run"


def test_another_bus_waits_for_a_restart(edits: Edits) -> None:
    """A disk that moves to another bus is neither pulled out of a running guest nor plugged in a
    second time."""
    before = lives("options-tiny")
    edits.guest(
        "tiny", disk={"bus": "scsi"}, disks=[{"name": "data", "size": "1MiB", "bus": "sata"}]
    )
    reasons = why(edits.plan()["guest/tiny"])
    assert reasons["disk.bus"] == reasons["disks.data.bus"] == ("spec", "restart")
    edits.up("--yes")
    live = [e.get("bus") for e in document("options-tiny").iterfind("./devices/disk/target")]
    assert {*live} == {"virtio"}
    assert lives("options-tiny") == before, "it is the same run"
    assert {"disk.bus", "disks.data.bus"} <= why(edits.pending()["guest/tiny"]).keys()
    edits.up("--restart")
    assert edits.pending() == {}
    buses = {
        each.findtext("serial"): each.find("target").get("bus")
        for each in document("options-tiny").iterfind("./devices/disk")
    }
    assert buses == {"root": "scsi", "seed": "scsi", "data": "sata"}
    assert lives("options-tiny") != before


@pytest.mark.long  # it boots once more
def test_what_waits_for_a_restart_comes_with_it(edits: Edits) -> None:
    cpu = {"model": "Nehalem", "topology": {"threads": 2}, "pin": [0, 1]}
    cards = [{"name": "front", "mtu": 1300}]
    edits.guest("scsi", cpu=cpu, networks=cards, disk={"bus": "scsi", "cache": "writeback"})
    reasons = why(edits.plan()["guest/scsi"])
    waiting = {"cpu.model", "cpu.features", "cpu.topology", "cpu.pin", "networks.front.mtu"}
    waiting |= {"networks.front.queues", "disk.cache", "disk.io"}
    assert reasons == dict.fromkeys(waiting, ("spec", "restart"))
    edits.up()
    assert waiting <= why(edits.pending()["guest/scsi"]).keys()
    edits.up("--restart")
    assert edits.pending() == {}
    mtu, *cores = inside(edits, "cat /sys/class/net/e*/mtu; lscpu -p=core | grep -v '#'")
    assert (mtu, cores) == ("1300", ["0", "0"]), "two threads of one core"
    shown = virsh("vcpupin", "options-scsi").split()
    assert shown == ["0", "0", "1", "1"]


@pytest.mark.long  # of what the test before gave the guest
def test_nothing_of_it_drifts(edits: Edits, tmp_path: Path) -> None:
    assert edits.plan() == {}
    xml = tmp_path / "tiny.xml"
    text = virsh("dumpxml", "options-scsi", "--inactive")
    xml.write_text(text.replace("cache='writeback'", "cache='unsafe'"))
    virsh("define", xml)
    reasons = why(edits.plan()["guest/scsi"])
    assert reasons == {"disk.cache": ("drift", "none")}
    edits.up()
    assert "cache='writeback'" in virsh("dumpxml", "options-scsi", "--inactive")
