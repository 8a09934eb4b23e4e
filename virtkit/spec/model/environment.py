"""A whole spec: an environment with its hosts, images, networks and guests."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path as FilePath

from pydantic import PrivateAttr

from virtkit.errors import RequestError, SpecErrors
from virtkit.spec import command
from virtkit.spec.model.base import Model
from virtkit.spec.model.guest import GuestSpec
from virtkit.spec.model.host import HostSpec
from virtkit.spec.model.image import Image
from virtkit.spec.model.network import NetworkSpec
from virtkit.spec.nodes import Mark, Path
from virtkit.spec.positions import Positions


class Spec(Model):
    """One environment.

    Attributes:
        name: the environment's name.
        source: the path of the file as it was given, or ``<stdin>``; the first of several.
        more_files: the paths of the others, which lie over it.
        settings: what was set for this run, as ``PATH=VALUE``.
        folder: the folder that the spec's paths are relative to, absolute.
        images: by name; complete for the guests, so entries of the catalogue stand here too.
        networks: by name; complete for the guests, so ``default`` stands here where it is used.
        guests: by their final names, in the file's order.
        hosts: by name; ``local`` where there is no other, or a guest needs it.
    """

    name: str
    source: str
    more_files: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    folder: FilePath
    images: dict[str, Image]
    networks: dict[str, NetworkSpec]
    guests: dict[str, GuestSpec]
    hosts: dict[str, HostSpec]

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all its files, the first one first."""
        return (self.source, *self.more_files)

    def check_references(self, guests: Collection[str] | None = None) -> None:
        """Checks that all that guests name could be read, of all or of these.

        Raises:
            SpecErrors: a file can't be read or has no cloud-config, or a variable is not set.
        """
        errors = {
            (each.where, each.what): each
            for name in self.guests
            if guests is None or name in guests
            for each in self._unread.get(name, ())
        }
        if errors:
            raise SpecErrors(list(errors.values()))

    def command(self, verb: str, *arguments: str) -> str:
        """The command that does ``verb`` to it as it was read."""
        spec = command.join_files(self.files)
        return command.virtkit_command(verb, spec, *arguments, settings=self.settings)

    @property
    def host(self) -> str:
        """The host, where there is one."""
        (name,) = self.hosts
        return name

    def host_of(self, guest: str) -> str | None:
        """The host of a guest as far as the spec alone says it."""
        named = self.guests[guest].host
        return named or (self.host if len(self.hosts) == 1 else None)

    def part(self, host: str, guests: Collection[str]) -> Spec:
        """What of it is on one host: the ``guests`` that are there."""
        on_host = {name: guest for name, guest in self.guests.items() if name in guests}
        return self.model_copy(update={"hosts": {host: self.hosts[host]}, "guests": on_host})

    _positions: Positions = PrivateAttr(default_factory=Positions)
    #: By guest, what its keys name and could not be read.
    _unread: dict[str, tuple[RequestError, ...]] = PrivateAttr(default_factory=dict)

    def position(self, path: Path = ()) -> str:
        """``FILE:LINE:COL`` of a key, or of the nearest one above it that the file has.

        Args:
            path: keys and indices, such as ``("guests", "web-1", "memory")``. A guest goes by
                its final name or its key; where the value comes from a profile or the
                defaults, the place is there.
        """
        return str(self._positions.find(path)[0] or Mark(1, 1, self.source))

    def where(self, path: Path) -> str:
        """``FILE:LINE:COL PATH`` of a key, as in an error's ``where``."""
        mark, file_path = self._positions.find(path)
        return f"{mark or Mark(1, 1, self.source)} {file_path}".rstrip()
