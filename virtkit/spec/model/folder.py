"""Folders and devices of the host that a guest is given, as a spec describes them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool

from virtkit.spec.model.base import HostPath, Model, MountPoint
from virtkit.spec.problem import Problem, quote

#: How a device of the host is named.
DeviceKind = Literal["pci", "usb", "char"]
_FORMS: dict[DeviceKind, re.Pattern[str]] = {
    "pci": re.compile(r"([0-9a-f]{4}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])"),
    "usb": re.compile(r"usb:([0-9a-f]{4}):([0-9a-f]{4})"),
    "char": re.compile(r"(/dev(?:/[A-Za-z0-9_][A-Za-z0-9._:@+-]*)+)"),
}


class Folder(Model):
    """A folder of the host that a guest sees."""

    source: HostPath = Field(
        description="The folder on the host. One that is not below the spec's own needs "
        "`allow: [host-paths]`; on another host than `local` it is written in full."
    )
    target: MountPoint = Field(description="Where the guest has it.")
    readonly: StrictBool = Field(
        default=False,
        description="The guest may only read it. A virtual machine's own system sees to that, and "
        "its root could undo it; a container can't.",
    )


def device_kind(text: str) -> DeviceKind | None:
    """The kind of a device of the host; None where ``text`` names none."""
    return next((kind for kind, form in _FORMS.items() if form.fullmatch(text)), None)


def device_parts(text: str) -> tuple[str, ...]:
    """What a device's name is made of: domain, bus, slot and function of a PCI device, vendor and
    product of one on USB, the path of a character device; nothing where ``text`` names none."""
    matches = (form.fullmatch(text) for form in _FORMS.values())
    return next((each.groups() for each in matches if each), ())


def _host_device(text: str) -> str:
    """The name of a device of the host, in its shortest form."""
    lower = text if text.startswith("/") else text.lower()
    if re.fullmatch(r"[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", lower):
        lower = f"0000:{lower}"
    if device_kind(lower) is None:
        raise Problem(
            f"{quote(text)} names no device of a host",
            cure="write a PCI address as `lspci -D` shows it (0000:01:00.0), vendor and product "
            "of a USB device as `lsusb` shows them (usb:046d:c52b), or a device's path "
            "(/dev/dri/renderD128)",
        )
    return lower


HostDevice = Annotated[str, AfterValidator(_host_device)]
