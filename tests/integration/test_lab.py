"""The Vagrant lab: a plain Debian host comes up, is made ready by host.yml as its ordinary user,
who then has the first five minutes on it: systemd, AppArmor, a KVM that works. `down` leaves
nothing.

The machine is emulated, and its packages are there already. What else happens on one is the
journey of tests/realhost, which has the same disk.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        shutil.which("vagrant") is None,
        reason="needs Vagrant: apt-get install vagrant vagrant-libvirt",
    ),
]

REPO = Path(__file__).parents[2]
STATUS = "virtkit/.venv/bin/virtkit status --json virtkit/vagrant/guests.yaml"


class Lab:
    """A lab whose Vagrant has folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "VAGRANT_HOME": str(folder / "home"),
            "VAGRANT_DOTFILE_PATH": str(folder / "dotfiles"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VIRTKIT_LAB_DRIVER": "qemu",
        }

    def run(self, *words: str | Path, cwd: Path = REPO) -> str:
        """What a command says on both streams; it must end well."""
        done = subprocess.run(
            words,
            cwd=cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    def vagrant(self, *words: str) -> str:
        return self.run("vagrant", *words, cwd=REPO / "vagrant")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, alone: None) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        yield lab
    finally:
        subprocess.run(["scripts/lab", "down"], cwd=REPO, env=lab.environment, check=False)


def changed(told: str) -> int:
    """How many of host.yml's tasks changed something; none may have failed."""
    (found,) = re.findall(r"kvm1 .*changed=(\d+) +unreachable=0 +failed=0", told)
    return int(found)


def names(kind: str) -> list[str]:
    line = ["virsh", "-q", "-c", "qemu:///system", f"{kind}-list" if kind else "list"]
    done = subprocess.run([*line, "--all", "--name"], capture_output=True, text=True, check=True)
    return [each for each in done.stdout.split() if each.startswith("virtkit-lab")]


def test_the_table_of_machines(lab: Lab) -> None:
    assert "validated successfully" in lab.vagrant("validate")
    lines = lab.vagrant("status", "--machine-readable").splitlines()
    states = {each.split(",")[1]: each.split(",")[3] for each in lines if ",state," in each}
    assert states == dict.fromkeys(("kvm1", "kvm2", "xen1"), "not_created")


def test_the_machine_and_its_guests_come_up(lab: Lab) -> None:
    told = lab.run("scripts/lab", "up", "--short", "vm", "box")
    assert "all of it works" in told
    assert changed(told) >= 6
    assert "lacks" not in told, "the host is prepared, so scripts/up does not start Ansible"
    assert names("") == ["virtkit-lab-kvm1"]
    assert names("net") == names("pool") == ["virtkit-lab"]
    told = lab.vagrant("ssh", "kvm1", "-c", STATUS)
    guests = json.loads(told[told.index("{") :])["guests"]
    found = {each["name"]: (each["type"], each["ready"]) for each in guests}
    assert found["vm"] == ("kvm", True)
    assert found["box"] == ("lxc", True)


def test_down_in_the_machine_leaves_nothing(lab: Lab) -> None:
    lab.vagrant("ssh", "kvm1", "-c", "virtkit/vagrant/contract down")


@pytest.mark.long  # a minute; test_host_playbook.py asks it of this machine
def test_provisioned_again_it_changes_nothing(lab: Lab) -> None:
    assert changed(lab.vagrant("provision", "kvm1")) == 0


def test_down_leaves_nothing(lab: Lab) -> None:
    lab.run("scripts/lab", "down")
    assert names("") == names("net") == names("pool") == []
    assert not Path("/var/lib/libvirt/images/virtkit-lab").exists()
    assert not (lab.folder / "dotfiles").exists()
    assert "virtkit/host" not in lab.run("vagrant", "box", "list")
