"""The objects that libvirt should have: guests, beside what the other files of this room have.

Pure: every name, UUID and path follows from what an object is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from virtkit.drivers import Driver
from virtkit.errors import RequestError
from virtkit.facts import DiskSource
from virtkit.spec import model
from virtkit.state import addresses, volumes
from virtkit.state.digests import digest
from virtkit.state.image import ImageFiles, ImageRef, image_identity
from virtkit.state.network import DnsHost, Network, Reservation, host_names
from virtkit.state.shared import SharedFolder, device
from virtkit.state.volumes import DiskTarget, Filesystem, Volume

__all__ = [
    "ROOT_LABEL",
    "Boot",
    "Confinement",
    "Decided",
    "DecidedGuest",
    "Desired",
    "DiskTarget",
    "DnsHost",
    "Filesystem",
    "Guest",
    "ImageFiles",
    "ImageRef",
    "Interface",
    "Network",
    "Playbooks",
    "Reservation",
    "Volume",
    "digest",
    "host_names",
    "image_identity",
]

#: The file system label of every built image's root.
ROOT_LABEL = "virtkit-root"
#: Arguments of a kernel that is to see by itself that it is asked to open a drive: a built image's
#: udev sets no such thing, for a faster boot.
DRIVE_ARGS = "block.events_dfl_poll_msecs=2000"


@dataclass(frozen=True)
class Interface:
    """A guest's network interface. ``address`` is empty where only the network knows it.

    ``kind`` is libvirt's: on a network, on a bridge, or on one of the host's cards (macvtap), and
    ``macvtap`` how it then reaches others there.

    ``static`` and ``static6`` hold what goes into the seed (CIDR notation) where there is no DHCP,
    and where an IPv6 address does not follow from the MAC; ``dhcp`` says whether the guest asks for
    an IPv4 address; ``hostless`` says that the host has no address on the network, nor virtkit
    anybody who serves there; ``options`` is how the spec wants it.
    """

    network: str
    kind: Literal["network", "bridge", "direct"]
    source: str
    mac: str
    address: str = ""
    address6: str = ""
    static: str = ""
    static6: str = ""
    gateway: str = ""
    gateway6: str = ""
    dhcp: bool = True
    hostless: bool = False
    dns: tuple[str, ...] = ()
    domain: str = ""
    macvtap: str = "bridge"
    options: model.InterfaceSpec = field(default_factory=model.InterfaceSpec.model_construct)


@dataclass(frozen=True)
class Confinement:
    """What keeps a guest off its host, decided when it is made.

    Attributes:
        mode: a key of its driver's ``confined``; empty where there is one way only.
        ids: the first of the ``addresses.ID_COUNT`` ids of the host that it has; 0 where its ids
            are the host's.
        why: why libvirt's hook on this host can't map its ids or grow its file systems; empty where
            it can.
    """

    mode: str = ""
    ids: int = 0
    why: str = ""


@dataclass(frozen=True)
class Boot:
    """A kernel that the hypervisor loads itself; paths on the host."""

    kernel: str
    initrd: str
    cmdline: str


@dataclass(frozen=True)
class Playbooks:
    """The playbooks of a guest, as the spec names them, and their files on the caller's machine.

    ``digest`` is salted, over all that Ansible would read, the guest's variables included.
    ``former_digest`` is what older versions made of the same: it has the files' paths.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    digest: str
    former_digest: str


@dataclass(frozen=True)
class Guest:
    """A guest as it should be. ``spec`` is what the user asked for, the rest was decided.

    Attributes:
        host: its host's name in the spec.
        why: why ``auto`` chose its type; empty where the spec names one.
        folder: the folder of its volumes, on its host.
        source_folder: the spec's folder, on the caller's machine.
        requested: what its record keeps of the spec, as JSON.
        targets: the device names of volumes that exist (``vdb``); new ones get the next free.
        sources: the disks that its host has already, as the spec names them.
    """

    environment: str
    spec: model.GuestSpec
    host: str
    driver: Driver
    why: str
    folder: str
    source_folder: str
    image: ImageRef
    interfaces: tuple[Interface, ...]
    requested: Mapping[str, Any]
    targets: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, DiskSource] = field(default_factory=dict)
    confinement: Confinement = Confinement()
    #: The confinement that it has once its root is recreated.
    next_confinement: Confinement = Confinement()
    #: Its UUID where one was decided; else it follows from its names.
    decided_uuid: str = ""
    #: Its host's CPUs; 0 where unknown.
    host_cpus: int = 0
    #: The public keys that it is to let in; None: those that it was made with.
    keys: tuple[str, ...] | None = None
    #: What Ansible is to run in it; None for nothing.
    playbooks: Playbooks | None = None
    #: The folders of the host that it sees.
    folders: tuple[SharedFolder, ...] = ()
    #: Where its ``template``, ``devices``, ``folders``, ``host_devices`` and (``""``) itself stand,
    #: as an error's ``where``.
    positions: Mapping[str, str] = field(default_factory=dict, compare=False)

    cpu_period: ClassVar[int] = 100_000
    id_count: ClassVar[int] = addresses.ID_COUNT

    @property
    def name(self) -> str:
        return self.spec.name

    def where(self, *keys: str) -> str:
        """The place in the spec of the one of ``keys`` that it has; its own where it has more."""
        present = [key for key in keys if getattr(self.spec, key)]
        return self.positions.get(
            present[0] if len(present) == 1 else "", f"guests.{self.spec.base}"
        )

    @property
    def domain(self) -> str:
        return f"{self.environment}-{self.name}"

    @property
    def uuid(self) -> str:
        return self.decided_uuid or addresses.derived_uuid(self.environment, "guest", self.name)

    @property
    def cpu_quota(self) -> int:
        """Microseconds of processor time in each ``cpu_period``: a container's ``cpus``."""
        return self.spec.cpus * self.cpu_period

    def live_cpus(self, most: int) -> int:
        """How many CPUs it may have while it runs, of the ``most`` that it was started with."""
        limit = self.host_cpus if self.driver.limited_to_host_cpus else 0
        return min(most, limit or most)

    @property
    def cpu_mode(self) -> str:
        """libvirt's word for the kind of processor that it sees."""
        named = self.spec.cpu.model
        return (named if named in model.CPU_MODES else "custom") if named else self.driver.cpu_mode

    @property
    def cpu_model(self) -> str:
        """The named model of its processor; empty where it has none of its own."""
        named = self.spec.cpu.model
        return ("" if named in model.CPU_MODES else named) if named else self.driver.cpu_model

    @property
    def has_seed(self) -> bool:
        """Whether its system reads a seed, and follows changes as virtkit's own images do."""
        other = self.spec.system == "windows" or self.spec.ignition is not None
        return not other and not self.image.is_none

    @property
    def usual_bus(self) -> str:
        """The bus of its disks, where the spec names none."""
        devices = self.driver.system_devices.get(self.spec.system)
        return devices[0] if devices else next(iter(self.driver.buses))

    @property
    def usual_card(self) -> str:
        """The model of its network interfaces, where the spec names none; empty for the type's."""
        devices = self.driver.system_devices.get(self.spec.system)
        return devices[1] if devices else ""

    @property
    def nvram(self) -> str:
        """The path of its firmware's variables, where it has Secure Boot; libvirt makes the file.

        Other firmware's are in libvirt's own place: however it is started after a change, it never
        has variables without keys.
        """
        is_secure = self.spec.firmware == "secure"
        return f"{self.folder}/{self.domain}_secure_VARS.fd" if is_secure else ""

    @property
    def fqdn(self) -> str:
        domain = next((each.domain for each in self.interfaces if each.domain), "")
        return f"{self.name}.{domain}" if domain else self.name

    @property
    def skips_cloud_init(self) -> bool:
        """Whether virtkit's own first boot is enough; cloud-init is for what users add to it."""
        return self.image.entry.kind != "disk" and not self.spec.cloud_init

    @property
    def files(self) -> ImageFiles:
        """The image's files; placeholders, named ``not-made-yet``, where there are none yet."""
        built = self.image.entry.build is not None
        return self.image.files or ImageFiles.named(
            self.folder, "not-made-yet", format="raw", size=0, bootable=not built
        )

    @property
    def boot(self) -> Boot | None:
        cloud_init = "cloud-init=disabled" if self.skips_cloud_init else ""
        polls = DRIVE_ARGS if self.spec.cdroms else ""
        words = (f"root=LABEL={ROOT_LABEL} rw", self.driver.boot_args, polls, cloud_init)
        root = " ".join(filter(None, words))
        if self.spec.kernel is not None:
            paths = {each.role: each.key for each in self.volumes}
            return Boot(paths["kernel"], paths.get("initrd", ""), self.spec.kernel.cmdline or root)
        if self.files.kernel and "kernel" not in self.driver.unsupported:
            return Boot(self.files.kernel, self.files.initrd, root)
        return None

    @property
    def boot_order(self) -> Mapping[str, int]:
        """The place, from 1, of each device that it boots from: disks by their names, interfaces by
        their MACs. Empty where that is the root disk alone."""
        if self.spec.boot == model.BOOT_DISK:
            return {}
        disks = [each for each in self.disks if each.device == "disk" and each.name != "seed"]
        disks.sort(key=lambda each: each.name != "root")
        devices = {
            "disk": [each.name for each in disks[:1]],
            "cdrom": [each.name for each in self.disks if each.device == "cdrom"],
            "network": [each.mac for each in self.interfaces],
        }
        order = [name for each in self.spec.boot for name in devices[each]]
        return {name: place for place, name in enumerate(order, 1)}

    @property
    def volumes(self) -> tuple[Volume, ...]:
        return tuple(volumes.of_guest(self))

    @property
    def disks(self) -> tuple[DiskTarget, ...]:
        """The guest's block devices, as it sees them."""
        return volumes.disks(self)

    @property
    def has_partitions(self) -> bool:
        """Whether it sees disks as partitions of its first one."""
        return any(each.partition for each in (self.spec.disk, *self.spec.disks))

    @property
    def needs_libvirt(self) -> int:
        """The version of libvirt that takes its XML first, as 11005000 for 11.5.0; 0 where all do
        that virtkit works with."""
        return max((self.driver.buses[each.bus].since for each in self.disks), default=0)

    @property
    def own_controllers(self) -> range:
        """The controllers of disks that have one each, from 0; one whose disk is gone stays empty,
        as libvirt would put another in its place."""
        numbers = [each.controller for each in self.disks if each.controller is not None]
        return range(max(numbers, default=-1) + 1)

    @property
    def filesystems(self) -> tuple[Filesystem, ...]:
        """A container's file systems, and the folders of the host that one with disks sees."""
        return volumes.filesystems(self)

    @property
    def shares_memory(self) -> bool:
        """Whether a program of the host's serves it from its memory, as virtiofsd does."""
        return any(each.way == "virtiofs" for each in self.folders)

    @property
    def host_devices(self) -> tuple[Mapping[str, str], ...]:
        """The devices of the host that it gets: kind, and what each is made of."""
        return tuple(device(each) for each in self.spec.host_devices)

    def volume(self, role: str) -> Volume | None:
        """The first volume with ``role``."""
        return next((each for each in self.volumes if each.role == role), None)

    def with_image(self, files: ImageFiles) -> Guest:
        """The same guest, once its image is made."""
        return replace(self, image=replace(self.image, files=files))

    def recreated(self) -> Guest:
        """The same guest with what it gets when it is recreated."""
        return replace(self, confinement=self.next_confinement)


@dataclass(frozen=True)
class DecidedGuest:
    """What was decided when a guest was made, from its record.

    Attributes:
        addresses: by MAC.
        targets: device names, by volume.
        cloud_init: the digest of what was requested.
        sources: what its disks were that its host had already, as the spec names them.
        macs: those that it was given, by the network's name and which interface on it.
    """

    type: str
    image: ImageFiles | None
    image_identity: str
    addresses: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    confinement: Confinement = Confinement()
    cloud_init: object = None
    uuid: str = ""
    sources: Mapping[str, DiskSource] = field(default_factory=dict)
    macs: Mapping[tuple[str, int], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decided:
    """What was decided for objects that exist, and is kept.

    Attributes:
        networks: each network's IPv4 subnet, by its name in the spec.
        images: by identity.
        ids: the first of each range of ids that a container of any environment has.
    """

    guests: Mapping[str, DecidedGuest] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, ImageFiles] = field(default_factory=dict)
    ids: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Desired:
    """All objects of an environment on one host.

    Attributes:
        refused: guests that this host can't run, and why.
        positions: where in the spec a network and one of its keys stand, as an error's ``where``.
        elsewhere: the new hosts of guests that are to move to others; they are deleted here.
    """

    environment: str
    networks: tuple[Network, ...]
    guests: tuple[Guest, ...]
    refused: Mapping[str, RequestError]
    positions: Mapping[tuple[str, str], str] = field(default_factory=dict, compare=False)
    elsewhere: Mapping[str, str] = field(default_factory=dict, compare=False)
