"""Reads a host: its facts and all that stands in its libvirt, each document once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Literal

import libvirt
from lxml import etree

from virtkit import record, render
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.facts import Claim, Connection, HostFacts, Pool
from virtkit.host import prepared, uml, ways
from virtkit.host.connection import Connections
from virtkit.host.domains import state_of
from virtkit.host.errors import NoDriver, told
from virtkit.host.networks import inactive
from virtkit.observed import ObservedGuest, ObservedNetwork


def connection(connections: Connections, scheme: str) -> Connection:
    """What one libvirt driver says of itself, or why it doesn't answer."""
    uri = connections.shown(scheme)
    try:
        opened = connections.get(scheme)
        with told("read", uri, where=connections.host):
            root = render.parse(opened.getCapabilities(), "capabilities")
            types = {each.get("type", "") for each in root.iterfind("./guest/arch/domain")}
            machines = {each.text or "" for each in root.iterfind("./guest/arch/machine")}
            return Connection(
                uri,
                libvirt=opened.getLibVersion(),
                hypervisor=opened.getVersion(),
                domain_types=frozenset(types),
                machines=frozenset(machines),
                host=root.findtext("./host/uuid", ""),
            )
    except VirtkitError as error:
        lacking = isinstance(error, NoDriver) or isinstance(error.__cause__, NoDriver)
        cure = "" if lacking else error.cure
        why, restart = error.why or error.what, connections.restart(scheme)
        return Connection(uri, why, cure=cure, restart=restart)


def facts(connections: Connections, schemes: Iterable[str], pool: Pool) -> HostFacts:
    """What is known of a host before planning, but for the KVM probe."""
    answers = {scheme: connection(connections, scheme) for scheme in schemes}
    arch, cpus = "x86_64", 0
    nets: list[_Net] = []
    found = ways.Ways()
    if any(not each.error for each in answers.values()):
        with told("read", "the host", where=connections.host):
            info = connections.any().getInfo()
            arch, cpus = str(info[0]), int(info[2])
            nets = list(_nets(connections))
            found = ways.look(connections.remote)
    host = next((each.host for each in answers.values() if each.host), "")
    return HostFacts(
        name=connections.host,
        pool=pool,
        connections=answers,
        arch=arch,
        cpus=cpus,
        claims=tuple(dict.fromkeys(_claims(nets, found.claims))),
        networks={each.name: each.active for each in nets},
        links=found.links,
        identity="/".join(each for each in (host, found.machine) if each),
        unprepared=None if connections.remote else prepared.unprepared(),
        missing=frozenset(() if connections.remote else _missing()),
        unfit={} if connections.remote else uml.unfit(),
        ids=frozenset() if connections.remote else frozenset(prepared.subordinate_ids()),
    )


def _missing() -> Iterable[str]:
    """The programs of guest types that this machine hasn't got."""
    programs = (each for driver in DRIVERS.values() for each in driver.programs)
    return (each for each in programs if not Path(each).is_file())


@dataclass(frozen=True)
class _Net:
    """A libvirt network: its name, its bridge on the host, and its subnets."""

    name: str
    bridge: str
    active: bool
    subnets: tuple[str, ...]


def _nets(connections: Connections) -> Iterator[_Net]:
    for network in connections.any().listAllNetworks():
        with _unless_gone():
            root = render.parse(network.XMLDesc(0), "a network")
            bridge = root.find("bridge")
            name = "" if bridge is None else bridge.get("name", "")
            subnets = tuple(each for ip in root.iterfind("ip") for each in _subnet(ip))
            yield _Net(network.name(), name, bool(network.isActive()), subnets)


def _subnet(ip: etree._Element) -> Iterator[str]:
    """The network of an ``<ip>``; libvirt fills in what it was not told."""
    address, usual = ip.get("address"), "64" if ip.get("family") == "ipv6" else "24"
    if address:
        suffix = ip.get("prefix") or ip.get("netmask") or usual
        yield str(ip_interface(f"{address}/{suffix}").network)


def _claims(nets: Iterable[_Net], routes: Iterable[Claim]) -> Iterator[Claim]:
    """Who has which subnet: what leads to a libvirt network's bridge is that network's."""
    bridges: dict[str, str] = {}
    for net in nets:
        if net.active and net.bridge:
            bridges[net.bridge] = net.name
        kind: Literal["network", "inactive"] = "network" if net.active else "inactive"
        yield from (Claim(each, net.name, kind) for each in net.subnets)
    for each in routes:
        name = bridges.get(each.holder)
        yield Claim(each.subnet, name, "network") if name else each


@contextmanager
def _unless_gone() -> Iterator[None]:
    """Passes over a network that somebody removed since it was listed."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
            raise


def guests(
    connections: Connections, schemes: Iterable[str]
) -> tuple[dict[str, ObservedGuest], frozenset[tuple[str, str]], dict[str, set[str]]]:
    """Our guests by domain name, strangers' (scheme, name), and who uses a network."""
    ours: dict[str, ObservedGuest] = {}
    strangers: set[tuple[str, str]] = set()
    users: dict[str, set[str]] = {}
    for scheme in schemes:
        try:
            opened = connections.get(scheme)
        except VirtkitError:
            continue
        with told("read", f"the domains of {scheme}", where=connections.host):
            for domain in opened.listAllDomains():
                found = _guest(domain, scheme, users)
                if found is None:
                    strangers.add((scheme, domain.name()))
                else:
                    ours[found.domain] = _newer(found, ours.get(found.domain))
    return ours, frozenset(strangers), users


def _newer(one: ObservedGuest, other: ObservedGuest | None) -> ObservedGuest:
    """The guest of two domains with its record: a change of type was interrupted, and the
    unfinished one is what it is to be."""
    if other is None:
        return one
    new, old = (other, one) if one.record.finished else (one, other)
    return replace(new, superseded=(old.record.type,))


def _guest(
    domain: libvirt.virDomain, scheme: str, users: dict[str, set[str]]
) -> ObservedGuest | None:
    try:
        inactive = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        state = state_of(domain)
        live = domain.XMLDesc(0) if state != "stopped" else ""
        root = render.parse(inactive, "a domain")
        for tree in [root, render.parse(live, "a domain")] if live else [root]:
            for source in tree.iterfind("./devices/interface/source[@network]"):
                users.setdefault(source.get("network", ""), set()).add(domain.name())
        found = record.read_guest(root)
        # a copy of ours is no guest of ours, nor is one that another hypervisor has
        if found is None or found.domain != domain.name() or _scheme(found) != scheme:
            return None
        return ObservedGuest(
            record=found,
            domain=domain.name(),
            uuid=domain.UUIDString(),
            scheme=scheme,
            state=state,
            autostart=bool(domain.autostart()),
            inactive=inactive,
            live=live,
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:  # gone since it was listed
            return None
        raise


def _scheme(found: record.GuestRecord) -> str:
    return DRIVERS[found.type].scheme


def networks(
    connections: Connections, users: dict[str, set[str]]
) -> tuple[dict[str, ObservedNetwork], frozenset[str]]:
    """Our networks by libvirt name, and the names of strangers'."""
    ours: dict[str, ObservedNetwork] = {}
    strangers: set[str] = set()
    with told("read", "the networks", where=connections.host):
        for network in connections.any().listAllNetworks():
            with _unless_gone():
                name = network.name()
                definition = inactive(network)
                found = record.read_network(definition)
                if found is None or f"{found.environment}-{found.network}" != name:
                    strangers.add(name)
                    continue
                active = bool(network.isActive())
                ours[name] = ObservedNetwork(
                    record=found,
                    name=name,
                    uuid=network.UUIDString(),
                    active=active,
                    autostart=bool(network.autostart()),
                    users=tuple(sorted(users.get(name, ()))),
                    inactive=render.written(definition),
                    live=network.XMLDesc(0) if active else "",
                )
    return ours, frozenset(strangers)
