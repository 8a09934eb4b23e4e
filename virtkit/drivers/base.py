"""The shape of a driver: how one hypervisor differs from the others, as data.

A driver must never connect to anything; what is *done* differently is named here
and stands once in host/, access/ or apply/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from virtkit._dataclass import dataclass
from virtkit.drivers.effects import Effect
from virtkit.drivers.fields import row_key, row_of

if TYPE_CHECKING:
    from virtkit.facts import HostFacts

#: How a guest is asked to stop, tried in this order before it is forced off.
Stop = Literal["acpi", "initctl", "paravirt", "poweroff", "signal"]
#: What guests get of an image: ``built`` by virtkit, with a kernel beside it; a ``disk`` with a
#: boot loader; a root file system's archive.
ImageKind = Literal["built", "disk", "rootfs"]
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
        hotplug: whether a running guest can be given a disk there.
        numbered: the targets are PREFIX0n1, PREFIX1n1 and so on, each with a controller of its own,
            as that has the serial.
        seed: whether the seed can be there, beside the root; else it is on the type's own bus.
        since: libvirt's version that has it first, as 11005000 for 11.5.0; 0 where all have it.
    """

    prefix: str
    device: str
    hotplug: bool = True
    numbered: bool = False
    seed: bool = True
    since: int = 0


#: The bus of most virtual machines' disks.
VIRTIO: Mapping[str, Bus] = {"virtio": Bus("vd", "/dev/disk/by-id/virtio-{name}")}


#: Why most types can't have ``disks.partition``.
WHOLE_DISKS = "only Xen's paravirtualized guests see a disk as a partition of one"


@dataclass(frozen=True, kw_only=True)
class Driver:
    """One guest type.

    Attributes:
        type: the spec's ``type:``.
        virtualization: what kind it is, as the literature calls it.
        scheme: the libvirt URI's scheme.
        domain_type: ``<domain type=…>``.
        os_type: what libvirt has under ``<os><type>``.
        template: the file under templates/ that renders its domain XML.
        machine: libvirt's name for the machine that the template states, where libvirt tells what
            such a one can have.
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
        images: the kinds of images that can be its root; where it has a kernel of its own, disks
            too.
        other_images: why others can't.
        buses: those that its disks can be on, by libvirt's words, its own first; empty where it
            has no disks.
        existing: libvirt's kinds of disks that are there already (``file``, ``block``, ``volume``)
            and that its disks can be; empty where they can't.
        existing_formats: what these may hold.
        drive_buses: the buses that drives for discs can be on, its own first; the last is one that
            the kernel of a built image has a driver for. Empty where it has no drives.
        folders_by: how its guests see folders of the host: ``virtiofs`` (or ``9p``, where the host
            has no virtiofsd), ``bind`` in a container, ``hostfs`` in one that is a kernel's
            process; None where they can't.
        host_devices: the kinds of the host's devices that its guests can have.
        cpu_modes: the words for a guest's processor that are no named model, and that it takes.
        threadless: those of them that are processors whose cores have one thread, whatever their
            topology says.
        cpu_mode, cpu_model: the CPU that the template states, where it states one.
        system_devices: by what runs in a guest, the bus of its disks and the model of its cards,
            where that has no driver for the type's own.
        hyperv: Hyper-V's interfaces that Windows finds in its guests, by libvirt's names.
        tb_cache: MiB for translated code, where the hypervisor translates.
        pcie_ports: PCI Express ports, taken or free for devices that are plugged in.
        boot_args: arguments of a built image's kernel (or init), beside the root.
        loader: the program that finds a kernel on its first disk, run on the host, by the word that
            the hypervisor knows; empty where the guest boots by itself, or not from disks.
        capabilities: what a container that is not privileged keeps.
        card_mtu: bytes of the largest packet of a card to which libvirt's hook gave no other MTU;
            0 where libvirt itself gives cards theirs.
        on_cards: its interfaces can be beside the host on a network card of it (macvtap).
        max_mtu: the largest that a card can have at all; 0 for any.
        folders: the host's folders that its container sees, read-only, in a root that is empty.
        programs: files on the host that it runs, and the Debian package that contains each.
        start_limit: seconds that the hypervisor gives its own programs while a guest starts, where
            no setting changes that; 0 where it has no such limit.
        timeout_factor: factor on the default ready timeout.
        caveats: what its users should know, plainly.
        check: why a host can't run it; empty where it can.
    """

    type: str
    virtualization: str
    scheme: str
    domain_type: str
    os_type: str = "hvm"
    template: str
    machine: str = ""
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
    images: tuple[ImageKind, ...] = ("built", "disk")
    other_images: str = "an archive has no kernel and no boot loader"
    buses: Mapping[str, Bus] = field(default_factory=lambda: VIRTIO)
    existing: tuple[str, ...] = ("file", "block")
    existing_formats: tuple[str, ...] = ("raw",)
    drive_buses: tuple[str, ...] = ()
    folders_by: Literal["virtiofs", "bind", "hostfs"] | None = None
    host_devices: tuple[str, ...] = ()
    cpu_modes: tuple[str, ...] = ()
    threadless: tuple[str, ...] = ()
    cpu_mode: str = ""
    cpu_model: str = ""
    system_devices: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    hyperv: tuple[str, ...] = ()
    tb_cache: int = 0
    pcie_ports: int = 0
    boot_args: str = ""
    loader: str = ""
    capabilities: tuple[str, ...] = ()
    card_mtu: int = 0
    max_mtu: int = 0
    on_cards: bool = True
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
