"""A guest's network interfaces with what their networks say for all of theirs. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal, NamedTuple

from virtkit.spec import model
from virtkit.state import addresses
from virtkit.state.desired import Guest, Interface


def with_network(interface: model.InterfaceSpec, network: model.NetworkSpec) -> model.InterfaceSpec:
    """The interface with the network's MTU, where it says none itself."""
    if network.mtu is None or interface.mtu is not None:
        return interface
    return interface.model_copy(update={"mtu": network.mtu})


def requested_networks(
    guest: model.GuestSpec, networks: Mapping[str, model.NetworkSpec]
) -> list[dict[str, Any]] | None:
    """What the record keeps of a guest's ``networks``; None where the spec says nothing, and the
    networks neither."""
    interfaces = [with_network(each, networks[each.name]) for each in guest.interfaces]
    if guest.networks is None and interfaces == list(guest.interfaces):
        return None
    return [each.model_dump(mode="json") for each in interfaces]


def place_of(
    name: str, network: model.NetworkSpec, environment: str
) -> tuple[Literal["network", "bridge", "direct"], str]:
    """libvirt's word for where an interface on the network ``name`` is plugged in, and its name
    there."""
    if network.existing is not None:
        return "network", network.existing
    if network.mode == "bridge":
        return "bridge", network.bridge or ""
    if network.mode == "macvtap":
        return "direct", network.device or ""
    return "network", f"{environment}-{name}"


def served_folder(path: str | None, spec_folder: str) -> str:
    """The folder that a network serves, absolute; empty where it serves none."""
    if not path:
        return ""
    return posixpath.normpath(posixpath.join(spec_folder, posixpath.expanduser(path)))


class Ipv6Place(NamedTuple):
    """An interface's IPv6 address; ``static`` (CIDR notation) and ``gateway`` are for the seed."""

    address: str = ""
    static: str = ""
    gateway: str = ""


def ipv6_place(interface: model.InterfaceSpec, network: model.NetworkSpec, mac: str) -> Ipv6Place:
    """Where IPv6 has a network interface.

    An address goes into the seed where it does not follow from the MAC, and where the guest has no
    other: not all that boots takes what a router announces.
    """
    if network.ipv6 is None or not network.managed:
        return Ipv6Place()
    address = interface.address6 or addresses.slaac(network.ipv6, mac)
    if interface.address6 is None and network.cidr is not False:
        return Ipv6Place(address)
    subnet = IPv6Network(network.ipv6)
    gateway = str(subnet[1]) if network.mode != "isolated" else ""
    return Ipv6Place(address, f"{address}/{subnet.prefixlen}", gateway)


def ipv6_servers(network: model.NetworkSpec) -> tuple[str, ...]:
    """The name servers of a network where only IPv6 can name one."""
    if network.cidr is False and network.ipv6:
        return (str(IPv6Network(network.ipv6)[1]),)
    return ()


def reach_note(guest: Guest) -> str:
    """What to know of a guest that its host can't reach, and is asked whether it is ready; empty
    for others."""
    ways: dict[str, dict[str, None]] = {}
    for each in guest.interfaces:
        if each.kind == "direct":
            ways.setdefault("by mode macvtap", {})[each.source] = None
        elif each.hostless:
            ways.setdefault("on a network without addresses", {})[each.network] = None
        else:
            return ""
    if not ways or guest.spec.ready.kind not in ("ssh", "port"):
        return ""
    said = " and ".join(f"{way} ({', '.join(names)})" for way, names in ways.items())
    return (
        f"its host can't reach it {said}, and so neither tell that it is ready nor let ssh in: "
        "give it a network beside that (`networks: [NAME, default]`), or set `ready: none`"
    )


def mtu_note(guest: Guest) -> str:
    """What to know of a guest whose cards don't get their MTU; empty where all do."""
    driver = guest.driver
    sizes = [each.options.mtu or 0 for each in guest.interfaces]
    if driver.max_mtu and max(sizes, default=0) > driver.max_mtu:
        return f"its network interfaces keep an mtu of {driver.max_mtu}, as all of {driver.type}"
    if guest.confinement.why and driver.card_mtu and max(sizes, default=0) > driver.card_mtu:
        return (
            f"its network interfaces keep an mtu of {driver.card_mtu}, since libvirt's hook gives "
            f"them no other: {guest.confinement.why} (`virtkit doctor` says how to fix it)"
        )
    return ""


def interfaces_of(
    environment: str,
    guest: model.GuestSpec,
    macs: Mapping[tuple[str, int], str],
    used: Mapping[str, model.NetworkSpec],
    subnets: Mapping[str, str],
    interface_addresses: Mapping[tuple[str, int], str],
) -> tuple[Interface, ...]:
    """A guest's interfaces."""
    return tuple(
        _interface(
            environment, guest, index, macs[guest.name, index], used, subnets, interface_addresses
        )
        for index in range(len(guest.interfaces))
    )


def _interface(
    environment: str,
    guest: model.GuestSpec,
    index: int,
    mac: str,
    used: Mapping[str, model.NetworkSpec],
    subnets: Mapping[str, str],
    interface_addresses: Mapping[tuple[str, int], str],
) -> Interface:
    interface = guest.interfaces[index]
    network = used[interface.name]
    address = interface_addresses.get((guest.name, index), "")
    cidr = subnets.get(interface.name, "")
    place6 = ipv6_place(interface, network, mac)
    static = gateway = ""
    dns: tuple[str, ...] = ()
    if address and cidr and network.static:
        static = f"{address}/{IPv4Network(cidr).prefixlen}"
        own = str(IPv4Network(cidr)[1]) if network.managed else ""
        gateway = network.gateway or (own if network.mode != "isolated" else "")
        dns = network.dns or ((own,) if own else ())
    kind, source = place_of(interface.name, network, environment)
    silent = network.is_wire and network.dhcp is False
    return Interface(
        network=interface.name,
        kind=kind,
        source=source,
        mac=mac,
        address=address,
        static=static,
        gateway=gateway,
        dhcp=not static and (network.cidr is not False or network.is_wire) and not silent,
        hostless=network.is_wire,
        macvtap=network.macvtap or "bridge",
        address6=place6.address,
        static6=place6.static,
        gateway6=place6.gateway,
        dns=dns or ipv6_servers(network),
        domain=network.domain or "",
        options=with_network(interface, network),
    )
