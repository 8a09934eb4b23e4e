"""What a spec names on a host, against what the host has: subnets, bridges, libvirt's networks.

Only what is to be made or started is looked at: what runs goes on, whatever became of the host.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network

from virtkit._dataclass import dataclass
from virtkit.drivers.fields import row_key
from virtkit.errors import RequestError
from virtkit.facts import HostFacts, UsedSubnet
from virtkit.plan import port_conflicts
from virtkit.plan.changes import Change
from virtkit.spec import LOCAL, raw_xml, suggestion
from virtkit.spec.command import virtkit_command
from virtkit.state.desired import Desired, Guest, Network
from virtkit.state.observed import Observed, ObservedGuest, ObservedNetwork

#: The kinds of network devices that guests can be plugged into.
_BRIDGES = ("bridge", "openvswitch")
#: Who is in a network with no longer a prefix does not need all of it.
_WIDE = 9


def errors(
    changes: Iterable[Change],
    desired: Desired,
    facts: HostFacts,
    observed: Observed,
    *,
    spec_path: str,
    templates: Mapping[str, str],
) -> list[RequestError]:
    """What stops ``changes`` on the host that ``facts`` describe.

    Args:
        spec_path: the path of the spec at hand.
        templates: the texts of users' own templates, by guest.
    """
    conflicts: list[RequestError] = []
    for change in changes:
        wanted = change.desired
        if isinstance(wanted, Network) and _starts(change):
            conflicts += _subnets(wanted, desired, facts, observed, spec_path)
        elif isinstance(wanted, Guest) and _needs_sources(change):
            conflicts += _missing_sources(wanted, templates.get(wanted.name, ""), desired, facts)
            conflicts += port_conflicts.errors(wanted, facts)
    # several guests may name one bridge
    return list({(each.what, each.where): each for each in conflicts}.values())


def _starts(change: Change) -> bool:
    """Whether a network starts that was not active."""
    current = change.observed
    off = isinstance(current, ObservedNetwork) and not current.active
    return change.action in ("create", "replace") or off


def _needs_sources(change: Change) -> bool:
    """Whether a guest starts, or gets other network interfaces."""
    current = change.observed
    off = isinstance(current, ObservedGuest) and current.state == "stopped"
    other_interfaces = any(
        row_key(each.field).partition(".")[0] == "networks" for each in change.reasons
    )
    return (
        change.action in ("create", "replace")
        or off
        or other_interfaces
        or change.effect == "restart"
    )


# --- subnets --------------------------------------------------------------------------------


def _subnets(
    network: Network, desired: Desired, facts: HostFacts, observed: Observed, spec_path: str
) -> Iterator[RequestError]:
    for name, subnet in (("cidr", network.cidr), ("ipv6", network.ipv6)):
        used_subnets = [e for e in facts.used_subnets if subnet and _in_use(subnet, e, network)]
        if used_subnets:
            yield RequestError(
                f"network {network.name}: {subnet} is in use on host {network.host}",
                why="; ".join(dict.fromkeys(map(_holder_text, used_subnets))),
                cure=_cure(name, used_subnets, facts, observed, (network.environment, spec_path)),
                where=desired.positions.get((network.name, name), ""),
            )


def _in_use(subnet: str, used: UsedSubnet, network: Network) -> bool:
    """Whether who has a subnet would lose something of it to a network of ours.

    A route to more than the subnet takes nothing of it: a spec may have a part of what a VPN
    reaches. Nor does a network of libvirt's that is not active, or one that is the same.
    """
    own, other = ip_network(subnet), ip_network(used.subnet)
    if own.version != other.version or not own.overlaps(other) or used.kind == "inactive":
        return False
    if used.kind == "network":
        return used.holder != network.libvirt_name
    part = other.prefixlen >= own.prefixlen
    return part or (used.kind == "connected" and other.prefixlen > _WIDE)


def _holder_text(used: UsedSubnet) -> str:
    if used.kind == "network":
        return f"libvirt's network {used.holder} has {used.subnet}"
    if used.kind == "address":
        return f"{used.subnet} is an address of the host's own ({used.holder})"
    return f"the host has a route to {used.subnet} ({used.holder})"


def _cure(
    name: str,
    used_subnets: Sequence[UsedSubnet],
    facts: HostFacts,
    observed: Observed,
    ours: tuple[str, str],
) -> str:
    """What frees a subnet.

    Args:
        name: the key of the spec that has it.
        ours: the environment, and the spec's path.
    """
    free = f"give it another `{name}:`"
    if name == "cidr":
        free += ", or leave it out and get one that is free"
    others = dict.fromkeys(each.holder for each in used_subnets if each.kind == "network")
    if not others:
        family = "-6 " if name == "ipv6" else ""
        place = "" if facts.name == LOCAL else f", on host {facts.name}"
        return f"{free}; see who has it{place}: ip {family}route show table all"
    records = {n: observed.networks[n].record for n in others if n in observed.networks}
    if not {*others} - {*records}:
        owners = [(each.environment, each.spec) for each in records.values()]
        if all(each == ours for each in owners):
            return f"{free}; or take down what has it first: {virtkit_command('down', ours[1])}"
        owner_texts = dict.fromkeys(f"{owner} (made from {path})" for owner, path in owners)
        return f"{free}; or have environment {', '.join(owner_texts)} taken down"
    stops = (f"{virsh(facts)} net-destroy {shlex.quote(each)}" for each in others)
    return f"{free}; or stop the other network: {' && '.join(stops)}"


# --- what guests are plugged into -----------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """What a network interface is plugged into. ``network``: the spec's name for it; empty where
    it is in raw XML."""

    kind: str
    name: str
    network: str = ""

    @property
    def key(self) -> str:
        """The key of the spec's network, or the attribute in raw XML, that names it."""
        keys = {"bridge": "bridge", "direct": "device"}
        return keys.get(self.kind) or ("existing" if self.network else "network")

    @property
    def description(self) -> str:
        """How a message names it."""
        return f"`{self.key}:`" if self.network else f"<source {self.key}='…'>"


def _missing_sources(
    guest: Guest, template: str, desired: Desired, facts: HostFacts
) -> Iterator[RequestError]:
    own_networks = {each.libvirt_name for each in desired.networks}
    for each in dict.fromkeys(_all_sources(guest, template)):
        where = desired.positions.get((each.network, each.key)) or guest.where(
            "devices", "template"
        )
        if each.kind == "bridge":
            yield from _bridge(each, guest, where, facts)
        elif each.kind == "direct":
            yield from _network_card(each, guest, where, facts)
        elif each.name not in own_networks:
            yield from _existing(each, guest, where, facts)


def _all_sources(guest: Guest, template: str) -> Iterator[_Source]:
    """What a guest's network interfaces are plugged into, those in raw XML too."""
    names: dict[tuple[str, str], str] = {
        (each.kind, each.source): each.network for each in guest.interfaces
    }
    if not template:
        yield from (_Source(*each, network) for each, network in names.items())
    for xml in (template, *guest.spec.devices):
        devices = raw_xml.elements(xml)
        for interface in (each for device in devices for each in device.iter("interface")):
            kind, source = interface.get("type", ""), interface.find("source")
            name = "" if source is None else source.get(kind, "")
            if kind in ("bridge", "network") and name:
                yield _Source(kind, name, names.get((kind, name), ""))


def _bridge(source: _Source, guest: Guest, where: str, facts: HostFacts) -> Iterator[RequestError]:
    name, kinds = source.name, facts.device_kinds
    if kinds is None or kinds.get(name) in _BRIDGES:
        return
    bridges = [each for each, kind in kinds.items() if kind in _BRIDGES]
    new = "br0" if name in kinds else name
    ways = [f"correct {source.description} ({suggestion(name, bridges)})"] if bridges else []
    if new not in kinds:
        quoted = shlex.quote(new)
        ways.append(
            f"make one on the host, as root: ip link add {quoted} type bridge && "
            f"ip link set {quoted} up "
            "(in /etc/network/interfaces with `bridge_ports` for good, and for the host's own "
            "network)"
        )
    yield RequestError(
        f"{_named(source, guest)}: "
        + (f"{name} is no bridge" if name in kinds else f"there is no bridge {name}")
        + f" on host {guest.host}",
        why=f"it is a {kinds[name] or 'physical interface'}, and guests connect to bridges"
        if name in kinds
        else "",
        cure="; or ".join(
            [*ways, "use `mode: nat`" if source.network else "remove this interface"]
        ),
        where=where,
    )


def _network_card(
    source: _Source, guest: Guest, where: str, facts: HostFacts
) -> Iterator[RequestError]:
    """The host's card of a network of mode macvtap."""
    name, kinds = source.name, facts.device_kinds
    if kinds is None or (name in kinds and name != "lo"):
        return
    cards = [each for each, kind in kinds.items() if not kind and each != "lo"]
    yield RequestError(
        f"{_named(source, guest)}: there is no network card {name} on host {guest.host}",
        why="the loopback device is on no network" if name in kinds else "",
        cure=f"correct {source.description} ({suggestion(name, cards)})"
        if cards
        else "use `mode: nat`",
        where=where,
    )


def _existing(
    source: _Source, guest: Guest, where: str, facts: HostFacts
) -> Iterator[RequestError]:
    name, active = source.name, facts.networks.get(source.name)
    if active:
        return
    if active is None:
        correction = (
            f"correct {source.description} ({suggestion(name, facts.networks)})"
            if facts.networks
            else ""
        )
        removal = f"remove {source.description}: virtkit then makes its own network"
        ways = [correction, removal if source.network else "remove this interface from the raw XML"]
        yield RequestError(
            f"{_named(source, guest)}: libvirt has no network {name} on host {guest.host}",
            cure="; or ".join(filter(None, ways)),
            where=where,
        )
    else:
        call, quoted = virsh(facts), shlex.quote(name)
        yield RequestError(
            f"{_named(source, guest)}: libvirt's network {name} is not active on host {guest.host}",
            why="virtkit never changes a network that was there already, nor starts it",
            cure=f"{call} net-start {quoted} && {call} net-autostart {quoted}",
            where=where,
        )


def _named(source: _Source, guest: Guest) -> str:
    return f"network {source.network}" if source.network else f"guest {guest.name}"


def virsh(facts: HostFacts | None, scheme: str = "") -> str:
    """How a cure calls virsh.

    Args:
        scheme: of the driver that is to be asked; left out, any that answers.
    """
    connections = facts.connections if facts else {}
    uris = [connections[scheme].uri] if scheme in connections else []
    uris += [each.uri for each in connections.values() if not each.error]
    uris.append(f"{scheme or 'qemu'}:///system")
    return f"virsh -c {shlex.quote(uris[0])}"
