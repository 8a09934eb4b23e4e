"""Xen's guests that start from disks: by pygrub in dom0, by their own BIOS; disks as partitions.

`parts` and `pvh` have Debian with its kernel and a configuration of GRUB's on the disk, and instead
of its init a script that says what it sees. The others are a page of code each.
"""

from __future__ import annotations

import os
import pty
import select
import shlex
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from integration.lab import POOL, Lab, run, until
from integration.xen import XenLab, xen_laboratory
from integration.xen_tiny import tiny_kernel
from xenhost.xenhost import XenHost

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

#: What the host has already.
OWN = "/data/own"
SPEC = f"""
images: {{grub: {{path: grub.raw}}, bios: {{path: bios.raw}}}}
defaults: {{type: xen-pv, networks: [], memory: 16MiB, ready: none}}
guests:
  pv: {{image: grub, disks: [{{name: data, size: 2MiB}}]}}
  hvm: {{type: xen-hvm, image: bios, memory: 128MiB, disks: [{{name: data, size: 2MiB}}]}}
  parts:
    image: none
    memory: 192MiB
    disk: {{existing: {OWN}/parts.raw, partition: 2}}
    disks:
      - {{name: swap, existing: {OWN}/swap.raw, partition: 1}}
      - {{name: home, size: 2MiB, partition: 3}}
      - {{name: data, size: 2MiB}}
  pvh: {{type: xen-pvh, image: none, memory: 192MiB, disk: {{existing: {OWN}/pvh.raw}}}}
"""
GRUB = """set default=0
set timeout=0
menuentry 'own' {{
    linux {kernel} {words}
    {initrd}
}}
"""
LOOK = """#!/bin/sh
mount -t proc proc /proc
echo "LOOK at $(cat /proc/cmdline)"
echo "LOOK at" $(awk '$4 ~ /xvd/ {print $4}' /proc/partitions | sort) end
while :; do sleep 1000; done
"""
#: A boot sector that says again and again on COM1 that it runs:
#:      cli; cld; ds = ss = 0; sp = 0x7c00
#:   1: si = text; dx = 0x3f8
#:   2: lodsb; test al, al; jz 3f; out dx, al; jmp 2b
#:   3: ecx = 0x200000
#:   4: dec ecx; jnz 4b; jmp 1b
SECTOR = bytes.fromhex("fafc31c08ed88ed0bc007cbe257cbaf803ac84c07403eeebf866b900002000664975fcebe6")


def bios_disk() -> bytes:
    """A disk of 1 MiB that needs a BIOS alone."""
    assert len(SECTOR) == 0x25, "the text's place"
    return ((SECTOR + b"by the BIOS\r\n\0").ljust(510, b"\0") + b"\x55\xaa").ljust(1024**2, b"\0")


def grub_disk(folder: Path) -> bytes:
    """A disk with a partition, and on that a kernel and GRUB's configuration."""
    tree, part = folder / "tree", folder / "part.raw"
    (tree / "boot/grub").mkdir(parents=True)
    (tree / "boot/tiny").write_bytes(tiny_kernel())
    (tree / "boot/grub/grub.cfg").write_text(
        GRUB.format(kernel="/boot/tiny", words="quiet", initrd="")
    )
    part.write_bytes(bytes(4 * 1024**2))
    run("mkfs.ext4", "-q", "-d", tree, part)
    entry = struct.pack("<B3xB3xII", 0x80, 0x83, 2048, 8192)  # active, Linux's, in sectors
    table = (bytes(446) + entry).ljust(510, b"\0") + b"\x55\xaa"
    return table.ljust(1024**2, b"\0") + part.read_bytes()


def debian_disk(lab: XenLab, name: str, root: str) -> None:
    """A disk of the host's with the system of the tests' image, its kernel, and `LOOK`."""
    config = GRUB.format(
        kernel="/boot/own-kernel",
        words=f"root={root} ro init=/look",
        initrd="initrd /boot/own-initrd",
    )
    steps = "cd /boot\nwrite $base.kernel own-kernel\nwrite $base.initrd own-initrd\nmkdir grub\n"
    steps += "cd grub\nrm grub.cfg\nwrite /tmp/grub.cfg grub.cfg\ncd /\nwrite /tmp/look look\n"
    steps += "sif look mode 0100755\n"
    lab.run_on_host(
        f"set -e; mkdir -p {OWN}; base=$(echo {POOL}/*.kernel); base=${{base%.kernel}}\n"
        f"printf %s {shlex.quote(config)} >/tmp/grub.cfg\n"
        f"printf %s {shlex.quote(LOOK)} >/tmp/look\n"
        f"cp --reflink=auto $base.root {OWN}/{name}\n"
        f"cat >/tmp/steps <<STEPS\n{steps}STEPS\n"
        f"debugfs -w -f /tmp/steps {OWN}/{name} >/tmp/debugfs 2>&1\n"
        f"debugfs -R 'stat /boot/own-initrd' {OWN}/{name} | grep -q regular"
    )


@pytest.fixture(scope="module")
def lab(xen: XenHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[XenLab]:
    folder = tmp_path_factory.mktemp("bootdisks")
    (folder / "bios.raw").write_bytes(bios_disk())
    (folder / "grub.raw").write_bytes(grub_disk(folder))
    with xen_laboratory(folder, "bootdisks", SPEC, xen) as lab:
        debian_disk(lab, "parts.raw", "/dev/xvda2")
        debian_disk(lab, "pvh.raw", "/dev/xvda")
        lab.run_on_host(f"truncate -s 2M {OWN}/swap.raw")
        report = lab.json("up")
        assert report["ok"], report
        yield lab


def said(lab: Lab, guest: str, text: bytes) -> bytes:
    """What `virtkit console` shows until it has ``text``, or a minute is over."""
    child, end = pty.fork()
    if child == 0:
        line = lab.line("console", guest)
        os.execv(line[0], line)
    shown = b""

    def more() -> bool:
        nonlocal shown
        if select.select([end], [], [], 1)[0]:
            with suppress(OSError):
                shown += os.read(end, 65536)
        return text in shown

    def left() -> bool:
        with suppress(OSError):
            os.write(end, b"\x1d")
        return os.waitpid(child, os.WNOHANG)[0] == child

    try:
        until(more, 60)
        assert until(left, 20), shown
    finally:
        os.close(end)
    return shown


def look(lab: XenLab, guest: str) -> list[str]:
    """What `LOOK` said in a guest: its kernel's command line, and its disks."""
    lines: list[str] = []

    def both() -> bool:
        lines[:] = [e.partition("LOOK at ")[2] for e in lab.printed(guest) if "LOOK at " in e]
        return len(lines) > 1

    assert until(both, 300, 2), lab.printed(guest)[-20:]
    return lines


def test_nothing_is_left_to_do(lab: XenLab) -> None:
    plan = lab.json("plan")
    assert (plan["changes"], plan["pending"]) == ([], [])
    states = {each["name"]: each["state"] for each in lab.json("status")["guests"]}
    assert states == dict.fromkeys(("pv", "hvm", "parts", "pvh"), "running")


def test_a_bios_starts_the_first_disk_and_the_console_is_serial(lab: XenLab) -> None:
    assert b"by the BIOS" in said(lab, "hvm", b"by the BIOS\r\n")


def test_a_kernel_is_taken_out_of_a_partition(lab: XenLab) -> None:
    """Nothing but what lies on the disk can have become its kernel, which powers off when asked."""
    assert "<bootloader>pygrub</bootloader>" in lab.virsh("dumpxml", "bootdisks-pv")
    assert lab.json("stop", "pv", "--timeout", "60")["ok"]
    assert lab.status("pv")["state"] == "stopped"
    assert lab.json("start", "pv")["ok"]


def test_disks_are_partitions_to_the_guest(lab: XenLab) -> None:
    cmdline, disks = look(lab, "parts")
    assert cmdline.strip() == "root=/dev/xvda2 ro init=/look console=hvc0"
    assert disks.split() == ["xvda1", "xvda2", "xvda3", "xvdb", "end"]


def test_a_kernel_on_the_disk_starts_with_pvh(lab: XenLab) -> None:
    cmdline, disks = look(lab, "pvh")
    assert cmdline.strip() == "root=/dev/xvda ro init=/look console=hvc0"
    assert disks.split() == ["xvda", "end"]


def test_a_partition_becomes_another_with_a_restart(lab: XenLab) -> None:
    before = lab.spec.read_text()
    lab.write(before.replace("size: 2MiB, partition: 3", "size: 2MiB, partition: 5"))
    (change,) = lab.json("plan")["changes"]
    assert [(e["field"], change["effect"]) for e in change["reasons"]] == [
        ("disks.home.partition", "restart")
    ]
    assert lab.json("up")["ok"]
    (waiting,) = lab.json("plan")["pending"]
    assert [each["field"] for each in waiting["reasons"]] == ["disks.home.partition"]
    assert lab.json("restart", "parts", "--timeout", "0")["ok"]
    plan = lab.json("plan")
    assert (plan["changes"], plan["pending"]) == ([], [])
    targets = lab.virsh("domblklist", "bootdisks-parts").split()[::2]
    assert targets == ["xvda2", "xvda1", "xvda5", "xvdb"]


def test_what_the_host_had_stays(lab: XenLab) -> None:
    assert lab.json("down", "--volumes")["ok"]
    assert lab.left() == []
    names = lab.run_on_host(f"ls {OWN}").split()
    assert names == ["parts.raw", "pvh.raw", "swap.raw"]
