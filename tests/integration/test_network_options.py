"""What networks and interfaces have beside their addresses, seen in the guests: MTU, names, IPv6;
and their changes while guests use them."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, document, early, editing, lives, why
from integration.lab import run, tiny_disk, until, virsh

#: Where a name server of somebody else's answers, on the host itself.
ELSEWHERE = "127.94.61.53"
FRONT: dict[str, Any] = {
    "cidr": "10.94.61.0/24",
    "ipv6": "fd00:94:61::/64",
    "domain": "wires.test",
    "mtu": 9000,
    "names": {"api": "10.94.61.5", "db.corp.example": "fd00:94:61::5"},
}
SIX = {"cidr": False, "ipv6": "fd00:94:62::/64", "domain": "six.test"}
SPEC: dict[str, Any] = {
    "name": "wires",
    "networks": {"front": FRONT, "six": SIX},
    "defaults": {"memory": "256MiB", "networks": ["front"], "ssh_keys": ["id.pub"]},
    "guests": {
        "box": {"type": "lxc"},
        "vm": {"type": "qemu"},
        "box6": {"type": "lxc", "networks": ["six"]},
        "vm6": {"type": "qemu", "networks": [{"name": "six", "address6": "fd00:94:62::10"}]},
    },
}

#: Virtual machines with a system boot for a minute each.
VM, VM6 = (pytest.param(each, marks=pytest.mark.long) for each in ("vm", "vm6"))


@pytest.fixture(scope="module")
def edits(request: pytest.FixtureRequest) -> Iterator[Edits]:
    """In a folder that anybody may pass through to, which pytest's own are not: a TFTP server runs
    as a user without rights."""
    with tempfile.TemporaryDirectory(dir="/srv", prefix="virtkit-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
        with editing(folder, early(request, SPEC, "vm", "vm6")) as edits:
            yield edits


def there(edits: Edits, *guests: str) -> list[str]:
    """Those of the guests that are not left out."""
    return [each for each in guests if each in edits.spec["guests"]]


def runs(edits: Edits) -> list[tuple[str, str]]:
    """The runs that the guests of `front` are in."""
    return [lives(f"wires-{each}") for each in there(edits, "box", "vm")]


def network(edits: Edits, name: str = "front", **fields: Any) -> None:
    """Sets fields of a network; one that is None is taken out."""
    entry = {**edits.spec["networks"][name], **fields}
    edits.spec["networks"][name] = {k: each for k, each in entry.items() if each is not None}
    edits.write()


def resolved(edits: Edits, guest: str, name: str) -> list[str]:
    """The addresses that a guest's system has for a name."""
    lines = edits.lab.sh(guest, f"getent ahosts {name} || true").splitlines()
    return sorted({each.split()[0] for each in lines})


@contextmanager
def name_server() -> Iterator[None]:
    """A name server of somebody else's, for one domain."""
    line = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces"]
    line += ["--except-interface=lo", f"--listen-address={ELSEWHERE}", "--conf-file=/dev/null"]
    line += ["--pid-file=", "--address=/shop.corp.test/192.0.2.9"]
    with subprocess.Popen(line) as server:
        try:
            yield
        finally:
            server.terminate()


# --- MTU ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("guest", ["box", VM])
def test_guests_take_packets_as_large_as_their_network(edits: Edits, guest: str) -> None:
    (link,) = (
        each
        for each in json.loads(edits.lab.sh(guest, "ip -json link"))
        if each["link_type"] == "ether"
    )
    assert link["mtu"] == 9000
    address = edits.lab.status(guest)["addresses"][0]
    # as one packet, all the way
    run("ping", "-c", "1", "-W", "5", "-M", "do", "-s", "8900", address)


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("guest", ["box", VM])
def test_guests_resolve_the_networks_names(edits: Edits, guest: str) -> None:
    assert resolved(edits, guest, "api") == ["10.94.61.5"]
    assert resolved(edits, guest, "api.wires.test") == ["10.94.61.5"]
    assert resolved(edits, guest, "db.corp.example") == ["fd00:94:61::5"]


def test_names_change_while_guests_use_the_network(edits: Edits) -> None:
    before = runs(edits)
    names = {"api": "10.94.61.6", "www": "10.94.61.6", "old": "10.94.61.5"}
    network(edits, names=names)
    assert {name: why(each) for name, each in edits.plan().items()} == {
        "network/front": {"names": ("spec", "live")}
    }
    edits.up()
    for guest in there(edits, "box", "vm"):
        assert resolved(edits, guest, "www.wires.test") == ["10.94.61.6"]
    assert resolved(edits, "box", "api") == ["10.94.61.6"]
    assert resolved(edits, "box", "old") == ["10.94.61.5"]
    assert resolved(edits, "box", "db.corp.example") == []
    assert edits.pending() == {}
    network(edits, names=None)
    edits.up()
    assert resolved(edits, "box", "api") == []
    assert "<hostname>api" not in virsh("net-dumpxml", "wires-front")
    assert edits.pending() == {}
    network(edits, names=FRONT["names"])
    edits.up()
    assert resolved(edits, "box", "api") == ["10.94.61.5"]
    assert runs(edits) == before, "they are the same runs"


@pytest.mark.long  # as names of one address, above
def test_a_name_with_several_addresses(edits: Edits) -> None:
    """Each of them comes and goes while guests use the network."""
    before = runs(edits)
    for addresses in (
        ["10.94.61.5", "10.94.61.6", "fd00:94:61::6"],
        ["10.94.61.6", "fd00:94:61::6"],
        "10.94.61.7",
        ["10.94.61.5", "10.94.61.7"],
    ):
        network(edits, names={**FRONT["names"], "api": addresses, "www": "10.94.61.6"})
        assert why(edits.plan()["network/front"]) == {"names": ("spec", "live")}
        edits.up()
        wanted = [addresses] if isinstance(addresses, str) else addresses
        for guest in there(edits, "box", "vm"):
            assert resolved(edits, guest, "api.wires.test") == sorted(wanted)
        assert (edits.plan(), edits.pending()) == ({}, {})
    network(edits, names=FRONT["names"])
    edits.up()
    assert resolved(edits, "box", "api") == ["10.94.61.5"]
    assert runs(edits) == before, "they are the same runs"


def test_a_name_that_somebody_took_away_comes_back(edits: Edits) -> None:
    virsh("net-update", "wires-front", "delete", "dns-host", "<host ip='10.94.61.5'/>", "--live")
    (reason,) = why(edits.plan()["network/front"]).values()
    assert reason == ("drift", "live")
    edits.up()
    assert resolved(edits, "box", "api") == ["10.94.61.5"]


def test_a_domain_that_is_asked_elsewhere_waits_for_a_restart(edits: Edits) -> None:
    """libvirt can't change that of an active network; its guests keep their link until somebody
    asks for a restart, and have it again after that."""
    before = runs(edits)
    network(edits, forward={"corp.test": ELSEWHERE})
    assert why(edits.plan()["network/front"]) == {"forward": ("spec", "restart")}
    with name_server():
        edits.up()
        assert why(edits.pending()["network/front"]) == {"forward": ("spec", "restart")}
        assert resolved(edits, "box", "shop.corp.test") == []
        edits.up("--restart")
        assert edits.pending() == {}
        for guest in there(edits, "box", "vm"):
            found = until(lambda guest=guest: resolved(edits, guest, "shop.corp.test"), 60)
            assert found == ["192.0.2.9"]
            assert edits.lab.status(guest)["ready"], "its network was restarted around it"
        network(edits, forward=None)
        edits.up()
        assert why(edits.pending()["network/front"]) == {"forward": ("spec", "restart")}
        for guest in there(edits, "box", "vm"):
            assert resolved(edits, guest, "shop.corp.test") == ["192.0.2.9"]
        edits.up("--restart")
        assert edits.pending() == {}
    assert runs(edits) == before, "they are the same runs"


# --- IPv6 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("guest", ["box6", VM6])
def test_a_guest_with_ipv6_alone(edits: Edits, guest: str) -> None:
    """ssh, readiness and the inventory all go by IPv6."""
    (address,) = edits.lab.status(guest)["addresses"]
    assert IPv6Address(address) in IPv6Network(SIX["ipv6"])
    assert edits.lab.status(guest)["ready"]
    shown = edits.lab.virtkit("ssh", guest, "--", "ip", "-json", "address").out
    links = [each for each in json.loads(shown) if each["link_type"] == "ether"]
    found = {(a["family"], a["local"]) for each in links for a in each["addr_info"]}
    assert ("inet6", address) in found
    assert not {each for each in found if each[0] == "inet"}
    inventory = json.loads(edits.lab.virtkit("inventory", "--list").out)
    assert inventory["_meta"]["hostvars"][guest]["ansible_host"] == address


@pytest.mark.long  # the guest boots for a minute
def test_a_fixed_ipv6_address(edits: Edits) -> None:
    assert edits.lab.status("vm6")["addresses"] == ["fd00:94:62::10"]
    assert resolved(edits, "box6", "vm6") == ["fd00:94:62::10"]
    assert resolved(edits, "vm6", "box6.six.test") == edits.lab.status("box6")["addresses"]


@pytest.mark.parametrize("guest", ["box6", VM6])
def test_files_go_by_ipv6(edits: Edits, tmp_path: Path, guest: str) -> None:
    (tmp_path / "words").write_text("by IPv6\n")
    edits.lab.virtkit("cp", str(tmp_path / "words"), f"{guest}:/tmp/words")
    assert edits.lab.sh(guest, "cat /tmp/words") == "by IPv6"


@pytest.mark.long  # test_every_key.py has such a change
def test_a_fixed_address_comes_with_the_next_start(edits: Edits) -> None:
    edits.guest("box6", networks=[{"name": "six", "address6": "fd00:94:62::20"}])
    reasons = why(edits.plan()["guest/box6"])
    assert reasons == {"networks.six.address6": ("spec", "restart")}
    edits.up()
    assert why(edits.pending()["guest/box6"]) == reasons
    assert "fd00:94:62::20" not in edits.lab.sh("box6", "ip -6 -brief address")
    edits.up("--restart")
    assert edits.pending() == {}
    assert edits.lab.status("box6")["addresses"] == ["fd00:94:62::20"]
    assert "fd00:94:62::20" in edits.lab.sh("box6", "ip -6 -brief address")
    for guest in there(edits, "vm6"):
        assert resolved(edits, guest, "box6") == ["fd00:94:62::20"]


# --- MTU that changes --------------------------------------------------------------------------


@pytest.mark.long  # test_every_key.py has a change of it
def test_another_mtu_waits_for_both(edits: Edits) -> None:
    """The network has it when it starts again, and each guest when that does."""
    edits.spec["networks"]["small"] = {"cidr": "10.94.64.0/24", "mtu": 1400}
    edits.guest("mini", type="lxc", networks=["small"])
    edits.up()
    mtu = "cat /sys/class/net/eth0/mtu"
    assert edits.lab.sh("mini", mtu) == "1400"
    network(edits, "small", mtu=1300)
    plan = edits.plan()
    assert why(plan["network/small"]) == {"mtu": ("spec", "restart")}
    assert why(plan["guest/mini"]) == {"networks.small.mtu": ("spec", "restart")}
    edits.up()
    assert edits.pending().keys() == {"network/small", "guest/mini"}
    assert edits.lab.sh("mini", mtu) == "1400"
    edits.up("--restart")
    assert edits.pending() == {}
    assert edits.lab.sh("mini", mtu) == "1300"
    network(edits, "small", mtu=None)
    edits.up("--restart")
    assert edits.pending() == {}
    assert edits.lab.sh("mini", mtu) == "1500"
    edits.reset()
    edits.up("--yes")


#: Where guests are that go again: dnsmasq keeps the lease of one that is gone for an hour, and
#: gives its address to no other, whose reservation of it then means nothing.
PASSING = [{"name": "front", "address": f"10.94.61.{number}"} for number in (40, 41)]


@pytest.mark.long  # it boots for a minute
@pytest.mark.needs_uml
def test_user_mode_linux(edits: Edits) -> None:
    edits.guest("u", type="uml", memory="288MiB", networks=[{**PASSING[0], "mtu": 1400}])
    edits.up()
    assert edits.lab.sh("u", "cat /sys/class/net/vec0/mtu") == "1400"
    assert resolved(edits, "u", "api") == ["10.94.61.5"]
    edits.gone("u")
    edits.up("--yes")


#: The name of the card that has the wire's MTU.
PICK = (
    "import json, sys; print(next(e['ifname'] for e in json.load(sys.stdin) if e['mtu'] == 1400))"
)


# --- guests beside the host --------------------------------------------------------------------


@contextmanager
def wire() -> Iterator[str]:
    """A card of the host's, and a cable in it that ends nowhere."""
    run("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
    for each in ("wire0", "wire1"):
        run("ip", "link", "set", each, "up")
    try:
        yield "wire0"
    finally:
        run("ip", "link", "delete", "wire0")


def test_guests_on_a_card_of_the_host(edits: Edits) -> None:
    """They reach each other and not their host: plan, readiness and ssh say so."""
    with wire() as card:
        edits.spec["networks"]["wire"] = {
            "mode": "macvtap",
            "device": card,
            "cidr": "10.94.63.0/24",
        }
        apart = {"mode": "macvtap", "device": card, "macvtap": "private"}
        edits.spec["networks"]["apart"] = apart
        edits.spec["images"] = {"tiny": {"path": "tiny.raw"}}
        (edits.lab.folder / "tiny.raw").write_bytes(tiny_disk())
        own = [{"name": "wire", "address": "10.94.63.2"}]
        edits.guest("one", type="lxc", networks=own, ready={"timeout": "5s"})
        edits.guest("two", type="lxc", networks=["wire", PASSING[1]])
        edits.guest("vm2", type="qemu", image="tiny", networks=["apart"], ready="none")
        notes = edits.lab.json("plan")["notes"]
        (note,) = (each for each in notes if each.startswith("guest/one: "))
        assert note.startswith("guest/one: its host can't reach it by mode macvtap (wire0)")
        ran = edits.lab.virtkit("up", "--json", code=1)
        (failed,) = [e for e in ran.data["steps"] if e["outcome"] == "failed"]
        assert (failed["object"], failed["step"]) == ("guest/one", "ready")
        assert "beside the host (macvtap)" in failed["error"]["why"]
        assert "ready: none" in failed["error"]["cure"]
        edits.guest("one", type="lxc", networks=own, ready="none")
        edits.up()
        said = edits.lab.virtkit("ssh", "one", "--", "true", code=None)
        assert said.code != 0
        assert "beside the host (macvtap)" in said.err
        edits.lab.sh("two", "ip address add 10.94.63.3/24 dev eth0")
        answer = "timeout 5 bash -c ': </dev/tcp/10.94.63.2/22' && echo through"
        assert until(lambda: edits.lab.sh("two", f"{answer} || true"), 30) == "through"
        shown = document("wires-vm2").find("devices/interface")
        assert shown.get("type") == "direct"
        assert dict(shown.find("source").attrib) == {"dev": card, "mode": "private"}
        assert edits.plan() == {}
        # another way to be on the card is the spec's, and waits for the guest's restart
        edits.spec["networks"]["apart"] = {**apart, "macvtap": "vepa"}
        edits.write()
        changes = {name: why(each) for name, each in edits.plan().items()}
        assert changes == {"guest/vm2": {"networks.apart": ("spec", "restart")}}
        edits.up()
        assert edits.plan() == {}
        assert why(edits.pending()["guest/vm2"]) == {"networks.apart": ("spec", "restart")}
        edits.up("--restart")
        assert edits.pending() == {}
        shown = document("wires-vm2").find("devices/interface")
        assert shown.find("source").get("mode") == "vepa"
        for each in ("one", "two", "vm2"):
            edits.gone(each)
        edits.up("--yes")
    edits.reset()


@pytest.mark.parametrize("type", ["lxc", pytest.param("qemu", marks=pytest.mark.long)])
def test_guests_on_a_wire(edits: Edits, type: str) -> None:
    """One of them gives the others addresses; their host has none there, and says so."""
    edits.spec["networks"] |= {
        "cable": {"mode": "isolated", "cidr": False, "mtu": 1400},
        "front-2": {"existing": "wires-front"},
    }
    edits.guest("far", type="lxc", networks=["cable"], ready={"timeout": "5s"})
    edits.guest("router", type="lxc", networks=["front", "front-2", "cable"])
    patient = {"timeout": "1h"}
    edits.guest("vm2", type=type, networks=["front", "cable"], ready=patient)
    notes = edits.lab.json("plan")["notes"]
    assert any(each.startswith("guest/far: its host can't reach it on a network") for each in notes)
    ran = edits.lab.virtkit("up", "--json", code=1)
    (failed,) = [e for e in ran.data["steps"] if e["outcome"] == "failed"]
    assert (failed["object"], failed["step"]) == ("guest/far", "ready")
    assert "on wires-cable, where the host has no address" in failed["error"]["why"]
    edits.guest("far", type="lxc", networks=["cable"], ready="none")
    edits.up()
    said = edits.lab.virtkit("ssh", "far", "--", "true", code=None)
    assert "where the host has no address" in said.err
    # the wire itself: nobody of the host's is on it
    bridge = virsh("net-info", "wires-cable").split("Bridge:")[1].split()[0]
    assert json.loads(run("ip", "-json", "address", "show", "dev", bridge))[0]["addr_info"] == []
    assert not list(Path("/var/lib/libvirt/dnsmasq").glob("wires-cable.conf"))
    # two cards on one network, both with an address of its own
    shown = json.loads(edits.lab.sh("router", "ip -json -4 address"))
    own = [a["local"] for each in shown for a in each["addr_info"] if a["local"] != "127.0.0.1"]
    assert len({each for each in own if each.startswith("10.94.61.")}) == 2
    # what is on the wire: its packets are of its size, and guests reach each other
    edits.lab.sh("router", "ip address add 10.94.64.1/24 dev eth2")
    card = edits.lab.sh("vm2", f'ip -json link | python3 -c "{PICK}"')
    edits.lab.sh("vm2", f"ip address add 10.94.64.2/24 dev {card}")
    answer = "timeout 5 bash -c ': </dev/tcp/10.94.64.1/22' && echo through"
    assert until(lambda: edits.lab.sh("vm2", f"{answer} || true"), 60) == "through"
    assert edits.lab.sh("vm2", f"cat /sys/class/net/{card}/mtu") == "1400"
    assert edits.plan() == {}
    for each in ("far", "router", "vm2"):
        edits.gone(each)
    edits.up("--yes")
    assert "wires-cable" not in virsh("net-list", "--all", "--name")
    edits.reset()


# --- guests that boot from the network ---------------------------------------------------------

#: A TFTP client: prints a file's first block (RFC 1350).
FETCH = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
    asks.settimeout(10)
    asks.sendto(bytes([0, 1]) + b"pxelinux.0" + bytes(1) + b"octet" + bytes(1), ("10.94.61.1", 69))
    print(asks.recv(600)[4:].decode())
"""


def test_files_that_the_network_serves(edits: Edits) -> None:
    folder = edits.lab.folder / "pxe"
    folder.mkdir(mode=0o700)
    (folder / "pxelinux.0").write_text("boot me")
    network(edits, tftp="./pxe", bootfile="pxelinux.0")
    (error,) = edits.lab.errors("up")
    assert "can't be read by libvirt's TFTP server" in error
    folder.chmod(0o755)
    assert why(edits.plan()["network/front"]) == {
        "bootfile": ("spec", "restart"),
        "tftp": ("spec", "restart"),
    }
    edits.up("--restart")
    assert edits.pending() == {}
    found = until(lambda: edits.lab.sh("box", f"python3 -c '{FETCH}' || true"), 60)
    assert found == "boot me"
    network(edits, tftp=None, bootfile=None)
    edits.up("--restart")
    assert edits.plan() == {}


def test_nothing_of_it_drifts(edits: Edits) -> None:
    assert edits.plan() == {}
    assert edits.pending() == {}
