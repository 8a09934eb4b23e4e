"""Images that the caller imported, and the names that need no entry in a spec.

It looks whether a file is there, and reads none.
"""

from __future__ import annotations

from pathlib import Path

from virtkit.spec.image_names import is_image_name
from virtkit.spec.model import CATALOGUE, Image

#: What the file of an imported image ends with, by what it is.
SUFFIXES = {"qcow2": ".qcow2", "raw": ".raw"}


def folder() -> Path:
    """Where imported images lie: in the caller's data, as nothing else may have them."""
    import platformdirs  # only who names an image that nobody else knows

    return platformdirs.user_data_path("virtkit") / "images"


def imported_file(name: str) -> Path | None:
    """The file of an imported image; None where there is none, or ``name`` is none of an image."""
    if not is_image_name(name):
        return None  # of a path it would be any file of the caller's
    paths = (folder() / f"{name}{suffix}" for suffix in SUFFIXES.values())
    return next((path for path in paths if path.is_file()), None)


def imported_names() -> list[str]:
    """The names of all imported images."""
    if not folder().is_dir():
        return []
    files = (each for each in folder().iterdir() if not each.name.startswith("."))
    return sorted(each.stem for each in files if each.suffix in SUFFIXES.values())


def known_image(name: str) -> Image | None:
    """The image that a spec may name without an entry: the catalogue's, else an imported one."""
    image = CATALOGUE.get(name)
    if image is not None:
        return image
    path = imported_file(name)
    return Image.model_construct(path=str(path)) if path is not None else None


def known_images() -> list[str]:
    """The names of all of them."""
    return sorted({*CATALOGUE, *imported_names()})
