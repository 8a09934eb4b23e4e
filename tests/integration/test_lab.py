"""The Vagrant lab: a plain Debian host with systemd, cgroup v2, AppArmor and a KVM that works comes
up, and is made ready by host.yml. Its ordinary user has the first five minutes on it; then it is
driven from outside, over ssh, as that user. `down` leaves nothing.

The machine is emulated, and its packages are there already. It boots, and its guests do, for half
an hour, so CI has the table of machines only, and the rest on a snapshot of the same host
(test_prepared_host.py). What else happens on one is the journey of tests/realhost, and there the
contract is whole.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from integration.contract import (
    place,  # noqa: F401 - a fixture, found by its name
    pytest_generate_tests,  # noqa: F401 - a hook
    spec,
    types,  # noqa: F401 - a fixture
    upped,
)
from integration.contract_in_short import InShort
from integration.lab import run
from realhost.outside import OutsideHost, OutsideLab, outside_laboratory

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        shutil.which("vagrant") is None,
        reason="needs Vagrant: apt-get install vagrant vagrant-libvirt",
    ),
]

PLACE, TYPES = "kvm1", ("kvm", "lxc")

REPO = Path(__file__).parents[2]
EXAMPLE = REPO / "examples/lab-hosts.yaml"
STATUS = "virtkit/.venv/bin/virtkit status --json virtkit/vagrant/guests.yaml"


class VagrantLab:
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
def machines(tmp_path_factory: pytest.TempPathFactory, alone: None) -> Iterator[VagrantLab]:
    machines = VagrantLab(tmp_path_factory.mktemp("lab"))
    try:
        yield machines
    finally:
        subprocess.run(["scripts/lab", "down"], cwd=REPO, env=machines.environment, check=False)


def changed(told: str) -> int:
    """How many of host.yml's tasks changed something; none may have failed."""
    (found,) = re.findall(r"kvm1 .*changed=(\d+) +unreachable=0 +failed=0", told)
    return int(found)


def names(kind: str) -> list[str]:
    line = ["virsh", "-q", "-c", "qemu:///system", f"{kind}-list" if kind else "list"]
    done = subprocess.run([*line, "--all", "--name"], capture_output=True, text=True, check=True)
    return [each for each in done.stdout.split() if each.startswith("virtkit-lab")]


def test_the_table_of_machines(tmp_path: Path) -> None:
    lab = VagrantLab(tmp_path)
    assert "validated successfully" in lab.vagrant("validate")
    lines = lab.vagrant("status", "--machine-readable").splitlines()
    states = {each.split(",")[1]: each.split(",")[3] for each in lines if ",state," in each}
    assert states == dict.fromkeys(("kvm1", "kvm2", "xen1"), "not_created")


@pytest.mark.long  # ten minutes
def test_the_machine_comes_up(machines: VagrantLab) -> None:
    told = machines.run("scripts/lab", "machines")
    assert changed(told) >= 6
    assert names("") == ["virtkit-lab-kvm1"]
    assert names("net") == names("pool") == ["virtkit-lab"]


@pytest.mark.long  # five minutes
def test_the_first_guests_come_up_in_it(machines: VagrantLab) -> None:
    told = machines.run("scripts/lab", "up", "--short", "vm", "box")
    assert "all of it works" in told
    assert "lacks" not in told, "the host is prepared, so scripts/up does not start Ansible"
    told = machines.vagrant("ssh", "kvm1", "-c", STATUS)
    guests = json.loads(told[told.index("{") :])["guests"]
    found = {each["name"]: (each["type"], each["ready"]) for each in guests}
    assert found["vm"] == ("kvm", True)
    assert found["box"] == ("lxc", True)


@pytest.mark.long  # of the guests before
def test_down_in_the_machine_leaves_nothing(machines: VagrantLab) -> None:
    machines.vagrant("ssh", "kvm1", "-c", "virtkit/vagrant/contract down")


# --- from outside ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(machines: VagrantLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideLab]:
    """A Lab on kvm1, as the example says where that is."""
    config = machines.folder / "ssh_config"
    config.write_text(machines.vagrant("ssh-config", PLACE))

    def shell(command: str) -> str:
        return run("ssh", "-F", config, PLACE, f"sudo sh -c {shlex.quote(command)}")

    text = EXAMPLE.read_text().replace("../vagrant/.vagrant", str(machines.folder / "dotfiles"))
    host = OutsideHost(PLACE, yaml.safe_load(text)["hosts"][PLACE], shell)
    folder = tmp_path_factory.mktemp("outside")
    with outside_laboratory(folder, "outside", spec(TYPES, own=""), host) as lab:
        yield upped(lab)


@pytest.mark.long  # a quarter of an hour; test_prepared_host.py has it in CI
class TestTheContractInShort(InShort):
    """Of both guests."""


# --- the end ---------------------------------------------------------------------------------


@pytest.mark.long  # a minute
def test_provisioned_again_it_changes_nothing(machines: VagrantLab) -> None:
    assert changed(machines.vagrant("provision", "kvm1")) == 0


@pytest.mark.long  # of the machine
def test_down_leaves_nothing(machines: VagrantLab) -> None:
    machines.run("scripts/lab", "down")
    assert names("") == names("net") == names("pool") == []
    assert not Path("/var/lib/libvirt/images/virtkit-lab").exists()
    assert not (machines.folder / "dotfiles").exists()
    assert "virtkit/host" not in machines.run("vagrant", "box", "list")
