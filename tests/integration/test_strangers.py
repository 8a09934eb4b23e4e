"""What is not ours: never changed, never deleted, and named where it is in the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.lab import POOL, Lab, domains, laboratory, networks, run, tiny_disk, virsh

SPEC = """
name: ours
images: {tiny: {path: tiny.raw}}
networks: {front: {cidr: 10.94.5.0/24}, back: {mode: isolated, cidr: 10.94.6.0/24}}
defaults: {image: tiny, type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {disks: [{name: data, size: 1MiB, keep: true}]}
  b: {networks: [front, back]}
"""

DOMAIN = """
<domain type="qemu"><name>{name}</name><memory unit="MiB">32</memory><os><type>hvm</type></os>
<devices>{devices}</devices></domain>
"""
NETWORK = '<network><name>{name}</name><bridge/><ip address="10.95.0.1" prefix="24"/></network>'


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "tiny.raw").write_bytes(tiny_disk())
    with laboratory(tmp_path, "ours", SPEC) as lab:
        yield lab


def define(folder: Path, kind: str, xml: str) -> None:
    file = folder / "stranger.xml"
    file.write_text(xml)
    virsh("net-define" if kind == "network" else "define", file)


def make_volume(name: str, content: bytes = b"a stranger's") -> str:
    virsh("vol-create-as", "default", name, "1MiB", "--format", "raw")
    (POOL / name).write_bytes(content)
    return digest(name)


def digest(volume: str) -> str:
    return hashlib.sha256((POOL / volume).read_bytes()).hexdigest()


@pytest.fixture
def pool(lab: Lab) -> None:
    """The pool, and the image in it."""
    lab.virtkit("up")
    lab.virtkit("down", "--volumes")


@pytest.mark.usefixtures("pool")
def test_what_has_our_names_stops_up(lab: Lab) -> None:
    define(lab.folder, "domain", DOMAIN.format(name="ours-a", devices=""))
    define(lab.folder, "network", NETWORK.format(name="ours-back"))
    content = make_volume("ours-b-root")
    before = virsh("dumpxml", "ours-a"), virsh("net-dumpxml", "ours-back"), lab.left()
    try:
        for verb in ("plan", "up"):
            errors = "\n".join(lab.errors(verb))
            for each in ("domain ours-a", "network ours-back", "volume ours-b-root"):
                assert each in errors
        lab.virtkit("down", "--volumes")
        after = virsh("dumpxml", "ours-a"), virsh("net-dumpxml", "ours-back"), lab.left()
        assert after == before
        assert digest("ours-b-root") == content
    finally:
        virsh("undefine", "ours-a")
        virsh("net-undefine", "ours-back")
        virsh("vol-delete", "ours-b-root", "--pool", "default")
    assert lab.json("up")["ok"]  # now nothing is in the way


@pytest.mark.usefixtures("pool")
def test_a_file_that_libvirt_has_not_seen_yet_stops_up(lab: Lab) -> None:
    (POOL / "ours-a-root").write_text("dropped into the folder by hand")
    (error,) = lab.errors("up")
    assert "volume ours-a-root" in error
    assert (POOL / "ours-a-root").read_text() == "dropped into the folder by hand"
    (POOL / "ours-a-root").unlink()
    assert lab.json("up", "a")["ok"]  # nor does libvirt know yet that it is gone


@pytest.mark.usefixtures("pool")
def test_a_pool_that_was_off_hides_nobodys_volume(lab: Lab) -> None:
    """The plan can't see what is in it; whoever makes the volumes does."""
    content = make_volume("ours-b-root")
    virsh("pool-destroy", "default")
    assert "volume ours-b-root exists already" in lab.virtkit("up", code=1).err
    assert digest("ours-b-root") == content
    virsh("vol-delete", "ours-b-root", "--pool", "default")
    assert lab.json("up")["ok"]


def test_a_domain_of_another_driver_has_no_name_of_ours(lab: Lab) -> None:
    """A container and a virtual machine may share a name: the drivers don't know each other."""
    xml = (
        "<domain type='lxc'><name>ours-a</name><memory unit='MiB'>32</memory>"
        "<os><type>exe</type><init>/bin/sh</init></os>"
        "<devices><console type='pty'/></devices></domain>"
    )
    file = lab.folder / "stranger.xml"
    file.write_text(xml)
    virsh("define", file, uri="lxc:///system")
    try:
        assert lab.json("up", "a")["ok"]
        assert lab.json("plan", "a")["changes"] == []
        assert [each["type"] for each in lab.json("status", "a")["guests"]] == ["qemu"]
        assert lab.json("down")["ok"]
        assert domains() == {"ours-a": "lxc:///system"}
    finally:
        virsh("undefine", "ours-a", uri="lxc:///system")


def test_two_environments_whose_names_meet(lab: Lab, tmp_path: Path) -> None:
    """`ours` with guest `b-c`, `ours-b` with guest `c`: both would be ours-b-c."""
    lab.write(SPEC.replace("  b:", "  b-c:"))
    assert lab.json("up", "b-c")["ok"]
    spec = SPEC.replace("name: ours", "name: ours-b").replace("  b:", "  c:")
    spec = spec.replace("10.94.5", "10.94.7").replace("10.94.6", "10.94.8")
    other = Lab(tmp_path, "ours-b").write(spec)
    (error,) = other.errors("up", "c")
    assert "domain ours-b-c" in error
    assert "environment ours" in error
    other.virtkit("down", "--volumes")
    assert lab.status("b-c")["state"] == "running"
    assert lab.json("plan", "b-c")["changes"] == []


def test_a_strangers_guest_holds_our_network(lab: Lab) -> None:
    assert lab.json("up")["ok"]
    interface = "<interface type='network'><source network='ours-front'/></interface>"
    define(lab.folder, "domain", DOMAIN.format(name="a-stranger", devices=interface))
    virsh("start", "a-stranger")
    try:
        assert lab.json("down", "--volumes")["ok"]
        assert networks() == {"ours-front"}
        assert virsh("domstate", "a-stranger") == "running"
        assert "10.94.5.1" in run("ip", "-4", "address")
        assert lab.json("up")["ok"]  # and is ours still
        assert lab.json("plan")["changes"] == []
        assert lab.json("down", "--volumes")["ok"]
    finally:
        virsh("destroy", "a-stranger")
        virsh("undefine", "a-stranger")
    assert lab.json("down")["ok"]
    assert not lab.left()


def test_down_deletes_only_what_records_list(lab: Lab) -> None:
    assert lab.json("up")["ok"]
    names = ["ours-a-extra", "ours-a-root.1", "ours-b-console.backup", "ours-c-root"]
    before = {name: make_volume(name) for name in names}
    (POOL / "ours-a-file").write_text("not even a volume")
    assert lab.json("down", "--volumes")["ok"]
    assert {name: digest(name) for name in names} == before
    assert (POOL / "ours-a-file").exists()
    for name in [*names, "ours-a-file"]:
        (POOL / name).unlink()
    assert not lab.left()


@pytest.fixture
def other_pool(tmp_path: Path) -> Iterator[Path]:
    """The folder of a pool that is not ours, with volumes that have our names in it."""
    folder = tmp_path / "other"
    folder.mkdir()
    virsh("pool-define-as", "other", "dir", "--target", folder)
    virsh("pool-start", "other")
    for name in ("ours-a-root", "ours-a-data", "ours-b-root", "ours-b-console"):
        (folder / name).write_text(f"a stranger's {name}")
    virsh("pool-refresh", "other")
    try:
        yield folder
    finally:
        virsh("pool-destroy", "other")
        virsh("pool-undefine", "other")


def texts(folder: Path) -> dict[str, str]:
    """The strangers' volumes; virtkit's own record of a pool aside."""
    files = [each for each in folder.iterdir() if not each.name.startswith("virtkit-")]
    return {each.name: each.read_text() for each in files}


def test_the_same_names_in_another_pool(lab: Lab, other_pool: Path) -> None:
    before = texts(other_pool)
    assert lab.json("up")["ok"]
    lab.write(SPEC.replace("  b: {networks: [front, back]}\n", ""))
    assert lab.json("up", "--yes")["ok"]
    assert lab.json("down", "--volumes")["ok"]
    assert texts(other_pool) == before
    assert not lab.left()


def test_the_spec_names_another_pool_by_now(lab: Lab, other_pool: Path) -> None:
    """Volumes are removed where they are, which the records know; nothing is made twice."""
    assert lab.json("up")["ok"]
    before = texts(other_pool)
    lab.write(f"hosts: {{local: {{pool: other}}}}\n{SPEC}")
    for verb in ("plan", "up"):
        (error,) = lab.errors(verb)
        assert "has its volumes in pool default, not other" in error
    assert lab.json("down")["ok"]
    assert texts(other_pool) == before
    assert lab.left() == ["file /var/lib/libvirt/images/ours-a-data", "volume ours-a-data"]
    lab.write(SPEC)  # the kept disk is in the record of the pool where it lies
    assert lab.json("up")["ok"]
    virsh("pool-destroy", "default")
    lab.write(f"hosts: {{local: {{pool: other}}}}\n{SPEC}")
    assert lab.json("down", "--volumes")["ok"]
    assert texts(other_pool) == before
    assert not lab.left()


def test_a_guest_whose_record_is_gone_is_a_strangers(lab: Lab) -> None:
    assert lab.json("up")["ok"]
    virsh("metadata", "ours-a", "urn:virtkit:1", "--remove", "--live", "--config")
    (before,) = [line for line in lab.left() if line == "domain ours-a"]
    try:
        errors = lab.errors("up")
        assert any("domain ours-a" in each for each in errors)
        assert lab.status("a")["state"] == "missing"
        lab.virtkit("down")
        assert before in lab.left()
        assert virsh("domstate", "ours-a") == "running"
        assert (POOL / "ours-a-root").exists()
    finally:
        virsh("destroy", "ours-a")
        virsh("undefine", "ours-a")
        for path in POOL.glob("ours-a-*"):
            path.unlink()


def test_a_volume_that_went_behind_our_back(lab: Lab) -> None:
    assert lab.json("up")["ok"]
    lab.virtkit("stop", "--timeout", "5")
    virsh("vol-delete", "ours-a-root", "--pool", "default")
    (error,) = lab.errors("up")
    assert "all on the root disk of a" in error, "nobody agreed that it is lost"
    told = lab.virtkit("doctor", "--json", code=None).data["checks"]
    assert any("ours-a-root is gone" in each["what"] for each in told)
    assert lab.json("up", "--yes")["ok"]
    assert lab.status("a")["state"] == lab.status("b")["state"] == "running"
    lab.virtkit("plan", "--exit-code")
    assert lab.json("down", "--volumes")["ok"]
    assert not lab.left()
