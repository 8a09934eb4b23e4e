"""Guests' networks on a host as others have them: udev that sets MAC addresses, firewalls."""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from integration.lab import Lab, laboratory, until, virsh

URI = "lxc:///system"
HOOK = Path("/etc/libvirt/hooks/lxc.d/as-udev")
#: What udev's MACAddressPolicy=persistent does to a container's cards, when libvirt made them and
#: the container has not got them yet.
AS_UDEV = r"""#!/bin/sh
[ "$2" = start ] || exit 0
number=10
for mac in $(sed -n "s/.*<mac address='\([0-9a-f:]*\)'.*/\1/p"); do
    for card in /sys/class/net/*; do
        [ "$(cat "$card/address")" != "$mac" ] ||
            ip link set "${card##*/}" address "02:aa:bb:cc:dd:$number"
    done
    number=$((number + 1))
done
"""
SPEC = """
name: roads
networks: {front: {}, back: {mode: isolated}}
defaults: {type: lxc, memory: 192MiB, networks: [front, back]}
guests:
  a: {}
  free: {privileged: true}
  u: {type: uml, memory: 288MiB}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("roads"), "roads", SPEC) as lab:
        yield lab


@contextmanager
def as_udev() -> Iterator[None]:
    """A host whose udev sets other addresses."""
    HOOK.write_text(AS_UDEV)
    HOOK.chmod(0o755)
    try:
        yield
    finally:
        HOOK.unlink()


@contextmanager
def as_udev_of_plugged(lab: Lab) -> Iterator[list[str]]:
    """The same for cards that are plugged in: libvirt calls no hook for these, so it is a race, as
    udev's own is. The addresses that were changed in time."""
    known = wanted(lab, "a")
    changed: list[str] = []
    other = bytes.fromhex("02aabbccdd20")
    ended = threading.Event()

    def look() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            while not ended.is_set():
                for card in Path("/sys/class/net").glob("vnet*"):
                    with suppress(OSError):
                        mac = (card / "address").read_text().strip()
                        if mac.startswith("52:54:00:") and mac not in known:
                            request = struct.pack("16sH6s8x", card.name.encode(), 1, other)
                            fcntl.ioctl(control, 0x8924, request)  # SIOCSIFHWADDR
                            changed.append(mac)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield changed
    finally:
        ended.set()
        thread.join()


def wanted(lab: Lab, guest: str) -> list[str]:
    """The addresses in a guest's XML."""
    xml = virsh("dumpxml", f"{lab.name}-{guest}", uri=URI)
    return [each.split("'")[1] for each in xml.splitlines() if "<mac address=" in each]


def inside(lab: Lab, guest: str) -> list[str]:
    """The addresses of the cards that a guest has."""
    cards = json.loads(lab.sh(guest, "ip -json link"))
    return [each["address"] for each in cards if each["link_type"] == "ether"]


def answers(address: str) -> bool:
    with suppress(OSError), socket.create_connection((address, 22), timeout=1):
        return True
    return False


# --- MAC addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize("guest", ["a", "free", "u"])
def test_udev_sets_other_addresses_than_libvirt(lab: Lab, guest: str) -> None:
    """Its first process sets libvirt's again: so it gets its IP addresses, and is ready."""
    with as_udev():
        report = lab.json("up", guest)
        assert report["ok"], report
        assert sorted(inside(lab, guest)) == sorted(wanted(lab, guest))
        for each in lab.status(guest)["addresses"]:
            assert until(partial(answers, each), 30), each
        assert lab.json("restart", guest)["ok"]
        assert sorted(inside(lab, guest)) == sorted(wanted(lab, guest))


def test_a_card_that_is_plugged_in(lab: Lab) -> None:
    """The guest's system is told which addresses its cards have, and sets them."""
    for _ in range(20):
        lab.write(SPEC.replace("a: {}", "a: {networks: [front]}"))
        assert lab.json("up", "a")["ok"]
        assert len(inside(lab, "a")) == 1
        lab.write(SPEC)
        with as_udev_of_plugged(lab) as changed:
            assert lab.json("up", "a")["ok"]
        assert sorted(inside(lab, "a")) == sorted(wanted(lab, "a"))
        if changed:
            break
    else:
        pytest.fail("libvirt was faster at each of its plugs")
    assert all(until(partial(answers, each), 30) for each in lab.status("a")["addresses"])
    assert lab.json("plan", "a")["changes"] == []


def test_a_guest_that_does_not_answer_any_more(lab: Lab) -> None:
    """It is no change, and told by plan and up, each time; the others are not."""
    lab.write(SPEC)
    assert lab.json("up", "a", "free")["ok"]
    assert lab.json("plan", "a", "free")["notes"] == []
    lab.sh("a", "systemctl stop ssh.socket ssh.service || systemctl stop ssh.service")
    found = lab.json("plan", "a", "free")
    assert found["changes"] == found["pending"] == []
    (note,) = found["notes"]
    assert note.startswith("guest/a runs and is not ready: port 22 of ")
    assert "Connection refused" in note
    began = time.monotonic()
    said = lab.virtkit("up", "a", "free")
    assert "roads: nothing to change" in said.out
    assert "guest/a runs and is not ready" in said.out
    assert time.monotonic() - began < 5
    assert lab.json("up", "a", "free")["notes"] == [note]
    assert lab.json("plan", "free")["notes"] == []
    lab.virtkit("plan", "a", "--exit-code")  # nothing changes: 0
    lab.sh("a", "ip link set eth0 down")
    (note,) = lab.json("plan", "a")["notes"]
    assert "no answer within 1 s" in note or "No route to host" in note
    assert lab.json("restart", "a")["ok"]
    assert lab.json("plan", "a", "free")["notes"] == []
