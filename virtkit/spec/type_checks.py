"""What a guest asks for and its type can't give it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from virtkit.drivers import AUTO, DRIVERS, Driver
from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.imported import known_image
from virtkit.spec.model import (
    CATALOGUE,
    CPU_MODES,
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
    image = draft.images.models.get(name)
    if image is None and name not in draft.images.nodes:
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
        _cpu_mode(entry, driver, problems)
        if image is not None:
            _image_kind(entry, image, driver, problems)
    if image is not None and image.build is not None and entry.fields.kernel is None:
        _built(entry, problems)


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
    return isinstance(disk, Disk) and disk.mount is None


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
    types = [name for name, driver in DRIVERS.items() if feature not in driver.unsupported]
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
