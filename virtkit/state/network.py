"""A network that libvirt should have, and the places of guests in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from virtkit._dataclass import dataclass
from virtkit.state import addresses


@dataclass(frozen=True)
class Reservation:
    """A guest's place in a network that virtkit made. ``ip6`` and ``dhcp`` as the network has;
    ``ip`` is empty where it has no IPv4."""

    mac: str
    ip: str
    name: str
    ip6: str = ""
    dhcp: bool = True


@dataclass(frozen=True)
class DnsHost:
    """One ``<host>`` of a network's ``<dns>``."""

    ip: str
    names: tuple[str, ...]


def host_names(reservation: Reservation, domain: str) -> Iterable[DnsHost]:
    """The DNS entries that a guest needs: for static and IPv6 addresses; leases bring their own."""
    names = (reservation.name, f"{reservation.name}.{domain}") if domain else (reservation.name,)
    if reservation.ip and not reservation.dhcp:
        yield DnsHost(reservation.ip, names)
    if reservation.ip6:
        yield DnsHost(reservation.ip6, names)


def merged_names(hosts: Iterable[DnsHost]) -> tuple[DnsHost, ...]:
    """The same entries with one for each address: libvirt takes no second one."""
    names: dict[str, dict[str, None]] = {}
    for each in hosts:
        names.setdefault(each.ip, {}).update(dict.fromkeys(each.names))
    return tuple(DnsHost(ip, tuple(each)) for ip, each in names.items())


@dataclass(frozen=True)
class Network:
    """A libvirt network that virtkit makes: mode nat, isolated or routed.

    Attributes:
        cidr: its IPv4 subnet; empty for none.
        more_names: names that its DNS answers beside the guests', with their addresses.
        forwarders: domains, and the name server that each is asked of.
        tftp: the folder that it serves by TFTP, absolute; empty for none.
        bootfile: the file there that DHCP names.
        mtu: bytes of its largest packet; None for what the host has by default.
    """

    environment: str
    name: str
    host: str
    mode: str
    cidr: str
    ipv6: str
    domain: str
    dhcp: tuple[str, str] | None
    reservations: tuple[Reservation, ...]
    requested: Mapping[str, Any]
    more_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    forwarders: Mapping[str, str] = field(default_factory=dict)
    mtu: int | None = None
    tftp: str = ""
    bootfile: str = ""

    @property
    def libvirt_name(self) -> str:
        return f"{self.environment}-{self.name}"

    @property
    def uuid(self) -> str:
        return addresses.derived_uuid(self.environment, "network", self.name)

    @property
    def gateway(self) -> str:
        return str(IPv4Network(self.cidr)[1]) if self.cidr else ""

    @property
    def prefix(self) -> int:
        return IPv4Network(self.cidr).prefixlen if self.cidr else 0

    @property
    def gateway6(self) -> str:
        return str(IPv6Network(self.ipv6)[1]) if self.ipv6 else ""

    @property
    def prefix6(self) -> int:
        return IPv6Network(self.ipv6).prefixlen if self.ipv6 else 0

    @property
    def forward(self) -> str:
        """libvirt's forward mode; empty for an isolated network."""
        return {"nat": "nat", "routed": "route", "isolated": ""}[self.mode]

    @property
    def leased(self) -> tuple[Reservation, ...]:
        """The reservations that dnsmasq's DHCP hands out."""
        return tuple(each for each in self.reservations if each.dhcp)

    @property
    def names(self) -> tuple[DnsHost, ...]:
        """The DNS entries that no DHCP lease brings: of guests, and those of the spec."""
        guests = [host for each in self.reservations for host in host_names(each, self.domain)]
        own = [host for each in self.more_names for host in self._own_name(each)]
        return merged_names([*guests, *own])

    def _own_name(self, name: str) -> Iterable[DnsHost]:
        """A name of the spec's, for each of its addresses; one without a dot is known in the
        network's domain, too."""
        in_domain = [f"{name}.{self.domain}"] if self.domain and "." not in name else []
        return [DnsHost(ip, (name, *in_domain)) for ip in self.more_names[name]]
