"""What a host has of the network: its routes and rules, its devices, and who it is itself.

Any user may ask for all of it. It must never change one: what a host reaches is its owner's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from virtkit._dataclass import dataclass
from virtkit.facts import UsedSubnet

#: Types of routes that no machine has.
_NOBODYS = {"broadcast", "multicast", "anycast"}
#: Who sets the routes of networks that the host has an interface in.
_CONNECTED = {"kernel", "ra"}


@dataclass(frozen=True)
class NetworkFacts:
    """What a host has of the network.

    Attributes:
        used_subnets: of the host's routes, by device, and what its rules send elsewhere; no default
            route.
        device_kinds: what its devices are, by name (``bridge``, ``openvswitch``, or empty); None
            where nobody could ask.
        machine_id: its /etc/machine-id.
    """

    used_subnets: tuple[UsedSubnet, ...] = ()
    device_kinds: Mapping[str, str] | None = None
    machine_id: str = ""


def parse(text: str) -> NetworkFacts:
    """What `machine.inspection.network` printed: a line for each question, then a file.

    Without the program ``ip`` the kernel's own list of IPv4 routes has to do.
    """
    lines = text.splitlines()
    documents, kernel_routes = lines[:4], lines[5:]
    routes, rules4, rules6, devices = (_entries(each) for each in [*documents, *[""] * 4][:4])
    subnets = {*map(_of_route, routes), *map(_of_rule, [*rules4, *rules6])}
    if not routes:
        subnets |= set(_of_kernel(kernel_routes))
    kinds = {
        str(each.get("ifname")): str((each.get("linkinfo") or {}).get("info_kind", ""))
        for each in devices
    }
    used = sorted((each for each in subnets if each), key=lambda each: (each.subnet, each.holder))
    return NetworkFacts(tuple(used), kinds or None, lines[4].strip() if len(lines) > 4 else "")


def _entries(text: str) -> list[Mapping[str, Any]]:
    try:
        entries = json.loads(text or "[]")
    except ValueError:
        return []
    return (
        [each for each in entries if isinstance(each, Mapping)] if isinstance(entries, list) else []
    )


def _of_route(entry: Mapping[str, Any]) -> UsedSubnet | None:
    """A route, of whichever table; the host's own addresses are routes, too."""
    kind = str(entry.get("type", "unicast"))
    subnet = _subnet(str(entry.get("dst", "default")))
    if subnet is None or kind in _NOBODYS:
        return None
    device = str(entry.get("dev", ""))
    if kind == "local":
        return UsedSubnet(str(subnet), device, "address")
    if kind == "unicast" and entry.get("protocol") in _CONNECTED:
        return UsedSubnet(str(subnet), device, "connected")
    return UsedSubnet(str(subnet), device or kind)


def _of_rule(entry: Mapping[str, Any]) -> UsedSubnet | None:
    """The destination that a rule sends to a table of its own."""
    if "not" in entry or "dst" not in entry:
        return None
    prefix = f"/{entry['dstlen']}" if "dstlen" in entry else ""
    subnet = _subnet(f"{entry['dst']}{prefix}")
    return UsedSubnet(str(subnet), f"rule {entry.get('priority')}") if subnet else None


def _of_kernel(lines: Iterable[str]) -> Iterator[UsedSubnet]:
    """The lines of /proc/net/route (proc(5))."""
    for line in lines:
        columns = line.split()
        if len(columns) < 8 or columns[0] == "Iface":
            continue
        address, mask = (bytes.fromhex(columns[at])[::-1] for at in (1, 7))
        prefix = bin(int.from_bytes(mask, "big")).count("1")
        if prefix:
            yield UsedSubnet(str(IPv4Network((address, prefix), strict=False)), columns[0])


def _subnet(text: str) -> IPv4Network | IPv6Network | None:
    """A destination that matters: no default, no loopback, nothing that ends at the link."""
    try:
        subnet = ip_network(text, strict=False)
    except ValueError:  # "default", "all"
        return None
    nobodys = subnet.is_loopback or subnet.is_link_local or subnet.is_multicast
    return None if nobodys or not subnet.prefixlen else subnet
