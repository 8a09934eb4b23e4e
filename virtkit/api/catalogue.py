"""The images that a spec may name without an entry: the catalogue's, and imported ones."""

from __future__ import annotations

import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from virtkit import images
from virtkit._dataclass import dataclass
from virtkit.api._hosts import Say, quiet
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError
from virtkit.progress import Progress
from virtkit.spec import CATALOGUE, Problem, Published, imported
from virtkit.spec.image_names import image_name


@dataclass(frozen=True)
class AvailableImage:
    """An image that a spec may name without an entry.

    Attributes:
        kind: ``built`` here, a published ``disk``, or one that was ``imported``.
        source: its URL, or the path of an imported one; empty for one that is built here.
        checksums: the URL of its published digest.
        login: the user that its maker gave it.
        firmware: what it starts with; empty where that does not matter, or nobody knows.
        types: the guest types that it serves.
        fetched: virtkit's makers have started guests from it.
        note: what its users should know.
    """

    name: str
    kind: str
    source: str
    checksums: str
    login: str
    firmware: tuple[str, ...]
    types: tuple[str, ...]
    fetched: bool
    note: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def image_available() -> list[AvailableImage]:
    """The catalogue for this machine's processor, then the caller's imported images."""
    published = [_published(each) for each in CATALOGUE.entries.values() if each.image is not None]
    own = [
        AvailableImage(name, "imported", str(path), "", "", (), _types("disk"), True, "")
        for name in imported.imported_names()
        if name not in CATALOGUE and (path := imported.imported_file(name)) is not None
    ]
    return published + own


def _published(each: Published) -> AvailableImage:
    image = each.image
    assert image is not None
    return AvailableImage(
        each.name,
        image.kind,
        image.url or "",
        image.checksums or "",
        each.login,
        each.firmware,
        _types(image.kind),
        each.fetched,
        each.note,
    )


def _types(kind: str) -> tuple[str, ...]:
    return tuple(name for name, driver in DRIVERS.items() if kind in driver.images)


def image_import(
    file: Path, name: str, say: Say = quiet, *, stop: threading.Event | None = None
) -> AvailableImage:
    """Keeps a disk under a name, by which every spec of the caller's may call it.

    Args:
        file: a disk, or what one is made of: packed, another tool's, an archive with one.
        stop: set from any thread, it ends the work as ctrl-c does.

    Raises:
        RequestError: no disk can be made of the file; or the name is taken, or is none.
        Interrupted: ``stop`` was set.
    """
    try:
        image_name(name)
    except Problem as problem:
        raise RequestError(
            problem.what, why=problem.why, cure="use a name such as web-1.2"
        ) from None
    if name in CATALOGUE.entries:
        raise RequestError(
            f"the catalogue has an image {name}",
            cure=f"choose another name: my-{name}",
        )
    if imported.imported_file(name) is not None:
        raise RequestError(
            f"there is an imported image {name}",
            why="guests may be made from it at any time",
            cure=f"remove it first (virtkit image rm {name}), or choose another name",
        )
    path, _, _ = images.import_disk(file, name, Progress(say, stop))
    return AvailableImage(name, "imported", str(path), "", "", (), _types("disk"), True, "")
