"""A network that libvirt should have, and the places of guests in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from virtkit._dataclass import dataclass
from virtkit.state import addresses


@dataclass(frozen=True)
class Reservation:
    """A guest's place in a network that virtkit made. ``ip6`` and ``dhcp`` as the network has."""

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
    if not reservation.dhcp:
        yield DnsHost(reservation.ip, names)
    if reservation.ip6:
        yield DnsHost(reservation.ip6, names)


@dataclass(frozen=True)
class Network:
    """A libvirt network that virtkit makes: mode nat, isolated or routed."""

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

    @property
    def libvirt_name(self) -> str:
        return f"{self.environment}-{self.name}"

    @property
    def uuid(self) -> str:
        return addresses.derived_uuid(self.environment, "network", self.name)

    @property
    def gateway(self) -> str:
        return str(IPv4Network(self.cidr)[1])

    @property
    def prefix(self) -> int:
        return IPv4Network(self.cidr).prefixlen

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
        """The DNS entries of all guests that no DHCP lease brings."""
        return tuple(host for each in self.reservations for host in host_names(each, self.domain))
