"""What networks and their guests must agree on: names, IPv6 addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from itertools import combinations

from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.model import GuestSpec, InterfaceSpec, NetworkSpec
from virtkit.spec.nodes import Path
from virtkit.spec.problem import Problem, quote


def check(draft: Draft, problems: Problems) -> None:
    """All checks of networks that need a guest, or two networks; errors go to ``problems``."""
    _overlaps(draft, problems)
    _names(draft, problems)
    _addresses6(draft, problems)
    _ports(draft, problems)


def _interfaces(draft: Draft) -> Iterator[tuple[Entry, GuestSpec, Path, InterfaceSpec]]:
    """Every network interface, with the path of its entry below the guest's."""
    for entry, guest in draft.guests():
        for index, interface in enumerate(guest.interfaces):
            yield entry, guest, ("networks", index), interface


def _overlaps(draft: Draft, problems: Problems) -> None:
    """Made networks that have the same IPv6 subnet."""
    models = draft.networks.models.items()
    subnets = [(name, n.ipv6) for name, n in models if n.managed and n.ipv6]
    for (first, first_subnet), (second, second_subnet) in combinations(subnets, 2):
        if first_subnet == second_subnet:
            problem = Problem(
                f"the networks '{first}' and '{second}' have the same IPv6 network",
                why=f"{first_subnet} can be on one side of the host only",
                cure="give each its own ipv6",
            )
            problems.at(draft.networks.nodes[second], ("ipv6",), problem)


def _names(draft: Draft, problems: Problems) -> None:
    """Names that a network's DNS is to answer, and that a guest on it has already."""
    reported: set[tuple[str, str]] = set()
    for _, guest, _, interface in _interfaces(draft):
        network = draft.networks.models.get(interface.name)
        if network is None:
            continue
        own = {guest.name, f"{guest.name}.{network.domain}"} if network.domain else {guest.name}
        for name in sorted(own & network.names.keys()):
            if (interface.name, name) in reported:
                continue
            reported.add((interface.name, name))
            problem = Problem(
                f"the name {quote(name)} is a guest's on the network '{interface.name}'",
                why=f"the network's DNS answers it with the address of '{guest.name}'",
                cure="remove it from `names:`, or rename one of them",
            )
            problems.at(draft.networks.nodes[interface.name], ("names", name), problem)


def _addresses6(draft: Draft, problems: Problems) -> None:
    """Fixed IPv6 addresses that their network can't have, or that two guests would have."""
    owners: dict[tuple[str, str], list[GuestSpec]] = {}
    reported: set[tuple[str, Path]] = set()
    for entry, guest, path, interface in _interfaces(draft):
        network = draft.networks.models.get(interface.name)
        address = interface.address6
        if address is None or network is None or (entry.base, path) in reported:
            continue
        problem = _misplaced(address, interface.name, network)
        others = owners.setdefault((interface.name, address), [])
        other = next((each.name for each in others if not guest.is_elsewhere(each)), None)
        others.append(guest)
        if problem is None and other is not None:
            problem = Problem(
                f"two guests have the address {address} on '{interface.name}'",
                why=f"'{other}' and '{guest.name}'",
                cure="give each its own address, or leave it out",
            )
        if problem is not None:
            reported.add((entry.base, path))
            problems.at(entry.node, (*path, "address6"), problem)


def _misplaced(address: str, name: str, network: NetworkSpec) -> Problem | None:
    """Why no guest can have the IPv6 ``address`` on the network ``name``."""
    if not network.managed:
        return Problem(
            f"the guest can't have a fixed IPv6 address on '{name}'",
            why="virtkit makes no network there, and knows nothing of its IPv6",
            cure="remove `address6:`; the guest can set it itself (`cloud_init:`)",
        )
    if network.ipv6 is None:
        return Problem(
            f"the network '{name}' has no ipv6 that {address} could belong to",
            cure=f"set `ipv6:` under networks.{name}, or remove `address6:`",
        )
    subnet = IPv6Network(network.ipv6)
    reason = ""
    if IPv6Address(address) not in subnet:
        reason = f"outside {subnet}"
    elif address in (str(subnet[0]), str(subnet[1])):
        reason = f"the host's own on '{name}'"
    if not reason:
        return None
    return Problem(f"the address {address} is {reason}", cure=f"use one such as {subnet[16]}")


def _ports(draft: Draft, problems: Problems) -> None:
    """VLANs and portgroups on networks that have none."""
    reported: set[tuple[str, Path]] = set()
    for entry, _, path, interface in _interfaces(draft):
        network = draft.networks.models.get(interface.name) or NetworkSpec.model_construct()
        wrong = dict(_bad_ports(interface, network))
        for key, problem in wrong.items():
            if (entry.base, (*path, key)) not in reported:
                reported.add((entry.base, (*path, key)))
                problems.at(entry.node, (*path, key), problem)


def _bad_ports(interface: InterfaceSpec, network: NetworkSpec) -> Iterator[tuple[str, Problem]]:
    """The key of an interface that its network can't honour, and why."""
    name = interface.name
    if interface.portgroup is not None and network.existing is None:
        yield (
            "portgroup",
            Problem(
                f"the network '{name}' has no portgroups",
                why="libvirt keeps portgroups in networks, and virtkit makes none",
                cure="remove `portgroup:`, or name a libvirt network that has it (`existing:`)",
            ),
        )
    if interface.vlan is None or network.existing is not None or network.mode == "bridge":
        return
    if network.mode == "macvtap":
        device = f"{network.device}.{interface.vlan}"
        yield (
            "vlan",
            Problem(
                f"the network '{name}' can't have an interface in a VLAN",
                why="libvirt sets no VLAN on a macvtap",
                cure=f"make a VLAN device on the host (ip link add link {network.device} "
                f"name {device} type vlan id {interface.vlan}) and set `device: {device}` instead",
            ),
        )
    else:
        yield (
            "vlan",
            Problem(
                f"the network '{name}' can't have an interface in a VLAN",
                why="libvirt makes it a Linux bridge, and sets VLANs on Open vSwitch alone",
                cure="use a bridge of Open vSwitch (`mode: bridge`), or an existing network that "
                "has it; or give each VLAN a network of its own",
            ),
        )
