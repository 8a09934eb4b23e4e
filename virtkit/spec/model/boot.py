"""What a virtual machine boots from, as a spec describes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from virtkit.spec.problem import Problem

#: What it boots from where the spec does not say.
BOOT_DISK: BootOrder = ("disk",)


def _order(devices: BootOrder) -> BootOrder:
    if not devices:
        raise Problem("a guest boots from something", cure="name disk, cdrom or network")
    for index, each in enumerate(devices):
        if each in devices[:index]:
            raise Problem(f"{each} is named twice", cure="name each once, the first choice first")
    return devices


BootOrder = tuple[Literal["disk", "cdrom", "network"], ...]
CheckedBootOrder = Annotated[BootOrder, AfterValidator(_order)]
