"""What a run knows of a host before it plans: plain data, read once by host/observe.py.

It must never ask anything itself: planning from the same facts gives the same plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from virtkit._dataclass import dataclass


def version_text(version: int) -> str:
    """A version of libvirt's, 9000000, as people write it: 9.0.0."""
    return ".".join(str(version // 1000**power % 1000) for power in (2, 1, 0))


@dataclass(frozen=True)
class DriverFacts:
    """One libvirt driver of a host, as it answered or why it did not.

    Attributes:
        uri: the URI that was opened.
        error: libvirt's message where opening failed, else empty.
        libvirt_version: libvirt's version, as 9000000 for 9.0.0.
        hypervisor: the hypervisor's version in the same form.
        domain_types: the ``<domain type=…>`` values that its capabilities list.
        machines: the ``machine=…`` values that they list.
        cure: what fixes the error; empty where libvirt just has no driver for the scheme.
        restart: the command that starts the host's daemon again.
        host_uuid: the host's UUID, as libvirt knows it.
    """

    uri: str
    error: str = ""
    libvirt_version: int = 0
    hypervisor: int = 0
    domain_types: frozenset[str] = frozenset()
    machines: frozenset[str] = frozenset()
    cure: str = ""
    restart: str = ""
    host_uuid: str = ""


@dataclass(frozen=True)
class KvmVerdict:
    """What the probe guest said of KVM on a host.

    Attributes:
        why: one sentence for people.
        temporary: the next probe may give a different answer: a time-out, a libvirt in trouble.
    """

    works: bool
    why: str
    temporary: bool = False


@dataclass(frozen=True)
class NoUserns:
    """Why containers of a host can't have their own ids, and the command that fixes it."""

    why: str
    cure: str


@dataclass(frozen=True)
class Pool:
    """A storage pool. ``path`` is its folder on the host; ``kind`` its libvirt type."""

    name: str
    path: str
    kind: str = "dir"
    exists: bool = True
    active: bool = True


@dataclass(frozen=True)
class UsedSubnet:
    """An IPv4 or IPv6 network that is in use on a host.

    Attributes:
        subnet: as ``10.0.0.0/24``.
        holder: the device that it is reached by, or the libvirt network's name.
        kind: a ``route``; one to a network that the host is ``connected`` to; an ``address`` of its
            own; a libvirt ``network``, or one that is ``inactive``.
    """

    subnet: str
    holder: str = ""
    kind: Literal["route", "connected", "address", "network", "inactive"] = "route"


@dataclass(frozen=True)
class Room:
    """What a host has for guests, and what is left of it.

    Attributes:
        memory: bytes in all; ``free`` without those that it uses, or that running virtual machines
            may yet take.
        cpus: logical CPUs; ``used`` are those of all running guests together.
        guests: how many run there, strangers' too.
    """

    memory: int
    free: int
    cpus: int
    used: int
    guests: int


@dataclass(frozen=True)
class HostFacts:
    """One host. ``connections`` is keyed by URI scheme (``qemu``, ``lxc``).

    Attributes:
        name: the host's name in the spec.
        arch: as in libvirt's capabilities, ``x86_64``.
        cpus: logical CPUs; 0 where unknown.
        pool: the pool that virtkit uses here.
        kvm: the probe's verdict; None where nobody needed to know.
        used_subnets: networks in use: routes, whatever their table, and libvirt's networks.
        networks: libvirt's networks, ours too, and whether each is active.
        device_kinds: each of the host's network devices, and its kind (``bridge``,
            ``openvswitch``, or empty); None where nobody could look.
        identity: what identifies this host among others; empty where nothing does.
        no_userns: why containers can't have a user namespace here; None where they can.
        missing_programs: programs of guest types (``Driver.programs``) that are not on the host.
        unfit_programs: those that are and can't run on its processor, and why.
        subordinate_ids: what users of the host have for namespaces of their own (/etc/subuid).
        networks_without_dnsmasq: libvirt's active networks whose dnsmasq (DHCP and DNS) has ended.
    """

    name: str
    pool: Pool
    connections: Mapping[str, DriverFacts] = field(default_factory=dict)
    arch: str = "x86_64"
    cpus: int = 0
    kvm: KvmVerdict | None = None
    used_subnets: tuple[UsedSubnet, ...] = ()
    networks: Mapping[str, bool] = field(default_factory=dict)
    device_kinds: Mapping[str, str] | None = None
    identity: str = ""
    no_userns: NoUserns | None = None
    missing_programs: frozenset[str] = frozenset()
    unfit_programs: Mapping[str, str] = field(default_factory=dict)
    subordinate_ids: frozenset[range] = frozenset()
    networks_without_dnsmasq: frozenset[str] = frozenset()
