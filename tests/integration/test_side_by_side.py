"""A virtual machine and five containers on two networks come up side by side, and Ansible
reaches them all with what `virtkit inventory` prints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.lab import Lab, Ran, laboratory, run

SPEC = """
name: beside
networks:
  front: {cidr: 10.94.3.0/24, domain: front.test}
  back: {mode: isolated, cidr: 10.94.4.0/24}
defaults: {memory: 256MiB, networks: [front], ssh_keys: [id.pub]}
guests:
  db:
    type: lxc
    networks: [front, back]
    groups: [stores]
    cloud_init:
      runcmd: [systemd-run --unit=serve python3 -m http.server 8000]
    ready: {port: 8000}
  app: {type: lxc, count: 3, networks: [front, back], after: [db], groups: [apps]}
  vm: {type: qemu, groups: [machines], ready: {port: 22}}
  last: {type: lxc, after: [app, vm], ready: {port: 22}}
"""
APPS = ["app-1", "app-2", "app-3"]
GUESTS = ["db", *APPS, "vm", "last"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("beside")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
    with laboratory(folder, "beside", SPEC) as lab:
        yield lab


@pytest.fixture(scope="module")
def up(lab: Lab) -> Ran:
    return lab.virtkit("up", "--json")


def test_all_are_ready(lab: Lab, up: Ran) -> None:
    assert up.data["ok"]
    found = {each["name"]: each["ready"] for each in lab.json("status")["guests"]}
    assert found == dict.fromkeys(GUESTS, True)


def test_they_come_up_side_by_side(up: Ran) -> None:
    running = most = 0
    for line in up.err.splitlines():
        if line.endswith(" ready"):  # the step begins
            running += 1
        elif line.endswith(" ready done"):
            running -= 1
        most = max(most, running)
    assert most >= 4, up.err  # the virtual machine and the containers that are after the first
    ready = [each for each, step in up.steps if step == "ready"]
    assert ready[-2:] == ["guest/vm", "guest/last"]


def test_what_is_after_others_waits_for_them(up: Ran) -> None:
    order = up.steps
    for guest, before in (("app-2", "db"), ("last", "app-3"), ("last", "vm")):
        assert order.index((f"guest/{before}", "ready")) < order.index((f"guest/{guest}", "start"))


def test_ansible_reaches_them_all(lab: Lab, up: Ran) -> None:
    hosts = lab.folder / "hosts"
    hosts.write_text(lab.virtkit("inventory").out)
    ansible = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [ansible, "-i", hosts, "all", "-m", "ping", "--one-line", "--forks=10"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ANSIBLE_TIMEOUT": "60", "ANSIBLE_HOME": str(lab.folder / "ansible")},
    )
    answers = [line for line in done.stdout.splitlines() if '"ping": "pong"' in line]
    assert sorted(line.split()[0] for line in answers) == sorted(GUESTS), (done.stdout, done.stderr)
    listed = run(ansible, "-i", hosts, "apps", "--list-hosts")
    assert listed.split()[-3:] == APPS


def test_they_go_together(lab: Lab, up: Ran) -> None:
    assert lab.json("down")["ok"]
    assert not lab.left()
