"""What all parts of the model are built of: their base class, limits and types of values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
)

from virtkit.drivers import DRIVERS
from virtkit.spec import image_names, network_values, sizes, values
from virtkit.spec.problem import Problem, quote, suggestion
from virtkit.spec.sizes import MIB, TIB

#: The validation context of data that stands in a file: there, sizes and durations have units.
#: Without it (Python's own callers) a number is bytes or seconds.
FROM_FILE = MappingProxyType({"from": "file"})
#: The image of a guest that names none.
DEFAULT_IMAGE = "debian-12"
#: The word for no image.
NO_IMAGE = "none"
#: The network of a guest that names none: nat, made where the spec does not describe it.
DEFAULT_NETWORK = "default"
#: The login of a guest that names none.
DEFAULT_USER = "virtkit"
#: The host that this machine is.
LOCAL = "local"

MAX_CPUS = 512
MAX_GUESTS = 1000
MIN_MEMORY = 8 * MIB
MAX_MEMORY = 16 * TIB


def _memory(size: int) -> int:
    if not MIN_MEMORY <= size <= MAX_MEMORY:
        raise Problem(
            f"a guest can't have {sizes.format_size(size)} of memory",
            cure=f"use {sizes.format_size(MIN_MEMORY)} to {sizes.format_size(MAX_MEMORY)}",
        )
    if size % MIB:
        near = sizes.format_size(round(size / MIB) * MIB)
        raise Problem("memory comes in whole MiB", cure=f"use {near}")
    return size


def _disk_size(size: int) -> int:
    if size < MIB:
        raise Problem(f"a disk of {sizes.format_size(size)} is too small", cure="use 1MiB or more")
    return size


def _guest_number(text: str) -> str:
    """The number of one of several guests, from 1."""
    if re.fullmatch(values.NUMBER_PATTERN, text, re.ASCII) is None:
        raise Problem(f"{quote(text)} is no number of a guest", cure="use 1, 2, 3, …")
    return text


def _guest_type(name: str) -> str:
    types = [*DRIVERS, "auto"]
    if name not in types:
        raise Problem(f"there is no guest type {quote(name)}", cure=suggestion(name, types))
    return name


def _guest_type_schema(schema: dict[str, Any]) -> None:
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
ImageName = Annotated[
    str,
    AfterValidator(image_names.image_name),
    Field(json_schema_extra={"pattern": image_names.IMAGE_PATTERN}),
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
#: Marks a path of a file on the caller's machine, which is relative to the file that it stands in.
CALLERS_FILE = "caller's file"
HostPath = Annotated[str, AfterValidator(values.host_path), CALLERS_FILE]
Variable = Annotated[
    str,
    AfterValidator(values.variable_name),
    Field(json_schema_extra={"pattern": values.VARIABLE_PATTERN}),
]
KeyPath = Annotated[str, AfterValidator(values.key_path), CALLERS_FILE]
MountPoint = Annotated[str, AfterValidator(values.mount_point)]
Mac = Annotated[str, AfterValidator(values.mac_address)]
Address = Annotated[str, AfterValidator(values.ipv4_address)]
ServerAddress = Annotated[str, AfterValidator(values.server_address)]
Ipv6Cidr = Annotated[str, AfterValidator(values.ipv6_cidr)]
DomainName = Annotated[str, AfterValidator(values.domain_name)]
HostName = Annotated[
    str,
    AfterValidator(network_values.host_name),
    Field(json_schema_extra={"pattern": network_values.HOST_NAME_PATTERN}),
]
BootFile = Annotated[str, AfterValidator(network_values.boot_file)]
MachineAddress = Annotated[str, AfterValidator(network_values.machine_address)]
Ipv6Address = Annotated[str, AfterValidator(network_values.ipv6_address)]
BridgeName = Annotated[str, AfterValidator(values.bridge_name)]
Sha256 = Annotated[str, AfterValidator(values.sha256)]
Url = Annotated[str, AfterValidator(values.url)]
Line = Annotated[str, AfterValidator(values.printable)]
Command = Annotated[str, AfterValidator(values.command)]
Xml = Annotated[str, AfterValidator(values.xml)]
GuestNumber = Annotated[
    str,
    AfterValidator(_guest_number),
    Field(json_schema_extra={"pattern": values.NUMBER_PATTERN}),
]
GuestType = Annotated[str, AfterValidator(_guest_type), Field(json_schema_extra=_guest_type_schema)]
Permission = Literal["hostdev", "host-paths", "emulator", "commandline", "listen"]


def without(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A dumped model without those of the ``names`` that it has nothing for: a record of a guest
    that does without a newer key is as it was before there was that key."""
    return {key: each for key, each in values.items() if each is not None or key not in names}


class Model(BaseModel):
    """What all parts of a spec are: frozen, and strict about keys.

    Its validator is built when a value is first checked: most specs have some of the parts only.
    Values of virtkit's own are made by ``model_construct``, which needs none.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True
    )
    #: Whether a plain text that stands for the whole is a path of the caller's.
    short_is_path: ClassVar[bool] = False
