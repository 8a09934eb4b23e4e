"""The objects that libvirt should have: networks, guests with their volumes, images.

Pure: every name, UUID and path follows from what an object is.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any, ClassVar, Literal

from virtkit.drivers import Driver
from virtkit.errors import RequestError
from virtkit.spec import model
from virtkit.state import addresses

#: Where a container sees its writable layer, and below it the disks on their way to their place.
LAYER = "/.virtkit"
#: Where libvirt's hook mounts the volumes of containers that have ids of their own, on the host.
MOUNTS = "/run/virtkit/lxc"
#: What the hook mounts there for a container whose root has nothing of its own; no volume's name.
EMPTY = "empty"
#: The volumes that are block devices, in the order in which a new guest's get their names: others
#: expect the first disk to be the second device, so the seed is last.
_BLOCKS = ("root", "disk", "seed")
#: The file system label of every built image's root.
ROOT_LABEL = "virtkit-root"
#: Where cloud-init and virtkit's own first boot look for a container's seed.
SEED = "/var/lib/cloud/seed/nocloud"


@dataclass(frozen=True)
class ImageFiles:
    """The volumes of one image in a pool. Paths are on the host; ``size`` is in bytes.

    ``kernel`` and ``initrd`` are empty for an image that boots by itself.
    """

    content: str
    root: str
    format: str
    size: int
    kernel: str = ""
    initrd: str = ""

    @classmethod
    def named(
        cls, folder: str, content: str, *, format: str, size: int, bootable: bool
    ) -> ImageFiles:
        """The paths that an image with this content hash has in the pool at ``folder``."""
        stem = f"{folder}/virtkit-{content[:20]}"
        kernel, initrd = ("", "") if bootable else (f"{stem}.kernel", f"{stem}.initrd")
        return cls(content, f"{stem}.root", format, size, kernel, initrd)


@dataclass(frozen=True)
class ImageRef:
    """What a guest starts from: the spec's entry, and its files once they are known."""

    name: str
    entry: model.Image
    identity: str
    files: ImageFiles | None = None


@dataclass(frozen=True)
class Reservation:
    """A guest's place in a network that virtkit made. ``ip6`` and ``dhcp`` as the network has."""

    mac: str
    ip: str
    name: str
    ip6: str = ""
    dhcp: bool = True


@dataclass(frozen=True)
class HostNames:
    """One ``<host>`` of a network's ``<dns>``."""

    ip: str
    names: tuple[str, ...]


def host_names(reservation: Reservation, domain: str) -> Iterable[HostNames]:
    """What DNS must be told of a guest: static and IPv6 addresses; leases bring their own."""
    names = (reservation.name, f"{reservation.name}.{domain}") if domain else (reservation.name,)
    if not reservation.dhcp:
        yield HostNames(reservation.ip, names)
    if reservation.ip6:
        yield HostNames(reservation.ip6, names)


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
    asked: Mapping[str, Any]

    @property
    def libvirt_name(self) -> str:
        return f"{self.environment}-{self.name}"

    @property
    def uuid(self) -> str:
        return addresses.identity(self.environment, "network", self.name)

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
    def names(self) -> tuple[HostNames, ...]:
        """The names that DNS must be told, since no DHCP lease brings them."""
        return tuple(found for each in self.reservations for found in host_names(each, self.domain))


@dataclass(frozen=True)
class Interface:
    """A guest's network card. ``address`` is empty where only the network knows it.

    ``static`` holds what goes into the seed (CIDR notation) where there is no DHCP.
    """

    network: str
    kind: Literal["network", "bridge"]
    source: str
    mac: str
    address: str = ""
    address6: str = ""
    static: str = ""
    gateway: str = ""
    dns: tuple[str, ...] = ()
    domain: str = ""


@dataclass(frozen=True)
class Volume:
    """A file of a guest in its host's pool. ``key`` is its path, ``size`` in bytes.

    ``content`` says what it starts with: ``backed`` by ``source`` (a path on the host), ``copied``
    from it, ``ext4`` (formatted, label ``label``), ``blank``, ``seed``, ``file`` (``source`` is a
    path of the caller's) or ``log`` (libvirt writes it; virtkit only removes it).
    """

    role: Literal["root", "disk", "seed", "console", "kernel", "initrd"]
    name: str
    key: str
    size: int
    format: Literal["raw", "qcow2"]
    content: Literal["backed", "copied", "ext4", "blank", "seed", "file", "log"]
    source: str = ""
    source_format: str = "raw"
    label: str = ""
    mount: str = ""
    keep: bool = False


@dataclass(frozen=True)
class DiskTarget:
    """A volume as a guest's block device, in the order in which the guest sees them."""

    name: str
    target: str
    volume: Volume
    readonly: bool


@dataclass(frozen=True)
class Filesystem:
    """A file system in a container. ``source`` is a path on the host: a ``file`` that libvirt
    mounts, or a folder where the hook has mounted it (``mount``)."""

    kind: Literal["file", "mount"]
    source: str
    target: str
    readonly: bool


@dataclass(frozen=True)
class Confinement:
    """What keeps a guest off its host, decided when it is made.

    Attributes:
        mode: a word of its driver's ``confined``; empty where there is one way only.
        ids: the first of the host's ids that it has, ``addresses.IDS`` of them; 0 where its ids
            are the host's.
        why: what this host's hook of libvirt's lacks to serve it; empty where nothing.
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
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Guest:
    """A guest as it should be. ``spec`` is what the user asked for, the rest was decided.

    ``targets``: the device names of volumes that exist (``vdb``); new ones get the next free.
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
    asked: Mapping[str, Any]
    targets: Mapping[str, str] = field(default_factory=dict)
    confinement: Confinement = Confinement()
    #: The confinement that it has once its root is made anew.
    anew: Confinement = Confinement()
    #: Its UUID; where nothing else was decided, that of its names.
    identity: str = ""
    #: Its host's CPUs; 0 where unknown.
    host_cpus: int = 0
    #: The public keys that it is to let in; None: those that it was made with.
    keys: tuple[str, ...] | None = None
    #: What Ansible is to run in it; None for nothing.
    playbooks: Playbooks | None = None
    #: Where its ``template``, its ``devices`` and (``""``) itself stand, as an error's ``where``.
    places: Mapping[str, str] = field(default_factory=dict, compare=False)

    cpu_period: ClassVar[int] = 100_000
    id_count: ClassVar[int] = addresses.IDS

    @property
    def name(self) -> str:
        return self.spec.name

    def where(self, *keys: str) -> str:
        """The place in the spec of the one of ``keys`` that it has; its own where it has more."""
        given = [key for key in keys if getattr(self.spec, key)]
        return self.places.get(given[0] if len(given) == 1 else "", f"guests.{self.spec.base}")

    @property
    def domain(self) -> str:
        return f"{self.environment}-{self.name}"

    @property
    def uuid(self) -> str:
        return self.identity or addresses.identity(self.environment, "guest", self.name)

    @property
    def cpu_quota(self) -> int:
        """Microseconds of processor time in each ``cpu_period``: a container's ``cpus``."""
        return self.spec.cpus * self.cpu_period

    def live_cpus(self, most: int) -> int:
        """How many CPUs it may have while it runs, of the ``most`` that it was started with."""
        limit = self.host_cpus if self.driver.host_cpus else 0
        return min(most, limit or most)

    @property
    def fqdn(self) -> str:
        domain = next((each.domain for each in self.interfaces if each.domain), "")
        return f"{self.name}.{domain}" if domain else self.name

    @property
    def light(self) -> bool:
        """Whether virtkit's own first boot serves; cloud-init is for what users add to it."""
        return self.image.entry.build is not None and not self.spec.cloud_init

    @property
    def files(self) -> ImageFiles:
        """The image's files; with a name that tells where they are not made yet."""
        built = self.image.entry.build is not None
        return self.image.files or ImageFiles.named(
            self.folder, "not-made-yet", format="raw", size=0, bootable=not built
        )

    @property
    def boot(self) -> Boot | None:
        light = "cloud-init=disabled" if self.light else ""
        root = f"root=LABEL={ROOT_LABEL} rw {self.driver.boot_args} {light}".strip()
        if self.spec.kernel is not None:
            paths = {each.role: each.key for each in self.volumes}
            return Boot(paths["kernel"], paths.get("initrd", ""), self.spec.kernel.cmdline or root)
        if self.files.kernel and "kernel" not in self.driver.unsupported:
            return Boot(self.files.kernel, self.files.initrd, root)
        return None

    @property
    def volumes(self) -> tuple[Volume, ...]:
        return tuple(_volumes(self))

    @property
    def disks(self) -> tuple[DiskTarget, ...]:
        """The guest's block devices: new ones are the root, the spec's disks, then the seed."""
        blocks = sorted(
            (each for each in self.volumes if each.role in _BLOCKS),
            key=lambda each: _BLOCKS.index(each.role),
        )
        # another type's devices have other names
        kept = {k: v for k, v in self.targets.items() if v.startswith(self.driver.disk_prefix)}
        free = (each for each in self._targets() if each not in kept.values())
        disks = (
            DiskTarget(
                each.label if each.role == "disk" else each.role,
                kept.get(each.name) or next(free),
                each,
                each.role == "seed",
            )
            for each in blocks
        )
        return tuple(sorted(disks, key=lambda each: (len(each.target), each.target)))

    def _targets(self) -> Iterator[str]:
        for letters in itertools.chain(
            string.ascii_lowercase, itertools.product(string.ascii_lowercase, repeat=2)
        ):
            yield f"{self.driver.disk_prefix}{''.join(letters)}"

    @property
    def filesystems(self) -> tuple[Filesystem, ...]:
        """A container's file systems: shared image, own layer, disks, seed. Its init lays them
        over each other. One that has disks instead sees folders of the host, in an empty root."""
        if self.driver.root == "disk":
            return tuple(self._folders())
        targets = {"root": LAYER, "seed": SEED}
        return (
            self._filesystem(self.files.root, "/", True),
            *(
                self._filesystem(
                    each.key,
                    targets.get(each.role) or f"{LAYER}/mounts{each.mount}",
                    each.role == "seed",
                )
                for each in self.volumes
            ),
        )

    def _folders(self) -> Iterator[Filesystem]:
        if self.driver.folders:
            yield Filesystem("mount", f"{MOUNTS}/{self.uuid}/{EMPTY}", "/", False)
        for each in self.driver.folders:
            yield Filesystem("mount", each, each, True)

    def _filesystem(self, file: str, target: str, readonly: bool) -> Filesystem:
        """The hook goes by the folder's name, which is the volume's."""
        if not self.confinement.ids:
            return Filesystem("file", file, target, readonly)
        name = file.rpartition("/")[2]
        return Filesystem("mount", f"{MOUNTS}/{self.uuid}/{name}", target, readonly)

    def volume(self, role: str) -> Volume | None:
        """The first volume with ``role``."""
        return next((each for each in self.volumes if each.role == role), None)

    def with_image(self, files: ImageFiles) -> Guest:
        """The same guest, once its image is made."""
        return replace(self, image=replace(self.image, files=files))

    def made_anew(self) -> Guest:
        """The same guest, where all but its disks is made again."""
        return replace(self, confinement=self.anew)


@dataclass(frozen=True)
class DecidedGuest:
    """What was decided when a guest was made, from its record: addresses by MAC, device names
    by volume, MACs that it was given by the network's name and which card on it.
    ``cloud_init``: the digest of what was asked."""

    type: str
    image: ImageFiles | None
    image_identity: str
    addresses: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    confinement: Confinement = Confinement()
    cloud_init: object = None
    uuid: str = ""
    macs: Mapping[tuple[str, int], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decided:
    """What stands in libvirt and is kept. ``networks``: name to cidr; ``images``: by identity;
    ``ids``: the first of each range that a container of any environment has."""

    guests: Mapping[str, DecidedGuest] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, ImageFiles] = field(default_factory=dict)
    ids: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Desired:
    """All objects of an environment. ``refused``: guests that this host can't run, and why;
    ``places``: where in the spec a network and one of its keys stand, as an error's ``where``."""

    environment: str
    networks: tuple[Network, ...]
    guests: tuple[Guest, ...]
    refused: Mapping[str, RequestError]
    places: Mapping[tuple[str, str], str] = field(default_factory=dict, compare=False)


def _volumes(guest: Guest) -> Iterable[Volume]:
    def volume(role: Any, name: str, **rest: Any) -> Volume:
        name = f"{guest.domain}-{name}"
        return Volume(role=role, name=name, key=f"{guest.folder}/{name}", **rest)

    size = guest.spec.disk or guest.files.size
    if guest.driver.root == "disk":
        image = {"source": guest.files.root, "source_format": guest.files.format}
        form = guest.driver.root_format
        content = "backed" if form == "qcow2" else "copied"
        yield volume("root", "root", size=size, format=form, content=content, **image)
    else:
        yield volume("root", "root", size=size, format="raw", content="ext4", label="root")
    if guest.driver.log == "file":
        yield volume("console", "console", size=0, format="raw", content="log")
    yield volume("seed", "seed", size=0, format="raw", content="seed")
    if guest.spec.kernel is not None:
        for role, path in (
            ("kernel", guest.spec.kernel.path),
            ("initrd", guest.spec.kernel.initrd),
        ):
            if path:
                here = path.startswith(("/", "~/"))
                source = path if here else f"{guest.source_folder}/{path}"
                yield volume(role, role, size=0, format="raw", content="file", source=source)
    for disk in guest.spec.disks:
        yield volume(
            "disk",
            disk.name,
            size=disk.size,
            format="raw",
            content="ext4" if disk.mount else "blank",
            label=disk.name,
            mount=disk.mount or "",
            keep=disk.keep,
        )


def digest(salt: str, value: object) -> str:
    """A SHA-256 over ``salt`` and the value's JSON."""
    return hashlib.sha256((salt + _canonical(value)).encode()).hexdigest()


def image_identity(entry: model.Image) -> str:
    """What makes two image entries the same one: what they say."""
    return hashlib.sha256(_canonical(entry.model_dump(mode="json")).encode()).hexdigest()


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
