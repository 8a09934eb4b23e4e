"""Disks in a template of the user's, by other names than virtkit's: they grow all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.lab import POOL, Lab, laboratory, tiny_disk, until, virsh

SPEC = """
name: owndisks
images: {tiny: {path: tiny.raw}}
guests:
  a:
    type: qemu
    image: tiny
    memory: 32MiB
    networks: []
    template: own.xml.j2
    disk: 8MiB
    disks: [{name: data, size: 8MiB}, {name: more, size: 8MiB}]
"""
#: The root as the first disk of SCSI, the others behind it.
TEMPLATE = """{% extends "qemu.xml.j2" %}
{% block disks %}
    <controller type="scsi" index="0" model="virtio-scsi"/>
    {%- for disk in guest.disks %}
    <disk type="file" device="disk">
      <driver name="qemu" type="{{ disk.volume.format }}"/>
      <source file="{{ disk.volume.key }}"/>
      <target dev="{{ disk.target | replace("vd", "sd") }}" bus="scsi"/>
      <serial>{{ disk.name }}</serial>
    </disk>
    {%- endfor %}
{% endblock %}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("owndisks")
    Path(folder, "tiny.raw").write_bytes(tiny_disk())
    Path(folder, "own.xml.j2").write_text(TEMPLATE)
    with laboratory(folder, "owndisks", SPEC) as lab:
        lab.virtkit("up")
        yield lab


def targets() -> dict[str, str]:
    """The running guest's disks: each volume's name in it."""
    lines = (line.split() for line in virsh("domblklist", "owndisks-a").splitlines())
    return {path.removeprefix(f"{POOL}/owndisks-a-"): name for name, path in lines}


def size(disk: str) -> int:
    """What the running guest sees."""
    return int(virsh("domblkinfo", "owndisks-a", disk).split()[1])


def test_they_grow_while_the_guest_runs(lab: Lab) -> None:
    assert targets() == {"root": "sda", "data": "sdb", "more": "sdc", "seed": "sdd"}
    pid = Path("/run/libvirt/qemu/owndisks-a.pid").read_text()
    larger = SPEC.replace("disk: 8MiB", "disk: 16MiB").replace("data, size: 8", "data, size: 24")
    report = lab.write(larger).json("up")
    assert report["ok"], report
    assert (size("sda"), size("sdb"), size("sdc")) == (16 << 20, 24 << 20, 8 << 20)
    assert Path("/run/libvirt/qemu/owndisks-a.pid").read_text() == pid
    lab.virtkit("plan", "--exit-code")


def test_one_that_is_new_comes_behind_the_seed(lab: Lab) -> None:
    """Nothing that the guest has gets another name, not with its next boot either."""
    before = targets()
    spec = lab.spec.read_text().replace("{name: more", "{name: new, size: 8MiB}, {name: more")
    assert lab.write(spec).json("up")["ok"]
    assert targets() == before | {"new": "sde"}
    lab.virtkit("restart", "a")
    assert until(lambda: targets() == before | {"new": "sde"}, 10)
    lab.virtkit("plan", "--exit-code")
