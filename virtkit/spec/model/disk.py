"""A guest's disks, as a spec describes them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictInt,
    model_serializer,
    model_validator,
)

from virtkit.spec.model.base import DiskName, DiskSize, Model, MountPoint, without
from virtkit.spec.problem import Problem, quote


def drive_name(number: int) -> str:
    """What the drive with a number from 1 is called: its serial, and the end of its disc's name."""
    return f"cdrom{number}"


def drive_number(name: str) -> str:
    """The number of the drive that is called so; empty where it is the name of something else."""
    match = re.fullmatch(r"cdrom([1-9][0-9]?)", name, re.ASCII)
    return match[1] if match else ""


_EXISTING = re.compile(
    r"(/[A-Za-z0-9._@+:-]+)+|[A-Za-z0-9][\w.-]{0,62}/[A-Za-z0-9][\w.:@+-]{0,127}", re.ASCII
)


def _existing(text: str) -> str:
    """A path on the host, or a volume of one of its pools as ``POOL/VOLUME``."""
    if _EXISTING.fullmatch(text) is None or ".." in text or "/./" in text or len(text) > 1000:
        raise Problem(
            f"{quote(text)} is no disk that a host can have",
            why="it is the path of a file or a block device on the host, from `/` on, or a volume "
            "of any pool as POOL/VOLUME; of A-Z, a-z, 0-9 and . _ @ + : -",
            cure="write such as /dev/vg/data, /srv/data.qcow2 or vg/data",
        )
    return text


class DiskDevice(Model):
    """How a guest sees a disk. What is left out is as the guest's type has it, and no record
    mentions it."""

    existing: Annotated[str, AfterValidator(_existing)] | None = Field(
        default=None,
        description="A file or block device of the host, or POOL/VOLUME, taken as it is: never "
        "formatted, grown or deleted. On Xen only files are tested.",
    )
    format: Literal["raw", "qcow2"] | None = Field(
        default=None,
        description="What an existing file holds; left out, qcow2 where its name ends so, else "
        "raw. Nobody looks into it.",
    )
    readonly: StrictBool | None = Field(
        default=None, description="Whether an existing disk is only read; several guests may."
    )
    shared: StrictBool | None = Field(
        default=None,
        description="Whether several guests write to an existing disk, which needs a file system "
        "for that.",
    )

    partition: Annotated[StrictInt, Field(ge=1, le=15)] | None = Field(
        default=None,
        description="The guest sees the disk as this partition of its first disk (`xvda1`); its "
        "root disk must be one, too.",
    )

    bus: Literal["virtio", "scsi", "sata", "ide", "nvme"] | None = Field(
        default=None,
        description="The bus that it is on; left out, the type's own. `nvme` needs libvirt 11.5 on "
        "the host, and is untested.",
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
        self._agrees_with_existing()
        return self

    def _agrees_with_existing(self) -> None:
        if self.existing is None:
            for key in ("format", "readonly", "shared"):
                if getattr(self, key) is not None:
                    raise Problem(
                        f"`{key}:` is for a disk that exists", cure="add `existing:`, or remove it"
                    )
        elif self.shared and self.readonly:
            raise Problem(
                "what is only read needs no `shared:`", cure="remove `shared:` or `readonly:`"
            )
        elif self.shared and self.existing_format == "qcow2":
            raise Problem(
                "two guests can't write to one qcow2",
                why="each would change its tables without the other",
                cure="use a raw file or a block device, or `readonly: true`",
            )

    @property
    def existing_format(self) -> Literal["raw", "qcow2"]:
        """What an existing disk holds where its pool does not say: by its name, as what is in it
        may be the guest's to write."""
        by_name = "qcow2" if (self.existing or "").endswith(".qcow2") else "raw"
        return self.format or ("qcow2" if by_name == "qcow2" else "raw")

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without(serialize(self), DiskDevice.model_fields)


def _sized() -> Problem:
    return Problem(
        "a disk that exists has its size already",
        why="virtkit never grows it",
        cure="remove `size:`, or `existing:` for a new disk",
    )


def _size_schema(schema: dict[str, Any]) -> None:
    size = schema["properties"]["size"]["anyOf"][0]
    own = {key: schema.pop(key) for key in list(schema)}
    schema["anyOf"] = [size, own]


class RootDisk(DiskDevice):
    """A guest's root disk. A plain size is short for a map with ``size`` only."""

    model_config = ConfigDict(json_schema_extra=_size_schema)

    size: DiskSize | None = Field(default=None, description="Its size; left out, the image's.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.existing is not None and self.size is not None:
            raise _sized()
        return self

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
    size: DiskSize | None = Field(
        default=None, description="Its size; left out where it is one that exists."
    )
    mount: MountPoint | None = Field(
        default=None, description="Where it is mounted, as ext4; without it, a blank disk."
    )
    keep: StrictBool = Field(default=False, description="Only `down --volumes` removes it.")

    @model_validator(mode="after")
    def _is_new_or_existing(self) -> Self:
        if self.existing is None and self.size is None:
            raise Problem("the disk has no size", cure="add `size:`, or `existing:`")
        if self.existing is not None and self.size is not None:
            raise _sized()
        if self.existing is not None and (self.mount is not None or self.keep):
            key = "mount" if self.mount is not None else "keep"
            raise Problem(
                f"a disk that exists can't have `{key}:`",
                why="virtkit knows nothing of what is on it, and never deletes it"
                if key == "keep"
                else "virtkit mounts what it formatted itself",
                cure=f"remove `{key}:`"
                + (
                    ""
                    if key == "keep"
                    else ", and mount it in the guest by `cloud_init: {mounts: …}`"
                ),
            )
        return self
