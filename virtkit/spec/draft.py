"""A spec that is being read: its sections and guests, each with its node in the document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from virtkit.errors import RequestError
from virtkit.spec.model import GuestEntry, GuestSpec, HostSpec, Image, NetworkSpec
from virtkit.spec.nodes import Node

ModelT = TypeVar("ModelT")


@dataclass(slots=True)
class Section(Generic[ModelT]):
    """One section of a spec: ``hosts``, ``images`` or ``networks``.

    Attributes:
        nodes: every entry, by name.
        models: those that are right by themselves.
    """

    nodes: dict[str, Node]
    models: dict[str, ModelT]


@dataclass(slots=True)
class Entry:
    """Guests of one entry under ``guests`` that are alike, merged: all of it, those for which its
    ``each`` says nothing, or one of the others.

    Attributes:
        base: its key.
        node: the merged map; each value knows where it was written.
        fields: what it says; those in ``invalid`` stand at their default here.
        invalid: the fields with errors of their own, which later checks leave alone.
        written_cloud_init: its ``cloud_init`` without what other keys bring.
        file_contents: what is in each of its ``files``, by path.
        password_text: its ``password``, or the hash of it.
        ignition_bytes: what is in its ``ignition``.
        unread: what its keys name and could not be read.
        numbers: of its guests, from 1; None where it has no ``count``.
        own_networks: its networks are those of one number, and its addresses don't count up.
        guests: what it makes.
    """

    base: str
    node: Node
    fields: GuestEntry
    invalid: set[str]
    written_cloud_init: Mapping[str, Any] = field(default_factory=dict)
    file_contents: Mapping[str, bytes] = field(default_factory=dict)
    password_text: str | None = None
    ignition_bytes: bytes = b""
    unread: tuple[RequestError, ...] = ()
    numbers: Sequence[int] | None = None
    own_networks: bool = False
    guests: list[GuestSpec] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The names of its guests."""
        return [name for name, _ in self.numbered()]

    def numbered(self) -> list[tuple[str, int | None]]:
        """The name of each of its guests, with its number where it has one."""
        if self.numbers is None:
            return [(self.base, None)]
        return [(f"{self.base}-{number}", number) for number in self.numbers]


@dataclass(slots=True)
class Draft:
    """All of a spec that is being read. ``name`` is empty where it is wrong."""

    name: str
    hosts: Section[HostSpec]
    images: Section[Image]
    networks: Section[NetworkSpec]
    entries: list[Entry]

    def guests(self) -> Iterator[tuple[Entry, GuestSpec]]:
        """Every guest with the entry that makes it."""
        for entry in self.entries:
            for guest in entry.guests:
                yield entry, guest

    def in_order(self) -> list[GuestSpec]:
        """Every guest, in the order of their keys, and of their numbers."""
        places = {
            base: place for place, base in enumerate(dict.fromkeys(e.base for e in self.entries))
        }
        guests = [guest for _, guest in self.guests()]
        return sorted(guests, key=lambda guest: (places[guest.base], guest.index or 0))
