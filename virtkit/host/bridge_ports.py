"""What the host's side of a guest's interfaces tells, where the guest does not answer.

An interface is a port of its network's bridge: the bridge knows which addresses sent through it,
and the host's kernel which of them answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import libvirt
from lxml import etree

from virtkit._dataclass import dataclass
from virtkit.errors import VirtkitError
from virtkit.host import firewall, questions
from virtkit.host.connection import Connections
from virtkit.host.errors import libvirt_errors, skip_unreadable
from virtkit.host.firewall import Bridge
from virtkit.host.state_reason import StateReason
from virtkit.xml import tree

#: States of a neighbour that was asked and did not answer (ip-neighbour(8)).
_SILENT = {"INCOMPLETE", "FAILED"}


@dataclass(frozen=True)
class _BridgePort:
    """An interface on a network of libvirt's. ``port`` is its end on the host."""

    mac: str
    network: str
    bridge: str
    port: str


def no_address_reason(connections: Connections, live: str) -> StateReason:
    """Why a running guest has no address, by its XML; empty where its interfaces tell nothing."""
    if (reason := beside_reason(connections, live)).why:
        return reason
    for interface in _interfaces(tree.parse(live, "a domain")):
        senders = _senders(connections, interface)
        if senders and interface.mac not in senders:
            return StateReason(
                f"its interface on {interface.network} sends as {', '.join(sorted(senders))}, not "
                f"as {interface.mac}: something changed its MAC address, as the host's udev does",
                "`virtkit restart SPEC GUEST` gives it its MAC address back, if its image was "
                "built by this version of virtkit; `virtkit doctor` tells how to keep the host's "
                "udev from changing it",
            )
        if senders and (reason := _dnsmasq_reason(connections, interface.network)).why:
            return reason
        if senders and _without_lease(connections, interface):
            return _no_lease(connections, interface)
    return StateReason()


def beside_reason(connections: Connections, live: str) -> StateReason:
    """Why no way leads from the host to a running guest, by its XML: it is on cards of the host's
    (macvtap), which carry nothing between the two, or on wires, where the host has no address, and
    on nothing else. Empty for others."""
    cards: dict[str, None] = {}
    wires: dict[str, None] = {}
    for interface in tree.parse(live, "a domain").iterfind("./devices/interface"):
        source = interface.find("source")
        name = "" if source is None else source.get("dev") or source.get("network") or ""
        if interface.get("type") == "direct":
            cards[name] = None
        elif source is not None and source.get("network") and _is_wire(connections, name):
            wires[name] = None
        else:
            return StateReason()
    ways = []
    if cards:
        ways.append(
            f"{', '.join(sorted(cards))} beside the host (macvtap), where the host and the guest "
            "can't reach each other"
        )
    if wires:
        ways.append(f"{', '.join(sorted(wires))}, where the host has no address")
    if not ways:
        return StateReason()
    return StateReason(
        f"its network interfaces are on {' and on '.join(ways)}",
        "give it a network beside that (`networks: [NAME, default]`), or set `ready: none` and log "
        "in from another machine",
    )


def _is_wire(connections: Connections, name: str) -> bool:
    """Whether a network joins guests and leads nowhere, as one does on which nobody serves."""
    try:
        with libvirt_errors("read", f"network {name}", where=connections.host):
            network = connections.any().networkLookupByName(name)
            root = tree.parse(network.XMLDesc(0), "a network")
    except VirtkitError:  # it went away
        return False
    return root.find("ip") is None and root.find("forward") is None


def _interfaces(root: etree._Element) -> list[_BridgePort]:
    interfaces = []
    for each in root.iterfind("./devices/interface"):
        mac, source, target = each.find("mac"), each.find("source"), each.find("target")
        if mac is None or source is None or target is None:
            continue
        interface = _BridgePort(
            mac.get("address", "").lower(),
            source.get("network", ""),
            source.get("bridge", ""),
            target.get("dev", ""),
        )
        if interface.network and interface.bridge and interface.port:
            interfaces.append(interface)
    return interfaces


def _senders(connections: Connections, interface: _BridgePort) -> set[str]:
    """The addresses that sent something through the interface; it may be none, as of a guest that
    is not up yet."""
    entries = _json_entries(connections, ["bridge", "-j", "fdb", "show", "br", interface.bridge])
    return {
        str(each.get("mac")).lower()
        for each in entries
        if each.get("ifname") == interface.port and each.get("state") != "permanent"
    }


def _json_entries(connections: Connections, line: list[str]) -> list[Mapping[str, Any]]:
    text = firewall.program_output(connections.remote, line)
    try:
        entries = json.loads(text or "[]")
    except ValueError:
        return []
    return [each for each in entries if isinstance(each, Mapping)]


def _without_lease(connections: Connections, interface: _BridgePort) -> bool:
    """Whether the interface has no address from its network's DHCP: no lease, or one of an earlier
    start, at whose address nobody answers.

    The kernel believes for up to 45 s in an address that it last heard of: until then, no."""
    try:
        with libvirt_errors("read", f"network {interface.network}", where=connections.host):
            network = connections.any().networkLookupByName(interface.network)
            dhcp = tree.parse(network.XMLDesc(0), "a network").find("./ip/dhcp")
            leased_ips = {each["ipaddr"] for each in network.DHCPLeases(interface.mac)}
    except VirtkitError:  # it went away
        return False
    line = ["ip", "-j", "-4", "neigh", "show", "dev", interface.bridge]
    neighbours = {each.get("dst"): each for each in _json_entries(connections, line)}
    if dhcp is None or any(each.get("lladdr") == interface.mac for each in neighbours.values()):
        return False
    silent = {ip for ip, each in neighbours.items() if {*each.get("state", ())} & _SILENT}
    return not leased_ips or bool(leased_ips & silent)


def _dnsmasq_reason(connections: Connections, network: str) -> StateReason:
    """A network that gives nobody an address, as its server has ended; empty where it has not.

    It holds whether or not the guest still has an address of before."""
    if network not in questions.ask(connections.remote, "without_dnsmasq")["without_dnsmasq"]:
        return StateReason()
    return StateReason(
        f"network {network} gives no addresses: its DHCP server (dnsmasq) has ended",
        f"{connections.restart_command('network')} (it starts the server again, and guests "
        "go on running)",
    )


def _no_lease(connections: Connections, interface: _BridgePort) -> StateReason:
    """A guest that is up, on a network that gives it no address."""
    what = (
        f"network {interface.network} gave it no address: its interface is up, and its DHCP "
        "requests get no answer"
    )
    rules = firewall.rules(connections.remote)
    bridge = Bridge(interface.network, interface.bridge, forwards=True)
    drops = rules.dropping_chains(bridge) if rules is not None else None
    if drops is not None and "input" not in {each.hook for each in drops}:
        return StateReason(
            what,
            f"check that no rule of the host's firewall drops udp port 67 from {interface.bridge} "
            "(nft list ruleset), and what the network's DHCP server says (journalctl -t "
            "dnsmasq-dhcp)",
        )
    chain = f" ({drops[0].table}, {drops[0].chain})" if drops else ""
    return StateReason(
        f"{what}; most likely a firewall on the host drops them{chain}",
        f"let {interface.bridge} through, as root: "
        f"{firewall.accept_commands(interface.bridge, drops, connections.remote)}; then run again",
    )


def bridges(connections: Connections) -> list[Bridge]:
    """The bridges of the active networks for which libvirt makes firewall rules."""
    answer = []
    with libvirt_errors("read", "the networks", where=connections.host):
        active = connections.any().listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)
        for network in active:
            with skip_unreadable():
                root = tree.parse(network.XMLDesc(0), "a network")
                forward, bridge = root.find("forward"), root.find("bridge")
                mode = forward.get("mode", "nat") if forward is not None else ""
                if mode in ("nat", "route", "") and bridge is not None:
                    name, ipv6 = bridge.get("name", ""), root.find("ip[@family='ipv6']") is not None
                    answer.append(Bridge(network.name(), name, bool(mode), ipv6))
    return answer
