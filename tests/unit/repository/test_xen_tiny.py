"""The tiny guest's bytes are what its source says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from integration import xen_tiny

SOURCE = Path(xen_tiny.__file__).with_name("tiny-xen.S")


@pytest.mark.skipif(
    not (shutil.which("as") and shutil.which("objcopy")), reason="needs as and objcopy: binutils"
)
def test_the_bytes_are_the_source_assembled(tmp_path: Path) -> None:
    commands = next(line for line in SOURCE.read_text().splitlines() if "as -o" in line)
    for command in commands.lstrip("# ").split("&&"):
        line = [str(SOURCE) if each == SOURCE.name else each for each in command.split()]
        subprocess.run(line, cwd=tmp_path, check=True)
    code = (tmp_path / "tiny.bin").read_bytes()
    assert xen_tiny.tiny_kernel()[0x1000:] == code
