"""From a spec and the facts of its hosts to the objects that libvirt should have.

Pure: every name, UUID, MAC, address and path follows from the input, and what was once
decided for an object that exists (type, subnet, address, image content) is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal

from virtkit import addresses, drivers
from virtkit.drivers import Driver
from virtkit.errors import RequestError
from virtkit.facts import HostFacts
from virtkit.spec import model

#: Guest fields that say how the spec is written, not what the guest is.
_NOT_ASKED = {"name", "base", "index"}
#: Where a container sees its writable layer, and below it the disks on their way to their place.
LAYER = "/.virtkit"
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

    ``content`` says what it starts with: ``backed`` by ``source`` (a path on the host),
    ``ext4`` (formatted, label ``label``), ``blank``, ``seed``, ``file`` (``source`` is a
    path of the caller's) or ``log`` (libvirt writes it; virtkit only removes it).
    """

    role: Literal["root", "disk", "seed", "console", "kernel", "initrd"]
    name: str
    key: str
    size: int
    format: Literal["raw", "qcow2"]
    content: Literal["backed", "ext4", "blank", "seed", "file", "log"]
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
    """A file system that libvirt mounts in a container; ``source`` is a path on the host."""

    source: str
    target: str
    readonly: bool


@dataclass(frozen=True)
class Boot:
    """A kernel that the hypervisor loads itself; paths on the host."""

    kernel: str
    initrd: str
    cmdline: str


@dataclass(frozen=True)
class Guest:
    """A guest as it should be. ``spec`` is what the user asked for, the rest was decided."""

    environment: str
    spec: model.Guest
    host: str
    driver: Driver
    why: str
    folder: str
    source_folder: str
    image: ImageRef
    interfaces: tuple[Interface, ...]
    asked: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def domain(self) -> str:
        return f"{self.environment}-{self.name}"

    @property
    def uuid(self) -> str:
        return addresses.identity(self.environment, "guest", self.name)

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
        if self.files.kernel and self.driver.root == "disk":
            return Boot(self.files.kernel, self.files.initrd, root)
        return None

    @property
    def volumes(self) -> tuple[Volume, ...]:
        return tuple(_volumes(self))

    @property
    def disks(self) -> tuple[DiskTarget, ...]:
        """The guest's block devices: root, seed, then the spec's disks."""
        blocks = [each for each in self.volumes if each.role in ("root", "seed", "disk")]
        return tuple(
            DiskTarget(
                each.label if each.role == "disk" else each.role,
                f"{self.driver.disk_prefix}{chr(ord('a') + index)}",
                each,
                each.role == "seed",
            )
            for index, each in enumerate(blocks)
        )

    @property
    def filesystems(self) -> tuple[Filesystem, ...]:
        """A container's file systems: shared image, own layer, disks, seed. Its init lays them
        over each other."""
        targets = {"root": LAYER, "seed": SEED}
        return (
            Filesystem(self.files.root, "/", True),
            *(
                Filesystem(
                    each.key,
                    targets.get(each.role) or f"{LAYER}/mounts{each.mount}",
                    each.role == "seed",
                )
                for each in self.volumes
            ),
        )

    def volume(self, role: str) -> Volume | None:
        """The first volume with ``role``."""
        return next((each for each in self.volumes if each.role == role), None)

    def with_image(self, files: ImageFiles) -> Guest:
        """The same guest, once its image is made."""
        return replace(self, image=replace(self.image, files=files))


@dataclass(frozen=True)
class DecidedGuest:
    """What was decided when a guest was made, from its record."""

    type: str
    image: ImageFiles | None
    image_identity: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decided:
    """What stands in libvirt and is kept. ``networks``: name to cidr; ``images``: by identity."""

    guests: Mapping[str, DecidedGuest] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, ImageFiles] = field(default_factory=dict)


@dataclass(frozen=True)
class Desired:
    """All objects of an environment. ``refused``: guests that this host can't run, and why."""

    environment: str
    networks: tuple[Network, ...]
    guests: tuple[Guest, ...]
    refused: Mapping[str, RequestError]


def resolve(spec: model.Spec, facts: HostFacts, decided: Decided) -> Desired:
    """The objects that ``spec`` asks for on the host that ``facts`` describe.

    Raises:
        RequestError: a subnet is full or none is free.
    """
    chosen = {name: _driver(spec, guest, facts, decided) for name, guest in spec.guests.items()}
    macs = _macs(spec)
    used = _used(spec)
    subnets = _subnets(spec, used, facts, decided)
    placed = _placed(spec, used, subnets, decided)
    guests = []
    for name, guest in spec.guests.items():
        driver, why, _ = chosen[name]
        guests.append(
            Guest(
                environment=spec.name,
                spec=guest,
                host=facts.name,
                driver=driver,
                why=why,
                folder=facts.pool.path,
                source_folder=str(spec.folder),
                image=_image(spec, guest, decided),
                interfaces=tuple(
                    _interface(spec.name, guest, index, macs[name, index], used, subnets, placed)
                    for index in range(len(guest.links))
                ),
                asked=asked(spec, guest),
            )
        )
    return Desired(
        environment=spec.name,
        networks=tuple(_networks(spec.name, facts.name, used, subnets, guests)),
        guests=tuple(guests),
        refused={name: error for name, (_, _, error) in chosen.items() if error is not None},
    )


def asked(spec: model.Spec, guest: model.Guest) -> dict[str, Any]:
    """What the record keeps of a guest's wishes, JSON-able; of secrets a salted digest only."""
    answer: dict[str, Any] = guest.model_dump(mode="json", exclude=_NOT_ASKED)
    if guest.cloud_init:
        salt = addresses.identity(spec.name, "guest", guest.name)
        answer["cloud_init"] = digest(salt, guest.cloud_init)
    return answer


def digest(salt: str, value: object) -> str:
    """A SHA-256 over ``salt`` and the value's JSON."""
    return hashlib.sha256((salt + _canonical(value)).encode()).hexdigest()


def image_identity(entry: model.Image) -> str:
    """What makes two image entries the same one: what they say."""
    return hashlib.sha256(_canonical(entry.model_dump(mode="json")).encode()).hexdigest()


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# --- guests -------------------------------------------------------------------------------


def _driver(
    spec: model.Spec, guest: model.Guest, facts: HostFacts, decided: Decided
) -> tuple[Driver, str, RequestError | None]:
    """The driver of a guest, why ``auto`` took it, and the error where the host can't run it."""
    made = decided.guests.get(guest.name)
    if guest.type != "auto":
        words: Iterable[str] = (guest.type,)
    elif made is not None:
        words = (made.type,)
    else:
        words = drivers.AUTO
    passed_over: list[str] = []
    for word in words:
        driver = drivers.DRIVERS[word]
        reasons = driver.check(facts)
        if not reasons:
            why = f"auto: {'; '.join(passed_over) or 'KVM runs guests here'}"
            return driver, why if guest.type == "auto" else "", None
        passed_over += [reason.why for reason in reasons]
    error = RequestError(
        f"guest {guest.name}: this host can't run `type: {guest.type}`",
        why="; ".join(dict.fromkeys(passed_over)),
        cure=reasons[0].cure,
        where=spec.where(("guests", guest.name, "type")),
    )
    return driver, "", error


def _image(spec: model.Spec, guest: model.Guest, decided: Decided) -> ImageRef:
    name, entry = guest.image, spec.images[guest.image]
    identity = image_identity(entry)
    made = decided.guests.get(guest.name)
    if made is not None and made.image_identity == identity:
        return ImageRef(name, entry, identity, made.image)
    return ImageRef(name, entry, identity, decided.images.get(identity))


def _volumes(guest: Guest) -> Iterable[Volume]:
    def volume(role: Any, name: str, **rest: Any) -> Volume:
        name = f"{guest.domain}-{name}"
        return Volume(role=role, name=name, key=f"{guest.folder}/{name}", **rest)

    size = guest.spec.disk or guest.files.size
    if guest.driver.root == "disk":
        backing = {"source": guest.files.root, "source_format": guest.files.format}
        yield volume("root", "root", size=size, format="qcow2", content="backed", **backing)
        yield volume("console", "console", size=0, format="raw", content="log")
    else:
        yield volume("root", "root", size=size, format="raw", content="ext4", label="root")
    yield volume("seed", "seed", size=0, format="raw", content="seed")
    if guest.spec.kernel is not None:
        for role, path in (
            ("kernel", guest.spec.kernel.path),
            ("initrd", guest.spec.kernel.initrd),
        ):
            if path:
                source = f"{guest.source_folder}/{path}" if not path.startswith("/") else path
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


# --- networks -----------------------------------------------------------------------------


def _used(spec: model.Spec) -> dict[str, model.Network]:
    """The networks that guests use, by name."""
    names = [link.name for guest in spec.guests.values() for link in guest.links]
    return {name: spec.networks[name] for name in dict.fromkeys(names)}


def _macs(spec: model.Spec) -> dict[tuple[str, int], str]:
    """The MAC of every link, by guest and index."""
    answer: dict[tuple[str, int], str] = {}
    every = [(g.name, i, link) for g in spec.guests.values() for i, link in enumerate(g.links)]
    for name, index, link in every:
        if link.mac:
            answer[name, index] = link.mac.lower()
    for name, index, link in every:
        if not link.mac:
            answer[name, index] = addresses.mac(
                spec.name, name, str(index), taken=set(answer.values())
            )
    return answer


def _subnets(
    spec: model.Spec, used: Mapping[str, model.Network], facts: HostFacts, decided: Decided
) -> dict[str, str]:
    """The IPv4 subnet of every network that virtkit makes or knows the subnet of."""
    answer = {name: n.cidr for name, n in used.items() if n.cidr}
    for name, network in used.items():
        if not network.made or name in answer:
            continue
        kept = decided.networks.get(name)
        occupied = {*facts.subnets, *answer.values()}
        answer[name] = kept or addresses.free_subnet(f"{spec.name}/{name}", occupied)
    return answer


def _dynamic(network: model.Network, cidr: str) -> tuple[str, str] | None:
    if network.dhcp is False:
        return None
    return (network.dhcp.start, network.dhcp.end) if network.dhcp else addresses.dynamic_range(cidr)


def _placed(
    spec: model.Spec,
    used: Mapping[str, model.Network],
    subnets: Mapping[str, str],
    decided: Decided,
) -> dict[tuple[str, int], str]:
    """The IPv4 address of every link whose network is ours, or that asks for one."""
    answer: dict[tuple[str, int], str] = {}
    for name, network in used.items():
        wanted = {
            (guest.name, index): link.address
            for guest in spec.guests.values()
            for index, link in enumerate(guest.links)
            if link.name == name
        }
        if not network.made:
            answer |= {link: address for link, address in wanted.items() if address}
            continue
        kept = {
            (guest, index): made.addresses[index]
            for (guest, index) in wanted
            if (made := decided.guests.get(guest)) and index < len(made.addresses)
            if made.addresses[index]
        }
        answer |= addresses.allocate(
            subnets[name], wanted, kept=kept, dynamic=_dynamic(network, subnets[name])
        )
    return answer


def _interface(
    environment: str,
    guest: model.Guest,
    index: int,
    mac: str,
    used: Mapping[str, model.Network],
    subnets: Mapping[str, str],
    placed: Mapping[tuple[str, int], str],
) -> Interface:
    link = guest.links[index]
    network = used[link.name]
    address = placed.get((guest.name, index), "")
    cidr = subnets.get(link.name, "")
    static = gateway = ""
    dns: tuple[str, ...] = ()
    if address and cidr and network.static:
        static = f"{address}/{IPv4Network(cidr).prefixlen}"
        own = str(IPv4Network(cidr)[1]) if network.made else ""
        gateway = network.gateway or (own if network.mode != "isolated" else "")
        dns = network.dns or ((own,) if own else ())
    if network.existing is not None:
        kind, source = "network", network.existing
    elif network.mode == "bridge":
        kind, source = "bridge", network.bridge or ""
    else:
        kind, source = "network", f"{environment}-{link.name}"
    return Interface(
        network=link.name,
        kind="bridge" if kind == "bridge" else "network",
        source=source,
        mac=mac,
        address=address,
        address6=addresses.slaac(network.ipv6, mac) if network.ipv6 and network.made else "",
        static=static,
        gateway=gateway,
        dns=dns,
        domain=network.domain or "",
    )


def _networks(
    environment: str,
    host: str,
    used: Mapping[str, model.Network],
    subnets: Mapping[str, str],
    guests: Iterable[Guest],
) -> Iterable[Network]:
    for name, network in used.items():
        if not network.made:
            continue
        yield Network(
            environment=environment,
            name=name,
            host=host,
            mode=network.mode,
            cidr=subnets[name],
            ipv6=network.ipv6 or "",
            domain=network.domain or "",
            dhcp=_dynamic(network, subnets[name]),
            reservations=tuple(
                Reservation(
                    mac=each.mac,
                    ip=each.address,
                    name=guest.name,
                    ip6=each.address6,
                    dhcp=not each.static,
                )
                for guest in guests
                for each in guest.interfaces
                if each.network == name
            ),
            asked=network.model_dump(mode="json"),
        )
