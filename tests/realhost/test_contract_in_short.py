"""The contract of all guest types in short, on a plain Debian host with systemd, cgroup v2 and
AppArmor, driven over ssh as its ordinary user: the types that need no KVM of it.

    .venv/bin/python -m pytest tests/realhost/test_contract_in_short.py

The host is emulated. `qemu` emulates once more in it, where a system's kernel had only come
to its block layer after 25 minutes. So its guest is a boot sector, and of the contract it has what
needs no system.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.contract import (
    place,  # noqa: F401 - a fixture, found by its name
    pytest_generate_tests,  # noqa: F401 - a hook
    types,  # noqa: F401 - a fixture
    upped,
)
from integration.contract_in_short import InShort, spec
from integration.lab import tiny_disk, until
from realhost import prepared
from realhost.outside import OutsideHost, OutsideLab, outside_laboratory, prepared_host

PLACE, TYPES = prepared.NAME, ("uml",)
TINY = """
images: {tiny: {path: tiny.raw}}
networks: {back: {mode: isolated, cidr: 10.94.2.0/24}}
defaults: {type: qemu, memory: 32MiB}
guests:
  qemu: {image: tiny, networks: [back], ready: none, disks: [{name: data, size: 2MiB}]}
"""

pytestmark = [pytest.mark.timeout(3600), pytest.mark.long]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideHost]:
    with prepared_host(tmp_path_factory.mktemp("realhost")) as host:
        yield host


@pytest.fixture(scope="module")
def lab(host: OutsideHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideLab]:
    folder = tmp_path_factory.mktemp("short")
    with outside_laboratory(folder, "short", spec(TYPES), host) as lab:
        yield upped(lab)


class TestTheContractInShort(InShort):
    """Of the guest that has a system."""


@pytest.fixture(scope="module")
def tiny(host: OutsideHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideLab]:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    with outside_laboratory(folder, "tiny", TINY, host) as lab:
        yield upped(lab)


def says(tiny: OutsideLab, word: str, times: int = 1) -> bool:
    return until(lambda: sum(f"tiny: {word}" in e for e in tiny.printed("qemu")) >= times, 300, 2)


def test_qemu_comes_up_and_up_again_changes_nothing(tiny: OutsideLab) -> None:
    assert says(tiny, "up")
    found = tiny.status("qemu")
    assert (found["type"], found["host"], found["state"]) == ("qemu", PLACE, "running")
    assert tiny.json("up")["steps"] == tiny.json("plan")["changes"] == []


def test_qemu_is_paused_and_resumed(tiny: OutsideLab) -> None:
    tiny.virtkit("pause", "qemu")
    assert tiny.status("qemu")["state"] == "paused"
    (change,) = tiny.json("plan")["changes"]
    assert (change["object"], change["action"]) == ("guest/qemu", "start")
    tiny.virtkit("resume", "qemu")
    assert tiny.status("qemu")["state"] == "running"


def test_qemu_hears_the_power_button_and_starts_again(tiny: OutsideLab) -> None:
    assert tiny.json("stop", "qemu", "--timeout", "300")["steps"][0].get("note") is None
    assert tiny.status("qemu")["state"] == "stopped"
    assert says(tiny, "off")
    assert tiny.json("start", "qemu")["ok"]
    assert says(tiny, "up", 2)


def test_qemu_leaves_nothing(tiny: OutsideLab) -> None:
    assert tiny.json("down")["ok"]
    assert tiny.left() == []
    assert {each["state"] for each in tiny.json("status")["guests"]} == {"missing"}
