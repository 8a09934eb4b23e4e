"""The verbs of the image store: ``virtkit image …``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from virtkit import api
from virtkit._dataclass import dataclass
from virtkit.cli import output
from virtkit.cli.arguments import Json, LockTimeout, OnlySpec, SpecOptions
from virtkit.cli.parser import Positionals, flag
from virtkit.errors import RequestError

Available = Annotated[
    bool, flag("--available", help="List the names that need no entry under `images:`.")
]


def image_list(*, chosen: OnlySpec, available: Available = False, json: Json = False) -> None:
    """List the images in this machine's pool, or on a spec's hosts, and what uses them."""
    if available:
        _list_available(json)
        return
    spec = chosen.read() if chosen.given else None
    images = api.image_list(spec)
    if json:
        output.answer({"images": [each.as_dict() for each in images.value]}, images.unanswered)
    else:
        rows = [
            [
                output.label(e.name, e.host),
                e.content[:12],
                e.format,
                api.format_size(e.size),
                ", ".join(e.users) or "-",
            ]
            for e in images.value
        ]
        output.table(["image", "content", "format", "size", "used by"], rows)
    output.end(images.unanswered)


def _list_available(json: bool) -> None:
    images = api.image_available()
    if json:
        output.data({"available": [each.as_dict() for each in images]})
        return
    rows = [
        [
            each.name,
            each.kind,
            each.login or "-",
            ", ".join(each.firmware) or "-",
            ", ".join(each.types),
            "yes" if each.fetched else "no",
        ]
        for each in images
    ]
    output.table(["image", "kind", "login", "firmware", "types", "tried"], rows)
    for each in images:
        if each.note:
            output.out().print(f"{each.name}: {each.note}", markup=False)


def image_import(
    *, positionals: Annotated[Sequence[str], Positionals("FILE NAME")] = (), json: Json = False
) -> None:
    """Keep a disk under a name that every spec knows: one that is packed or another tool's, too."""
    if len(positionals) != 2:
        raise RequestError("FILE and NAME are needed", cure="virtkit image import FILE NAME")
    file, name = positionals
    try:
        image = api.image_import(Path(file).expanduser(), name, _show_progress)
    finally:
        _end_progress()
    if json:
        output.data(image.as_dict())
    else:
        output.out().print(f"{name}: {image.source}", markup=False)


@dataclass(frozen=True, kw_only=True)
class SpecAndImage:
    """SPEC, where one is named, and an image."""

    positionals: Annotated[Sequence[str], Positionals("[SPEC] IMAGE")] = ()
    options: SpecOptions

    def read(self, verb: str) -> tuple[api.Spec | None, str]:
        """The spec and the image.

        Raises:
            RequestError: no image is named, or more than one.
        """
        spec, rest = None, self.positionals
        if self.options.names_spec(rest):
            spec, rest = self.options.read(rest)
        if len(rest) != 1:
            what = "more than one image is named" if rest else "no image is named"
            raise RequestError(what, cure=f"virtkit image {verb} [SPEC] IMAGE")
        return spec, rest[0]


def _make(chosen: SpecAndImage, verb: str, json: bool) -> None:
    spec, name = chosen.read(verb)
    try:
        image = api.image_make(spec, name, _show_progress)
    finally:
        _end_progress()
    if json:
        output.data(
            {"name": name, "content": image.content, "format": image.format, "size": image.size}
        )
    else:
        output.out().print(f"{name}: {image.content[:12]}, {api.format_size(image.size)}")


def _end_progress() -> None:
    if output.can_overwrite(output.err()):  # what is printed next gets its own line
        output.err().print()


def _show_progress(line: str) -> None:
    """Progress of one thing: rewritten in place on a terminal."""
    line = output.plain(line)  # a package or a mirror has a say in it
    if output.can_overwrite(output.err()):
        line = line[: output.err().width - 1]  # what wraps can't be printed over
        output.err().print(f"\r\x1b[2K{line}", end="", markup=False)
    elif not line.endswith("%"):
        output.say(line)


def image_build(*, chosen: SpecAndImage, json: Json = False) -> None:
    """Build an image into the cache; up puts it into the pool."""
    _make(chosen, "build", json)


def image_pull(*, chosen: SpecAndImage, json: Json = False) -> None:
    """Download and verify an image into the cache; up puts it into the pool."""
    _make(chosen, "pull", json)


def image_rm(
    *,
    chosen: SpecAndImage,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
) -> None:
    """Remove an image, by name or content hash, where no guest uses it."""
    spec, name = chosen.read("rm")
    images = api.image_remove(name, spec, lock_timeout=lock_timeout, say=output.say)
    if json:
        output.answer({"removed": [each.as_dict() for each in images.value]}, images.unanswered)
    else:
        names = (output.label(each.content[:12], each.host) for each in images.value)
        if images.value:
            output.out().print(f"removed {', '.join(names)}")
    output.end(images.unanswered)
