"""Changes of guests that run: the least disruptive way, seen from inside; what waits; what asks.

`vm` and `box` run Debian, for what is to be seen inside; the others are tiny where they can be.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, again, digest, document, editing, lives, why
from integration.lab import POOL, domains, run, tiny_disk, virsh
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
MIB = 1024**2
GIB = 1024**3
MORE = {"name": "more", "size": "32MiB", "mount": "/srv/more"}


# --- inside ----------------------------------------------------------------------------------

INSIDE: dict[str, Any] = {
    "name": "inside",
    "networks": {
        "front": {"cidr": "10.94.11.0/24"},
        "back": {"mode": "isolated", "cidr": "10.94.12.0/24"},
    },
    "defaults": {"networks": ["front"], "ssh_keys": ["id.pub"]},
    "guests": {
        "qemu": {
            "type": "qemu",
            "memory": "256MiB",
            "disk": "5GiB",
            "max": {"memory": "512MiB", "cpus": 2},
            "disks": [{"name": "data", "size": "32MiB", "mount": "/srv/data", "keep": True}],
        },
        "lxc": {
            "type": "lxc",
            "memory": "128MiB",
            "max": {"memory": "256MiB"},
            "disks": [{"name": "data", "size": "32MiB", "mount": "/srv/data", "keep": True}],
        },
    },
}


@pytest.fixture(scope="module")
def insides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("inside")
    for name in ("id", "other"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    with editing(folder, INSIDE) as edits:
        yield edits


@pytest.fixture
def inside(insides: Edits) -> Iterator[Edits]:
    insides.reset()
    yield from again(insides)


def grown(edits: Edits, guest: str, disk: str) -> None:
    """Asks for a larger root disk; that is never taken back."""
    edits.first["guests"][guest]["disk"] = disk
    edits.guest(guest, disk=disk)


def seen(edits: Edits, guest: str) -> dict[str, Any]:
    """What a guest says of itself."""
    script = """
        cat /proc/sys/kernel/random/boot_id
        sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo
        nproc
        df -B1 --output=size / | tail -1
        stat -c %Y /proc/1
        cat /etc/machine-id
        lsblk -no SERIAL | tr -s '\\n' , ; echo
        ip -json address | tr -d '\\n'; echo
    """
    boot, memory, cpus, disk, init, machine, serials, links = edits.lab.sh(guest, script).split(
        "\n"
    )
    return {
        "boot": (boot, init),
        "memory": int(memory) * 1024,
        "cpus": int(cpus),
        "disk": int(disk),
        "machine": machine,
        "serials": serials.split(","),
        "addresses": [a["local"] for link in json.loads(links) for a in link["addr_info"]],
    }


def test_a_running_virtual_machine_changes_unnoticed(inside: Edits) -> None:
    before, life = seen(inside, "qemu"), lives("inside-qemu")
    grown(inside, "qemu", "6GiB")
    inside.guest(
        "qemu",
        memory="384MiB",
        cpus=2,
        disks=[*INSIDE["guests"]["qemu"]["disks"], MORE],
        networks=["front", "back"],
    )
    plan = inside.plan()
    assert why(plan["guest/qemu"]) == dict.fromkeys(
        ["memory", "cpus", "disk", "disks.more", "networks.back"], ("spec", "live")
    )
    ran = inside.up()
    assert ("guest/qemu", "start") not in ran.steps
    assert inside.pending() == {}
    after = seen(inside, "qemu")
    assert (after["boot"], after["machine"]) == (before["boot"], before["machine"])
    assert lives("inside-qemu") == life
    assert 100 * MIB < after["memory"] - before["memory"] <= 128 * MIB
    assert (before["cpus"], after["cpus"]) == (1, 2)
    assert 0.9 < (after["disk"] - before["disk"]) / GIB < 1.1
    assert "more" in set(after["serials"]) - set(before["serials"])
    (address,) = (each for each in after["addresses"] if each.startswith("10.94.12."))
    assert address in inside.lab.status("qemu")["addresses"]
    assert inside.lab.sh("qemu", "findmnt -no FSTYPE /srv/more") == "ext4"
    inside.lab.sh("qemu", "echo mine >/srv/more/file; echo kept >/srv/data/file; sync")

    # a larger disk is larger at once, on its mount point too
    inside.guest("qemu", disks=[*INSIDE["guests"]["qemu"]["disks"], {**MORE, "size": "64MiB"}])
    assert why(inside.plan()["guest/qemu"]) == {"disks.more.size": ("spec", "live")}
    inside.up()
    size = int(inside.lab.sh("qemu", "df -B1 --output=size /srv/more | tail -1"))
    assert 0.7 < size / 64 / MIB <= 1
    assert inside.lab.sh("qemu", "cat /srv/more/file") == "mine"

    # and back: a disk that leaves asks, a card and memory go live, CPUs wait
    inside.guest("qemu", **inside.first["guests"]["qemu"], cpus=1, networks=None)
    change = inside.plan()["guest/qemu"]
    assert change["lost"] == "disk inside-qemu-more"
    assert why(change) == {
        "memory": ("spec", "live"),
        "cpus": ("spec", "restart"),
        "disks.more": ("spec", "live"),
        "networks.back": ("spec", "live"),
    }
    inside.refused("disk inside-qemu-more")
    assert inside.lab.sh("qemu", "cat /srv/more/file") == "mine"
    inside.up("--yes")
    assert "qemu-more" not in inside.lab.volumes()
    last = seen(inside, "qemu")
    assert last["boot"] == before["boot"]
    assert "more" not in last["serials"]
    assert not [each for each in last["addresses"] if each.startswith("10.94.12.")]
    assert last["memory"] < after["memory"] - 100 * MIB
    assert last["cpus"] == 2
    assert why(inside.pending()["guest/qemu"]) == {"cpus": ("spec", "restart")}
    assert inside.lab.status("qemu")["pending"] == ["cpus"]
    assert inside.lab.sh("qemu", "cat /srv/data/file") == "kept"
    inside.lab.virtkit("restart", "qemu")
    rebooted = seen(inside, "qemu")
    assert rebooted["cpus"] == 1
    assert rebooted["boot"] != before["boot"]
    assert inside.pending() == {}
    assert inside.lab.status("qemu")["pending"] == []


def test_a_running_container_changes_unnoticed(inside: Edits) -> None:
    before, life = seen(inside, "lxc"), lives("inside-lxc")
    inside.guest("lxc", memory="192MiB", networks=["front", "back"])
    assert why(inside.plan()["guest/lxc"]) == dict.fromkeys(
        ["memory", "networks.back"], ("spec", "live")
    )
    inside.up()
    assert inside.pending() == {}
    after = seen(inside, "lxc")
    assert (after["boot"], lives("inside-lxc")) == (before["boot"], life)
    assert after["memory"] - before["memory"] == 64 * MIB
    assert [each for each in after["addresses"] if each.startswith("10.94.12.")]
    inside.guest("lxc", memory="128MiB", networks=None)
    inside.up()
    last = seen(inside, "lxc")
    assert (last["boot"], lives("inside-lxc")) == (before["boot"], life)
    assert last["memory"] == before["memory"]
    assert not [each for each in last["addresses"] if each.startswith("10.94.12.")]


def test_a_containers_disks_wait_for_a_restart(inside: Edits) -> None:
    boot = seen(inside, "lxc")["boot"]
    disks = INSIDE["guests"]["lxc"]["disks"]
    inside.guest("lxc", disks=[*disks, MORE])
    assert why(inside.plan()["guest/lxc"]) == {"disks.more": ("spec", "restart")}
    inside.up()
    assert seen(inside, "lxc")["boot"] == boot
    assert "disks.more" in inside.lab.status("lxc")["pending"]
    assert "disks.more" in why(inside.pending()["guest/lxc"])
    assert "pending" in inside.lab.virtkit("plan").out
    assert "disks.more" in inside.lab.virtkit("status").out
    ran = inside.lab.virtkit("plan", "--exit-code")
    assert "up --restart" in ran.out
    inside.up("--restart")
    assert inside.pending() == {}
    assert inside.lab.status("lxc")["pending"] == []
    assert seen(inside, "lxc")["boot"] != boot
    assert inside.lab.sh("lxc", "findmnt -no FSTYPE /srv/more") == "ext4"


def test_a_containers_disk_is_larger_after_a_restart(inside: Edits) -> None:
    inside.lab.sh("lxc", "echo kept >/root/file; sync")
    grown(inside, "lxc", "5GiB")
    inside.up("--restart")
    assert 0.9 < seen(inside, "lxc")["disk"] / 5 / GIB <= 1
    assert inside.lab.sh("lxc", "cat /root/file") == "kept"


def test_a_disk_grows_after_its_host_went_down(inside: Edits, tmp_path: Path) -> None:
    """The volume as it is in the middle of writing takes the place of the one that is stopped."""
    lab, volume, crashed = inside.lab, POOL / "inside-lxc-root", tmp_path / "crashed"
    lab.sh("lxc", "echo kept >/root/file; sync; for i in $(seq 500); do echo $i >/root/$i; done")
    run("cp", "--sparse=always", volume, crashed)
    grown(inside, "lxc", "6GiB")
    inside.up()
    assert seen(inside, "lxc")["disk"] < 5.1 * GIB
    virsh("destroy", "inside-lxc", uri="lxc:///system")
    run("truncate", "--size", str(volume.stat().st_size), crashed)
    run("cp", "--sparse=always", crashed, volume)
    assert "needs_recovery" in run("dumpe2fs", "-h", volume)
    inside.up()
    assert 0.9 < seen(inside, "lxc")["disk"] / 6 / GIB <= 1
    assert lab.sh("lxc", "cat /root/file") == "kept"
    virsh("destroy", "inside-lxc", uri="lxc:///system")
    run("e2fsck", "-f", "-n", volume)
    inside.up()


@pytest.mark.parametrize("guest", TYPES)
def test_keys_change_while_it_runs(inside: Edits, guest: str) -> None:
    lab, name = inside.lab, f"inside-{guest}"
    before, life = seen(inside, guest), lives(name)
    lab.sh(guest, "echo kept >/srv/data/file; sync")
    host_key = lab.sh(guest, "cat /etc/ssh/ssh_host_ed25519_key.pub")
    inside.guest(guest, ssh_keys=["other.pub"])
    assert why(inside.plan()[f"guest/{guest}"]) == {"ssh_keys": ("spec", "live")}
    inside.up()
    config = lab.folder / "config"
    config.write_text(lab.virtkit("ssh-config").out)

    def enters(key: str) -> bool:
        # the configuration has virtkit's own key beside; only the one named here is to count
        text = "\n".join(
            line
            for line in config.read_text().splitlines()
            if not line.strip().startswith("IdentityFile")
        )
        (lab.folder / "bare").write_text(text)
        line = ["ssh", "-F", lab.folder / "bare", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        line += ["-i", lab.folder / key, name, "true"]
        return subprocess.run(line, check=False, capture_output=True).returncode == 0

    assert enters("other")
    assert not enters("id")
    after = seen(inside, guest)
    assert (after["boot"], after["machine"], lives(name)) == (
        before["boot"],
        before["machine"],
        life,
    )
    assert lab.sh(guest, "cat /etc/ssh/ssh_host_ed25519_key.pub") == host_key
    lab.virtkit("restart", guest)  # and the seed says the same at the next boot
    assert enters("other")
    assert not enters("id")
    assert lab.sh(guest, "cat /etc/ssh/ssh_host_ed25519_key.pub") == host_key
    assert lab.sh(guest, "cat /etc/machine-id") == before["machine"]
    assert lab.sh(guest, "cat /srv/data/file") == "kept"


@pytest.mark.parametrize("guest", TYPES)
def test_a_guest_moves_to_another_network(inside: Edits, guest: str) -> None:
    before = seen(inside, guest)
    inside.guest(guest, networks=["back"])
    change = inside.plan()[f"guest/{guest}"]
    assert why(change) == dict.fromkeys(["networks.front", "networks.back"], ("spec", "live"))
    inside.up()
    after = seen(inside, guest)
    assert after["boot"] == before["boot"]
    assert [each for each in after["addresses"] if each.startswith("10.94.12.")]
    assert not [each for each in after["addresses"] if each.startswith("10.94.11.")]


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
    assert "doesn't let go of" in error["what"]
    assert "virtkit up --restart" in error["cure"]
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


def as_type(outside: Edits, word: str) -> None:
    """The guest `both` as a container, or as a virtual machine that boots the same image."""
    outside.guest("both", type=word, memory="96MiB" if word == "lxc" else "192MiB", disks=[MOUNTED])


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
    template.write_text(text.replace("WHAT", '<input type="tablet" bus="virtio"/>'))
    found = why(outside.plan()["guest/qemu"])
    assert set(found.values()) == {("upgrade", "next-boot")}
    assert all(each.startswith("devices/input") for each in found)
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
    assert document(domain("qemu")).find("devices/input[@type='tablet']") is not None


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
