"""The images that need no entry under ``images``: read from catalogue.toml when somebody asks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from virtkit._dataclass import dataclass
from virtkit.spec.model.base import DEFAULT_IMAGE
from virtkit.spec.model.image import Build, Image

#: Most specs have this one alone, and are read without the file.
_DEFAULT = Image.model_construct(
    build=Build.model_construct(distribution="debian", release="bookworm")
)
_FILE = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True)
class Published:
    """An image of the catalogue, for one processor.

    Attributes:
        name: what a spec calls it.
        image: where it comes from; None where there is none for this processor.
        login: the user that its maker gave it; empty for one that is built here.
        firmware: what it starts with; empty where that does not matter.
        fetched: virtkit's makers have started guests from it.
        note: what its users should know.
    """

    name: str
    image: Image | None
    login: str = ""
    firmware: tuple[str, ...] = ()
    fetched: bool = False
    note: str = ""


class Catalogue(Mapping[str, Image]):
    """The images by name, for a processor.

    Args:
        machine: the processor, as ``uname -m`` has it; left out, this machine's.
    """

    def __init__(self, machine: str = "") -> None:
        self._machine = machine or os.uname().machine

    @cached_property
    def entries(self) -> Mapping[str, Published]:
        """All of them, those that this processor lacks too."""
        import tomllib  # most commands do without it

        said = tomllib.loads(_FILE.read_text(encoding="utf-8"))
        return {name: self._entry(name, each) for name, each in said.items()}

    def _entry(self, name: str, said: Mapping[str, Any]) -> Published:
        return Published(
            name,
            self._image(said),
            said.get("login", ""),
            tuple(said.get("firmware", {}).get(self._machine, ())),
            said.get("fetched", False),
            said.get("note", ""),
        )

    def _image(self, said: Mapping[str, Any]) -> Image | None:
        if "build" in said:
            return Image.model_construct(build=Build.model_construct(**said["build"]))
        if self._machine not in said["arch"]:
            return None
        values = {"arch": said["arch"][self._machine], "version": said.get("version", "")}
        url = said["url"].format(**values)
        file = url.rpartition("/")[2]
        checksums = urljoin(url, said["checksums"].format(file=file, **values))
        return Image.model_construct(url=url, checksums=checksums)

    def __getitem__(self, name: str) -> Image:
        if name == DEFAULT_IMAGE:
            return _DEFAULT
        image = self.entries[name].image
        if image is None:
            raise KeyError(name)
        return image

    def __iter__(self) -> Iterator[str]:
        return (name for name, each in self.entries.items() if each.image is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


#: Those for this machine's processor.
CATALOGUE = Catalogue()
