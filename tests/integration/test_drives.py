"""Drives and the discs in them, what a guest boots from, and guests without an image: seen from
inside, in libvirt, and by what guests print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.discs import disc
from integration.edits import Edits, document, early, editing, lives, why
from integration.lab import POOL, run, tiny_disk, until, virsh

SPEC: dict[str, Any] = {
    "name": "drives",
    "images": {"tiny": {"path": "tiny.raw"}},
    "networks": {"front": {"cidr": "10.94.33.0/24"}},
    "defaults": {"type": "qemu", "ssh_keys": ["id.pub"], "networks": [], "memory": "32MiB"},
    "guests": {
        "reader": {"memory": "256MiB", "networks": ["front"], "cdroms": ["one.iso"]},
        "installer": {
            "image": "none",
            "disk": "8MiB",
            "cdroms": ["boots.iso", "one.iso"],
            "boot": ["disk", "cdrom"],
        },
        "disks": {"image": "tiny", "cdroms": ["boots.iso"]},
        "network": {"image": "none", "networks": ["front"], "boot": ["network"]},
    },
}


@pytest.fixture(scope="module")
def edits(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("drives")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    (folder / "one.iso").write_bytes(disc("the first"))
    (folder / "two.iso").write_bytes(disc("the second"))
    (folder / "boots.iso").write_bytes(disc("boots", boots=True))
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
    with editing(folder, early(request, SPEC, "reader")) as edits:
        yield edits


def reads(edits: Edits) -> str:
    """What the disc in the first drive of ``reader`` has, as the guest reads it."""
    script = "mount -o ro /dev/sr0 /mnt && cat /mnt/text; umount /mnt"
    return edits.lab.virtkit("exec", "reader", "--", "sh", "-c", script).out.strip()


def inside(edits: Edits, script: str) -> str:
    return edits.lab.virtkit("exec", "reader", "--", "sh", "-c", script, code=None).out.strip()


def discs(domain: str) -> dict[str, str]:
    """The volume in each drive, empty where none is, by the drive's serial."""
    return {
        each.findtext("serial"): Path(
            "" if (source := each.find("source")) is None else source.get("file", "")
        ).name
        for each in document(domain).iterfind("./devices/disk[@device='cdrom']")
    }


def volumes() -> set[str]:
    return {each.name for each in POOL.glob("drives-*cdrom*")}


def printed(edits: Edits, guest: str) -> str:
    return edits.lab.virtkit("logs", guest).out


@pytest.mark.long  # the guest has a system, which boots for a minute
def test_a_guest_reads_the_disc_in_its_drive(edits: Edits) -> None:
    assert reads(edits) == "the first"
    assert inside(edits, "cat /sys/block/sr0/device/vendor").startswith("QEMU")
    target = document("drives-reader").find("./devices/disk[@device='cdrom']/target")
    assert target.get("bus") == "scsi", "a built image's kernel has no driver for SATA"
    target = document("drives-disks").find("./devices/disk[@device='cdrom']/target")
    assert target.get("bus") == "sata"


def test_a_blank_disk_leaves_the_boot_to_the_disc(edits: Edits) -> None:
    assert until(lambda: "tiny: up" in printed(edits, "installer"), 60)
    assert discs("drives-installer") == {
        "cdrom1": "drives-installer-cdrom1",
        "cdrom2": "drives-installer-cdrom2",
    }
    assert not (POOL / "drives-installer-seed").exists()
    orders = {
        each.findtext("serial"): each.find("boot").get("order")
        for each in document("drives-installer").iterfind("./devices/disk")
    }
    assert orders == {"root": "1", "cdrom1": "2", "cdrom2": "3"}


def test_a_disk_boots_where_nothing_else_is_said(edits: Edits) -> None:
    assert until(lambda: "tiny: up" in printed(edits, "disks"), 60)


def test_without_a_disk_a_guest_boots_from_the_network(edits: Edits) -> None:
    """Its firmware asks for an address, which the network gives."""
    mac = document("drives-network").find("./devices/interface/mac").get("address")
    assert until(lambda: mac in virsh("net-dhcp-leases", "drives-front"), 60)
    assert document("drives-network").findall("./devices/disk") == []


def test_nobody_logs_in_to_a_guest_without_an_image(edits: Edits) -> None:
    ran = edits.lab.virtkit("ssh", "installer", "--", "true", code=None)
    assert ran.code != 0
    assert "made without an image" in ran.err
    state = {each["name"]: each for each in edits.lab.json("status")["guests"]}
    assert state["installer"]["ready"] is True


@pytest.mark.long  # the guest has a system, which boots for a minute
def test_a_disc_is_changed_while_the_guest_runs(edits: Edits) -> None:
    before = lives("drives-reader")
    edits.guest("reader", cdroms=["two.iso"])
    assert why(edits.plan()["guest/reader"]) == {"cdroms.1.disc": ("spec", "live")}
    edits.up()
    assert edits.pending() == {}
    assert reads(edits) == "the second"
    assert lives("drives-reader") == before, "it is the same run"


@pytest.mark.long  # the guest has a system, which boots for a minute
def test_a_disc_that_the_guest_holds_stays(edits: Edits) -> None:
    """udev opens a drive when it is asked to, whoever reads; else the kernel's lock holds."""
    hold = "systemctl stop systemd-udevd{-kernel,-control,}.socket systemd-udevd.service; "
    hold += "setsid sleep 1000 </dev/sr0 >/dev/null 2>&1 & echo $! >/run/holds; sleep 1"
    inside(edits, f"bash -c '{hold}'")
    edits.guest("reader", cdroms=["one.iso"])
    text = edits.lab.virtkit("up", code=1).err
    assert "does not give back the disc in cdrom1" in text
    assert discs("drives-reader") == {"cdrom1": "drives-reader-cdrom1"}
    start = "systemctl start systemd-udevd-kernel.socket systemd-udevd-control.socket "
    script = f"kill $(cat /run/holds) && {start} systemd-udevd.service && eject /dev/sr0"
    assert inside(edits, f"{script} && echo ejected") == "ejected", "as the cure says"
    edits.up()
    assert reads(edits) == "the first"
    assert edits.plan() == {}


def test_a_disc_that_somebody_took_out_is_put_in_again(edits: Edits) -> None:
    virsh("change-media", "drives-installer", "sdb", "--eject", "--live")
    reasons = why(edits.plan()["guest/installer"])
    assert reasons == {"cdroms.2.disc": ("drift", "live")}
    edits.up()
    assert discs("drives-installer")["cdrom2"] == "drives-installer-cdrom2"


@pytest.mark.long  # the guest has a system, which boots for a minute
def test_a_disc_leaves_at_once_and_its_drive_with_a_restart(edits: Edits) -> None:
    before = lives("drives-installer"), lives("drives-reader")
    edits.guest("installer", cdroms=["boots.iso"])
    edits.guest("reader", cdroms=None)
    reasons = edits.plan()
    assert why(reasons["guest/reader"]) == {
        "cdroms.1.disc": ("spec", "live"),
        "cdroms.1": ("spec", "restart"),
    }
    edits.up()
    assert discs("drives-installer") == {"cdrom1": "drives-installer-cdrom1", "cdrom2": ""}
    assert discs("drives-reader") == {"cdrom1": ""}
    assert volumes() == {"drives-installer-cdrom1", "drives-disks-cdrom1"}
    pending = edits.pending()
    assert {*why(pending["guest/installer"])} == {"cdroms.2"}
    assert {*why(pending["guest/reader"])} == {"cdroms.1"}
    assert (lives("drives-installer"), lives("drives-reader")) == before
    edits.up("--restart")
    assert edits.pending() == {}
    assert discs("drives-installer") == {"cdrom1": "drives-installer-cdrom1"}
    assert discs("drives-reader") == {}
    assert document("drives-reader").findall("./devices/controller[@type='scsi']") == []


def test_what_it_boots_from_waits_for_a_restart(edits: Edits) -> None:
    edits.guest("disks", boot=["cdrom", "disk"], ready="none")
    assert why(edits.plan()["guest/disks"])["boot"] == ("spec", "restart")
    edits.up()
    assert {*why(edits.pending()["guest/disks"])} == {"boot"}
    edits.up("--restart")
    assert edits.pending() == {}
    xml = document("drives-disks", "--inactive")
    assert xml.find("./os/boot") is None
    assert xml.find("./devices/disk[@device='cdrom']/boot").get("order") == "1"
    edits.guest("disks", boot=None)
    edits.up("--restart")
    assert document("drives-disks", "--inactive").find("./os/boot").get("dev") == "hd"


def test_a_blank_disk_grows_and_keeps_what_is_on_it(edits: Edits) -> None:
    root = POOL / "drives-installer-root"
    with root.open("r+b") as file:
        file.seek(1024 * 1024)
        file.write(b"installed")
    edits.guest("installer", disk="16MiB")
    edits.up()
    assert root.stat().st_size == 16 * 1024 * 1024
    with root.open("rb") as file:
        file.seek(1024 * 1024)
        assert file.read(9) == b"installed"


def test_a_disc_that_is_none_is_refused(edits: Edits) -> None:
    (edits.lab.folder / "packed.iso").write_bytes(b"\x1f\x8b\x08" + b"x" * 4096)
    for path, words in (("packed.iso", "compressed with gzip"), ("gone.iso", "there is no file")):
        edits.guest("disks", cdroms=[path])
        (error,) = edits.lab.json("up", code=2)["errors"]
        assert words in error["what"]
        assert "guests.disks.cdroms" in error["where"]
        assert error["cure"]
        assert discs("drives-disks") == {"cdrom1": "drives-disks-cdrom1"}
    edits.guest("disks", cdroms=["boots.iso"])
    edits.settled()
