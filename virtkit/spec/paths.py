"""The paths in a spec's files, which are relative to the file that they stand in. Pure."""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from virtkit.spec.model import GuestEntry, HostSpec, Image, Model, NetworkSpec
from virtkit.spec.model.base import CALLERS_FILE
from virtkit.spec.nodes import Node

_SECTIONS: Mapping[str, type[Model]] = {
    "hosts": HostSpec,
    "images": Image,
    "networks": NetworkSpec,
    "profiles": GuestEntry,
    "guests": GuestEntry,
}


def moved(root: Node, folder: str) -> Node:
    """A file's tree with its paths as a spec in another folder has them.

    Args:
        folder: the file's own, relative to that of the spec.
    """
    if folder == ".":
        return root
    entries = dict(root.entries)
    for name, model in _SECTIONS.items():
        if name in entries:
            section = entries[name]
            below = {key: _model(node, model, folder) for key, node in section.entries.items()}
            entries[name] = _with(section, below) if section.entries else section
    if "defaults" in entries:
        entries["defaults"] = _model(entries["defaults"], GuestEntry, folder)
    return _with(root, entries)


def _with(node: Node, value: Any) -> Node:
    return Node(value, node.path, node.mark, node.key, node.core)


def _model(node: Node, model: type[Model], folder: str) -> Node:
    """A map of a model's keys."""
    if not isinstance(node.value, dict):
        return node
    fields = _fields(model)
    entries = {
        key: _value(below, *fields[key], folder) if key in fields else below
        for key, below in node.entries.items()
    }
    return _with(node, entries)


def _value(node: Node, part: type[Model] | None, several: bool, folder: str) -> Node:
    """A path, or a map with paths in it; a list of them, or a map of them by any keys."""
    if isinstance(node.value, list):
        return _with(node, [_value(each, part, False, folder) for each in node.items])
    if several and isinstance(node.value, dict):
        below = {key: _value(each, part, False, folder) for key, each in node.entries.items()}
        return _with(node, below)
    text = node.value
    if part is not None and not (part.short_is_path and isinstance(text, str)):
        return _model(node, part, folder)
    if not isinstance(text, str) or not text or text.startswith(("/", "~")):
        return node
    return _with(node, posixpath.normpath(posixpath.join(folder, text)))


@functools.cache
def _fields(model: type[Model]) -> dict[str, tuple[type[Model] | None, bool]]:
    """The fields with paths in them: the model of their parts, None for paths themselves; and
    whether they are maps by any keys."""
    answer = {}
    for name, field in model.model_fields.items():
        is_map = get_origin(field.annotation) is dict
        is_path = CALLERS_FILE in field.metadata
        for part in [None] if is_path else _parts(field.annotation):
            if part is None or _fields(part):
                answer[field.alias or name] = (part, is_map)
    return answer


def _parts(annotation: Any) -> Iterator[type[Model] | None]:
    """The models in an annotation, and None for a path."""
    if get_origin(annotation) is Annotated and CALLERS_FILE in annotation.__metadata__:
        yield None
    elif isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    else:
        for each in get_args(annotation):
            yield from _parts(each)
