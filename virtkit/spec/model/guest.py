"""A guest with its disks and network interfaces, as a spec describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    SkipValidation,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from virtkit.spec.model.base import (
    DEFAULT_IMAGE,
    DEFAULT_NETWORK,
    DEFAULT_USER,
    MAX_CPUS,
    MAX_GUESTS,
    Address,
    ForeignName,
    GroupName,
    GuestNumber,
    GuestType,
    HostPath,
    ImageName,
    Ipv6Address,
    KeyPath,
    Label,
    Line,
    Mac,
    Memory,
    Model,
    Permission,
    UserName,
    Variable,
    Xml,
    without,
)
from virtkit.spec.model.boot import BOOT_DISK, CheckedBootOrder
from virtkit.spec.model.cpu import Cpu
from virtkit.spec.model.disk import Disk, RootDisk
from virtkit.spec.model.display import Graphics
from virtkit.spec.model.folder import Folder, HostDevice
from virtkit.spec.model.guest_file import GuestFile
from virtkit.spec.model.ignition import Ignition
from virtkit.spec.model.numa import PageSize
from virtkit.spec.model.ready import Ready
from virtkit.spec.model.secret import Password
from virtkit.spec.problem import Problem
from virtkit.spec.sizes import GIB


def _schema_or_text(schema: dict[str, Any]) -> None:
    own = {key: schema.pop(key) for key in list(schema)}
    schema["anyOf"] = [{"type": "string"}, own]


#: What of a network interface no record mentions where the spec does not.
CARD_OPTIONS = ("address6", "model", "mtu", "portgroup", "queues", "vlan")


class InterfaceSpec(Model):
    """A guest's network interface. A plain name is short for a map with ``name`` only."""

    model_config = ConfigDict(json_schema_extra=_schema_or_text)

    name: Label = Field(description="The network.")
    address: Address | None = Field(
        default=None, description="Its IPv4 address; counts up with `count`."
    )
    address6: Ipv6Address | None = Field(
        default=None,
        description="Its IPv6 address, which goes into the seed; counts up with `count`. Left out, "
        "it follows from the MAC address.",
    )
    mac: Mac | None = Field(default=None, description="Its MAC address; counts up with `count`.")
    model: Literal["virtio", "e1000", "e1000e", "rtl8139", "vmxnet3"] | None = Field(
        default=None, description="The card that the guest sees; left out, the type's own."
    )
    mtu: Annotated[StrictInt, Field(ge=576, le=65535)] | None = Field(
        default=None, description="Its largest packet, in bytes; left out, the network's."
    )
    queues: Annotated[StrictInt, Field(ge=1, le=256)] | None = Field(
        default=None, description="Pairs of queues, for several CPUs; a virtio card's only."
    )

    vlan: Annotated[StrictInt, Field(ge=1, le=4094)] | None = Field(
        default=None,
        description="The VLAN that it is in; on a bridge or an existing network of Open vSwitch "
        "alone. Not tried on a real Open vSwitch.",
    )
    portgroup: ForeignName | None = Field(
        default=None, description="A portgroup that an existing network has for it."
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.queues is not None and self.model not in (None, "virtio"):
            raise Problem(
                f"a card of the model {self.model} has one queue",
                cure="remove `queues:`, or use `model: virtio`",
            )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without(serialize(self), CARD_OPTIONS)


class Kernel(Model):
    """A kernel to boot directly, from the caller's files."""

    path: HostPath = Field(
        description="The kernel's file, from the spec's folder; another content is a change."
    )
    initrd: HostPath | None = Field(default=None, description="The initrd's file.")
    cmdline: Line | None = Field(default=None, description="The kernel's command line.")


class Max(Model):
    """How far a running guest may grow."""

    cpus: Annotated[StrictInt, Field(ge=1, le=MAX_CPUS)] | None = Field(
        default=None, description="Virtual CPUs; left out, what it has."
    )
    memory: Memory | None = Field(default=None, description="Memory; left out, what it has.")


def _name_or_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


#: Guests by their names, or by the names of their entries; one alone needs no list.
_Others = Annotated[
    tuple[Label, ...],
    BeforeValidator(_name_or_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class Place(Model):
    """How one of several hosts is chosen for a guest that names none."""

    spread: Label | None = Field(
        default=None,
        description="Evenly over hosts with different values of this label; `host`: over hosts.",
    )
    apart: _Others = Field(default=(), description="Guests that its host must not have.")
    beside: _Others = Field(
        default=(), alias="with", description="Guests of which its host must have one."
    )
    pack: StrictBool = Field(
        default=False,
        description="The fullest host with room for it; by default the one with most room.",
    )


class GuestFields(Model):
    """The keys that a guest may have, in the file and after merging alike."""

    type: GuestType = Field(default="auto", description="The virtualization it uses.")
    image: ImageName = Field(
        default=DEFAULT_IMAGE,
        description="An entry of `images`, or a name that the catalogue knows; `none` for a blank "
        "root disk of the size `disk`, or for no root disk.",
    )
    description: Line | None = Field(
        default=None, description="A text about it that libvirt shows (`virsh desc`)."
    )
    cpus: Annotated[StrictInt, Field(ge=1, le=MAX_CPUS)] = Field(
        default=1, description="Virtual CPUs."
    )
    memory: Memory = Field(default=GIB, description="Memory, in whole MiB.")
    hugepages: PageSize | None = Field(
        default=None,
        description="Its memory is of the host's huge pages of this size; enough must be free "
        "where it starts. Tried with 2MiB.",
    )
    cpu: Cpu = Field(default=Cpu.model_construct(), description="The processor that it sees.")
    max: Max = Field(
        default=Max.model_construct(),
        description="How far it may grow while it runs; left out, what it has.",
    )
    disk: RootDisk = Field(
        default=RootDisk.model_construct(),
        description="The root disk, grown from the image; never shrunk.",
        json_schema_extra={"default": None},
    )
    disks: tuple[Disk, ...] = Field(
        default=(), description="Disks beside the root disk.", max_length=16
    )
    cdroms: tuple[HostPath, ...] = Field(
        default=(),
        description="Images of discs, each copied into the pool and put into a drive; changed and "
        "ejected while the guest runs.",
        max_length=4,
    )
    boot: CheckedBootOrder = Field(
        default=BOOT_DISK,
        description="What it boots from, the first choice first: `disk` is the root disk, `cdrom` "
        "and `network` are all of them.",
    )
    folders: tuple[Folder, ...] = Field(
        default=(), description="Folders of the host that it sees.", max_length=16
    )
    networks: tuple[InterfaceSpec, ...] | None = Field(
        default=None,
        description="Network interfaces; left out, the nat network `default`; [] for none.",
        max_length=16,
    )
    user: UserName = Field(default=DEFAULT_USER, description="The login that the image gets.")
    ssh_keys: tuple[KeyPath, ...] | None = Field(
        default=None, description="Files with public keys; left out, the caller's own."
    )
    cloud_init: dict[str, Any] = Field(
        default_factory=dict, description="Merged into the cloud-init user-data.", repr=False
    )
    user_data: HostPath | None = Field(
        default=None,
        description="A file of cloud-config, laid under `cloud_init` and part of it.",
    )
    password: Password | None = Field(
        default=None, description="The login's password, for its console.", repr=False
    )
    files: tuple[GuestFile, ...] = Field(
        default=(),
        description="Files that it is given; one that leaves the list stays in the guest.",
        max_length=64,
        repr=False,
    )
    ignition: Ignition | None = Field(
        default=None, description="An Ignition file, for CoreOS and its kin; then it has no seed."
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
        default=Ready.model_construct(),
        description="When it counts as ready.",
        json_schema_extra={"default": "ssh"},
    )
    host: Label | None = Field(
        default=None,
        description="The host it is on; left out, the only one, else `local`, or the only one "
        "that runs its type.",
    )
    place: Place | None = Field(
        default=None,
        description="How its host is chosen where `host` is left out; kept once it is made.",
    )
    autostart: StrictBool = Field(default=False, description="Started with the host.")
    start: StrictBool = Field(
        default=True,
        description="False: it is made, and left off; `virtkit start SPEC GUEST` starts it.",
    )
    kernel: Kernel | None = Field(default=None, description="Direct boot of a kernel of your own.")
    firmware: Literal["bios", "uefi", "secure"] = Field(
        default="bios",
        description="A virtual machine's firmware; `secure` is UEFI with Secure Boot on, and "
        "Microsoft's keys.",
    )
    system: Literal["linux", "windows"] = Field(
        default="linux",
        description="What runs in it. Windows gets the local clock, Hyper-V's interfaces, SATA and "
        "e1000e where the spec names nothing else, and no seed; nobody has tried it yet.",
    )
    tpm: StrictBool = Field(
        default=False, description="An emulated TPM 2.0; its host needs the package swtpm."
    )
    privileged: StrictBool = Field(
        default=False,
        description="Containers: without user namespace and capability limits.",
    )
    console: Literal["serial"] = Field(default="serial", description="The guest's console.")
    graphics: Graphics = Field(
        default=Graphics.model_construct(),
        description="Its display.",
        json_schema_extra={"default": "none"},
    )
    sound: StrictBool = Field(default=False, description="A sound card; spice plays it.")
    template: HostPath | None = Field(
        default=None, description="A Jinja template of domain XML instead of the type's own."
    )
    devices: tuple[Xml, ...] = Field(
        default=(), description="Raw libvirt XML, added under <devices>."
    )
    host_devices: tuple[HostDevice, ...] = Field(
        default=(),
        description="Devices of the host that it gets, by PCI address, USB vendor and product, or "
        "path; with `allow: [hostdev]`. PCI and USB are untested.",
        max_length=16,
    )
    allow: tuple[Permission, ...] = Field(
        default=(),
        description="What may reach the host of `devices`, `template`, `folders`, `host_devices` "
        "and a display's `listen`.",
    )


class GuestEntry(GuestFields):
    """A guest, a profile or the defaults as the file has them."""

    count: Annotated[StrictInt, Field(ge=1, le=MAX_GUESTS)] | None = Field(
        default=None, description="Make so many guests: NAME-1, NAME-2, …"
    )
    profiles: tuple[Label, ...] = Field(
        default=(), description="Profiles to take keys from; later win."
    )
    each: dict[GuestNumber, SkipValidation[GuestFields]] = Field(
        default_factory=dict,
        description="With `count`: what one of them has for itself, by its number.",
    )


class GuestSpec(GuestFields):
    """One guest, all merged: what one virtual machine or container is to be.

    Attributes:
        name: its name in the environment, ``web-1``.
        base: its key under ``guests``, ``web``.
        index: its number from 1 where the entry has a ``count``, else None.
        core_cloud_init: its ``cloud_init`` with plain scalars by YAML 1.2, as 0.1.0 read them,
            where that differs: what that version recorded is compared with it.
        written_cloud_init: what of its ``cloud_init`` stands in the spec, where ``user_data``
            brings more.
        file_contents: what is in each of its ``files``, by path; of one that can't be read nothing.
        password_text: its ``password`` or the hash of it, where there is one that can be read.
        ignition_bytes: what is in its ``ignition``; nothing where that can't be read.
    """

    name: str
    base: str
    index: int | None = None
    core_cloud_init: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)
    written_cloud_init: dict[str, Any] | None = Field(default=None, exclude=True, repr=False)
    file_contents: dict[str, bytes] = Field(default_factory=dict, exclude=True, repr=False)
    password_text: str | None = Field(default=None, exclude=True, repr=False)
    ignition_bytes: bytes = Field(default=b"", exclude=True, repr=False)

    @property
    def interfaces(self) -> tuple[InterfaceSpec, ...]:
        """Its network interfaces, the one on the network ``default`` included."""
        if self.networks is None:
            return (InterfaceSpec.model_construct(name=DEFAULT_NETWORK),)
        return self.networks

    @property
    def existing(self) -> tuple[str, ...]:
        """What it has of disks that its host has already, as the spec names them."""
        return tuple(each.existing for each in (self.disk, *self.disks) if each.existing)

    def is_elsewhere(self, other: GuestSpec) -> bool:
        """Whether the spec puts it on another host than ``other``."""
        return None not in (self.host, other.host) and self.host != other.host

    @property
    def max_cpus(self) -> int:
        """Virtual CPUs that it can be given while it runs."""
        return self.max.cpus or self.cpus

    @property
    def max_memory(self) -> int:
        """Bytes of memory that it can be given while it runs."""
        return self.max.memory or self.memory

    @property
    def requested(self) -> dict[str, Any]:
        """All that the spec asks of it, as data that JSON can hold, the same for the same spec."""
        dumped = self.model_dump(mode="json", by_alias=True)
        written = self.written_cloud_init
        return dumped if written is None else dumped | {"cloud_init": written}
