"""A virtual machine's processor, as a spec describes it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictInt,
    model_serializer,
    model_validator,
)

from virtkit.spec.model.base import MAX_CPUS, Model, without
from virtkit.spec.model.numa import NumaCells, number_ranges, some_numbers
from virtkit.spec.problem import Problem, quote

#: The words for a guest's processor that are no named model.
CPU_MODES = ("host-passthrough", "host-model", "maximum")
#: What of a processor no record mentions where the spec does not.
CPU_OPTIONS = ("emulator_pin", "hidden", "io_thread_pin", "io_threads", "numa")


def _name(text: str) -> str:
    """The name of a CPU model, or of a feature of one, as libvirt's files have it."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text, re.ASCII) is None:
        raise Problem(
            f"{quote(text)} is no name of libvirt's for a CPU or a feature of one",
            cure="use host-model, or a model in the folder /usr/share/libvirt/cpu_map of the host",
        )
    return text


_Count = Annotated[StrictInt, Field(ge=1, le=MAX_CPUS)]
_HostCpu = Annotated[StrictInt, Field(ge=0, le=4095)]
_HostCpus = Annotated[tuple[_HostCpu, ...], AfterValidator(some_numbers)]
_Name = Annotated[str, AfterValidator(_name)]


class Topology(Model):
    """How a guest's CPUs are laid out; sockets, cores and threads multiply to how many it has."""

    sockets: _Count = Field(default=1, description="Sockets.")
    cores: _Count = Field(default=1, description="Cores of each socket.")
    threads: _Count = Field(default=1, description="Threads of each core.")

    @property
    def cpus(self) -> int:
        """How many CPUs that makes."""
        return self.sockets * self.cores * self.threads


class Cpu(Model):
    """The processor that a guest sees. What is left out is as the guest's type has it."""

    model: _Name | None = Field(
        default=None,
        description="host-passthrough, host-model, maximum, or a model that libvirt knows.",
    )
    features: dict[_Name, Literal["force", "require", "optional", "disable", "forbid"]] = Field(
        default_factory=dict, description="What the model has beyond, or has not, by name."
    )
    topology: Topology | None = Field(
        default=None,
        description="Sockets, cores and threads; left out, a socket for each CPU. Emulated, "
        "host-model and maximum have no threads.",
    )
    pin: tuple[_HostCpu, ...] = Field(
        default=(), description="The host's CPU for each of its own, in their order."
    )
    emulator_pin: _HostCpus | None = Field(
        default=None, description="The host's CPUs that QEMU itself runs on, beside the guest's."
    )
    io_threads: Annotated[StrictInt, Field(ge=1, le=32)] | None = Field(
        default=None,
        description="Threads of QEMU's for disks on virtio, which take turns in them.",
    )
    io_thread_pin: _HostCpus | None = Field(
        default=None, description="The host's CPUs that these threads run on."
    )
    hidden: StrictBool | None = Field(
        default=None,
        description="KVM does not say that it is there, and Hyper-V's interfaces name another "
        "vendor, for drivers that refuse virtual machines. The vendor is untested, and so are such "
        "drivers.",
    )
    numa: NumaCells | None = Field(
        default=None,
        description="NUMA cells, which have all of its CPUs and memory between them.",
    )

    @property
    def emulator_ranges(self) -> str:
        """The host's CPUs for QEMU itself, as libvirt writes them; empty for any."""
        return number_ranges(self.emulator_pin or ())

    @property
    def io_thread_ranges(self) -> str:
        """The host's CPUs for the threads of disks, as libvirt writes them; empty for any."""
        return number_ranges(self.io_thread_pin or ())

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.io_thread_pin is not None and self.io_threads is None:
            raise Problem(
                "there are no threads to pin",
                cure="add `io_threads: 1`, or remove `io_thread_pin:`",
            )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without(serialize(self), CPU_OPTIONS)
