"""What templates and raw devices bring: folders in containers, quantities with units."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, document, editing, why
from integration.lab import laboratory, tiny_disk, virsh

pytestmark = pytest.mark.long

HOOK = Path("/etc/libvirt/hooks/lxc.d/virtkit")
MODES = ("userns", "privileged", "hardened")


RAM = "<filesystem type='ram'><source usage='2' units='MiB'/><target dir='/mnt/ram'/></filesystem>"


def folder(source: Path, target: str, inner: str = "") -> str:
    return (
        f"<filesystem type='mount' accessmode='passthrough'><source dir='{source}'/>"
        f"<target dir='{target}'/>{inner}</filesystem>"
    )


# --- folders in containers -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def host_folder() -> Iterator[Path]:
    """Folders of the host that anybody may pass through to."""
    top = Path("/srv") / f"virtkit-test-{os.getpid()}"
    top.mkdir(mode=0o755)
    for name in ("plain", "open", "fixed", "deep"):
        (top / name).mkdir(mode=0o755)
        (top / name / "file").write_text(name)
    (top / "open").chmod(0o777)
    yield top
    for name in ("plain", "open", "fixed", "deep"):
        for each in (top / name).iterdir():
            each.unlink()
        (top / name).rmdir()
    top.rmdir()


@pytest.fixture(scope="module")
def shared(host_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    """A container of each mode with folders and a file system in memory, beside a disk."""
    devices = [
        folder(host_folder / "plain", "/media"),
        folder(host_folder / "open", "/srv/open") + folder(host_folder / "deep", "/not/there/yet"),
        folder(host_folder / "fixed", "/mnt/fixed", "<readonly/>"),
        RAM,
    ]
    guest: dict[str, Any] = {
        "type": "lxc",
        "memory": "128MiB",
        "networks": [],
        "allow": ["host-paths"],
        "disks": [{"name": "data", "size": "16MiB", "mount": "/srv/data"}],
        "devices": devices,
    }
    spec = {
        "name": "raw",
        "guests": {"userns": guest, "privileged": {**guest, "privileged": True}},
    }
    with editing(tmp_path_factory.mktemp("raw"), spec) as edits:
        away = HOOK.rename(HOOK.parents[2] / "hidden")
        try:
            edits.guest("hardened", **guest)
            edits.up()
        finally:
            away.rename(HOOK)
        yield edits


@pytest.mark.parametrize("mode", MODES)
def test_a_raw_folder_is_in_the_container(shared: Edits, host_folder: Path, mode: str) -> None:
    sh = shared.lab.sh
    assert sh(mode, "cat /media/file /mnt/fixed/file /not/there/yet/file") == "plainfixeddeep"
    assert sh(mode, f"echo {mode} >/srv/open/{mode}; cat /srv/open/file") == "open"
    assert (host_folder / "open" / mode).read_text() == f"{mode}\n"
    assert sh(mode, "touch /mnt/fixed/new 2>&1 || echo refused").endswith("refused")
    assert sh(mode, "findmnt -no FSTYPE,SIZE /mnt/ram").split() == ["tmpfs", "2M"]
    assert sh(mode, "findmnt -no FSTYPE /srv/data") == "ext4"
    owners = {"userns": "65534"}
    assert sh(mode, "stat -c %u /media/file") == owners.get(mode, "0")


def test_it_is_there_after_a_restart_and_no_change(shared: Edits) -> None:
    shared.settled()
    assert shared.pending() == {}
    shared.lab.virtkit("restart", "userns")
    assert shared.lab.sh("userns", "cat /media/file") == "plain"
    shared.settled()


def test_the_plan_says_whose_the_files_are(shared: Edits, host_folder: Path) -> None:
    guest = shared.spec["guests"]["userns"]
    devices = guest["devices"]
    shared.guest("userns", devices=[*devices, folder(host_folder / "deep", "/mnt/more")])
    plan = shared.lab.json("plan")
    (note,) = plan["notes"]
    first = document("raw-userns").find("idmap/uid")
    assert first is not None
    assert f"its root is the host's user {first.get('target')} " in note
    (change,) = plan["changes"]
    assert why(change) == {"devices": ("spec", "restart")}
    shared.up("--restart")
    assert shared.lab.sh("userns", "cat /mnt/more/file") == "deep"
    shared.guest("userns", devices=devices)
    shared.up("--restart")
    assert shared.lab.sh("userns", "ls /mnt/more") == "", "the folder is gone again"


@pytest.mark.parametrize(
    ("name", "cure"),
    [("none", "under `devices` is there"), ("plain/file", "this is a file"), ("", "is mounted in")],
)
def test_a_folder_that_can_not_be_had(
    host_folder: Path, tmp_path: Path, name: str, cure: str
) -> None:
    source = (
        host_folder / name if name else Path("/var")
    )  # in here, libvirt's own folders are mounted
    guest = {
        "type": "lxc",
        "memory": "128MiB",
        "networks": [],
        "allow": ["host-paths"],
        "devices": [folder(source, "/mnt/it")],
    }
    spec = json.dumps({"name": "unhad", "guests": {"a": guest}})
    with laboratory(tmp_path, "unhad", spec) as lab:
        steps = lab.json("up", code=1)["steps"]
        (error,) = [each["error"] for each in steps if each["error"] and each["step"] == "start"]
        assert cure in error["cure"]


# --- quantities ----------------------------------------------------------------------------------

NUMA = """{% extends "qemu.xml.j2" %}
{% block cpu %}
<cpu><numa><cell id="0" cpus="0" memory="48" unit="MiB"/></numa></cpu>
<memtune><soft_limit unit="GiB">2</soft_limit></memtune>
{% endblock %}
"""


def test_a_templates_quantities_stay_what_they_are(tmp_path: Path) -> None:
    """Through a merge and a restart; and the guest is what the template says."""
    (tmp_path / "tiny.raw").write_bytes(tiny_disk())
    (tmp_path / "own.xml.j2").write_text(NUMA)
    guest = {"type": "qemu", "image": "tiny", "memory": "48MiB", "networks": [], "ready": "none"}
    spec = {
        "name": "numbers",
        "images": {"tiny": {"path": "tiny.raw"}},
        "guests": {"a": {**guest, "template": "own.xml.j2"}},
    }
    with editing(tmp_path, spec) as edits:
        edits.guest("a", devices=["<watchdog model='i6300esb'/>"])
        edits.up("--restart")
        for words in ((), ("--inactive",)):
            root = document("numbers-a", *words)
            cell, limit = root.find("cpu/numa/cell"), root.find("memtune/soft_limit")
            assert cell is not None
            assert limit is not None
            assert (cell.get("memory"), cell.get("unit")) == ("49152", "KiB")
            assert (limit.text, limit.get("unit")) == ("2097152", "KiB")
        assert "49152" in virsh("dominfo", "numbers-a")
        broken = virsh("dumpxml", "--inactive", "numbers-a").replace("'49152' unit='KiB'", "'4096'")
        (tmp_path / "broken.xml").write_text(broken)
        virsh("define", tmp_path / "broken.xml")
        (change,) = edits.plan().values()
        assert change["reasons"][0]["cause"] == "drift"
        assert "48 MiB" in str(change["reasons"])
        edits.up("--restart")
