"""A plain Debian host made ready from here by host.yml, as alice, who has sudo, and then by virtkit
as the host of a spec; her guests on it.

    .venv/bin/python -m pytest tests/realhost/test_prepared.py     (ten minutes)

Not in CI, where prepared.py does the first half of it, and keeps what comes of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from realhost import realhost
from realhost.person import SPEC, left, make_spec, missing, playbook
from realhost.realhost import RealHost

pytestmark = [pytest.mark.timeout(3600), pytest.mark.long]

VIRTKIT = "cd virtkit && sg libvirt -c '.venv/bin/virtkit {}'"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHost]:
    started = realhost.start(tmp_path_factory.mktemp("realhost"))
    try:
        started.give()
        make_spec(started)
        yield started
    finally:
        started.stop()


def virtkit(host: RealHost, words: str) -> Any:
    """The JSON that virtkit answers to alice."""
    return json.loads(host.ssh(VIRTKIT.format(f"{words} --json {SPEC}"), "alice"))


def test_host_yml_prepares_it(host: RealHost) -> None:
    assert {"group", "hook", "udev", "libvirt-guests", "inotify"} <= {*missing(host)}
    assert playbook(host)["changed"] >= 6
    assert missing(host) == []


def test_the_same_again_changes_nothing(host: RealHost, tmp_path: Path) -> None:
    """By virtkit, and as the host of a spec."""
    spec = tmp_path / "hosts.yaml"
    ssh = {
        "port": host.port,
        "key": f"{host.folder}/id",
        "known_hosts": f"{host.folder}/known_hosts",
    }
    rack = {"address": "alice@127.0.0.1", "ssh": ssh}
    spec.write_text(json.dumps({"name": "lab", "hosts": {"rack": rack}, "guests": {}}))
    done = subprocess.run(
        [Path(sys.executable).with_name("virtkit"), "host", "prepare", "--json", spec, "rack"],
        capture_output=True,
        text=True,
        check=False,
    )
    answer = json.loads(done.stdout)
    assert (answer["host"], answer["ok"], answer["changed"]) == ("rack", True, 0), done.stdout
    assert "host/rack on rack prepare: lxc : " in done.stderr


def test_the_first_command(host: RealHost) -> None:
    done = host.run(f"virtkit/scripts/up {SPEC}", "alice")
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said
    assert "lacks" not in said, "the host is prepared, so Ansible has nothing to do"
    guests = {each["name"]: each for each in virtkit(host, "status")["guests"]}
    assert {name: (each["type"], each["ready"]) for name, each in guests.items()} == {
        "vm": ("kvm", True),
        "box": ("lxc", True),
    }
    assert virtkit(host, "plan")["changes"] == []


def test_down_leaves_nothing(host: RealHost) -> None:
    assert virtkit(host, "down")["ok"]
    assert left(host, "hello") == []
