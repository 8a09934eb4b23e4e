"""scripts/lab and scripts/box where Vagrant, or something of it, is missing. No machine is made."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[3]
#: What the scripts use before they come to Vagrant.
TOOLS = ("sh", "dirname", "readlink", "sed", "id", "grep", "cut", "cat", "mktemp", "rm", "printf")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder of programs for PATH, without Vagrant."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return folder


def program(path: Path, name: str, text: str) -> None:
    (path / name).write_text(f"#!/bin/sh\n{text}\n")
    (path / name).chmod(0o755)


def script(name: str, path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path), "HOME": str(path.parent)}
    return subprocess.run(
        [REPO / "scripts" / name, *words],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.parametrize("name", ["lab", "box"])
def test_no_vagrant(name: str, path: Path) -> None:
    done = script(name, path)
    assert done.returncode == 1
    assert done.stderr == (
        "error: Vagrant is not installed\n"
        "cure: sudo apt-get install --no-install-recommends vagrant vagrant-libvirt\n"
    )


def test_no_plugin(path: Path) -> None:
    program(path, "vagrant", 'echo "No plugins installed."')
    done = script("lab", path)
    assert done.returncode == 1
    assert "error: Vagrant lacks its plugin for libvirt" in done.stderr
    assert "vagrant plugin install vagrant-libvirt" in done.stderr


def test_no_libvirt(path: Path) -> None:
    program(path, "vagrant", 'echo "vagrant-libvirt (0.11.2, system)"')
    program(path, "virsh", "exit 1")
    done = script("lab", path)
    assert done.returncode == 1
    assert "error: libvirt" in done.stderr
    assert "cure: " in done.stderr


def test_a_verb_that_is_none(path: Path) -> None:
    program(path, "vagrant", "exit 1")
    for name, word in (("lab", "destroy"), ("box", "--help")):
        done = script(name, path, word)
        assert done.returncode == 2
        assert f"usage: scripts/{name}" in done.stderr
