"""Changes as libvirt shows them, with guests as tiny as can be: what touches nothing, what waits,
what asks, and what becomes of disks. From inside of the guests: test_live_changes.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, again, digest, document, editing, lives, why
from integration.lab import POOL, domains, tiny_disk, virsh
from lxml import etree

from virtkit.drivers import DRIVERS

pytestmark = pytest.mark.long

#: virtkit, in a process that kills itself at the n-th call of one of libvirt's functions.
KILLER = """
import os, signal, sys, threading
import libvirt
kind, name, count, when = sys.argv[1:5]
sys.argv[:] = ["virtkit", *sys.argv[5:]]
held = getattr(getattr(libvirt, kind), name)
lock = threading.Lock()
calls = 0
def counted(*arguments, **options):
    global calls
    with lock:
        calls += 1
        last = calls == int(count)
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = held(*arguments, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
setattr(getattr(libvirt, kind), name, counted)
from virtkit.cli import main
main()
"""

TYPES = ("qemu", "lxc")
MORE = {"name": "more", "size": "32MiB", "mount": "/srv/more"}


# --- from outside ----------------------------------------------------------------------------

TINY: dict[str, Any] = {
    "name": "outside",
    "images": {"tiny": {"path": "tiny.raw"}, "other": {"path": "other.raw"}},
    "networks": {
        "front": {"cidr": "10.94.13.0/24"},
        "back": {"mode": "isolated", "cidr": "10.94.14.0/24"},
    },
    "defaults": {"networks": ["front"], "ready": "none"},
    "guests": {
        "qemu": {
            "type": "qemu",
            "image": "tiny",
            "memory": "32MiB",
            "cpus": 2,
            "disks": [{"name": "data", "size": "1MiB"}],
        },
        "lxc": {
            "type": "lxc",
            "memory": "96MiB",
            "cpus": 2,
            "disks": [{"name": "data", "size": "8MiB", "mount": "/srv/data"}],
        },
    },
}


@pytest.fixture(scope="module")
def outsides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    (folder / "other.raw").write_bytes(tiny_disk(b"another"))
    (folder / "kernel").write_bytes(tiny_disk())
    (folder / "kernel-2").write_bytes(tiny_disk(b"another"))
    with editing(folder, TINY) as edits:
        yield edits


@pytest.fixture
def outside(outsides: Edits) -> Iterator[Edits]:
    outsides.reset()
    yield from again(outsides, stopped)  # the tiny machine lets go of nothing while it runs


def stopped() -> None:
    if domain("qemu") in virsh("list", "--name").split():
        virsh("destroy", domain("qemu"))


def domain(guest: str) -> str:
    return f"outside-{guest}"


def uri(guest: str) -> str:
    return f"{DRIVERS[guest].scheme}:///system"


def volume(guest: str, name: str = "data") -> Path:
    return POOL / f"{domain(guest)}-{name}"


RAM = "<filesystem type='ram'><source usage='1024' units='KiB'/><target dir='/mnt'/></filesystem>"
WATCHDOG = "<watchdog model='i6300esb' action='none'/>"
#: What changes nothing but the record.
UNTOUCHED: tuple[dict[str, Any], ...] = (
    {"groups": ["web"]},
    {"after": ["last"]},
    {"ready": {"port": 22, "timeout": "1s"}},
    {"allow": ["host-paths"]},
)


@pytest.mark.parametrize("guest", TYPES)
def test_what_is_in_the_record_only_touches_nothing(outside: Edits, guest: str) -> None:
    outside.guest("last", **TINY["guests"]["qemu"])
    outside.up()
    before = lives(domain(guest)), digest(domain(guest))
    for fields in UNTOUCHED:
        outside.guest(guest, **fields)
        (field,) = fields
        assert why(outside.plan()[f"guest/{guest}"]) == {field: ("spec", "none")}
        ran = outside.up()
        assert ran.steps == [(f"guest/{guest}", "update")]
        assert ran.elapsed < 10
    assert (lives(domain(guest)), digest(domain(guest))) == before


#: What only a restart brings, field by field, and what stands in the XML then.
STAGED: dict[str, list[tuple[str, dict[str, Any], str]]] = {
    "qemu": [
        ("cpus", {"cpus": 1}, "vcpu[not(@current)]"),
        ("graphics", {"graphics": "vnc"}, "devices/graphics[@type='vnc']"),
        ("devices", {"devices": [WATCHDOG]}, "devices/watchdog[@model='i6300esb']"),
        ("kernel", {"kernel": {"path": "kernel", "cmdline": "one"}}, "os/cmdline"),
        ("firmware", {"firmware": "uefi"}, "os/loader"),
    ],
    "lxc": [
        ("cpus", {"cpus": 1}, "cputune/quota"),
        ("devices", {"devices": [RAM]}, "devices/filesystem[@type='ram']"),
        (
            "disks.more",
            {"disks": [*TINY["guests"]["lxc"]["disks"], MORE]},
            "devices/filesystem/source[contains(@dir, '/outside-lxc-more')]",
        ),
    ],
}


@pytest.mark.parametrize("guest", TYPES)
def test_what_needs_a_restart_waits_for_it(outside: Edits, guest: str) -> None:
    before, done = lives(domain(guest)), []
    for name, fields, _ in STAGED[guest]:
        outside.guest(guest, **fields)
        assert why(outside.plan()[f"guest/{guest}"]) == {name: ("spec", "restart")}
        outside.up()
        done.append(name)
        assert lives(domain(guest)) == before
        waits = outside.pending()
        assert list(waits) == [f"guest/{guest}"]
        assert waits[f"guest/{guest}"]["effect"] == "restart"
        # raw devices are told by their place
        assert any(each.startswith(name) for each in why(waits[f"guest/{guest}"]))
    waiting(outside, guest, done)
    ran = outside.lab.virtkit("plan", "--exit-code")
    assert "virtkit up --restart" in ran.out
    table = outside.lab.virtkit("status").out
    assert all(name in table for name in done)
    outside.up("--restart")
    assert lives(domain(guest)) != before
    xml = document(domain(guest))
    assert all(xml.xpath(place) for _, _, place in STAGED[guest])
    assert outside.pending() == {}
    assert outside.lab.status(guest)["pending"] == []

    # and all of it back, by a restart of somebody's own
    before = lives(domain(guest))
    outside.reset()
    outside.up("--yes")
    assert lives(domain(guest)) == before
    waiting(outside, guest, done)
    outside.lab.virtkit("restart", guest)
    assert lives(domain(guest)) != before
    outside.up()  # a container's disk that left: now nothing has it any more
    assert outside.pending() == {}
    assert outside.lab.status(guest)["pending"] == []


def waiting(outside: Edits, guest: str, fields: list[str]) -> None:
    """`status` names the fields; raw devices by their place."""
    told = outside.lab.status(guest)["pending"]
    assert [each.partition("/")[0] for each in told] == sorted(fields)


def test_another_kernel_waits(outside: Edits) -> None:
    outside.guest("qemu", kernel={"path": "kernel", "cmdline": "one"})
    outside.up("--restart")
    before = lives(domain("qemu"))
    outside.guest("qemu", kernel={"path": "kernel", "cmdline": "two"})
    assert why(outside.plan()["guest/qemu"]) == {"kernel": ("spec", "restart")}
    outside.up()
    assert lives(domain("qemu")) == before
    assert outside.lab.status("qemu")["pending"] == ["kernel"]
    outside.guest("qemu", kernel={"path": "kernel-2", "cmdline": "two"})
    outside.up("--restart")
    assert document(domain("qemu")).findtext("os/cmdline") == "two"
    assert volume("qemu", "kernel").read_bytes() == (outside.lab.folder / "kernel-2").read_bytes()


# --- disks -----------------------------------------------------------------------------------


def test_a_guest_that_lets_go_of_nothing_is_restarted_by_who_asks(outside: Edits) -> None:
    """The error's cure holds."""
    before = lives(domain("qemu"))
    outside.guest("qemu", disks=None)
    report = outside.lab.virtkit("up", "--yes", "--json", code=1)
    (error,) = (each["error"] for each in report.data["steps"] if each["outcome"] == "failed")
    assert "does not release" in error["what"]
    assert f"virtkit up {outside.lab.spec} qemu --restart" in error["cure"]
    assert lives(domain("qemu")) == before
    outside.up("--yes", "--restart")
    assert lives(domain("qemu")) != before
    assert "qemu-data" not in outside.lab.volumes()


@pytest.mark.parametrize("guest", TYPES)
def test_a_disk_that_is_renamed_is_another(outside: Edits, guest: str) -> None:
    (old,) = TINY["guests"][guest]["disks"]
    outside.guest(guest, disks=[{**old, "name": "fresh"}])
    assert outside.plan()[f"guest/{guest}"]["lost"] == f"disk {domain(guest)}-data"
    outside.refused(f"disk {domain(guest)}-data")
    stopped()
    outside.up("--yes", "--restart")
    names = {each for each in outside.lab.volumes() if each.startswith(guest)}
    assert f"{guest}-fresh" in names
    assert f"{guest}-data" not in names


@pytest.mark.parametrize("guest", TYPES)
def test_a_kept_disk_leaves_and_comes_back(outside: Edits, guest: str) -> None:
    (old,) = TINY["guests"][guest]["disks"]
    outside.guest(guest, disks=[{**old, "keep": True}])
    outside.up()
    mark(guest)
    outside.guest(guest, disks=None)
    change = outside.plan()[f"guest/{guest}"]
    assert "lost" not in change
    stopped()
    outside.up("--restart")
    assert f"{guest}-data" in outside.lab.volumes()
    assert not attached(guest)
    outside.guest(guest, disks=[{**old, "keep": True}])
    outside.up("--restart")
    assert marked(guest)
    assert attached(guest)


@pytest.mark.parametrize("guest", TYPES)
def test_no_disk_shrinks(outside: Edits, guest: str) -> None:
    fields = TINY["guests"][guest]
    (disk,) = fields["disks"]
    outside.guest("wide", **{**fields, "disks": [{**disk, "size": "16MiB"}]})
    outside.up()
    outside.guest("wide", disks=[{**disk, "size": "15MiB"}])
    outside.refused("guest wide: disks.data.size can't shrink")
    if guest == "qemu":
        outside.guest("wide", disks=[{**disk, "size": "16MiB"}], disk="4MiB")
        outside.up()
        outside.guest("wide", disk="3MiB")
        outside.refused("guest wide: disk can't shrink")


def attached(guest: str, name: str = "data") -> bool:
    """Whether the guest's XML has the disk: its volume, or where the hook mounts it."""
    sources = document(domain(guest)).iterfind("./devices/*/source")
    places = [each.get("file") or each.get("dir", "") for each in sources]
    return any(each.endswith(f"/{volume(guest, name).name}") for each in places)


def mark(guest: str) -> None:
    """Writes to a disk that no file system minds: its last bytes."""
    with volume(guest).open("r+b") as file:
        file.seek(-16, os.SEEK_END)
        file.write(b"what-was-written")


def marked(guest: str) -> bool:
    """Whether the mark is there: wherever, as the disk may have grown."""
    return b"what-was-written" in volume(guest).read_bytes()


def test_another_image_is_another_root_and_the_same_disks(outside: Edits) -> None:
    mark("qemu")
    outside.guest("qemu", image="other")
    change = outside.plan()["guest/qemu"]
    assert (change["action"], change["effect"]) == ("replace", "recreate")
    assert change["lost"] == "all on the root disk of qemu"
    outside.refused("all on the root disk of qemu")
    assert marked("qemu")
    outside.up("--yes")
    assert marked("qemu")
    text = virsh("vol-dumpxml", "outside-qemu-root", "--pool", "default")
    base = etree.fromstring(text).findtext("backingStore/path")
    assert base
    assert b"another" in Path(base).read_bytes()


# --- count, names, types ---------------------------------------------------------------------


@pytest.mark.parametrize("guest", TYPES)
def test_count_goes_up_and_down(outside: Edits, guest: str) -> None:
    outside.guest("many", **TINY["guests"][guest], count=2)
    outside.up()
    before = [lives(domain(f"many-{n}")) for n in (1, 2)]
    outside.guest("many", count=3)
    assert {o: c["action"] for o, c in outside.plan().items() if o.startswith("guest/")} == {
        "guest/many-3": "create"
    }
    outside.up()
    outside.guest("many", count=1)
    plan = outside.plan()
    assert {(c["object"], c["action"]) for c in plan.values()} == {
        ("guest/many-2", "delete"),
        ("guest/many-3", "delete"),
        *((o, c["action"]) for o, c in plan.items() if o.startswith("network/")),
    }
    for n in (2, 3):
        assert f"outside-many-{n}-data" in plan[f"guest/many-{n}"]["lost"]
    outside.refused("outside-many-2-data", "outside-many-3-data")
    outside.up("--yes")
    assert domain("many-1") in domains()
    assert domain("many-2") not in domains()
    assert lives(domain("many-1")) == before[0]


@pytest.mark.parametrize("guest", TYPES)
def test_a_guest_with_another_name_is_another(outside: Edits, guest: str) -> None:
    outside.guest("one", **TINY["guests"][guest])
    outside.up()
    outside.gone("one")
    outside.guest("two", **TINY["guests"][guest])
    plan = outside.plan()
    assert plan["guest/one"]["action"] == "delete"
    assert "outside-one-data" in plan["guest/one"]["lost"]
    assert plan["guest/two"]["action"] == "create"
    outside.refused("outside-one-data")
    outside.up("--yes")
    assert domain("one") not in domains()
    assert domain("two") in domains()


MOUNTED = {"name": "data", "size": "8MiB", "mount": "/srv/data"}


def as_type(outside: Edits, type: str) -> None:
    """The guest `both` as a container, or as a virtual machine that boots the same image."""
    outside.guest("both", type=type, memory="96MiB" if type == "lxc" else "192MiB", disks=[MOUNTED])


def test_a_container_becomes_a_virtual_machine(outside: Edits) -> None:
    as_type(outside, "lxc")
    outside.up()
    outside.lab.sh("both", "echo mine >/srv/data/file; sync")
    as_type(outside, "qemu")
    change = outside.plan()["guest/both"]
    assert (change["action"], change["lost"]) == ("replace", "all on the root disk of both")
    outside.refused("all on the root disk of both")
    assert outside.lab.sh("both", "cat /srv/data/file") == "mine"
    outside.guest("both", ready={"command": "test -e /srv/data/file", "timeout": "5m"})
    outside.up("--yes")
    assert outside.lab.sh("both", "cat /srv/data/file") == "mine"
    assert domain("both") not in virsh("list", "--all", "--name", uri=uri("lxc")).split()


@pytest.mark.parametrize("last", ["up", "down"])
def test_a_change_of_type_that_is_killed_between_the_domains(outside: Edits, last: str) -> None:
    """Both stand for a moment, the new one first: the record of each tells which is which."""
    as_type(outside, "lxc")
    outside.up()
    outside.lab.sh("both", "echo mine >/srv/data/file; sync")
    as_type(outside, "qemu")
    line = [sys.executable, "-c", KILLER, "virDomain", "undefine", "1", "before"]
    done = subprocess.run(
        [*line, "up", outside.lab.spec, "--yes"], capture_output=True, text=True, check=False
    )
    assert done.returncode < 0, (done.stdout, done.stderr)
    both = [virsh("list", "--all", "--name", uri=uri(each)).split() for each in TYPES]
    assert all(domain("both") in each for each in both)
    if last == "down":
        outside.lab.virtkit("down", "both", "--volumes")
    else:
        outside.guest("both", ready={"command": "test -e /srv/data/file", "timeout": "5m"})
        outside.up("--yes")
        assert outside.lab.sh("both", "cat /srv/data/file") == "mine"
    names = virsh("list", "--all", "--name", uri=uri("lxc")).split()
    assert domain("both") not in names
    assert (domain("both") in domains()) == (last == "up")


# --- upgrades --------------------------------------------------------------------------------


def test_a_template_that_changed_comes_with_the_next_boot(outside: Edits) -> None:
    """As a newer virtkit's own would: nobody asked for a change, so nothing is restarted."""
    template = outside.lab.folder / "own.xml.j2"
    text = '{% extends "qemu.xml.j2" %}\n{% block devices %}{{ super() }}WHAT{% endblock %}\n'
    template.write_text(text.replace("WHAT", ""))
    outside.guest("qemu", template="own.xml.j2")
    outside.up("--restart")
    before = lives(domain("qemu"))
    template.write_text(text.replace("WHAT", WATCHDOG))
    found = why(outside.plan()["guest/qemu"])
    assert set(found.values()) == {("upgrade", "next-boot")}
    assert all(each.startswith("devices/watchdog") for each in found)
    outside.up()
    assert lives(domain("qemu")) == before
    (waiting,) = outside.pending().values()
    assert waiting["effect"] == "next-boot"
    assert outside.lab.status("qemu")["pending"] != []
    outside.up("--restart")  # a restart is not what it waits for
    assert lives(domain("qemu")) == before
    outside.lab.virtkit("restart", "qemu")
    assert lives(domain("qemu")) != before
    assert outside.pending() == {}
    assert document(domain("qemu")).find("devices/watchdog") is not None


# --- kernels of one's own ----------------------------------------------------------------------


def test_a_kernel_of_another_content_waits_for_the_next_boot(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"one".ljust(65536, b"\0"))  # QEMU loads it and runs zeros
    (tmp_path / "tiny.raw").write_bytes(tiny_disk())
    guest = {"type": "qemu", "memory": "64MiB", "networks": [], "kernel": {"path": "vmlinuz"}}
    spec = {
        "name": "kernels",
        "images": {"tiny": {"path": "tiny.raw"}},
        "defaults": {"image": "tiny", "ready": "none"},
        "guests": {"own": guest},
    }
    with editing(tmp_path, spec) as edits:
        life = lives("kernels-own")
        kernel.write_bytes(b"two".ljust(65536, b"\0"))
        assert why(edits.plan()["guest/own"]) == {"kernel": ("spec", "restart")}
        edits.up()
        assert lives("kernels-own") == life
        assert why(edits.pending()["guest/own"]) == {"kernel": ("spec", "restart")}
        assert (POOL / "kernels-own-kernel").read_bytes() == kernel.read_bytes()
        edits.up("--restart")
        assert lives("kernels-own") != life
        assert edits.pending() == {}
