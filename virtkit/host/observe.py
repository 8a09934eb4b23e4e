"""Reads a host: its facts and all that stands in its libvirt, each document once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from ipaddress import ip_interface
from pathlib import PurePosixPath
from typing import Literal

import libvirt
from lxml import etree

from virtkit._dataclass import dataclass
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.facts import DriverFacts, HostFacts, NoUserns, Pool, UsedSubnet
from virtkit.host import file_users
from virtkit.host.connection import Connections
from virtkit.host.domains import state_of
from virtkit.host.errors import NoDriver, libvirt_errors, skip_unreadable
from virtkit.host.machine import userns
from virtkit.host.networks import inactive
from virtkit.host.storage import Storage
from virtkit.state import record_text
from virtkit.state.observed import Observed, ObservedGuest, ObservedNetwork, unseen_guests
from virtkit.state.record import GuestRecord, PoolRecord, VolumeRecord, VolumeState
from virtkit.xml import tree

#: What a plan asks of the host's own files.
_QUESTIONS = (
    "ids",
    "missing_files=" + ",".join(path for driver in DRIVERS.values() for path in driver.programs),
    "network",
    "restart_commands",
    "unfit",
    "no_userns",
    "without_dnsmasq",
)


def driver_facts(connections: Connections, scheme: str) -> DriverFacts:
    """What one libvirt driver says of itself, or why it doesn't answer."""
    uri = connections.display_uri(scheme)
    try:
        opened = connections.get(scheme)
        with libvirt_errors("read", uri, where=connections.host):
            root = tree.parse(opened.getCapabilities(), "capabilities")
            types = {each.get("type", "") for each in root.iterfind("./guest/arch/domain")}
            machines = {each.text or "" for each in root.iterfind("./guest/arch/machine")}
            return DriverFacts(
                uri,
                libvirt_version=opened.getLibVersion(),
                hypervisor=opened.getVersion(),
                domain_types=frozenset(types),
                machines=frozenset(machines),
                host_uuid=root.findtext("./host/uuid", ""),
            )
    except VirtkitError as error:
        no_driver = isinstance(error, NoDriver) or isinstance(error.__cause__, NoDriver)
        cure = "" if no_driver else error.cure
        why, restart = error.why or error.what, connections.restart_command(scheme)
        return DriverFacts(uri, why, cure=cure, restart=restart)


def facts(connections: Connections, schemes: Iterable[str], pool: Pool) -> HostFacts:
    """What is known of a host before planning, but for the KVM probe."""
    from virtkit.host import questions, routes  # for plans only

    machine = questions.ask(connections.remote, *_QUESTIONS)
    connections.restart_commands = machine["restart_commands"]
    network = routes.parse(machine["network"])
    by_scheme = {scheme: driver_facts(connections, scheme) for scheme in schemes}
    arch, cpus = "x86_64", 0
    libvirt_networks: list[_LibvirtNetwork] = []
    if any(not each.error for each in by_scheme.values()):
        with libvirt_errors("read", "the host", where=connections.host):
            info = connections.any().getInfo()
            arch, cpus = str(info[0]), int(info[2])
            libvirt_networks = list(_libvirt_networks(connections))
    host = next((each.host_uuid for each in by_scheme.values() if each.host_uuid), "")
    return HostFacts(
        name=connections.host,
        pool=pool,
        connections=by_scheme,
        arch=arch,
        cpus=cpus,
        used_subnets=tuple(dict.fromkeys(_used_subnets(libvirt_networks, network.used_subnets))),
        networks={each.name: each.active for each in libvirt_networks},
        portgroups={each.name: each.portgroups for each in libvirt_networks},
        vlan_networks=frozenset(each.name for each in libvirt_networks if each.has_vlans),
        device_kinds=network.device_kinds,
        identity="/".join(each for each in (host, network.machine_id) if each),
        no_userns=_no_userns(connections, machine["no_userns"]),
        missing_programs=frozenset(machine["missing_files"]),
        unfit_programs=machine["unfit"],
        subordinate_ids=frozenset(range(first, first + count) for first, count in machine["ids"]),
        networks_without_dnsmasq=frozenset(machine["without_dnsmasq"]),
    )


def _no_userns(connections: Connections, answer: Sequence[str] | None) -> NoUserns | None:
    """Why containers of a host can't have their own ids, with the command that fixes it."""
    if answer is None:
        return None
    why, what = answer
    if what == "kernel":
        cure = f"use kernel {'.'.join(map(str, userns.KERNEL))} or later"
    else:
        prepare, restart = connections.prepare_command, connections.restart_command("lxc")
        cure = prepare if what == "prepare" else restart
    return NoUserns(why, cure)


@dataclass(frozen=True)
class _LibvirtNetwork:
    """A libvirt network: its name, its bridge on the host, its subnets and portgroups, and whether
    its interfaces can be in VLANs."""

    name: str
    bridge: str
    active: bool
    subnets: tuple[str, ...]
    portgroups: frozenset[str]
    has_vlans: bool


def _libvirt_networks(connections: Connections) -> Iterator[_LibvirtNetwork]:
    for network in connections.any().listAllNetworks():
        with skip_unreadable():
            root = tree.parse(network.XMLDesc(0), "a network")
            bridge = root.find("bridge")
            name = "" if bridge is None else bridge.get("name", "")
            subnets = tuple(each for ip in root.iterfind("ip") for each in _subnet(ip))
            groups = frozenset(each.get("name", "") for each in root.iterfind("portgroup"))
            switch = root.find("virtualport[@type='openvswitch']") is not None
            has_vlans = switch or root.find("forward[@mode='hostdev']") is not None
            active = bool(network.isActive())
            yield _LibvirtNetwork(network.name(), name, active, subnets, groups, has_vlans)


def _subnet(ip: etree._Element) -> Iterator[str]:
    """The network of an ``<ip>``; libvirt fills in what it was not told."""
    address, usual = ip.get("address"), "64" if ip.get("family") == "ipv6" else "24"
    if address:
        suffix = ip.get("prefix") or ip.get("netmask") or usual
        yield str(ip_interface(f"{address}/{suffix}").network)


def _used_subnets(
    libvirt_networks: Iterable[_LibvirtNetwork], routes: Iterable[UsedSubnet]
) -> Iterator[UsedSubnet]:
    """Who has which subnet: what leads to a libvirt network's bridge is that network's."""
    bridges: dict[str, str] = {}
    for network in libvirt_networks:
        if network.active and network.bridge:
            bridges[network.bridge] = network.name
        kind: Literal["network", "inactive"] = "network" if network.active else "inactive"
        yield from (UsedSubnet(each, network.name, kind) for each in network.subnets)
    for each in routes:
        name = bridges.get(each.holder)
        yield UsedSubnet(each.subnet, name, "network") if name else each


def observed(
    connections: Connections, schemes: Iterable[str], storage: Storage, *, pool: bool
) -> Observed:
    """All that stands in a host's libvirt.

    Args:
        pool: read the pool, too.
    """
    seen = domains(connections, schemes)
    record = storage.record() if pool else PoolRecord()
    hidden = hidden_guests(seen, record.guests)
    users = network_users(seen, hidden)
    own_networks, foreign_networks = networks(connections, users, seen.silent)
    volumes = storage.names() if pool else frozenset()
    listed = {name: each for name, each in record.guests.items() if name not in hidden}
    undefined, taken_over = undefined_guests(seen, listed, volumes)
    disks = made_disks([*seen.ours.values(), *undefined.values()])
    return Observed(
        host=connections.host,
        guests=seen.ours,
        networks=own_networks,
        foreign_domains=frozenset(seen.foreign),
        foreign_networks=foreign_networks,
        volumes=volumes,
        pool_active=pool and storage.active(),
        disk_sizes=storage.sizes(disks) if pool else {},
        pool=record,
        undefined=undefined,
        taken_over=taken_over,
        hidden=hidden,
        silent=seen.silent,
        absent=seen.absent,
    )


@dataclass
class ObservedDomains:
    """The domains of a host.

    Attributes:
        silent: why drivers that the host has do not answer, by their schemes.
        absent: why the others don't, which it seems not to have.
        ours: our guests by domain name.
        foreign: the others: the scheme of their driver, and the name.
        network_users: who uses a network, by its name.
        file_users: the last parts of paths and the volumes in strangers' XML, and whose.
    """

    silent: dict[str, VirtkitError] = field(default_factory=dict)
    absent: dict[str, VirtkitError] = field(default_factory=dict)
    ours: dict[str, ObservedGuest] = field(default_factory=dict)
    foreign: set[tuple[str, str]] = field(default_factory=set)
    network_users: dict[str, set[str]] = field(default_factory=dict)
    file_users: dict[str, str] = field(default_factory=dict)


def domains(connections: Connections, schemes: Iterable[str]) -> ObservedDomains:
    """All domains, ours and strangers'; one that can't be read is a stranger's."""
    answer = ObservedDomains()
    for scheme in schemes:
        try:
            opened = connections.get(scheme)
        except VirtkitError as error:
            unanswered = answer.silent if connections.is_silent(scheme, error) else answer.absent
            unanswered[scheme] = error
            continue
        with libvirt_errors("read", f"the domains of {scheme}", where=connections.host):
            for domain in opened.listAllDomains():
                guest: ObservedGuest | None = None
                with skip_unreadable():
                    guest = _guest(domain, scheme, answer)
                if guest is None:
                    answer.foreign.add((scheme, domain.name()))
                else:
                    answer.ours[guest.domain] = _superseding(guest, answer.ours.get(guest.domain))
    return answer


def _superseding(guest: ObservedGuest, other: ObservedGuest | None) -> ObservedGuest:
    """The guest of two domains with its record: a change of type was interrupted, and the
    unfinished one is what it is to be."""
    if other is None:
        return guest
    new, old = (other, guest) if guest.record.finished else (guest, other)
    return replace(new, superseded=(old.record.type,))


def _guest(
    domain: libvirt.virDomain, scheme: str, domains: ObservedDomains
) -> ObservedGuest | None:
    inactive = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    state = state_of(domain)
    live = domain.XMLDesc(0) if state != "stopped" else ""
    trees = [tree.parse(each, "a domain") for each in (inactive, live) if each]
    for root in trees:
        for source in root.iterfind("./devices/interface/source[@network]"):
            domains.network_users.setdefault(source.get("network", ""), set()).add(domain.name())
    records = [record_text.read_guest(each) for each in trees]
    record = next(filter(None, records), None)
    # a copy of ours is no guest of ours, nor is one that another hypervisor has
    if record is None or record.domain != domain.name() or _scheme(record) != scheme:
        for name in (each for root in trees for each in file_users.paths_in(root)):
            domains.file_users[PurePosixPath(name).name] = domain.name()
        return None
    return ObservedGuest(
        record=record,
        domain=domain.name(),
        uuid=domain.UUIDString(),
        scheme=scheme,
        state=state,
        autostart=bool(domain.autostart()),
        inactive=inactive,
        live=live,
        persistent=bool(domain.isPersistent()),
        record_missing=records[0] is None,
    )


def hidden_guests(
    domains: ObservedDomains, recorded: Mapping[str, GuestRecord]
) -> dict[str, GuestRecord]:
    """The guests that the pool's record lists, of drivers that do not answer: nobody knows whether
    these have their domains. By the domain's name."""
    unanswered = {*domains.silent, *domains.absent}
    return {
        domain: record
        for domain, record in recorded.items()
        if domain not in domains.ours and _scheme(record) in unanswered
    }


def undefined_guests(
    domains: ObservedDomains, recorded: Mapping[str, GuestRecord], volumes: Collection[str]
) -> tuple[dict[str, ObservedGuest], dict[str, str]]:
    """The guests that are listed and have no domain; and the strangers' domains for which some of
    them are left alone.

    Args:
        recorded: the guests in the pool's record whose drivers answer.
        volumes: the names of the volumes that there are.
    """
    answer: dict[str, ObservedGuest] = {}
    taken_over: dict[str, str] = {}
    foreign = {name for _, name in domains.foreign}
    for domain, record in recorded.items():
        if domain in domains.ours:
            continue
        users = (domains.file_users.get(each.name) for each in record.volumes)
        foreign_domain = domain if domain in foreign else next(filter(None, users), None)
        if foreign_domain is not None:
            taken_over[domain] = foreign_domain
            continue
        answer[domain] = ObservedGuest(
            record=_as_it_stands(record, volumes),
            domain=domain,
            uuid="",
            scheme=_scheme(record),
            state="stopped",
            autostart=bool(record.requested.get("autostart")),
            undefined=True,
        )
    return answer, taken_over


def made_disks(guests: Iterable[ObservedGuest]) -> Iterator[str]:
    """The names of the volumes that are guests' disks and were made."""
    for guest in guests:
        for each in guest.record.volumes:
            if each.state == "made" and each.role in ("root", "disk"):
                yield each.name


def _as_it_stands(record: GuestRecord, volumes: Collection[str]) -> GuestRecord:
    """A guest of the pool's record, with its volumes as they are: an interrupted run may have left
    them otherwise. What may hold data is made, whatever was last written of it."""
    root = any(each.role == "root" and each.name in volumes for each in record.volumes)

    def state(each: VolumeRecord) -> VolumeState:
        if each.name in volumes:
            data = each.role == "root" or (each.role == "disk" and each.state == "wanted")
            return "made" if data else each.state
        # the plan names a disk that a living guest has lost, and asks for consent
        return each.state if root and each.role == "disk" else "wanted"

    return replace(record, volumes=tuple(replace(e, state=state(e)) for e in record.volumes))


def _scheme(record: GuestRecord) -> str:
    return DRIVERS[record.type].scheme


def network_users(
    domains: ObservedDomains, hidden: Mapping[str, GuestRecord]
) -> dict[str, set[str]]:
    """Who uses a network, by its name: the domains that are seen, and those that only the pool's
    record tells of."""
    users = {name: {*each} for name, each in domains.network_users.items()}
    for domain, record in hidden.items():
        for each in record.interfaces:
            users.setdefault(each.source, set()).add(domain)
    return users


def networks(
    connections: Connections, users: Mapping[str, set[str]], silent: Iterable[str]
) -> tuple[dict[str, ObservedNetwork], frozenset[str]]:
    """Our networks by libvirt name, and the names of strangers'.

    Args:
        users: those that are known, by the network's name.
        silent: schemes of drivers that may have others.
    """
    unseen = {unseen_guests(each) for each in silent}
    ours: dict[str, ObservedNetwork] = {}
    foreign: set[str] = set()
    with libvirt_errors("read", "the networks", where=connections.host):
        for network in connections.any().listAllNetworks():
            name = network.name()
            foreign.add(name)
            with skip_unreadable():
                definition = inactive(network)
                record = record_text.read_network(definition)
                if record is None or f"{record.environment}-{record.network}" != name:
                    continue
                active = bool(network.isActive())
                ours[name] = ObservedNetwork(
                    record=record,
                    name=name,
                    uuid=network.UUIDString(),
                    active=active,
                    autostart=bool(network.autostart()),
                    users=tuple(sorted({*users.get(name, ()), *unseen})),
                    inactive=tree.to_text(definition),
                    live=network.XMLDesc(0) if active else "",
                )
                foreign.remove(name)
    return ours, frozenset(foreign)
