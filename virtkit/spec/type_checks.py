"""What a guest asks for and its type can't give it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from virtkit.drivers import AUTO, DRIVERS, Driver
from virtkit.spec import partitions
from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.imported import known_image
from virtkit.spec.model import (
    BOOT_DISK,
    CATALOGUE,
    CPU_MODES,
    NO_IMAGE,
    Disk,
    DiskDevice,
    GuestFields,
    Image,
    InterfaceSpec,
    Model,
)
from virtkit.spec.nodes import Path
from virtkit.spec.problem import Problem, quote

#: How messages call kinds of images, and the keys that give them.
_IMAGES: Mapping[str, str] = {
    "built": "an image that virtkit builds",
    "disk": "a disk image",
    "rootfs": "a root file system's archive",
}
_IMAGE_KEYS: Mapping[str, str] = {"built": "`build:`", "disk": "`path:`", "rootfs": "`rootfs:`"}
_DEFAULTS = GuestFields.model_construct()
#: What an option is that a part of a guest does not have.
_NOTHING: tuple[Any, ...] = (None, (), {})
#: What Debian's cloud kernel, which built images have, knows no driver for; and what it knows.
_NO_DRIVER = {
    ("bus", "sata"): "scsi or virtio",
    ("model", "e1000"): "virtio",
    ("model", "e1000e"): "virtio",
    ("model", "rtl8139"): "virtio",
}


def check(entry: Entry, draft: Draft, problems: Problems) -> None:
    """What the guest's type can't do; with ``auto``, what any type that it may choose can't."""
    guest_type = entry.fields.type
    if "type" in entry.invalid:
        return
    name = entry.fields.image
    image = draft.images.models.get(name) if name != NO_IMAGE else None
    if image is None and name not in (*draft.images.nodes, NO_IMAGE):
        image = known_image(name)
        _catalogue_firmware(entry, problems)
    for choice in AUTO if guest_type == "auto" else (guest_type,):
        driver = DRIVERS[choice]
        for feature, why in driver.unsupported.items():
            for path in _uses(entry.fields, feature):
                problem = Problem(
                    f"a guest of type {guest_type} can't have {_phrase(feature)}",
                    why=f"{why} (guest {quote(entry.base)})",
                    cure=_cure(feature),
                )
                problems.at(entry.node, path, problem)
        _buses(entry, driver, problems)
        _formats(entry, driver, problems)
        _mtu(entry, driver, problems)
        _on_cards(entry, draft, driver, problems)
        _cpu_mode(entry, driver, problems)
        _threads(entry, driver, problems)
        if "disks.partition" not in driver.unsupported:
            partitions.check(entry, problems)
        if image is not None:
            _image_kind(entry, image, driver, problems)
        elif name == NO_IMAGE:
            _no_image(entry, driver, problems)
    is_built = image is not None and image.build is not None
    if is_built and entry.fields.kernel is None:
        _built(entry, problems)
    if is_built or entry.fields.kernel is not None:
        _direct_boot(entry, problems)


def _no_image(entry: Entry, driver: Driver, problems: Problems) -> None:
    """A type that nobody can install a system on, for a guest that has none."""
    boots = entry.fields.kernel is not None and "kernel" not in driver.unsupported
    installs = "disk" in driver.images and "boot" not in driver.unsupported
    has_system = "disk" in driver.images and entry.fields.disk.existing is not None
    if boots or installs or has_system or "disk" in entry.invalid:
        return
    other, why = "choose another type", f"it has none; {driver.other_images}"
    if "disk" in driver.images:
        other = "a disk that has a system (`disk: {existing: …}`)"
        why = f"nothing can install a system on its disk; {driver.unsupported['boot']}"
    problem = Problem(
        f"a guest of type {entry.fields.type} needs an image",
        why=f"{why} (guest {quote(entry.base)})",
        cure=f"name an image with `build:`, or {other}",
    )
    problems.at(entry.node, ("image",), problem)


def _image_kind(entry: Entry, image: Image, driver: Driver, problems: Problems) -> None:
    """An image that the type can't start from."""
    boots = entry.fields.kernel is not None and "kernel" not in driver.unsupported
    if boots or image.kind in driver.images:
        return
    keys = [_IMAGE_KEYS[kind] for kind in driver.images]
    types = [name for name, each in DRIVERS.items() if image.kind in each.images]
    other_type = "auto" if set(AUTO) <= set(types) else types[0]
    problem = Problem(
        f"a guest of type {entry.fields.type} can't start from {_IMAGES[image.kind]}",
        why=f"'{entry.fields.image}' is one; {driver.other_images} (guest {quote(entry.base)})",
        cure=f"name an image with {' or '.join(keys)}, or set `type: {other_type}`",
    )
    problems.at(entry.node, ("image",), problem)


def _catalogue_firmware(entry: Entry, problems: Problems) -> None:
    """A firmware that an image of the catalogue does not start with."""
    firmware = entry.fields.firmware
    if firmware == _DEFAULTS.firmware or "firmware" in entry.invalid:
        return
    published = CATALOGUE.entries.get(entry.fields.image)
    if published is not None and published.firmware and firmware not in published.firmware:
        problem = Problem(
            f"the image '{published.name}' does not start with {firmware}",
            why=f"it is made for {' and '.join(published.firmware)} (guest {quote(entry.base)})",
            cure="remove `firmware:`, or name another image",
        )
        problems.at(entry.node, ("firmware",), problem)


def _built(entry: Entry, problems: Problems) -> None:
    """Devices that the kernel of a built image has no driver for: the guest would not see them."""
    fields = entry.fields
    buses = [((*path, "bus"), disk.bus) for path, disk in _all_disks(fields)]
    models = [((*path, "model"), card.model) for path, card in _all_cards(fields)]
    for path, value in [*buses, *models]:
        known = _NO_DRIVER.get((str(path[-1]), value or ""))
        if known is not None:
            problem = Problem(
                f"the kernel of the image '{fields.image}' has no driver for {value}",
                why=f"a built image has Debian's cloud kernel (guest {quote(entry.base)})",
                cure=f"use {known}, an image of your own, or a `kernel:` that has it",
            )
            problems.at(entry.node, path, problem)


def _direct_boot(entry: Entry, problems: Problems) -> None:
    """Devices to boot from, for a guest whose kernel the hypervisor loads."""
    fields = entry.fields
    types = AUTO if fields.type == "auto" else (fields.type,)
    if fields.boot == BOOT_DISK or any("boot" in DRIVERS[each].unsupported for each in types):
        return
    kernel = "that of its image" if fields.kernel is None else "its `kernel:`"
    problem = Problem(
        "a guest whose kernel is loaded by the hypervisor boots from no other device",
        why=f"it is {kernel} (guest {quote(entry.base)})",
        cure="remove `boot:`; or name a disk image, or `image: none`, and no `kernel:`",
    )
    problems.at(entry.node, ("boot",), problem)


def _uses(fields: GuestFields, feature: str) -> Iterator[Path]:
    """Where a guest has a feature that its type may not support."""
    kind, _, option = feature.partition(".")
    if feature == "disks.blank":
        yield from (path for path, disk in _all_disks(fields) if _is_blank(disk))
    elif kind == "disks":
        yield from _having(_all_disks(fields), option)
    elif kind == "networks":
        yield from _having(_all_cards(fields), option)
    elif option:
        yield from _having([((kind,), getattr(fields, kind))], option)
    elif getattr(fields, feature) != getattr(_DEFAULTS, feature):
        yield (feature,)


def _having(parts: Iterable[tuple[Path, Model]], option: str) -> Iterator[Path]:
    """The path of an option in each part that has it."""
    return ((*path, option) for path, part in parts if getattr(part, option) not in _NOTHING)


def _all_cards(fields: GuestFields) -> Iterator[tuple[Path, InterfaceSpec]]:
    """The network interfaces that the spec describes, with the path of each."""
    for index, interface in enumerate(fields.networks or ()):
        yield ("networks", index), interface


def _all_disks(fields: GuestFields) -> Iterator[tuple[Path, DiskDevice]]:
    """The root disk and the others, with the path of each."""
    yield ("disk",), fields.disk
    for index, disk in enumerate(fields.disks):
        yield ("disks", index), disk


def _is_blank(disk: DiskDevice) -> bool:
    return isinstance(disk, Disk) and disk.mount is None and disk.existing is None


def _phrase(feature: str) -> str:
    """How messages call a feature."""
    if feature == "disks.blank":
        return "a disk without `mount:`"
    kind, _, option = feature.partition(".")
    whose = {"disks": "a disk with ", "networks": "a network interface with "}
    return f"{whose.get(kind, '')}`{option or kind}:`"


def _cure(feature: str) -> str:
    if feature == "disks.blank":
        return "give it `mount:`"
    names = {feature, feature.partition(".")[0]}
    types = [name for name, driver in DRIVERS.items() if names.isdisjoint(driver.unsupported)]
    if set(AUTO) <= set(types):  # which runs everywhere
        types = ["auto"]
    remove = f"remove `{feature.rpartition('.')[2]}:`"
    return remove + (f", or set `type: {types[0]}`" if types else "")


def _buses(entry: Entry, driver: Driver, problems: Problems) -> None:
    """Disks on a bus that the type's machine lacks."""
    for path, disk in _all_disks(entry.fields):
        if disk.bus and disk.bus not in driver.buses and "disks.bus" not in driver.unsupported:
            problem = Problem(
                f"a guest of type {driver.type} can't have a disk on the bus {disk.bus}",
                why=f"its machine has none (guest {quote(entry.base)})",
                cure=f"use one of: {', '.join(driver.buses)}",
            )
            problems.at(entry.node, (*path, "bus"), problem)


def _formats(entry: Entry, driver: Driver, problems: Problems) -> None:
    """Disks that exist, of a format that the type can't read."""
    for path, disk in _all_disks(entry.fields):
        readable = disk.existing_format in driver.existing_formats
        if disk.existing and not readable and "disks.existing" not in driver.unsupported:
            problem = Problem(
                f"a guest of type {driver.type} can't have a disk of the format "
                f"{disk.existing_format}",
                why=f"its hypervisor reads {' and '.join(driver.existing_formats)} "
                f"(guest {quote(entry.base)})",
                cure="convert it: qemu-img convert -O raw FILE FILE.raw",
            )
            problems.at(entry.node, (*path, "existing"), problem)


def _mtu(entry: Entry, driver: Driver, problems: Problems) -> None:
    """Cards that are to take larger packets than the type's can."""
    for path, card in _all_cards(entry.fields):
        if card.mtu is not None and 0 < driver.max_mtu < card.mtu:
            problem = Problem(
                f"a guest of type {driver.type} can't have an mtu of {card.mtu}",
                why=f"its cards take packets of {driver.max_mtu} bytes (guest {quote(entry.base)})",
                cure=f"use {driver.max_mtu} or less, or another type",
            )
            problems.at(entry.node, (*path, "mtu"), problem)


def _on_cards(entry: Entry, draft: Draft, driver: Driver, problems: Problems) -> None:
    """Networks on one of the host's cards, for a type that libvirt puts on bridges only."""
    for path, card in _all_cards(entry.fields):
        network = draft.networks.models.get(card.name)
        if network is not None and network.mode == "macvtap" and not driver.on_cards:
            problem = Problem(
                f"a guest of type {driver.type} can't be on '{card.name}', of mode macvtap",
                why=f"libvirt puts its interfaces on bridges only (guest {quote(entry.base)})",
                cure="use a network of `mode: bridge`, or `type: auto`",
            )
            problems.at(entry.node, (*path, "name"), problem)


def _cpu_mode(entry: Entry, driver: Driver, problems: Problems) -> None:
    """The host's processor for a guest whose processor is emulated."""
    word = entry.fields.cpu.model
    if word in CPU_MODES and driver.cpu_modes and word not in driver.cpu_modes:
        problem = Problem(
            f"a guest of type {driver.type} can't have the processor {word}",
            why=f"its processor is emulated (guest {quote(entry.base)})",
            cure=f"use {' or '.join(driver.cpu_modes)}, a model's name, or set `type: kvm`",
        )
        problems.at(entry.node, ("cpu", "model"), problem)


def _threads(entry: Entry, driver: Driver, problems: Problems) -> None:
    """Threads of a processor that has none. With ``auto``, the plan tells of them."""
    cpu = entry.fields.cpu
    threads = cpu.topology.threads if cpu.topology else 1
    if threads > 1 and cpu.model in driver.threadless and entry.fields.type == driver.type:
        problem = Problem(
            f"the processor {cpu.model} of a guest of type {driver.type} has no threads",
            why="it is emulated, and its system would see a core for each "
            f"(guest {quote(entry.base)})",
            cure="set `threads: 1` and more cores, remove `model:`, or set `type: kvm`",
        )
        problems.at(entry.node, ("cpu", "topology", "threads"), problem)
