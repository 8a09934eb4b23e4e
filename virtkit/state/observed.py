"""What is in libvirt, as data: what virtkit owns, with its records, and who owns the rest.

host/observe.py fills it, plan/ reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from virtkit._dataclass import dataclass
from virtkit.errors import VirtkitError
from virtkit.state.record import GuestRecord, NetworkRecord, PoolRecord

GuestState = Literal["running", "paused", "stopped"]


def unseen_guests(scheme: str) -> str:
    """What guests of a driver that does not answer are called among a network's users."""
    return f"unseen guests of libvirt's {scheme} driver"


@dataclass(frozen=True)
class ObservedGuest:
    """A domain with our record. ``scheme`` is the URI scheme of the driver that has it.

    Attributes:
        inactive: libvirt's XML of the next boot; ``live`` that of the running guest, else empty.
        superseded: types of which the guest still has a domain from before its type changed.
        persistent: False where somebody undefined it while it runs: its end is the domain's.
        record_missing: somebody's definition for the next boot left its record out; the running
            guest has it.
        undefined: it has no domain; ``record`` is what the pool's own says.
    """

    record: GuestRecord
    domain: str
    uuid: str
    scheme: str
    state: GuestState
    autostart: bool = False
    inactive: str = ""
    live: str = ""
    superseded: tuple[str, ...] = ()
    persistent: bool = True
    record_missing: bool = False
    undefined: bool = False


@dataclass(frozen=True)
class ObservedNetwork:
    """A network with our record.

    Attributes:
        users: names of all domains that use it, ours or not, running or defined; and
            `unseen_guests` of each driver that may have more.
        inactive: libvirt's XML of its definition; ``live`` as it is active, else empty.
    """

    record: NetworkRecord
    name: str
    uuid: str
    active: bool
    autostart: bool
    users: tuple[str, ...] = ()
    inactive: str = ""
    live: str = ""


@dataclass(frozen=True)
class Observed:
    """What one host has. Of strangers' objects the names are known, to stay away from them.

    Attributes:
        guests, networks: what carries our record, by libvirt name.
        foreign_domains: all domains without our record: the URI scheme of the driver, and the name.
        foreign_networks: the names of all networks without our record.
        volumes: the names of all volumes in the pool; empty where it is not active.
        pool_active: whether the pool is, so that ``volumes`` is known.
        disk_sizes: bytes of our guests' disks that are made, by the volume's name.
        undefined: guests that the pool's record lists and that have no domain, by the domain's
            name.
        taken_over: those of them that are left alone: a stranger's domain has their name or
            volumes. By the domain's name, the stranger's.
        hidden: guests that the pool's record lists, and whose driver does not answer, by the
            domain's name: nobody knows whether they have a domain.
        silent: why drivers that the host has do not answer, by their schemes: guests of theirs may
            be there that nobody sees.
        absent: the same of drivers that it seems not to have: there is none, or nothing listens.
    """

    host: str
    guests: Mapping[str, ObservedGuest] = field(default_factory=dict)
    networks: Mapping[str, ObservedNetwork] = field(default_factory=dict)
    foreign_domains: frozenset[tuple[str, str]] = frozenset()
    foreign_networks: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()
    pool_active: bool = True
    disk_sizes: Mapping[str, int] = field(default_factory=dict)
    pool: PoolRecord = field(default_factory=PoolRecord)
    undefined: Mapping[str, ObservedGuest] = field(default_factory=dict)
    taken_over: Mapping[str, str] = field(default_factory=dict)
    hidden: Mapping[str, GuestRecord] = field(default_factory=dict)
    silent: Mapping[str, VirtkitError] = field(default_factory=dict)
    absent: Mapping[str, VirtkitError] = field(default_factory=dict)

    def hidden_of(self, environment: str) -> list[GuestRecord]:
        """The environment's guests of which nobody knows whether they have a domain."""
        return [each for each in self.hidden.values() if each.environment == environment]

    def undefined_of(self, environment: str) -> dict[str, ObservedGuest]:
        """The environment's guests without a domain, by the guest's name in the spec."""
        return {
            each.record.guest: each
            for each in self.undefined.values()
            if each.record.environment == environment
        }

    def records(self) -> list[GuestRecord]:
        """The records of all guests here: with a domain, or listed by the pool's record."""
        by_domain = {domain: each.record for domain, each in self.guests.items()}
        return list({**self.pool.guests, **by_domain}.values())

    def guests_of(self, environment: str) -> dict[str, ObservedGuest]:
        """The environment's guests, by the guest's name in the spec."""
        return {
            each.record.guest: each
            for each in self.guests.values()
            if each.record.environment == environment
        }

    def networks_of(self, environment: str) -> dict[str, ObservedNetwork]:
        """The environment's networks, by the network's name in the spec."""
        return {
            each.record.network: each
            for each in self.networks.values()
            if each.record.environment == environment
        }
