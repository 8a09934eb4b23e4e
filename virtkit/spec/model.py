"""What a spec says, as frozen data: sizes in bytes, durations in seconds, profiles merged.

The same models read the file, give the JSON Schema and reach every later stage. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    StrictBool,
    StrictInt,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from virtkit.drivers import DRIVERS
from virtkit.spec import sizes, values
from virtkit.spec.document import Path
from virtkit.spec.positions import Positions
from virtkit.spec.sizes import GIB, MIB, TIB
from virtkit.spec.value_error import Wrong, meant, quote

#: The validation context of data that stands in a file: there, sizes and durations have units.
#: Without it (Python's own callers) a number is bytes or seconds.
FROM_FILE = MappingProxyType({"from": "file"})
#: What pydantic puts into the path of an error inside ``dhcp``.
DHCP_RANGE = "<range>"

#: The image of a guest that names none.
DEFAULT_IMAGE = "debian-12"
#: The network of a guest that names none: nat, made where the spec does not describe it.
DEFAULT_NETWORK = "default"
#: The host that this machine is.
LOCAL = "local"

MOST_CPUS = 512
MOST_GUESTS = 1000
SMALLEST_MEMORY = 8 * MIB
LARGEST_MEMORY = 16 * TIB


def _memory(size: int) -> int:
    if not SMALLEST_MEMORY <= size <= LARGEST_MEMORY:
        raise Wrong(
            f"{sizes.format_size(size)} of memory is not what a guest can have",
            cure=f"say {sizes.format_size(SMALLEST_MEMORY)} to {sizes.format_size(LARGEST_MEMORY)}",
        )
    if size % MIB:
        near = sizes.format_size(round(size / MIB) * MIB)
        raise Wrong("memory comes in whole MiB", cure=f"say {near}")
    return size


def _disk_size(size: int) -> int:
    if size < MIB:
        raise Wrong(f"a disk of {sizes.format_size(size)} is too small", cure="say 1MiB or more")
    return size


def _type(word: str) -> str:
    known = [*DRIVERS, "auto"]
    if word not in known:
        raise Wrong(f"there is no guest type {quote(word)}", cure=meant(word, known))
    return word


def _type_schema(schema: dict[str, Any]) -> None:
    schema["enum"] = [*sorted(DRIVERS), "auto"]


def _size(value: object, info: ValidationInfo) -> int:
    if info.context is None and isinstance(value, int) and not isinstance(value, bool):
        return value
    return sizes.parse_size(value)


def _duration(value: object, info: ValidationInfo) -> float:
    if info.context is None and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return sizes.parse_duration(value)


Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"type": "string", "pattern": sizes.SIZE_PATTERN, "examples": ["2GiB"]}),
]
Memory = Annotated[Size, AfterValidator(_memory)]
DiskSize = Annotated[Size, AfterValidator(_disk_size)]
Duration = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": sizes.DURATION_PATTERN, "examples": ["5m"]}),
]
Label = Annotated[
    str, AfterValidator(values.label), Field(json_schema_extra={"pattern": values.LABEL_PATTERN})
]
DiskName = Annotated[
    str, AfterValidator(values.disk_name), Field(json_schema_extra={"pattern": values.DISK_PATTERN})
]
ForeignName = Annotated[str, AfterValidator(values.foreign_name)]
SshAddress = Annotated[str, AfterValidator(values.ssh_address)]
UserName = Annotated[str, AfterValidator(values.user_name)]
GroupName = Annotated[str, AfterValidator(values.group_name)]
Package = Annotated[str, AfterValidator(values.package_name)]
Release = Annotated[str, AfterValidator(values.release_name)]
HostPath = Annotated[str, AfterValidator(values.host_path)]
Variable = Annotated[
    str, AfterValidator(values.variable_name), Field(json_schema_extra={"pattern": values.VARIABLE})
]
KeyPath = Annotated[str, AfterValidator(values.key_path)]
MountPoint = Annotated[str, AfterValidator(values.mount_point)]
Mac = Annotated[str, AfterValidator(values.mac_address)]
Address = Annotated[str, AfterValidator(values.ipv4_address)]
ServerAddress = Annotated[str, AfterValidator(values.ip_address)]
Cidr = Annotated[str, AfterValidator(values.cidr)]
Ipv6Cidr = Annotated[str, AfterValidator(values.ipv6_cidr)]
DomainName = Annotated[str, AfterValidator(values.domain_name)]
BridgeName = Annotated[str, AfterValidator(values.bridge_name)]
Sha256 = Annotated[str, AfterValidator(values.sha256)]
Url = Annotated[str, AfterValidator(values.url)]
Line = Annotated[str, AfterValidator(values.printable)]
Command = Annotated[str, AfterValidator(values.command)]
Xml = Annotated[str, AfterValidator(values.xml)]
TypeWord = Annotated[str, AfterValidator(_type), Field(json_schema_extra=_type_schema)]
Permission = Literal["hostdev", "host-paths", "emulator", "commandline"]


class Model(BaseModel):
    """What all parts of a spec are: frozen, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Ssh(Model):
    """How ssh gets to a host, beyond what its own settings say."""

    port: StrictInt | None = Field(default=None, ge=1, le=65535, description="Its port.")
    key: HostPath | None = Field(
        default=None, description="The private key, from the spec's folder."
    )
    known_hosts: HostPath | None = Field(
        default=None, description="The file with the host's own key, from the spec's folder."
    )


class HostSpec(Model):
    """A machine with libvirt: ``local`` is this one, another one has an address."""

    address: SshAddress | None = Field(default=None, description="As for ssh: `root@rack1`.")
    ssh: Ssh = Field(default=Ssh(), description="How ssh gets there.")
    pool: ForeignName = Field(
        default="default", description="The libvirt storage pool for this host's volumes."
    )


class Build(Model):
    """An image made here from the distribution's own packages."""

    distribution: Literal["debian"] = Field(default="debian", description="The distribution.")
    release: Release = Field(default="bookworm", description="Its release, by code name.")
    packages: tuple[Package, ...] = Field(default=(), description="Packages beyond virtkit's own.")
    size: DiskSize = Field(default=4 * GIB, description="The size of the root file system.")


class Image(Model):
    """What a guest's root disk starts from: one of ``build``, ``url`` and ``path``."""

    build: Build | None = Field(default=None, description="Make it here; runs on every guest type.")
    url: Url | None = Field(default=None, description="Fetch it: http, https or file.")
    sha256: Sha256 | None = Field(default=None, description="The digest of what `url` gives.")
    checksums: Url | None = Field(
        default=None,
        description="The URL of a file with its digest: SHA256SUMS, SHA512SUMS, FILE.sha256, …",
    )
    path: HostPath | None = Field(
        default=None, description="A qcow2 or raw file, from the spec's folder."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Image:
        given = [key for key in ("build", "url", "path") if getattr(self, key) is not None]
        if len(given) != 1:
            raise Wrong(
                f"an image has {' and '.join(given) or 'none of build, url and path'}",
                cure="give exactly one of `build:`, `url:` and `path:`",
            )
        digests = [key for key in ("sha256", "checksums") if getattr(self, key) is not None]
        if given == ["url"] and len(digests) != 1:
            raise Wrong(
                "an image by url has both sha256 and checksums"
                if digests
                else "an image by url has no digest",
                why="what is fetched must be what was meant",
                cure="give one of `sha256:` and `checksums:`",
            )
        if given != ["url"] and digests:
            raise Wrong(f"{digests[0]} goes with url only", cure=f"take `{digests[0]}:` out")
        return self


#: Image names that need no entry under ``images``.
CATALOGUE: MappingProxyType[str, Image] = MappingProxyType(
    {DEFAULT_IMAGE: Image(build=Build(distribution="debian", release="bookworm"))}
)


class Dhcp(Model):
    """The range that DHCP gives addresses from, ends included."""

    start: Address = Field(description="The first address.")
    end: Address = Field(description="The last address.")


def _dhcp(value: object) -> object:
    if value is None or value is False or isinstance(value, (dict, Dhcp)):
        return value
    raise Wrong(
        "dhcp is neither a range nor false",
        cure="say `dhcp: {start: …, end: …}`, or `dhcp: false` for none, or leave it out",
    )


def _dhcp_kind(value: object) -> str:
    return "<off>" if value is False else DHCP_RANGE


DhcpRange = Annotated[
    Annotated[Dhcp, Tag(DHCP_RANGE)] | Annotated[Literal[False], Tag("<off>")],
    Discriminator(_dhcp_kind),
]


class NetworkSpec(Model):
    """A network of an environment, or one of libvirt's that is there already."""

    mode: Literal["nat", "isolated", "routed", "bridge"] = Field(
        default="nat", description="How the network reaches others."
    )
    cidr: Cidr | None = Field(default=None, description="Its IPv4 network; left out, a free /24.")
    ipv6: Ipv6Cidr | None = Field(default=None, description="Its IPv6 network, a /64.")
    domain: DomainName | None = Field(
        default=None, description="Guests resolve each other as NAME.DOMAIN."
    )
    dhcp: Annotated[DhcpRange | None, BeforeValidator(_dhcp)] = Field(
        default=None, description="The range that DHCP gives out, or false for no DHCP."
    )
    bridge: BridgeName | None = Field(
        default=None, description="The host's bridge, for mode bridge."
    )
    gateway: ServerAddress | None = Field(
        default=None, description="The guests' gateway where no DHCP tells them."
    )
    dns: tuple[ServerAddress, ...] = Field(
        default=(), description="The guests' name servers where no DHCP tells them."
    )
    existing: ForeignName | None = Field(
        default=None, description="A libvirt network that is there already; never changed."
    )

    @property
    def subnet(self) -> IPv4Network | None:
        """The IPv4 network, where the spec says it."""
        return IPv4Network(self.cidr) if self.cidr else None

    @property
    def made(self) -> bool:
        """Whether virtkit makes it on its hosts."""
        return self.existing is None and self.mode != "bridge"

    @property
    def static(self) -> bool:
        """Whether guests' fixed addresses go into their seed, for want of virtkit's DHCP."""
        return self.mode == "bridge" or self.dhcp is False

    @model_validator(mode="after")
    def _agrees(self) -> NetworkSpec:
        if self.existing is not None:
            self._only_existing()
        elif self.mode == "bridge":
            self._only_bridge()
        elif self.bridge is not None:
            raise Wrong(
                f"bridge goes with mode bridge, this network's is {self.mode}",
                cure="say `mode: bridge`, or take `bridge:` out",
            )
        self._addresses()
        return self

    def _only_existing(self) -> None:
        others = sorted(self.model_fields_set - {"existing"})
        if others:
            raise Wrong(
                f"a network with existing has {', '.join(others)} too",
                why="virtkit never changes a network that was there already",
                cure=f"take {', '.join(f'`{key}:`' for key in others)} out",
            )

    def _only_bridge(self) -> None:
        if self.bridge is None:
            raise Wrong(
                "a network of mode bridge does not say which bridge",
                cure="say `bridge: br0`",
            )
        for key in ("domain", "ipv6", "dhcp"):
            if getattr(self, key):
                raise Wrong(
                    f"{key} cannot be had with mode bridge",
                    why="virtkit makes no network there, the bridge's own network rules",
                    cure=f"take `{key}:` out",
                )

    def _addresses(self) -> None:
        subnet = self.subnet
        if self.dhcp:
            self._range(self.dhcp, subnet)
        if (self.gateway or self.dns) and not self.static:
            raise Wrong(
                "gateway and dns go with mode bridge or `dhcp: false`",
                why="elsewhere libvirt's DHCP tells guests both",
                cure="take them out",
            )
        if self.gateway:
            if subnet is None:
                raise Wrong("a gateway is given and no cidr", cure="say `cidr:` too")
            reason = not_a_guest(self.gateway, subnet)
            if reason:
                raise Wrong(
                    f"the gateway {self.gateway} is {reason}",
                    cure=f"say an address such as {subnet[1]}",
                )

    def _range(self, dhcp: Dhcp, subnet: IPv4Network | None) -> None:
        if subnet is None:
            raise Wrong("a dhcp range is given and no cidr", cure="say `cidr:` too")
        if IPv4Address(dhcp.end) < IPv4Address(dhcp.start):
            raise Wrong(f"the dhcp range ends at {dhcp.end}, before its start", cure="swap the two")
        for address in (dhcp.start, dhcp.end):
            reason = not_a_guest(address, subnet)
            if not reason and address == str(subnet[1]):
                reason = "the host's own on this network"
            if reason:
                raise Wrong(
                    f"the dhcp range's {address} is {reason}",
                    cure=f"keep it within {subnet[2]} to {subnet[-2]}",
                )


def not_a_guest(address: str, subnet: IPv4Network) -> str:
    """Why no machine of ``subnet`` can have ``address``; empty where one can."""
    ip = IPv4Address(address)
    if ip not in subnet:
        return f"outside {subnet}"
    if ip == subnet.network_address:
        return f"the address of the network {subnet} itself"
    if ip == subnet.broadcast_address:
        return f"the broadcast address of {subnet}"
    return ""


class Disk(Model):
    """A disk beside the root disk."""

    name: DiskName = Field(description="Its name, and its file system's label.")
    size: DiskSize = Field(description="Its size.")
    mount: MountPoint | None = Field(
        default=None, description="Where it is mounted, as ext4; without it, a blank disk."
    )
    keep: StrictBool = Field(default=False, description="Only `down --volumes` removes it.")


def _schema_or_text(schema: dict[str, Any]) -> None:
    own = {key: schema.pop(key) for key in list(schema)}
    schema["anyOf"] = [{"type": "string"}, own]


class InterfaceSpec(Model):
    """A guest's network card. A plain name is short for a map with ``name`` only."""

    model_config = ConfigDict(json_schema_extra=_schema_or_text)

    name: Label = Field(description="The network.")
    address: Address | None = Field(
        default=None, description="Its IPv4 address; counts up with `count`."
    )
    mac: Mac | None = Field(default=None, description="Its MAC address; counts up with `count`.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


def _ready_schema(schema: dict[str, Any]) -> None:
    own = {key: schema.pop(key) for key in list(schema)}
    words = ["ssh", "address", "none"]
    schema["anyOf"] = [{"type": "string", "enum": words}, own]


class Ready(Model):
    """When a guest counts as ready. A plain word is short for a map with ``kind`` only."""

    model_config = ConfigDict(json_schema_extra=_ready_schema)

    kind: Literal["ssh", "address", "port", "command", "none"] = Field(
        default="ssh", description="What is asked; told by `port` and `command` where they stand."
    )
    port: Annotated[StrictInt, Field(ge=1, le=65535)] | None = Field(
        default=None, description="The TCP port that must answer."
    )
    command: Command | None = Field(
        default=None, description="What must end with 0 in the guest, run as root."
    )
    timeout: Duration | None = Field(default=None, description="How long to wait; by default 5m.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if isinstance(value, str):
            if value in ("port", "command"):
                example = "80" if value == "port" else "systemctl is-active nginx"
                raise Wrong(
                    f"ready does not say which {value}", cure=f"say `ready: {{{value}: {example}}}`"
                )
            if value in ("ssh", "address", "none"):
                return {"kind": value}
        elif isinstance(value, dict):
            given = [key for key in ("port", "command") if value.get(key) is not None]
            return {"kind": given[0], **value} if given else value
        elif isinstance(value, Ready):
            return value
        raise Wrong(
            f"{quote(value)} is not a way to be ready",
            cure="say ssh, address, none, {port: N} or {command: …}",
        )

    @model_validator(mode="after")
    def _agrees(self) -> Ready:
        given = [key for key in ("port", "command") if getattr(self, key) is not None]
        wanted = [self.kind] if self.kind in ("port", "command") else []
        if wanted and not given:
            raise Wrong(
                f"ready does not say which {self.kind}", cure=f"add `{self.kind}:` beside `kind:`"
            )
        if given != wanted:
            raise Wrong(
                f"ready asks for {' and '.join(dict.fromkeys([self.kind, *given]))}",
                why="a guest is ready in one way; maps of defaults, profiles and guest are merged",
                cure="keep one; `port: null` or `command: null` takes an inherited one away",
            )
        return self


class Kernel(Model):
    """A kernel to boot directly, from the caller's files."""

    path: HostPath = Field(
        description="The kernel's file, from the spec's folder; another content is a change."
    )
    initrd: HostPath | None = Field(default=None, description="The initrd's file.")
    cmdline: Line | None = Field(default=None, description="The kernel's command line.")


class Most(Model):
    """How far a running guest may grow."""

    cpus: Annotated[StrictInt, Field(ge=1, le=MOST_CPUS)] | None = Field(
        default=None, description="Virtual CPUs; left out, what it has."
    )
    memory: Memory | None = Field(default=None, description="Memory; left out, what it has.")


class GuestKeys(Model):
    """The keys that a guest may have, in the file and after merging alike."""

    type: TypeWord = Field(default="auto", description="The virtualization it uses.")
    image: Label = Field(
        default=DEFAULT_IMAGE,
        description="An entry of `images`, or a name that the catalogue knows.",
    )
    description: Line | None = Field(
        default=None, description="A text about it that libvirt shows (`virsh desc`)."
    )
    cpus: Annotated[StrictInt, Field(ge=1, le=MOST_CPUS)] = Field(
        default=1, description="Virtual CPUs."
    )
    memory: Memory = Field(default=GIB, description="Memory, in whole MiB.")
    max: Most = Field(
        default=Most(), description="How far it may grow while it runs; left out, what it has."
    )
    disk: DiskSize | None = Field(
        default=None, description="The root disk, grown from the image; never shrunk."
    )
    disks: tuple[Disk, ...] = Field(
        default=(), description="Disks beside the root disk.", max_length=16
    )
    networks: tuple[InterfaceSpec, ...] | None = Field(
        default=None,
        description="Network cards; left out, the nat network `default`; [] for none.",
        max_length=16,
    )
    user: UserName = Field(default="virtkit", description="The login that the image gets.")
    ssh_keys: tuple[KeyPath, ...] | None = Field(
        default=None, description="Files with public keys; left out, the caller's own."
    )
    cloud_init: dict[str, Any] = Field(
        default_factory=dict, description="Merged into the cloud-init user-data."
    )
    groups: tuple[GroupName, ...] = Field(default=(), description="Ansible groups.")
    vars: dict[Variable, Any] = Field(
        default_factory=dict, description="Ansible variables: inventory, plugin and playbooks."
    )
    playbooks: tuple[HostPath, ...] = Field(
        default=(),
        description="Run by Ansible once ssh answers, before `ready` is asked.",
        max_length=16,
    )
    after: tuple[Label, ...] = Field(
        default=(), description="Guests that must be ready before it starts."
    )
    ready: Ready = Field(
        default=Ready(),
        description="When it counts as ready.",
        json_schema_extra={"default": "ssh"},
    )
    host: Label | None = Field(
        default=None,
        description="The host it is on; left out, the only one, else `local`, or the only one "
        "that runs its type.",
    )
    autostart: StrictBool = Field(default=False, description="Started with the host.")
    kernel: Kernel | None = Field(default=None, description="Direct boot of a kernel of your own.")
    firmware: Literal["bios", "uefi"] = Field(
        default="bios", description="A virtual machine's firmware."
    )
    privileged: StrictBool = Field(
        default=False,
        description="Containers: without user namespace and capability limits.",
    )
    console: Literal["serial"] = Field(default="serial", description="The guest's console.")
    graphics: Literal["none", "vnc"] = Field(
        default="none", description="VNC listens on loopback only."
    )
    template: HostPath | None = Field(
        default=None, description="A Jinja template of domain XML instead of the type's own."
    )
    devices: tuple[Xml, ...] = Field(
        default=(), description="Raw libvirt XML, added under <devices>."
    )
    allow: tuple[Permission, ...] = Field(
        default=(), description="What `devices` and `template` may use that reaches the host."
    )


class GuestEntry(GuestKeys):
    """A guest, a profile or the defaults as the file has them."""

    count: Annotated[StrictInt, Field(ge=1, le=MOST_GUESTS)] | None = Field(
        default=None, description="Make that many: NAME-1, NAME-2, …"
    )
    profiles: tuple[Label, ...] = Field(
        default=(), description="Profiles to take keys from; later win."
    )


class GuestSpec(GuestKeys):
    """One guest, all merged: what one virtual machine or container is to be.

    Attributes:
        name: its name in the environment, ``web-1``.
        base: its key under ``guests``, ``web``.
        index: its number from 1 where the entry has a ``count``, else None.
        core_cloud_init: its ``cloud_init`` with plain words by YAML 1.2, as 0.1.0 read them, where
            that differs: what that version recorded is compared with it.
    """

    name: str
    base: str
    index: int | None = None
    core_cloud_init: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)

    @property
    def links(self) -> tuple[InterfaceSpec, ...]:
        """Its network cards, the one on the network ``default`` included."""
        return (InterfaceSpec(name=DEFAULT_NETWORK),) if self.networks is None else self.networks

    @property
    def most_cpus(self) -> int:
        """Virtual CPUs that it can be given while it runs."""
        return self.max.cpus or self.cpus

    @property
    def most_memory(self) -> int:
        """Bytes of memory that it can be given while it runs."""
        return self.max.memory or self.memory

    @property
    def asked(self) -> dict[str, Any]:
        """All that the spec asks of it, as data that JSON can hold, the same for the same spec."""
        return self.model_dump(mode="json")


class Spec(Model):
    """One environment.

    Attributes:
        name: the environment's name.
        source: the path of the file as it was given, or ``<stdin>``.
        folder: the folder that the spec's paths are relative to, absolute.
        images: by name; complete for the guests, so entries of the catalogue stand here too.
        networks: by name; complete for the guests, so ``default`` stands here where it is used.
        guests: by their final names, in the file's order.
        hosts: by name; ``local`` where there is no other, or a guest needs it.
    """

    name: str
    source: str
    folder: FilePath
    images: dict[str, Image]
    networks: dict[str, NetworkSpec]
    guests: dict[str, GuestSpec]
    hosts: dict[str, HostSpec]

    @property
    def host(self) -> str:
        """The host, where there is one."""
        (name,) = self.hosts
        return name

    def host_of(self, guest: str) -> str | None:
        """The host of a guest as far as the spec alone says it."""
        named = self.guests[guest].host
        return named or (self.host if len(self.hosts) == 1 else None)

    def part(self, host: str, guests: Collection[str]) -> Spec:
        """What of it is on one host: the ``guests`` that are there."""
        there = {name: guest for name, guest in self.guests.items() if name in guests}
        return self.model_copy(update={"hosts": {host: self.hosts[host]}, "guests": there})

    _positions: Positions = PrivateAttr(default_factory=Positions)

    def position(self, path: Path = ()) -> str:
        """``FILE:LINE:COL`` of a key, or of the nearest one above it that the file has.

        Args:
            path: keys and indices, such as ``("guests", "web-1", "memory")``. A guest goes by
                its final name or its key; where the value comes from a profile or the
                defaults, the place is there.
        """
        return f"{self.source}:{self._positions.find(path)[0]}"

    def where(self, path: Path) -> str:
        """``FILE:LINE:COL PATH`` of a key, as in an error's ``where``."""
        mark, found = self._positions.find(path)
        return f"{self.source}:{mark} {found}".rstrip()
