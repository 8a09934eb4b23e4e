"""Changes of running guests, seen from inside: the least disruptive way, and what waits.

Virtual machines and containers of the built image; what needs no system in the guest to be seen is
in test_changes.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, again, editing, lives, why
from integration.lab import POOL, run, until, virsh

MIB = 1024**2
GIB = 1024**3
MORE = {"name": "more", "size": "32MiB", "mount": "/srv/more"}


# --- inside ----------------------------------------------------------------------------------

SPEC: dict[str, Any] = {
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
            "disks": [
                {"name": "data", "size": "32MiB", "mount": "/srv/data", "keep": True},
                {"name": "raw", "size": "16MiB", "bus": "scsi", "discard": False},
            ],
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
def shared_edits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("inside")
    for name in ("id", "other"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    with editing(folder, SPEC) as edits:
        yield edits


@pytest.fixture
def edits(shared_edits: Edits) -> Iterator[Edits]:
    shared_edits.reset()
    yield from again(shared_edits)


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


def joined(edits: Edits, guest: str) -> dict[str, Any]:
    """What a guest says once it has an address in `back`: a new interface gets one in time."""

    def current() -> dict[str, Any]:
        found = seen(edits, guest)
        return found if any(each.startswith("10.94.12.") for each in found["addresses"]) else {}

    found = until(current, 60, 1)
    assert found
    return found


def test_each_disk_is_on_its_bus(edits: Edits) -> None:
    """A virtual machine has all of its options inside in test_guest_options.py."""
    listed = json.loads(edits.lab.sh("qemu", "lsblk -J -o NAME,SERIAL"))["blockdevices"]
    kinds = {each["serial"]: each["name"][:2] for each in listed if each["serial"]}
    assert kinds == {"root": "vd", "data": "vd", "seed": "vd", "raw": "sd"}


@pytest.fixture
def back_without_a_restart(edits: Edits) -> Iterator[None]:
    """The virtual machine's CPUs are those that it has before anybody asks for a restart."""
    yield
    edits.guest("qemu", cpus=None)
    edits.up()
    assert edits.pending() == {}


@pytest.mark.usefixtures("back_without_a_restart")
def test_a_running_virtual_machine_changes_unnoticed(edits: Edits) -> None:
    before, life = seen(edits, "qemu"), lives("inside-qemu")
    grown(edits, "qemu", "6GiB")
    edits.guest(
        "qemu",
        memory="384MiB",
        cpus=2,
        disks=[*SPEC["guests"]["qemu"]["disks"], MORE],
        networks=["front", "back"],
    )
    plan = edits.plan()
    assert why(plan["guest/qemu"]) == dict.fromkeys(
        ["memory", "disk", "disks.more", "networks.back"], ("spec", "live")
    ) | {"cpus": ("spec", "restart")}
    ran = edits.up()
    assert ("guest/qemu", "start") not in ran.steps
    assert why(edits.pending()["guest/qemu"]) == {"cpus": ("spec", "restart")}
    after = joined(edits, "qemu")
    assert (after["boot"], after["machine"]) == (before["boot"], before["machine"])
    assert lives("inside-qemu") == life
    assert 100 * MIB < after["memory"] - before["memory"] <= 128 * MIB
    assert (before["cpus"], after["cpus"]) == (1, 1)
    assert 0.9 < (after["disk"] - before["disk"]) / GIB < 1.1
    assert "more" in set(after["serials"]) - set(before["serials"])
    (address,) = (each for each in after["addresses"] if each.startswith("10.94.12."))
    assert address in edits.lab.status("qemu")["addresses"]
    assert edits.lab.sh("qemu", "findmnt -no FSTYPE /srv/more") == "ext4"
    edits.lab.sh("qemu", "echo mine >/srv/more/file; echo kept >/srv/data/file; sync")

    # a larger disk is larger at once, on its mount point too
    edits.guest("qemu", disks=[*SPEC["guests"]["qemu"]["disks"], {**MORE, "size": "64MiB"}])
    assert why(edits.plan()["guest/qemu"]) == {"disks.more.size": ("spec", "live")}
    edits.up()
    size = int(edits.lab.sh("qemu", "df -B1 --output=size /srv/more | tail -1"))
    assert 0.7 < size / 64 / MIB <= 1
    assert edits.lab.sh("qemu", "cat /srv/more/file") == "mine"

    # and back: a disk that leaves asks, an interface and memory go live, CPUs wait
    edits.guest("qemu", **edits.first["guests"]["qemu"], cpus=2, networks=None)
    change = edits.plan()["guest/qemu"]
    assert change["lost"] == "disk inside-qemu-more"
    assert why(change) == {
        "memory": ("spec", "live"),
        "disks.more": ("spec", "live"),
        "networks.back": ("spec", "live"),
    }
    edits.refused("disk inside-qemu-more")
    assert edits.lab.sh("qemu", "cat /srv/more/file") == "mine"
    edits.up("--yes")
    assert "qemu-more" not in edits.lab.volumes()
    last = seen(edits, "qemu")
    assert last["boot"] == before["boot"]
    assert "more" not in last["serials"]
    assert not [each for each in last["addresses"] if each.startswith("10.94.12.")]
    assert last["memory"] < after["memory"] - 100 * MIB
    assert last["cpus"] == 1
    assert why(edits.pending()["guest/qemu"]) == {"cpus": ("spec", "restart")}
    assert edits.lab.status("qemu")["pending"] == ["cpus"]
    assert edits.lab.sh("qemu", "cat /srv/data/file") == "kept"


@pytest.mark.long  # two boots of a minute; containers' changes that wait are below
def test_more_processors_come_with_a_restart(edits: Edits) -> None:
    before = seen(edits, "qemu")
    edits.guest("qemu", cpus=2)
    edits.up()
    assert edits.lab.status("qemu")["pending"] == ["cpus"]
    edits.lab.virtkit("restart", "qemu")
    rebooted = seen(edits, "qemu")
    assert rebooted["cpus"] == 2
    assert rebooted["boot"] != before["boot"]
    assert edits.pending() == {}
    assert edits.lab.status("qemu")["pending"] == []


def test_a_running_container_changes_unnoticed(edits: Edits) -> None:
    before, life = seen(edits, "lxc"), lives("inside-lxc")
    edits.guest("lxc", memory="192MiB", networks=["front", "back"])
    assert why(edits.plan()["guest/lxc"]) == dict.fromkeys(
        ["memory", "networks.back"], ("spec", "live")
    )
    edits.up()
    assert edits.pending() == {}
    after = joined(edits, "lxc")
    assert (after["boot"], lives("inside-lxc")) == (before["boot"], life)
    assert after["memory"] - before["memory"] == 64 * MIB
    edits.guest("lxc", memory="128MiB", networks=None)
    edits.up()
    last = seen(edits, "lxc")
    assert (last["boot"], lives("inside-lxc")) == (before["boot"], life)
    assert last["memory"] == before["memory"]
    assert not [each for each in last["addresses"] if each.startswith("10.94.12.")]


def test_a_containers_disks_wait_for_a_restart(edits: Edits) -> None:
    boot = seen(edits, "lxc")["boot"]
    disks = SPEC["guests"]["lxc"]["disks"]
    edits.guest("lxc", disks=[*disks, MORE])
    assert why(edits.plan()["guest/lxc"]) == {"disks.more": ("spec", "restart")}
    edits.up()
    assert seen(edits, "lxc")["boot"] == boot
    assert "disks.more" in edits.lab.status("lxc")["pending"]
    assert "disks.more" in why(edits.pending()["guest/lxc"])
    assert "pending" in edits.lab.virtkit("plan").out
    assert "disks.more" in edits.lab.virtkit("status").out
    ran = edits.lab.virtkit("plan", "--exit-code")
    assert "up --restart" in ran.out
    edits.up("--restart")
    assert edits.pending() == {}
    assert edits.lab.status("lxc")["pending"] == []
    assert seen(edits, "lxc")["boot"] != boot
    assert edits.lab.sh("lxc", "findmnt -no FSTYPE /srv/more") == "ext4"


def test_a_containers_disk_is_larger_after_a_restart(edits: Edits) -> None:
    edits.lab.sh("lxc", "echo kept >/root/file; sync")
    grown(edits, "lxc", "5GiB")
    edits.up("--restart")
    assert 0.9 < seen(edits, "lxc")["disk"] / 5 / GIB <= 1
    assert edits.lab.sh("lxc", "cat /root/file") == "kept"


def test_a_disk_grows_after_its_host_went_down(edits: Edits, tmp_path: Path) -> None:
    """The volume as it is in the middle of writing takes the place of the one that is stopped."""
    lab, volume, crashed = edits.lab, POOL / "inside-lxc-root", tmp_path / "crashed"
    lab.sh("lxc", "echo kept >/root/file; sync; for i in $(seq 500); do echo $i >/root/$i; done")
    run("cp", "--sparse=always", volume, crashed)
    grown(edits, "lxc", "6GiB")
    edits.up()
    assert seen(edits, "lxc")["disk"] < 5.1 * GIB
    virsh("destroy", "inside-lxc", uri="lxc:///system")
    run("truncate", "--size", str(volume.stat().st_size), crashed)
    run("cp", "--sparse=always", crashed, volume)
    assert "needs_recovery" in run("dumpe2fs", "-h", volume)
    edits.up()
    assert 0.9 < seen(edits, "lxc")["disk"] / 6 / GIB <= 1
    assert lab.sh("lxc", "cat /root/file") == "kept"
    virsh("destroy", "inside-lxc", uri="lxc:///system")
    run("e2fsck", "-f", "-n", volume)
    edits.up()


# the virtual machine's restart costs a minute, and what its seed says is made as a container's
@pytest.mark.parametrize("guest", [pytest.param("qemu", marks=pytest.mark.long), "lxc"])
def test_keys_change_while_it_runs(edits: Edits, guest: str) -> None:
    lab, name = edits.lab, f"inside-{guest}"
    before, life = seen(edits, guest), lives(name)
    lab.sh(guest, "echo kept >/srv/data/file; sync")
    host_key = lab.sh(guest, "cat /etc/ssh/ssh_host_ed25519_key.pub")
    edits.guest(guest, ssh_keys=["other.pub"])
    assert why(edits.plan()[f"guest/{guest}"]) == {"ssh_keys": ("spec", "live")}
    edits.up()
    config = lab.folder / "config"
    config.write_text(lab.virtkit("ssh-config").out)

    def can_log_in(key: str) -> bool:
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

    assert can_log_in("other")
    assert not can_log_in("id")
    after = seen(edits, guest)
    assert (after["boot"], after["machine"], lives(name)) == (
        before["boot"],
        before["machine"],
        life,
    )
    assert lab.sh(guest, "cat /etc/ssh/ssh_host_ed25519_key.pub") == host_key
    lab.virtkit("restart", guest)  # and the seed says the same at the next boot
    assert can_log_in("other")
    assert not can_log_in("id")
    assert lab.sh(guest, "cat /etc/ssh/ssh_host_ed25519_key.pub") == host_key
    assert lab.sh(guest, "cat /etc/machine-id") == before["machine"]
    assert lab.sh(guest, "cat /srv/data/file") == "kept"


# a virtual machine's interfaces come and go above
@pytest.mark.parametrize("guest", [pytest.param("qemu", marks=pytest.mark.long), "lxc"])
def test_a_guest_moves_to_another_network(edits: Edits, guest: str) -> None:
    before = seen(edits, guest)
    edits.guest(guest, networks=["back"])
    change = edits.plan()[f"guest/{guest}"]
    assert why(change) == dict.fromkeys(["networks.front", "networks.back"], ("spec", "live"))
    edits.up()
    after = joined(edits, guest)
    assert after["boot"] == before["boot"]
    assert not [each for each in after["addresses"] if each.startswith("10.94.11.")]
