"""Guests' networks on a host as others have them: udev that sets MAC addresses, firewalls."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faultpoints import Fault, runner
from integration.lab import Lab, laboratory, obey, restart_libvirtd, run, until, virsh

from virtkit.host.machine import preparation

URI = "lxc:///system"
HOOK = Path("/etc/libvirt/hooks/lxc.d/as-udev")
#: What udev's MACAddressPolicy=persistent does to a container's interfaces, when libvirt made them
#: and the container has not got them yet.
AS_UDEV = r"""#!/bin/sh
[ "$2" = start ] || exit 0
number=10
for mac in $(sed -n "s/.*<mac address='\([0-9a-f:]*\)'.*/\1/p"); do
    for interface in /sys/class/net/*; do
        [ "$(cat "$interface/address")" != "$mac" ] ||
            ip link set "${interface##*/}" address "02:aa:bb:cc:dd:$number"
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
  b: {ready: {timeout: 15s}}
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
    """The same for interfaces that are plugged in: libvirt calls no hook for these. A race, as
    udev's own is. The addresses that were changed in time."""
    known = wanted(lab, "a")
    changed: list[str] = []
    other = bytes.fromhex("02aabbccdd20")
    ended = threading.Event()

    def watch() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            while not ended.is_set():
                for interface in Path("/sys/class/net").glob("vnet*"):
                    with suppress(OSError):
                        mac = (interface / "address").read_text().strip()
                        if mac.startswith("52:54:00:") and mac not in known:
                            request = struct.pack("16sH6s8x", interface.name.encode(), 1, other)
                            fcntl.ioctl(control, 0x8924, request)  # SIOCSIFHWADDR
                            changed.append(mac)

    thread = threading.Thread(target=watch)
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


def macs_in(lab: Lab, guest: str) -> list[str]:
    """The addresses of the interfaces that a guest has."""
    interfaces = json.loads(lab.sh(guest, "ip -json link"))
    return [each["address"] for each in interfaces if each["link_type"] == "ether"]


def takes_ssh(address: str) -> bool:
    with suppress(OSError), socket.create_connection((address, 22), timeout=1):
        return True
    return False


# --- MAC addresses -----------------------------------------------------------------------------


# the container of a kernel that is a process has the same first process, and boots for minutes
UML = pytest.param("u", marks=[pytest.mark.needs_uml, pytest.mark.long])


@pytest.mark.parametrize("guest", ["a", "free", UML])
def test_udev_sets_other_addresses_than_libvirt(lab: Lab, guest: str) -> None:
    """Its first process sets libvirt's again: so it gets its IP addresses, and is ready."""
    with as_udev():
        report = lab.json("up", guest)
        assert report["ok"], report
        assert sorted(macs_in(lab, guest)) == sorted(wanted(lab, guest))
        for each in lab.status(guest)["addresses"]:
            assert until(partial(takes_ssh, each), 30), each
        assert lab.json("restart", guest)["ok"]
        assert sorted(macs_in(lab, guest)) == sorted(wanted(lab, guest))


def test_an_interface_that_is_plugged_in(lab: Lab) -> None:
    """The guest's system is told which addresses its interfaces have, and sets them."""
    for _ in range(20):
        lab.write(SPEC.replace("a: {}", "a: {networks: [front]}"))
        assert lab.json("up", "a")["ok"]
        assert len(macs_in(lab, "a")) == 1
        lab.write(SPEC)
        with as_udev_of_plugged(lab) as changed:
            assert lab.json("up", "a")["ok"]
        assert sorted(macs_in(lab, "a")) == sorted(wanted(lab, "a"))
        if changed:
            break
    else:
        pytest.fail("libvirt was faster at each of its plugs")
    assert all(until(partial(takes_ssh, each), 30) for each in lab.status("a")["addresses"])
    assert lab.json("plan", "a")["changes"] == []


@pytest.mark.parametrize("last", ["virDomainDefineXMLFlags", "virDomainAttachDeviceFlags"])
def test_an_interface_that_comes_though_up_is_killed(lab: Lab, last: str) -> None:
    """The guest's system still follows: the next `up` ends what the killed one began."""
    lab.write(SPEC.replace("a: {}", "a: {networks: [front]}"))
    assert lab.json("up", "a")["ok"]
    assert len(macs_in(lab, "a")) == 1
    lab.write(SPEC)
    with runner(lab.settings) as forks:
        fault = Fault("kill", 1, name=last, side="after")
        assert forks.run("up", lab.spec, "a", "--parallel", "1", fault=fault).killed
    assert lab.json("up", "a")["ok"]
    assert sorted(macs_in(lab, "a")) == sorted(wanted(lab, "a"))
    assert len(lab.status("a")["addresses"]) == 2
    assert all(until(partial(takes_ssh, each), 30) for each in lab.status("a")["addresses"])
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
    assert note.startswith("guest/a is running but not ready: port 22 of ")
    assert "Connection refused" in note
    began = time.monotonic()
    said = lab.virtkit("up", "a", "free")
    assert "roads: nothing to change" in said.out
    assert "guest/a is running but not ready" in said.out
    assert time.monotonic() - began < 5
    assert lab.json("up", "a", "free")["notes"] == [note]
    assert lab.json("plan", "free")["notes"] == []
    lab.virtkit("plan", "a", "--exit-code")  # nothing changes: 0
    lab.sh("a", "ip link set eth0 down")
    (note,) = lab.json("plan", "a")["notes"]
    assert "no answer within 1 s" in note or "No route to host" in note
    assert lab.json("restart", "a")["ok"]
    assert lab.json("plan", "a", "free")["notes"] == []


# --- the host's firewall -----------------------------------------------------------------------

#: As people write it: ssh gets in, nothing goes through.
FIREWALL = """
table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iifname "lo" accept
        tcp dport 22 accept
    }
    chain forward { type filter hook forward priority 0; policy drop; }
}
"""


@contextmanager
def firewall() -> Iterator[None]:
    """A host whose owner wrote a firewall, and did not think of guests."""
    run("nft", "-f", "-", input=FIREWALL)
    try:
        yield
    finally:
        run("nft", "delete", "table", "inet", "filter")


def doctor(lab: Lab, *about: str) -> list[dict[str, Any]]:
    found = lab.virtkit("doctor", "--json", code=None).data["checks"]
    return [each for each in found if each["name"] in about]


def test_a_reload_of_nftables_takes_libvirts_rules_away(lab: Lab) -> None:
    """What Debian's own /etc/nftables.conf begins with."""
    lab.write(SPEC)
    assert lab.json("up", "a")["ok"]
    lab.sh("a", "touch /run/this-boot")
    assert [each["ok"] for each in doctor(lab, "firewall")] == [True]
    run("nft", "flush", "ruleset")
    told = doctor(lab, "firewall", "network roads-front", "network roads-back")
    assert [each["ok"] for each in told] == [False, False]
    assert all(each["cure"] == preparation.restart_command("network") for each in told)
    lab.write(
        SPEC.replace("back: {", "more: {}, back: {").replace("a: {}", "a: {networks: [more]}")
    )
    (failed,) = [e for e in lab.json("up", "a", code=1)["steps"] if e["outcome"] == "failed"]
    assert failed["error"]["cure"].startswith(f"{preparation.restart_command('network')} (")
    restart_libvirtd()
    assert [each["ok"] for each in doctor(lab, "firewall")] == [True]
    assert lab.json("up", "a")["ok"]
    assert lab.sh("a", "ls /run/this-boot") == "/run/this-boot"
    assert [each["ok"] for each in doctor(lab, "firewall")] == [True]
    lab.virtkit("down", "a")  # and its network; the next tests are about the others
    lab.write(SPEC)
    assert lab.json("up", "a")["ok"]


@pytest.mark.parametrize("made_before", [False, True])
def test_a_firewall_that_drops(lab: Lab, made_before: bool) -> None:
    """DHCP does not get through: a guest gets no address, whether it had one before or not."""
    lab.write(SPEC)
    assert made_before == ("roads-b" in lab.domains())
    with firewall():
        lab.virtkit("stop", "b", code=None)
        run("ip", "neigh", "flush", "all")  # the kernel believes in what it heard for up to 45 s
        (failed,) = [e for e in lab.json("up", "b", code=1)["steps"] if e["outcome"] == "failed"]
        why, cure = failed["error"]["why"], failed["error"]["cure"]
        assert re.search(r"network roads-(front|back) gave it no address", why)
        assert "most likely a firewall on the host drops them (inet filter, input)" in why
        assert cure.startswith("let virbr")
        told = doctor(lab, "firewall")
        assert {each["ok"] for each in told} == {None}
        lost = [each["what"].rpartition(": ")[2] for each in told]
        assert [each.split()[3] for each in lost if "outside" in each] == ["reach"]
        assert len(lost) == 3  # nothing of `back` goes outside
        for each in told:
            obey(each["cure"].partition(";")[0])
        assert [each["ok"] for each in doctor(lab, "firewall")] == [None, True]  # as Docker's
        # one that was ready once is not waited for again: a note tells of it
        assert lab.json("restart" if made_before else "up", "b")["ok"]
    assert lab.json("plan", "b")["notes"] == []


def test_a_dhcp_server_that_ended(lab: Lab) -> None:
    """A restart of libvirtd mends that, and no firewall is to blame."""
    lab.write(SPEC)
    assert lab.json("up", "b")["ok"]
    lab.virtkit("stop", "b")
    for each in ("front", "back"):
        os.kill(int(Path(f"/run/libvirt/network/roads-{each}.pid").read_text()), signal.SIGKILL)
    try:
        (failed,) = [e for e in lab.json("up", "b", code=1)["steps"] if e["outcome"] == "failed"]
    finally:
        restart_libvirtd()
    assert "(dnsmasq) has ended" in failed["error"]["why"]
    assert failed["error"]["cure"].startswith(f"{preparation.restart_command('network')} (")
    assert lab.json("restart", "b")["ok"]


def test_dockers_forward_policy_is_named(lab: Lab) -> None:
    """libvirt's own rules in the same table come first: guests work."""
    lab.write(SPEC)
    assert lab.json("up", "a")["ok"]
    run("iptables", "-P", "FORWARD", "DROP")
    try:
        told = doctor(lab, "firewall")
        assert [each["ok"] for each in told] == [None, True]
        assert "chain FORWARD of table ip filter" in told[0]["what"]
    finally:
        run("iptables", "-P", "FORWARD", "ACCEPT")


def test_an_interface_with_another_address(lab: Lab) -> None:
    """As of a container whose image is of before: what its interfaces send tells."""
    lab.write(SPEC)
    assert lab.json("up", "a")["ok"]
    lab.sh(  # the bridge forgets the old address where it sees the interface go down: not at once
        "a",
        "systemctl stop systemd-networkd.socket systemd-networkd; ip addr flush eth0; "
        "ip link set eth0 down; ip link set eth0 address 02:aa:bb:cc:dd:30; sleep 2; "
        "ip link set eth0 up; sleep 2; ping -c1 -W1 -I eth0 ff02::1 || :",
    )
    (note,) = lab.json("plan", "a")["notes"]
    (front, _) = wanted(lab, "a")
    assert f"on roads-front sends as 02:aa:bb:cc:dd:30, not as {front}" in note
    assert lab.json("restart", "a")["ok"]
    assert lab.json("plan", "a")["notes"] == []
