"""A guest's volumes, and what it sees of them: block devices or file systems. Pure."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from virtkit._dataclass import dataclass
from virtkit.spec.model import DiskDevice, drive_name
from virtkit.spec.model.ignition import IGNITION_VOLUME
from virtkit.state.shared import CONTAINER_FOLDER, SharedFolder

if TYPE_CHECKING:
    from virtkit.drivers.base import Bus
    from virtkit.state.desired import Guest

#: Where a container sees its writable layer, and below it the disks on their way to their place.
LAYER_FOLDER = "/.virtkit"
#: Where libvirt's hook mounts the volumes of containers that have their own ids, on the host.
HOOK_FOLDER = "/run/virtkit/lxc"
#: What the hook mounts there for a container whose root has nothing of its own; no volume's name.
EMPTY_ROOT = "empty"
#: The volumes that are block devices, in the order in which a new guest's get their names: others
#: expect the first disk to be the second device, so the seed is behind them.
_BLOCKS = ("root", "disk", "seed", "cdrom")
#: Where cloud-init and virtkit's own first boot look for a container's seed.
SEED_FOLDER = "/var/lib/cloud/seed/nocloud"


#: What a volume starts with.
Content = Literal[
    "backed",
    "copied",
    "ext4",
    "blank",
    "seed",
    "file",
    "disc",
    "given",
    "log",
    "existing",
]


@dataclass(frozen=True)
class Volume:
    """A file of a guest in its host's pool. ``key`` is its path, ``size`` in bytes.

    ``content`` says what it starts with: ``backed`` by ``source`` (a path on the host), ``copied``
    from it, ``ext4`` (formatted, label ``label``), ``blank``, ``seed``, ``file`` (of a kernel's:
    ``source`` is a path of the caller's), ``disc`` (so, too), ``given`` (what the spec names, a
    secret) or ``log`` (libvirt writes it; virtkit only removes it). ``existing`` is no volume of
    virtkit's: its ``key`` is the path that the host has it by, or ``POOL/VOLUME``, and no guest's
    ``volumes`` have it.
    """

    role: Literal["root", "disk", "seed", "cdrom", "console", "kernel", "initrd", "ignition"]
    name: str
    key: str
    size: int
    format: Literal["raw", "qcow2"]
    content: Content
    source: str = ""
    source_format: str = "raw"
    label: str = ""
    mount: str = ""
    keep: bool = False


@dataclass(frozen=True)
class DiskTarget:
    """A volume as a guest's block device.

    Attributes:
        bus: a key of its driver's ``buses``.
        options: how the spec wants it.
        device: libvirt's word for what it is.
        kind: libvirt's word for where it is.
        controller: the index of the controller that it has for itself; None where it has none.
    """

    name: str
    target: str
    volume: Volume
    readonly: bool
    bus: str
    options: DiskDevice
    device: Literal["disk", "cdrom"] = "disk"
    kind: Literal["file", "block", "volume"] = "file"
    controller: int | None = None

    @property
    def number(self) -> int:
        """Its place among the targets of its bus, from 0; of a bus whose prefix has two letters,
        and that has no partitions and no numbers, as ``vd`` and ``sd``."""
        number = 0
        for letter in self.target[2:]:
            number = number * 26 + ord(letter) - ord("a") + 1
        return number - 1

    @property
    def source(self) -> Mapping[str, str]:
        """The attributes of its ``<source>``."""
        if self.kind == "volume":
            pool, _, name = self.volume.key.partition("/")
            return {"pool": pool, "volume": name}
        return {"dev" if self.kind == "block" else "file": self.volume.key}


@dataclass(frozen=True)
class Filesystem:
    """A file system in a container. ``source`` is a path on the host: a ``file`` that libvirt
    mounts, or a folder where the hook has mounted it (``mount``)."""

    kind: Literal["file", "mount"]
    source: str
    target: str
    readonly: bool


def of_guest(guest: Guest) -> Iterable[Volume]:
    """The volumes that a guest should have."""

    def volume(role: Any, name: str, **rest: Any) -> Volume:
        name = f"{guest.domain}-{name}"
        return Volume(role=role, name=name, key=f"{guest.folder}/{name}", **rest)

    size = guest.spec.disk.size or (0 if guest.image.is_none else guest.files.size)
    content = guest.driver.root
    if guest.image.is_none:
        if size:
            yield volume("root", "root", size=size, format="raw", content="blank")
    elif content == "ext4":
        yield volume("root", "root", size=size, format="raw", content=content, label="root")
    else:
        image = {"source": guest.files.root, "source_format": guest.files.format}
        form = "qcow2" if content == "backed" else "raw"
        yield volume("root", "root", size=size, format=form, content=content, **image)
    if guest.driver.log == "file":
        yield volume("console", "console", size=0, format="raw", content="log")
    if guest.has_seed:
        yield volume("seed", "seed", size=0, format="raw", content="seed")
    if guest.spec.ignition is not None:
        yield volume("ignition", IGNITION_VOLUME, size=0, format="raw", content="given")
    if guest.spec.kernel is not None:
        for role, path in (
            ("kernel", guest.spec.kernel.path),
            ("initrd", guest.spec.kernel.initrd),
        ):
            if path:
                source = _callers_path(guest, path)
                yield volume(role, role, size=0, format="raw", content="file", source=source)
    for number, path in enumerate(guest.spec.cdroms, 1):
        source = _callers_path(guest, path)
        name = drive_name(number)
        yield volume("cdrom", name, size=0, format="raw", content="disc", source=source)
    for disk in guest.spec.disks:
        if disk.size is None:
            continue  # it exists
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


def existing(guest: Guest) -> Iterator[Volume]:
    """The disks that its host has already: used, and never touched."""
    options: list[tuple[Literal["root", "disk"], str, DiskDevice]] = [
        ("root", "root", guest.spec.disk),
        *(("disk", each.name, each) for each in guest.spec.disks),
    ]
    for role, name, each in options:
        if each.existing is not None:
            source = guest.sources[each.existing]
            yield Volume(
                role,
                f"{guest.domain}-{name}",
                source.path,
                size=0,
                format=each.existing_format,
                content="existing",
                source=each.existing,
                label="" if role == "root" else name,
            )


def _callers_path(guest: Guest, path: str) -> str:
    """A path of the spec on the caller's machine."""
    return path if path.startswith(("/", "~/")) else f"{guest.source_folder}/{path}"


def disks(guest: Guest) -> tuple[DiskTarget, ...]:
    """A guest's block devices: new ones are the root, the spec's disks, the seed, then the
    drives."""
    if not guest.driver.buses:
        return ()
    places = {each.name: place for place, each in enumerate(guest.spec.disks)}
    blocks = sorted(
        (each for each in (*guest.volumes, *existing(guest)) if each.role in _BLOCKS),
        key=lambda each: (_BLOCKS.index(each.role), places.get(each.label, 0)),
    )
    taken = set(guest.targets.values())
    return tuple(sorted((_disk(guest, each, taken) for each in blocks), key=_order))


def _disk(guest: Guest, volume: Volume, taken: set[str]) -> DiskTarget:
    """A volume as a block device; its target is added to those that are ``taken``."""
    name = volume.label if volume.role == "disk" else volume.role
    options: Mapping[str, DiskDevice] = {each.name: each for each in guest.spec.disks}
    wanted = options[name] if volume.role == "disk" else guest.spec.disk
    # the guest finds its seed where it finds its root
    bus: str = wanted.bus or guest.usual_bus
    if volume.role == "cdrom":
        name = volume.name.removeprefix(f"{guest.domain}-")
        bus = guest.driver.drive_buses[-1 if guest.image.entry.build else 0]
    buses = guest.driver.buses
    if volume.role == "seed" and not buses[bus].seed:
        bus = next(iter(buses))
    fixed = volume.role in ("seed", "cdrom")
    target = _target(guest, volume, bus, 0 if fixed else wanted.partition or 0, taken)
    taken.add(target)
    return DiskTarget(
        name,
        target,
        volume,
        fixed or bool(wanted.readonly),
        bus,
        DiskDevice() if fixed else wanted,
        "cdrom" if volume.role == "cdrom" else "disk",
        guest.sources[volume.source].kind or "file" if volume.content == "existing" else "file",
        int(target.removeprefix(buses[bus].prefix)[:-2]) if buses[bus].numbered else None,
    )


def _target(guest: Guest, volume: Volume, bus: str, partition: int, taken: set[str]) -> str:
    """The name of a volume's device: as it was, unless that is another bus's or another type's."""
    prefix = guest.driver.buses[bus].prefix
    whole = f"{prefix}a"  # the disk that partitions are of is none itself
    if partition:
        return f"{whole}{partition}"
    hidden = {whole} if guest.has_partitions else set()
    target = guest.targets.get(volume.name, "")
    was_partition = target[-1:].isdigit() and not guest.driver.buses[bus].numbered
    if target.startswith(prefix) and target not in hidden and not was_partition:
        return target
    names = _targets(guest.driver.buses[bus])
    return next(each for each in names if each not in taken | hidden)


def _order(disk: DiskTarget) -> tuple[int, str, bool, int]:
    """By their names; of a disk's partitions the root first, where a boot loader looks."""
    whole = disk.target.rstrip(string.digits)
    number = int(disk.target.removeprefix(whole) or 0)
    return len(whole), whole, disk.volume.role != "root", number


def _targets(bus: Bus) -> Iterator[str]:
    """All device names of a bus, in their order."""
    if bus.numbered:
        yield from (f"{bus.prefix}{number}n1" for number in itertools.count())
    for letters in itertools.chain(
        string.ascii_lowercase, itertools.product(string.ascii_lowercase, repeat=2)
    ):
        yield f"{bus.prefix}{''.join(letters)}"


def filesystems(guest: Guest) -> tuple[Filesystem, ...]:
    """A container's file systems: shared image, own layer, disks, seed. Its init lays them
    over each other. One that has disks instead sees folders of the host, in an empty root."""
    if not guest.driver.layered:
        return tuple(_folders(guest))
    targets = {"root": LAYER_FOLDER, "seed": SEED_FOLDER}
    return (
        _filesystem(guest, guest.files.root, "/", True),
        *(
            _filesystem(
                guest,
                each.key,
                targets.get(each.role) or f"{LAYER_FOLDER}/mounts{each.mount}",
                each.role == "seed",
            )
            for each in guest.volumes
        ),
        *(_shared(guest, each, f"{LAYER_FOLDER}/mounts{each.target}") for each in guest.folders),
    )


def _shared(guest: Guest, folder: SharedFolder, target: str) -> Filesystem:
    """A folder of the host, which the hook has mounted where the container has its own ids."""
    source = f"{HOOK_FOLDER}/{guest.uuid}/{folder.tag}" if guest.confinement.ids else folder.source
    return Filesystem("mount", source, target, folder.readonly)


def _folders(guest: Guest) -> Iterator[Filesystem]:
    if guest.driver.folders:
        yield Filesystem("mount", f"{HOOK_FOLDER}/{guest.uuid}/{EMPTY_ROOT}", "/", False)
    for each in guest.driver.folders:
        yield Filesystem("mount", each, each, True)
    if guest.driver.folders:
        for folder in guest.folders:
            yield _shared(guest, folder, f"{CONTAINER_FOLDER}/{folder.tag}")


def _filesystem(guest: Guest, file: str, target: str, readonly: bool) -> Filesystem:
    """The hook recognizes a volume by its folder's name, which is the volume's."""
    if not guest.confinement.ids:
        return Filesystem("file", file, target, readonly)
    name = file.rpartition("/")[2]
    return Filesystem("mount", f"{HOOK_FOLDER}/{guest.uuid}/{name}", target, readonly)
