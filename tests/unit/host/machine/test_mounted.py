"""A disk that a machine itself has mounted is told from one that it has not."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtkit.host.machine import mounted

#: A disk (8:0) whose first partition is /boot, and whose second has a RAID with a logical volume.
PARTS = {"8:0": ["8:1", "8:2"], "8:16": ["8:17"]}
ON_THEM = {"8:2": "9:0", "9:0": "253:0"}
MOUNTS = """22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw
23 22 0:20 / /proc rw - proc proc rw
24 22 8:1 / /boot\\040dir rw - ext4 /dev/sda1 rw
broken
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    block = tmp_path / "sys/dev/block"
    for disk, parts in PARTS.items():
        for part in parts:
            for folder in (block / disk / f"part{part[-1]}", block / part):
                folder.mkdir(parents=True)
                (folder / "dev").write_text(f"{part}\n")
                (folder / "partition").write_text("1\n")
    for device, above in ON_THEM.items():
        holder = block / device / "holders/above"
        holder.mkdir(parents=True)
        (holder / "dev").write_text(f"{above}\n")
    process = tmp_path / "proc/self"
    process.mkdir(parents=True)
    (process / "mountinfo").write_text(MOUNTS)
    return tmp_path


def test_what_is_mounted(machine: Path) -> None:
    places = mounted.mount_points(machine)
    assert {k: each for k, each in places.items() if k in ("253:0", "8:1", "8:17")} == {
        "253:0": "/",
        "8:1": "/boot dir",
    }
    assert "" not in places


@pytest.mark.parametrize(
    ("device", "related"),
    [
        ("8:0", {"8:0", "8:1", "8:2", "9:0", "253:0"}),
        ("8:2", {"8:2", "9:0", "253:0"}),
        ("8:1", {"8:1"}),
        ("8:16", {"8:16", "8:17"}),
        ("7:7", {"7:7"}),
    ],
)
def test_a_device_and_what_is_on_it(machine: Path, device: str, related: set[str]) -> None:
    assert {*mounted.related(device, machine)} == related


def test_files_and_what_is_not_there_are_mounted_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert mounted.mounted(f"{tmp_path}/file", f"{tmp_path}/none", "/dev/null", "") == {}


def test_this_machines_own_disk_is_mounted() -> None:
    """Whatever block device it has its root, or another folder, on."""
    devices = [
        words[0]
        for words in map(str.split, Path("/proc/mounts").read_text().splitlines())
        if Path(words[0]).is_block_device()
    ]
    if not devices:
        pytest.skip("no block device is mounted here")
    assert {*mounted.mounted(*devices)} == {*devices}
