"""The shape of a driver: how one hypervisor differs from the others, as data.

A driver must never connect to anything; what is *done* differently is named here
and stands once in host/, access/ or apply/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Literal

from virtkit._dataclass import dataclass
from virtkit.drivers.effects import Effect
from virtkit.drivers.fields import row_key, row_of
from virtkit.facts import HostFacts

#: How a guest is asked to stop, tried in this order before it is forced off.
Stop = Literal["acpi", "initctl", "paravirt", "poweroff", "signal"]
#: How a command gets into a guest, tried in this order.
Exec = Literal["namespaces", "agent", "ssh"]


@dataclass(frozen=True)
class Blocker:
    """Why a host can't run a driver's guests, and what fixes it.

    Attributes:
        temporary: another look may give a different answer, as after a time-out.
    """

    why: str
    cure: str
    temporary: bool = False


@dataclass(frozen=True)
class Bus:
    """A bus that disks are on.

    Attributes:
        prefix: of the disks' targets in the domain XML.
        device: what the guest calls a disk, by its ``{name}`` (its serial) or its ``{target}``.
    """

    prefix: str
    device: str


#: The bus of most virtual machines' disks.
VIRTIO: Mapping[str, Bus] = {"virtio": Bus("vd", "/dev/disk/by-id/virtio-{name}")}


@dataclass(frozen=True, kw_only=True)
class Driver:
    """One guest type.

    Attributes:
        type: the spec's ``type:``.
        virtualization: what kind it is, as the literature calls it.
        scheme: the libvirt URI's scheme.
        domain_type: ``<domain type=…>``.
        template: the file under templates/ that renders its domain XML.
        root: what the volume of its root starts with: ``backed`` by the image, ``copied`` from it,
            or an empty ``ext4`` for what it writes itself.
        layered: libvirt mounts the shared image and the guest's volumes, and its init lays them
            over each other; else its volumes are its block devices.
        mounts_disks: the guest itself mounts its disks, as its seed says.
        grows_filesystems: the guest itself grows the file systems on volumes that were made larger.
        own_cpus: its kernel sees its own CPUs only, and brings one online that is plugged in.
        starts_with_max_memory: libvirt starts it with all the memory that it may have.
        reserves_memory: its memory is gone for others; else it is only a limit.
        needs_kvm: its host needs a KVM that works.
        seed: the file system of the NoCloud seed.
        log: where a guest's console output is kept: a ``file`` in the pool, the guest's own
            ``journal``, or ``xenconsoled``'s log on the host.
        stop: ways to ask a guest to stop.
        exec: ways to run a command in a guest.
        restart: ``reset`` presses the button, ``cycle`` is destroy and create.
        serial_start: its guests are started one at a time on a host.
        limited_to_host_cpus: a running guest gets no more CPUs than its host has; one that starts
            may.
        pause_needs_freezer: pausing it needs the cgroup freezer, version 1.
        controller_socket: the path of the socket by which libvirt watches a guest's process, with
            ``{name}`` for the domain's name; empty where libvirt never loses it.
        undefine_flags: libvirt's undefine flags, by the name they have in libvirt-python.
        native_format: the hypervisor's own format, to which libvirt converts domain XML without
            defining it, and so says what it would refuse; empty where libvirt has none such.
        effects: what a change of a field costs where fields.py says otherwise; ``FIELD.less`` is
            the way down, where that costs more.
        unsupported: guest field (or ``disks.blank``: a disk without mount) to the reason why
            this type can't have it; a spec that asks for one is refused.
        confined: each way in which its guests are kept off the host, best first, to XPaths in the
            domain XML: a template of the user's must have them all. ``{ids}`` is
            the first of the guest's ids. Empty where there is one way only, the hypervisor's.
        needs_built_image: only images with ``build:`` can be its root, but where it has a kernel of
            its own.
        buses: those that its disks can be on, by libvirt's words, its own first; empty where it
            has no disks.
        cpu_modes: the words for a guest's processor that are no named model, and that it takes.
        cpu_mode, cpu_model: the CPU that the template states, where it states one.
        tb_cache: MiB for translated code, where the hypervisor translates.
        pcie_ports: PCI Express ports, taken or free for devices that are plugged in.
        boot_args: arguments of a built image's kernel (or init), beside the root.
        capabilities: what a container that is not privileged keeps.
        folders: the host's folders that its container sees, read-only, in a root that is empty.
        programs: files on the host that it runs, and the Debian package that contains each.
        start_limit: seconds that the hypervisor gives its own programs at least while a guest
            starts, where no setting changes that; a start that fails later is tried again. 0 where
            it has no such limit.
        timeout_factor: factor on the default ready timeout.
        caveats: what its users should know, plainly.
        check: why a host can't run it; empty where it can.
    """

    type: str
    virtualization: str
    scheme: str
    domain_type: str
    template: str
    root: Literal["backed", "copied", "ext4"]
    layered: bool = False
    mounts_disks: bool = True
    grows_filesystems: bool = True
    own_cpus: bool = True
    starts_with_max_memory: bool = False
    reserves_memory: bool = True
    needs_kvm: bool = False
    seed: Literal["iso9660", "ext4"]
    log: Literal["file", "journal", "xenconsoled"]
    stop: tuple[Stop, ...]
    exec: tuple[Exec, ...]
    restart: Literal["reset", "cycle"]
    serial_start: bool = False
    limited_to_host_cpus: bool = False
    pause_needs_freezer: bool = False
    controller_socket: str = ""
    undefine_flags: tuple[str, ...] = ()
    native_format: str = ""
    effects: Mapping[str, Effect] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    confined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    needs_built_image: bool = False
    buses: Mapping[str, Bus] = field(default_factory=lambda: VIRTIO)
    cpu_modes: tuple[str, ...] = ()
    cpu_mode: str = ""
    cpu_model: str = ""
    tb_cache: int = 0
    pcie_ports: int = 0
    boot_args: str = ""
    capabilities: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict)
    start_limit: float = 0.0
    timeout_factor: float = 1.0
    caveats: tuple[str, ...] = ()
    check: Callable[[HostFacts], list[Blocker]]

    def effect(self, field: str, *, less: bool = False) -> Effect:
        """What a change of a reason's ``field`` costs a running guest."""
        down = self.effects.get(f"{row_key(field)}.less") if less else None
        return down or self.effects.get(row_key(field), row_of(field).effect)


def installed(programs: Mapping[str, str]) -> Callable[[HostFacts], list[Blocker]]:
    """A check that a driver's programs are on the host, and run on its processor."""

    def check(facts: HostFacts) -> list[Blocker]:
        missing = [
            Blocker(f"{path} is missing", f"sudo apt-get install {package}")
            for path, package in programs.items()
            if path in facts.missing_programs
        ]
        cure = "use another type (`qemu`, `kvm`, `lxc`), another machine, or a newer {}"
        unfit = [
            Blocker(facts.unfit_programs[path], cure.format(package))
            for path, package in programs.items()
            if path in facts.unfit_programs
        ]
        return missing + unfit

    return check


def connected(scheme: str, package: str) -> Callable[[HostFacts], list[Blocker]]:
    """A check that the host's libvirt answers for ``scheme``; ``package`` contains it."""

    def check(facts: HostFacts) -> list[Blocker]:
        connection = facts.connections.get(scheme)
        if connection is not None and not connection.error:
            return []
        why = connection.error if connection else f"{scheme}:/// was not asked"
        cure = connection.cure if connection else ""
        if not cure:
            restart = f", then {connection.restart}" if connection and connection.restart else ""
            cure = f"sudo apt-get install {package}{restart}"
        return [Blocker(f"libvirt's {scheme} driver does not answer: {why}", cure)]

    return check
