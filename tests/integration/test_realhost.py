"""The first five minutes on a plain Debian host: an ordinary user, systemd, AppArmor, a KVM that
works. The host is emulated (tests/realhost); what else happens on one is tests/realhost's journey.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from realhost import realhost
from realhost.person import SPEC, left, make_spec
from realhost.realhost import RealHost

pytestmark = pytest.mark.timeout(1800)

VIRTKIT = "cd virtkit && sg libvirt -c '.venv/bin/virtkit {}'"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, alone: None) -> Iterator[RealHost]:
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


def test_the_first_command(host: RealHost) -> None:
    done = host.run(f"virtkit/scripts/up {SPEC}", "alice")
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said
    assert "new in the group libvirt" in said
    guests = {each["name"]: each for each in virtkit(host, "status")["guests"]}
    assert {name: (each["type"], each["ready"]) for name, each in guests.items()} == {
        "vm": ("kvm", True),
        "box": ("lxc", True),
    }
    assert virtkit(host, "plan")["changes"] == []


def test_the_same_again_changes_nothing(host: RealHost) -> None:
    done = host.run(f"cd / && ~/virtkit/scripts/up {SPEC}", "alice")
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"nothing to change" in done.stdout


def test_down_leaves_nothing(host: RealHost) -> None:
    assert virtkit(host, "down")["ok"]
    assert left(host, "hello") == []
