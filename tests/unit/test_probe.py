"""The KVM probe's bytes are what its source says; its documents are what libvirt takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from lxml import etree

from virtkit.host import probe, schemas

SOURCE = Path(probe.__file__).with_name("kvm-probe.S")


@pytest.mark.skipif(
    not (shutil.which("as") and shutil.which("ld")), reason="needs as and ld: binutils"
)
def test_the_bytes_are_the_source_assembled(tmp_path: Path) -> None:
    commands = next(line for line in SOURCE.read_text().splitlines() if "as -o" in line)
    for command in commands.lstrip("# ").split("&&"):
        line = command.replace("kvm-probe.S", str(SOURCE)).split()
        subprocess.run(line, cwd=tmp_path, check=True)
    sector = (tmp_path / "probe.bin").read_bytes()
    assert len(sector) == 512
    assert probe.image()[:512] == sector


def test_the_disk() -> None:
    image = probe.image()
    assert len(image) == 1024 * 1024
    assert image[510:512] == b"\x55\xaa", "what makes it a boot sector"
    assert not any(image[512:])
    assert len(probe.SECTOR) <= 446, "clear of the partition table"


def test_the_guest() -> None:
    xml = probe._xml("virtkit-probe-1", "/pool/virtkit-probe-1")
    schemas.check("domain", xml, "the probe guest")
    root = etree.fromstring(xml)
    assert root.get("type") == "kvm"
    assert root.find("./devices/interface") is None
