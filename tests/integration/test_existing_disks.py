"""Disks that the host has already: guests use them, and nothing of virtkit's ever touches them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, document, early, editing, lives, why
from integration.lab import Lab, laboratory, run, tiny_disk, until, virsh

#: In the sandbox it is nobody else's, and QEMU's user passes through.
FOLDER = Path("/var/lib/libvirt/others")
MIB = 1024 * 1024
SPEC: dict[str, Any] = {
    "name": "existing",
    "images": {"tiny": {"path": "tiny.raw"}, "other": {"path": "other.raw"}},
    "networks": {"front": {"cidr": "10.94.34.0/24"}},
    "defaults": {
        "type": "qemu",
        "image": "tiny",
        "ssh_keys": ["id.pub"],
        "networks": [],
        "memory": "32MiB",
    },
    "guests": {
        "reader": {
            "image": "debian-12",
            "memory": "256MiB",
            "networks": ["front"],
            "disks": [
                {"name": "file", "existing": f"{FOLDER}/file"},
                {"name": "volume", "existing": "others/volume", "readonly": True},
            ],
        },
        "tiny": {"disks": [{"name": "data", "existing": f"{FOLDER}/data"}]},
        "root": {"image": "none", "disk": {"existing": f"{FOLDER}/root.qcow2"}},
    },
}


def filesystem(path: Path, text: str) -> None:
    """A file system with a file ``text``, for a guest to find."""
    path.write_bytes(bytes(16 * MIB))
    run("mkfs.ext4", "-q", "-L", path.name, path)
    (path.parent / "text").write_text(text)
    run("debugfs", "-w", "-R", f"write {path.parent}/text text", path)
    (path.parent / "text").unlink()


@pytest.fixture(scope="module")
def edits(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("existing")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    (folder / "other.raw").write_bytes(tiny_disk(b"other"))
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
    FOLDER.mkdir(mode=0o755)
    filesystem(FOLDER / "file", "of the file")
    filesystem(FOLDER / "volume", "of the volume")
    (FOLDER / "data").write_bytes(b"precious" * (MIB // 8))
    (FOLDER / "more").write_bytes(b"valuable" * (MIB // 8))
    (folder / "root.raw").write_bytes(tiny_disk())
    run("qemu-img", "convert", "-O", "qcow2", folder / "root.raw", FOLDER / "root.qcow2")
    virsh("pool-define-as", "others", "dir", "--target", str(FOLDER))
    virsh("pool-start", "others")
    with editing(folder, early(request, SPEC, "reader")) as edits:
        yield edits
    virsh("pool-destroy", "others")
    virsh("pool-undefine", "others")


def inside(edits: Edits, script: str) -> str:
    return edits.lab.virtkit("exec", "reader", "--", "sh", "-c", script, code=None).out.strip()


def digests() -> dict[str, tuple[str, int]]:
    """All that is in the folder: a digest, and the size of its file."""
    return {
        each.name: (hashlib.sha256(each.read_bytes()).hexdigest(), each.stat().st_size)
        for each in FOLDER.iterdir()
    }


def sources(domain: str) -> dict[str, dict[str, str]]:
    return {
        each.findtext("serial"): dict(each.find("source").attrib)
        for each in document(domain, "--inactive").iterfind("./devices/disk")
    }


def by_id(name: str) -> str:
    return f"/dev/disk/by-id/virtio-{name}"


@pytest.mark.long  # the guest has a system, which boots for a minute
def test_a_guest_reads_and_writes_what_is_on_it(edits: Edits) -> None:
    script = f"mount {by_id('file')} /mnt && cat /mnt/text && echo new >/mnt/written && umount /mnt"
    assert inside(edits, script) == "of the file"
    assert run("debugfs", "-R", "cat written", FOLDER / "file") == "new\n"
    script = f"mount -o ro {by_id('volume')} /mnt && cat /mnt/text; umount /mnt"
    assert inside(edits, script) == "of the volume"
    assert inside(edits, "cat /sys/block/$(basename $(readlink " + by_id("volume") + "))/ro") == "1"
    assert inside(edits, f"lsblk -bnro SIZE {by_id('file')}") == str(16 * MIB)


@pytest.mark.long  # the guest has a system, which boots for a minute
def test_a_volume_of_a_pool_is_given_by_its_path(edits: Edits) -> None:
    """AppArmor's helper of libvirt's knows no pools."""
    assert sources("existing-reader")["volume"] == {"file": f"{FOLDER}/volume"}


def test_a_root_disk_boots(edits: Edits) -> None:
    assert until(lambda: "tiny: up" in edits.lab.virtkit("logs", "root").out, 60)
    assert [*sources("existing-root")] == ["root"]


def test_the_record_says_that_it_is_the_hosts(edits: Edits) -> None:
    text = virsh("dumpxml", "existing-tiny")
    assert f'"existing": "{FOLDER}/data"' in text
    names = virsh("vol-list", "default")
    assert "existing-tiny-root" in names
    assert "existing-tiny-data" not in names


def test_it_comes_and_goes_while_the_guest_runs(edits: Edits) -> None:
    before, life = digests(), lives("existing-tiny")
    more = {"name": "more", "existing": f"{FOLDER}/more", "bus": "scsi"}
    edits.guest("tiny", disks=[*SPEC["guests"]["tiny"]["disks"], more])
    assert why(edits.plan()["guest/tiny"])["disks.more"] == ("spec", "live")
    edits.up()
    assert edits.pending() == {}
    live = {e.findtext("serial") for e in document("existing-tiny").iterfind("./devices/disk")}
    assert {"data", "more"} <= live
    assert lives("existing-tiny") == life
    after = digests()
    assert {n: after[n] for n in ("data", "more")} == {n: before[n] for n in ("data", "more")}


@pytest.mark.long  # the guest has a system, which boots for a minute
def test_one_that_the_guest_uses_stays(edits: Edits) -> None:
    inside(edits, f"mount {by_id('file')} /mnt")
    edits.guest("reader", disks=[])
    assert "the disk file is in use" in edits.lab.virtkit("up", code=1).err
    inside(edits, "umount /mnt")
    edits.up()
    assert inside(edits, f"ls {by_id('file')}") == ""
    edits.guest("reader", disks=SPEC["guests"]["reader"]["disks"])
    edits.up()
    assert inside(edits, f"ls {by_id('file')}") == by_id("file")


def test_another_bus_and_another_file_wait_for_a_restart(edits: Edits) -> None:
    life = lives("existing-tiny")
    disks = [{"name": "data", "existing": f"{FOLDER}/data", "bus": "scsi", "readonly": True}]
    edits.guest("tiny", disks=disks)
    edits.up()
    assert lives("existing-tiny") == life
    assert {"disks.data.bus", "disks.data.readonly"} <= why(edits.pending()["guest/tiny"]).keys()
    edits.up("--restart")
    assert edits.pending() == {}
    disks = [{"name": "data", "existing": f"{FOLDER}/more", "bus": "scsi"}]
    edits.guest("tiny", disks=disks)
    edits.up()
    assert "disks.data.existing" in why(edits.pending()["guest/tiny"])
    edits.up("--restart")
    assert edits.pending() == {}
    assert sources("existing-tiny")["data"] == {"file": f"{FOLDER}/more"}


def test_nothing_that_removes_a_guest_touches_it(edits: Edits) -> None:
    """Recreated, taken down, with all volumes, and what doctor makes of what is left."""
    edits.lab.virtkit("stop", "root", "tiny", "--timeout", "0")
    before = digests()
    edits.guest("tiny", image="other", disks=[{"name": "data", "existing": f"{FOLDER}/data"}])
    edits.guest("root", start=False)
    edits.lab.virtkit("up", "--yes", "tiny")
    same = [name for name in before if name not in ("file", "volume")]
    assert {n: digests()[n] for n in same} == {n: before[n] for n in same}
    edits.lab.virtkit("down", "tiny", "root")
    assert {n: digests()[n] for n in same} == {n: before[n] for n in same}
    edits.lab.virtkit("down", "--volumes")
    after = digests()
    assert {n: after[n] for n in same} == {n: before[n] for n in same}
    orphans = edits.lab.virtkit("doctor", "--orphans", code=None).out
    assert str(FOLDER) not in orphans
    assert digests() == after
    assert virsh("vol-list", "others").count("\n") >= 4
    edits.reset()
    edits.up()


@pytest.mark.long  # the guest has a system, which boots for a minute
def test_another_guest_of_its_name_finds_what_is_on_it(edits: Edits) -> None:
    assert inside(edits, f"mount {by_id('file')} /mnt && cat /mnt/written; umount /mnt") == "new"


def test_virtkits_own_and_other_guests_disks_are_refused(edits: Edits) -> None:
    wrong = {
        "/var/lib/libvirt/images/existing-tiny-root": "a volume of guest existing-tiny",
        f"{FOLDER}/gone": "there is no such file or device",
        "others/gone": "pool others has no volume gone",
        "none/volume": "libvirt has no pool none",
        str(FOLDER): "neither a file nor a block device",
    }
    for name, words in wrong.items():
        edits.guest("root", disks=[{"name": "wrong", "existing": name}])
        edits.refused(words)
    edits.reset()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """A block device of the host's with words on it."""
    file = tmp_path / "device"
    file.write_bytes(b"on the device".ljust(4 * MIB, b"\0"))
    device = run("losetup", "-f", "--show", file).strip()
    yield Path(device)
    run("losetup", "-d", device)


@pytest.mark.long  # it boots for a minute
def test_a_block_device_of_a_kernel_that_is_a_process(loop: Path, tmp_path: Path) -> None:
    """User-Mode Linux is in a container, which gets the device itself."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id")
    spec = f"""
name: exuml
networks: {{front: {{cidr: 10.94.35.0/24}}}}
guests:
  web:
    type: uml
    memory: 256MiB
    ssh_keys: [id.pub]
    networks: [front]
    disks:
      - {{name: block, existing: {loop}}}
      - {{name: file, existing: {FOLDER}/more, readonly: true}}
"""
    lab: Lab
    with laboratory(tmp_path, "exuml", spec) as lab:
        lab.virtkit("up")
        script = "head -c 13 /dev/ubdb; head -c 8 /dev/ubdc; printf written | "
        script += "dd of=/dev/ubdb seek=1024 bs=1 conv=notrunc,fsync"
        assert lab.virtkit("exec", "web", "--", "sh", "-c", script).out == "on the devicevaluable"
        lab.virtkit("down", "--volumes")
    assert loop.read_bytes()[:13] == b"on the device"
    assert loop.read_bytes()[1024:1031] == b"written"
