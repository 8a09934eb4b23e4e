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


def joined(edits: Edits, guest: str) -> dict[str, Any]:
    """What a guest says once it has an address in `back`: DHCP gives one to a new card in time."""

    def there() -> dict[str, Any]:
        found = seen(edits, guest)
        return found if any(each.startswith("10.94.12.") for each in found["addresses"]) else {}

    found = until(there, 60, 1)
    assert found
    return found


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
        ["memory", "disk", "disks.more", "networks.back"], ("spec", "live")
    ) | {"cpus": ("spec", "restart")}
    ran = inside.up()
    assert ("guest/qemu", "start") not in ran.steps
    assert why(inside.pending()["guest/qemu"]) == {"cpus": ("spec", "restart")}
    after = joined(inside, "qemu")
    assert (after["boot"], after["machine"]) == (before["boot"], before["machine"])
    assert lives("inside-qemu") == life
    assert 100 * MIB < after["memory"] - before["memory"] <= 128 * MIB
    assert (before["cpus"], after["cpus"]) == (1, 1)
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
    inside.guest("qemu", **inside.first["guests"]["qemu"], cpus=2, networks=None)
    change = inside.plan()["guest/qemu"]
    assert change["lost"] == "disk inside-qemu-more"
    assert why(change) == {
        "memory": ("spec", "live"),
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
    assert last["cpus"] == 1
    assert why(inside.pending()["guest/qemu"]) == {"cpus": ("spec", "restart")}
    assert inside.lab.status("qemu")["pending"] == ["cpus"]
    assert inside.lab.sh("qemu", "cat /srv/data/file") == "kept"
    inside.lab.virtkit("restart", "qemu")
    rebooted = seen(inside, "qemu")
    assert rebooted["cpus"] == 2
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
    after = joined(inside, "lxc")
    assert (after["boot"], lives("inside-lxc")) == (before["boot"], life)
    assert after["memory"] - before["memory"] == 64 * MIB
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


# the virtual machine's restart costs a minute, and what its seed says is made as a container's
@pytest.mark.parametrize("guest", [pytest.param("qemu", marks=pytest.mark.long), "lxc"])
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
    after = joined(inside, guest)
    assert after["boot"] == before["boot"]
    assert not [each for each in after["addresses"] if each.startswith("10.94.11.")]
