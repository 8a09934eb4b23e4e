"""NUMA cells of a virtual machine and the pages of its memory, as a spec describes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StrictInt,
    model_serializer,
    model_validator,
)

from virtkit.spec.model.base import MAX_CPUS, Memory, Model, Size, without
from virtkit.spec.problem import Problem, quote
from virtkit.spec.sizes import KIB, format_size

#: The smallest huge page that a Linux kernel has, on any processor.
_MIN_PAGE = 64 * KIB
#: As many as QEMU gives a guest.
_MAX_CELLS = 128


def number_ranges(numbers: Iterable[int]) -> str:
    """Numbers as libvirt writes a set of them: ``0-3,6``."""
    parts: list[list[int]] = []
    for each in sorted({*numbers}):
        if parts and parts[-1][-1] == each - 1:
            parts[-1][1:] = [each]
        else:
            parts.append([each])
    return ",".join("-".join(map(str, each)) for each in parts)


def _page_size(size: int) -> int:
    if size < _MIN_PAGE or size & (size - 1):
        raise Problem(
            f"no processor has huge pages of {quote(format_size(size))}",
            cure="use 2MiB or 1GiB, those of x86",
        )
    return size


def some_numbers(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """A list that has to name something.

    Raises:
        Problem: it is empty.
    """
    if not numbers:
        raise Problem("the list is empty", cure="name a number at least, or remove the key")
    return numbers


PageSize = Annotated[Size, AfterValidator(_page_size)]
_Cpus = Annotated[
    tuple[Annotated[StrictInt, Field(ge=0, lt=MAX_CPUS)], ...], AfterValidator(some_numbers)
]
_Nodes = Annotated[
    tuple[Annotated[StrictInt, Field(ge=0, le=1023)], ...], AfterValidator(some_numbers)
]


class NumaCell(Model):
    """Some of a guest's CPUs, and the memory that is near them."""

    cpus: _Cpus = Field(description="The CPUs in it, by their numbers from 0.")
    memory: Memory = Field(
        description="Its memory; all cells together have `max.memory`, or `memory`. While the "
        "guest has less than that, its system chooses the cell that lacks it."
    )
    host_nodes: _Nodes | None = Field(
        default=None,
        description="The host's NUMA nodes that its memory comes from; left out, any. Untested on "
        "a host with several.",
    )
    policy: Literal["strict", "preferred", "interleave"] | None = Field(
        default=None,
        description="Whether it must come from there (left out, so it is), comes from there while "
        "there is some, or from all of them in turn.",
    )

    @property
    def cpu_ranges(self) -> str:
        """Its CPUs, as libvirt writes them."""
        return number_ranges(self.cpus)

    @property
    def node_ranges(self) -> str:
        """The host's nodes, as libvirt writes them; empty for any."""
        return number_ranges(self.host_nodes or ())

    @property
    def memory_kib(self) -> int:
        """Its memory in KiB, libvirt's unit of it."""
        return self.memory // KIB

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        nodes = self.host_nodes
        if self.policy is not None and nodes is None:
            raise Problem(
                f"the policy {self.policy} says nothing without nodes of the host",
                cure="add `host_nodes: [0]`, or remove `policy:`",
            )
        if self.policy == "preferred" and len({*(nodes or ())}) > 1:
            raise Problem(
                "one node of the host alone can be preferred",
                cure="name one in `host_nodes:`, or use `policy: interleave`",
            )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without(serialize(self), ("host_nodes", "policy"))


def _some_cells(cells: tuple[NumaCell, ...]) -> tuple[NumaCell, ...]:
    if not 1 <= len(cells) <= _MAX_CELLS:
        raise Problem(
            f"a guest can't have {len(cells)} NUMA cells",
            cure=f"use 1 to {_MAX_CELLS}, or remove `numa:`",
        )
    return cells


NumaCells = Annotated[tuple[NumaCell, ...], AfterValidator(_some_cells)]
