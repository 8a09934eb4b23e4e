"""A guest's disks, as a spec describes them."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    model_serializer,
    model_validator,
)

from virtkit.spec.model.base import DiskName, DiskSize, Model, MountPoint, without
from virtkit.spec.problem import Problem


def drive_name(number: int) -> str:
    """What the drive with a number from 1 is called: its serial, and the end of its disc's name."""
    return f"cdrom{number}"


def drive_number(name: str) -> str:
    """The number of the drive that is called so; empty where it is the name of something else."""
    match = re.fullmatch(r"cdrom([1-9][0-9]?)", name, re.ASCII)
    return match[1] if match else ""


class DiskDevice(Model):
    """How a guest sees a disk. What is left out is as the guest's type has it, and no record
    mentions it."""

    bus: Literal["virtio", "scsi", "sata", "ide"] | None = Field(
        default=None, description="The bus that it is on; left out, the type's own."
    )
    cache: Literal["none", "writethrough", "writeback", "directsync", "unsafe"] | None = Field(
        default=None, description="How the host caches it; left out, as the hypervisor does."
    )
    io: Literal["native", "threads", "io_uring"] | None = Field(
        default=None, description="How the host reads and writes it; `native` needs `cache: none`."
    )
    discard: StrictBool | None = Field(
        default=None, description="Whether space that the guest frees is freed on the host."
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.io == "native" and self.cache not in ("none", "directsync"):
            raise Problem(
                "`io: native` goes past the host's cache, and the disk uses that",
                cure="add `cache: none` or `cache: directsync`",
            )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without(serialize(self), DiskDevice.model_fields)


def _size_schema(schema: dict[str, Any]) -> None:
    size = schema["properties"]["size"]["anyOf"][0]
    own = {key: schema.pop(key) for key in list(schema)}
    schema["anyOf"] = [size, own]


class RootDisk(DiskDevice):
    """A guest's root disk. A plain size is short for a map with ``size`` only."""

    model_config = ConfigDict(json_schema_extra=_size_schema)

    size: DiskSize | None = Field(default=None, description="Its size; left out, the image's.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return value if isinstance(value, dict | RootDisk) else {"size": value}

    @model_serializer(mode="wrap")
    def _short_where_it_can_be(self, serialize: SerializerFunctionWrapHandler) -> Any:
        """As the file may have it, and versions did that knew a size only."""
        values = {key: each for key, each in serialize(self).items() if each is not None}
        return values if values.keys() - {"size"} else values.get("size")


class Disk(DiskDevice):
    """A disk beside the root disk."""

    name: DiskName = Field(description="Its name, and its file system's label.")
    size: DiskSize = Field(description="Its size.")
    mount: MountPoint | None = Field(
        default=None, description="Where it is mounted, as ext4; without it, a blank disk."
    )
    keep: StrictBool = Field(default=False, description="Only `down --volumes` removes it.")
