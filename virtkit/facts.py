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
class DiskSource:
    """A disk that a host has, whatever virtkit does.

    Attributes:
        kind: libvirt's word for it, as in ``<disk type=…>``: a ``volume`` is one that has no path.
            Empty where there is none, or it is no disk.
        path: its path on the host; of a ``volume`` ``POOL/VOLUME``.
        format: what its pool finds in it: it may be a guest's words. Empty where nobody looked.
        why: why there is none, and ``cure`` what brings it.
        mounted: where the host itself has it, or a part of it, mounted; empty where it has not.
    """

    kind: Literal["", "file", "block", "volume"]
    path: str
    format: Literal["", "raw", "qcow2"] = ""
    why: str = ""
    cure: str = ""
    mounted: str = ""


@dataclass(frozen=True)
class FolderFacts:
    """What is at a path of a host.

    Attributes:
        path: the same without links.
        kind: ``unseen`` is what the caller may not look at, ``other`` no folder.
        owner: the user id of its owner.
        qemu_user: whom QEMU runs as; empty where unknown.
        blocked: the first folder on the way to it that this user can't enter, or it itself where
            that can't be read; empty where all can, or nobody knows.
        writable: whether this user may write to it, as far as is known.
    """

    path: str
    kind: Literal["folder", "missing", "other", "unseen"] = "folder"
    owner: int = 0
    qemu_user: str = ""
    blocked: str = ""
    writable: bool = True


@dataclass(frozen=True)
class DeviceFacts:
    """A device of a host.

    Attributes:
        other_kind: what it is where it is no device that a guest can be given.
        loses: what the host has of it, as ``net eth0`` or ``block sda``.
        what: the kind of a PCI device, in words; empty where unknown.
        driver: the driver that the host has it with.
        iommu: whether it has an IOMMU group.
        beside: the other devices of that group, but for bridges.
    """

    exists: bool
    other_kind: str = ""
    loses: tuple[str, ...] = ()
    what: str = ""
    driver: str = ""
    iommu: bool = True
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class SharedFacts:
    """What guests that are given something of their host need to know of it.

    Attributes:
        folders: by the paths that were asked for.
        devices: by their names in the spec.
        virtiofsd: the program that serves folders to virtual machines; empty where there is none.
        hook_interface: the interface of libvirt's hook for containers; 0 where it has none.
        prepare: the command that installs the hook of this version.
    """

    folders: Mapping[str, FolderFacts] = field(default_factory=dict)
    devices: Mapping[str, DeviceFacts] = field(default_factory=dict)
    virtiofsd: str = ""
    hook_interface: int = 0
    prepare: str = ""


@dataclass(frozen=True)
class MachineFacts:
    """What virtual machines of one ``<domain type=…>`` can have on a host, as its libvirt tells.

    Attributes:
        cpu_models: the named CPU models that libvirt knows, and whether the host can run each.
        tpm: whether it can emulate a TPM 2.0.
        firmware: the values of ``firmware:`` that it has files for.
        hyperv: Hyper-V's interfaces that it has for Windows; None where libvirt does not tell.
    """

    cpu_models: Mapping[str, bool] = field(default_factory=dict)
    tpm: bool = False
    firmware: frozenset[str] = frozenset()
    hyperv: frozenset[str] | None = None


@dataclass(frozen=True)
class HostFacts:
    """One host. ``connections`` is keyed by URI scheme (``qemu``, ``lxc``).

    Attributes:
        name: the host's name in the spec.
        arch: as in libvirt's capabilities, ``x86_64``.
        cpus: logical CPUs; 0 where unknown.
        cpu_numbers: the numbers of those that are online; empty where nobody asked.
        numa_nodes: its NUMA nodes by number, with the free pages of each by their bytes; empty
            where nobody asked, or libvirt does not tell.
        machines: what its virtual machines can have, by ``<domain type=…>``; empty where nobody
            asked, or libvirt does not tell.
        pool: the pool that virtkit uses here.
        kvm: the probe's verdict; None where nobody needed to know.
        used_subnets: networks in use: routes, whatever their table, and libvirt's networks.
        networks: libvirt's networks, ours too, and whether each is active.
        portgroups: the portgroups of each of libvirt's networks.
        vlan_networks: libvirt's networks whose interfaces can be in a VLAN: of Open vSwitch, or of
            a card's virtual functions.
        device_kinds: each of the host's network devices, and its kind (``bridge``,
            ``openvswitch``, or empty); None where nobody could look.
        identity: what identifies this host among others; empty where nothing does.
        no_userns: why containers can't have a user namespace here; None where they can.
        missing_programs: programs of guest types (``Driver.programs``) that are not on the host.
        unfit_programs: those that are and can't run on its processor, and why.
        subordinate_ids: what users of the host have for namespaces of their own (/etc/subuid).
        disk_sources: the disks that the spec names with ``existing:``, by what it says; without
            those that nobody could look for.
        real_paths: paths without links, of these disks and of those that others have, by path;
            empty where no spec names any.
        networks_without_dnsmasq: libvirt's active networks whose dnsmasq (DHCP and DNS) has ended.
        shared: what is known of what guests are given of the host; None where none is.
    """

    name: str
    pool: Pool
    connections: Mapping[str, DriverFacts] = field(default_factory=dict)
    arch: str = "x86_64"
    cpus: int = 0
    cpu_numbers: frozenset[int] = frozenset()
    numa_nodes: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    machines: Mapping[str, MachineFacts] = field(default_factory=dict)
    kvm: KvmVerdict | None = None
    used_subnets: tuple[UsedSubnet, ...] = ()
    networks: Mapping[str, bool] = field(default_factory=dict)
    portgroups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    vlan_networks: frozenset[str] = frozenset()
    device_kinds: Mapping[str, str] | None = None
    identity: str = ""
    no_userns: NoUserns | None = None
    missing_programs: frozenset[str] = frozenset()
    unfit_programs: Mapping[str, str] = field(default_factory=dict)
    subordinate_ids: frozenset[range] = frozenset()
    disk_sources: Mapping[str, DiskSource] = field(default_factory=dict)
    real_paths: Mapping[str, str] = field(default_factory=dict)
    networks_without_dnsmasq: frozenset[str] = frozenset()
    shared: SharedFacts | None = None
