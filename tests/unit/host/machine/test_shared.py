"""What a machine has that guests may be given, from files as Linux has them."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from urllib.parse import quote

import pytest

from virtkit.host.machine import inspection, shared


def write(root: Path, path: str, text: str = "") -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_folder_is_told_with_its_owner_and_without_links(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    (tmp_path / "link").symlink_to("a,b")
    paths = [tmp_path / "a,b", tmp_path / "link"]
    question = "folders=" + ",".join(quote(str(each)) for each in paths)
    found = inspection.answer([question])["folders"]
    for path in paths:
        told = found[str(path)]
        assert (told["path"], told["kind"]) == (str(tmp_path / "a,b"), "folder")
        assert told["owner"] == os.geteuid()


def test_what_is_no_folder(tmp_path: Path) -> None:
    write(tmp_path, "file")
    found = shared.folders(str(tmp_path / "file"), str(tmp_path / "none"))
    assert [each["kind"] for each in found.values()] == ["other", "missing"]


def test_where_a_user_may_not_go(tmp_path: Path) -> None:
    """Another one than the folder's owner: nobody has the right to enter it."""
    nobody = pwd.getpwnam("nobody")
    closed = tmp_path / "closed"
    (closed / "open").mkdir(parents=True)
    closed.chmod(0o711)
    assert shared._may(str(closed), nobody, 1) is True
    assert shared._may(str(closed), nobody, 5) is False
    closed.chmod(0o700)
    assert shared._may(str(closed), nobody, 1) is False
    assert shared._may(str(closed / "none"), nobody, 1) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type": "fs", "binary": "/usr/libexec/virtiofsd"}', "/usr/libexec/virtiofsd"),
        ('{"type": "gpu", "binary": "/usr/libexec/virtiofsd"}', ""),
        ('{"type": "fs", "binary": "/usr/libexec/gone"}', ""),
        ("{", ""),
        ("[]", ""),
    ],
)
def test_virtiofsd_is_where_its_description_says(tmp_path: Path, text: str, expected: str) -> None:
    write(tmp_path, "usr/share/qemu/vhost-user/50-virtiofsd.json", text)
    write(tmp_path, "usr/libexec/virtiofsd")
    assert shared.virtiofsd(tmp_path) == expected


def pci(root: Path, name: str, kind: str, group: str) -> Path:
    """A PCI device as sysfs has it."""
    folder = root / "sys/bus/pci/devices" / name
    write(folder, "class", f"0x{kind}0000\n")
    members = root / "sys/kernel/iommu_groups" / group / "devices"
    members.mkdir(parents=True, exist_ok=True)
    (members / name).symlink_to(folder)
    (folder / "iommu_group").symlink_to(members.parent)
    return folder


def test_what_the_host_has_of_a_pci_device(tmp_path: Path) -> None:
    card = pci(tmp_path, "0000:01:00.0", "02", "7")
    (card / "net/eth1").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/drivers/igb").mkdir(parents=True)
    (card / "driver").symlink_to(tmp_path / "sys/bus/pci/drivers/igb")
    pci(tmp_path, "0000:01:00.1", "02", "7")
    pci(tmp_path, "0000:00:01.0", "06", "7")
    assert shared._pci("0000:01:00.0", tmp_path) == {
        "exists": True,
        "loses": ["net eth1"],
        "what": "network card",
        "driver": "igb",
        "iommu": True,
        "beside": ["0000:01:00.1"],
    }
    assert shared._pci("0000:02:00.0", tmp_path) == {"exists": False}
    assert shared.iommu(tmp_path) == {"groups": 1, "vfio": False}
    write(tmp_path, f"lib/modules/{os.uname().release}/modules.dep", "kernel/vfio/vfio-pci.ko:\n")
    assert shared.iommu(tmp_path) == {"groups": 1, "vfio": True}


def test_a_disk_on_usb_is_found_by_its_vendor(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/usb/devices/1-2"
    write(folder, "idVendor", "0781\n")
    write(folder, "idProduct", "5567\n")
    (folder / "1-2:1.0/host6/target6/6:0:0:0/block/sdc").mkdir(parents=True)
    assert shared._device("usb:0781:5567", tmp_path) == {"exists": True, "loses": ["block sdc"]}
    assert shared._device("usb:0781:5568", tmp_path) == {"exists": False, "loses": []}


def test_devices_that_are_files() -> None:
    found = shared.devices("/dev/null", "/dev/none", "/etc/passwd")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert found == {
        "/dev/null": {"exists": True, "other_kind": ""},
        "/dev/none": {"exists": False},
        "/etc/passwd": {"exists": True, "other_kind": "file"},
    }
