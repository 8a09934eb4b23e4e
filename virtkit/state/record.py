"""What virtkit notes about an object in libvirt: the only state that a plan rests on.

Pure. It must never hold a secret: every local user can read it. Its text: record_text.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from virtkit._dataclass import dataclass
from virtkit.facts import DiskSource
from virtkit.spec import DEFAULT_NETWORK
from virtkit.spec.values import is_mac_address
from virtkit.state.image import ImageFiles
from virtkit.state.network import Reservation

if TYPE_CHECKING:
    from virtkit.state.desired import Guest, Network, Playbooks, Volume

#: ``wanted``: may be made (again); ``made``: never touched but by delete; ``deleting``: on its
#: way out, to be deleted and recreated.
VolumeState = Literal["wanted", "made", "deleting"]
#: Why something is to be changed: the spec, somebody else's change, an interrupted run, or that
#: virtkit renders it differently than before.
Cause = Literal["spec", "drift", "unfinished", "upgrade"]


@dataclass(frozen=True)
class VolumeRecord:
    """One volume that belongs to a guest."""

    name: str
    key: str
    role: str
    state: VolumeState = "wanted"
    keep: bool = False
    target: str = ""


@dataclass(frozen=True)
class ExistingDisk:
    """A disk that the host had already, and keeps: nobody formats, grows or deletes it.

    Attributes:
        name: the disk's name in the spec; ``root`` is the root disk.
        existing: what the spec calls it.
        kind, path: as in ``facts.DiskSource``.
        format: what it is read as.
    """

    name: str
    existing: str
    kind: Literal["file", "block", "volume"]
    path: str
    format: Literal["raw", "qcow2"]
    target: str = ""

    @property
    def source(self) -> DiskSource:
        """The same as a fact of the host."""
        return DiskSource(self.kind, self.path)


@dataclass(frozen=True)
class InterfaceRecord:
    """One network interface: the network's name in libvirt (or its bridge), and what it got."""

    source: str
    mac: str
    address: str = ""
    address6: str = ""


@dataclass(frozen=True)
class Provisioned:
    """The playbooks that a guest was last given, and how they ended.

    ``ended`` is empty from their start on, and so after a kill. ``at``: when, in UTC (ISO 8601);
    ``changed``: how many tasks changed something.
    """

    playbooks: tuple[str, ...]
    digest: str
    ended: Literal["", "ok", "failed"] = ""
    at: str = ""
    changed: int = 0

    def has(self, wanted: Playbooks) -> bool:
        """Whether the guest has what these playbooks bring."""
        return self.ended == "ok" and self.is_of(wanted)

    def is_of(self, wanted: Playbooks) -> bool:
        """Whether it was given these playbooks, as their files are now."""
        return self.digest in (wanted.digest, wanted.former_digest)


@dataclass(frozen=True)
class GuestRecord:
    """What a domain carries: who asked for it, what was requested, what was decided, what is made.

    Attributes:
        existing: the disks that its host had already; none of its volumes, whatever becomes of it.
        rendered: the XML that was defined, without metadata; what others added isn't in it.
        rewritten: places that libvirt changed when it was defined (paths of xml.diff.Difference).
        staged: fields whose change waits for the next boot, and the cause of each;
            ``staged_in``: libvirt's id of the running guest, another one after each start.
        detaching: places in the former ``rendered`` that the running guest may still have.
        keys: the public keys that it lets in: those that it was given, and while they change both
            the old and the new ones. None where an older version made it, and nobody knows.
        former_ssh_keys: while they change, the files that the spec named before: the private half
            of a key that the guest still lets in may be beside one of them.
        instance: cloud-init's instance-id, new for each life of the guest.
        provisioned: what Ansible did in it last; None where it was given no playbooks.
        booted: it was finished once in this life, so it has its host key and its user.
        made_from: the name of the machine that it was made from, where that is not its host: the
            spec is a file there. Empty, too, where an older version made it.
    """

    environment: str
    guest: str
    type: str
    spec: str
    requested: Mapping[str, Any]
    image_identity: str
    image: ImageFiles | None
    interfaces: tuple[InterfaceRecord, ...] = ()
    volumes: tuple[VolumeRecord, ...] = ()
    existing: tuple[ExistingDisk, ...] = ()
    host_key: str = ""
    keys: tuple[str, ...] | None = None
    former_ssh_keys: tuple[str, ...] = ()
    instance: str = ""
    fqdn: str = ""
    rendered: str = ""
    rewritten: tuple[str, ...] = ()
    staged: Mapping[str, Cause] = field(default_factory=dict)
    staged_in: str = ""
    detaching: tuple[str, ...] = ()
    booted: bool = False
    finished: bool = False
    confinement: str = ""
    ids: int = 0
    provisioned: Provisioned | None = None
    made_from: str = ""

    @property
    def domain(self) -> str:
        """The guest's name in libvirt."""
        return f"{self.environment}-{self.guest}"

    @property
    def key_files(self) -> list[str] | None:
        """The files of keys that it may let in, as specs name them; None where these are the
        caller's own."""
        requested: list[str] | None = self.requested.get("ssh_keys")
        return [*(requested or ()), *self.former_ssh_keys] if self.former_ssh_keys else requested

    @property
    def folder(self) -> str:
        """The folder of its volumes; empty where it has none."""
        return next((str(PurePosixPath(each.key).parent) for each in self.volumes), "")

    @property
    def addresses(self) -> list[str]:
        """The addresses that its interfaces were given, IPv4 first."""
        addresses = [each.address for each in self.interfaces] + [
            each.address6 for each in self.interfaces
        ]
        return [each for each in addresses if each]

    @property
    def targets(self) -> dict[str, str]:
        """The device names of its disks, by volume; of those that exist by the name that a volume
        of theirs would have."""
        existing = {f"{self.domain}-{each.name}": each.target for each in self.existing}
        return {each.name: each.target for each in self.volumes if each.target} | existing

    @property
    def sources(self) -> dict[str, DiskSource]:
        """The disks that its host had already, as the spec names them."""
        return {each.existing: each.source for each in self.existing}

    @property
    def given_macs(self) -> dict[tuple[str, int], str]:
        """The MACs that the spec did not say, by the network's name and which interface on it."""
        requested = self.requested.get("networks")
        entries = requested if isinstance(requested, list) else [{"name": DEFAULT_NETWORK}]
        if len(entries) != len(self.interfaces) or not all(isinstance(e, dict) for e in entries):
            return {}
        names = [each.get("name") for each in entries]
        return {
            (str(name), names[:at].count(name)): self.interfaces[at].mac
            for at, name in enumerate(names)
            if not entries[at].get("mac") and is_mac_address(self.interfaces[at].mac)
        }

    def is_covered_by(self, other: GuestRecord | None) -> bool:
        """Whether ``other`` is this guest's record too, and lists all the volumes of this one."""
        return (
            other is not None
            and (other.environment, other.guest) == (self.environment, self.guest)
            and {each.key for each in self.volumes} <= {each.key for each in other.volumes}
        )

    def for_pool_record(self) -> GuestRecord:
        """What the pool's record says of the guest: what it takes to define it again."""
        return replace(self, rendered="", rewritten=(), staged={}, staged_in="", detaching=())

    def with_state(self, state: VolumeState) -> GuestRecord:
        """The same record with all volumes in ``state``."""
        return replace(self, volumes=tuple(replace(each, state=state) for each in self.volumes))


@dataclass(frozen=True)
class NetworkRecord:
    """What a network carries. ``made_from`` is as in a guest's record.

    ``outdated``: places in the former ``rendered`` that the active network may have until it starts
    again.
    """

    environment: str
    network: str
    spec: str
    requested: Mapping[str, Any]
    cidr: str
    reservations: tuple[Reservation, ...] = ()
    rendered: str = ""
    rewritten: tuple[str, ...] = ()
    made_from: str = ""
    outdated: tuple[str, ...] = ()

    def is_same_network(self, other: NetworkRecord | None) -> bool:
        """Whether ``other`` is this network's record too."""
        return other is not None and (other.environment, other.network) == (
            self.environment,
            self.network,
        )


@dataclass(frozen=True)
class StoredImage:
    """An image in the pool.

    Attributes:
        identities: the specs' entries that it was made from (state/image.image_identity).
        made: the upload is complete.
        bytes: the length of its root's file; 0 where an older version did not say.
    """

    name: str
    identities: tuple[str, ...]
    files: ImageFiles
    made: bool = False
    bytes: int = 0


@dataclass(frozen=True)
class KeptDisk:
    """A disk that outlived its guest (``keep: true``).

    ``spec`` is the path that its guest was made from; empty where an older version did not say.
    ``made_from`` is as its guest's.
    """

    environment: str
    guest: str
    name: str
    key: str
    spec: str = ""
    made_from: str = ""

    def belongs_to(self, environment: str, guest: str, key: str) -> bool:
        """Whether it is the volume with this key, of this guest."""
        return (self.environment, self.guest, self.key) == (environment, guest, key)


@dataclass(frozen=True)
class PoolRecord:
    """What stands in the pool's own small volume. Keyed by content hash, by volume name and by
    domain.

    ``guests`` are those that have volumes here, as ``GuestRecord.for_pool_record``: whose these are
    must not depend on a domain, which anybody can undefine. While a guest's domain carries its
    record, that one counts. ``unread`` is what this version can't act on, as JSON by part and key:
    it is written again as it is.
    """

    images: Mapping[str, StoredImage] = field(default_factory=dict)
    kept: Mapping[str, KeptDisk] = field(default_factory=dict)
    guests: Mapping[str, GuestRecord] = field(default_factory=dict)
    unread: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def is_unread(self, volume: str) -> bool:
        """Whether a volume, by its name, may belong to an entry that this version can't act on."""
        stems = [f"virtkit-{content[:20]}." for content in self.unread.get("images", {})]
        stems += [f"{domain}-" for domain in self.unread.get("guests", {})]
        return volume in self.unread.get("kept", {}) or volume.startswith(tuple(stems))

    def by_identity(self) -> dict[str, ImageFiles]:
        """A complete image of every entry. Of several, which two runs at once may have made of one
        entry, it is always the same: nobody knows which is newer, and either will do."""
        return {
            identity: each.files
            for _, each in sorted(self.images.items())
            if each.made
            for identity in each.identities
        }


def of_guest(guest: Guest, spec_path: str, rendered: str = "", made_from: str = "") -> GuestRecord:
    """The record of a guest that is about to be defined: nothing made yet."""
    targets = {each.volume.name: each.target for each in guest.disks}
    return GuestRecord(
        environment=guest.environment,
        guest=guest.name,
        type=guest.driver.type,
        spec=spec_path,
        requested=guest.requested,
        image_identity=guest.image.identity,
        image=guest.image.files,
        interfaces=tuple(
            InterfaceRecord(each.source, each.mac, each.address, each.address6)
            for each in guest.interfaces
        ),
        volumes=tuple(of_volume(each, targets.get(each.name, "")) for each in guest.volumes),
        existing=tuple(
            ExistingDisk(
                each.name,
                each.volume.source,
                each.kind,
                each.volume.key,
                each.volume.format,
                each.target,
            )
            for each in guest.disks
            if each.volume.content == "existing"
        ),
        fqdn=guest.fqdn,
        rendered=rendered,
        confinement=guest.confinement.mode,
        ids=guest.confinement.ids,
        made_from=made_from,
    )


def of_volume(volume: Volume, target: str = "") -> VolumeRecord:
    """The record of a volume that is to be made; ``target`` as the guest has it."""
    return VolumeRecord(volume.name, volume.key, volume.role, keep=volume.keep, target=target)


def of_network(
    network: Network, spec_path: str, rendered: str = "", made_from: str = ""
) -> NetworkRecord:
    """The record of a network as it should be."""
    return NetworkRecord(
        environment=network.environment,
        network=network.name,
        spec=spec_path,
        requested=network.requested,
        cidr=network.cidr,
        reservations=network.reservations,
        rendered=rendered,
        made_from=made_from,
    )
