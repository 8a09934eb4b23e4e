"""What a spec asks of a guest now, against what it asked for when the guest was last brought up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from virtkit.drivers.fields import DEVICE_LISTS, row_of
from virtkit.spec.defaults import completed
from virtkit.spec.model import DEFAULT_NETWORK

#: Fields whose parts are compared one by one, and the part that a plain value stands for.
_SHORT = {"cpu": "", "disk": "size", "graphics": "kind"}
#: A field that differs: its name, what was requested, what is requested now.
RequestedChange = tuple[str, Any, Any]


def requested_changes(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterable[RequestedChange]:
    """The fields that differ; disks and network interfaces one by one.

    A field that a record lacks has the model's default: an upgrade that brings one is no change.
    """
    before, after = completed(before), completed(after)
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if name == "disks":
            yield from _entries(name, _by_name(old), _by_name(new))
        elif name == "networks":
            yield from _entries(name, _by_name(_interfaces(old)), _by_name(_interfaces(new)))
        elif name == "cdroms":
            yield from _discs(_by_number(old), _by_number(new))
        elif name == "files":
            yield from _entries(name, *({e["path"]: e for e in each or ()} for each in (old, new)))
        elif name in _SHORT:
            yield from _parts(name, _in_full(name, old), _in_full(name, new))
        elif old != new:
            yield name, old, new


def requested_value(requested: Mapping[str, Any], field: str) -> Any:
    """What a spec requests of a field, as ``requested_changes`` names it; None where it says
    nothing of it."""
    first, *rest = field.split(".")
    value = completed(requested).get(first)
    if first in _SHORT:
        return _in_full(first, value).get(rest[0] if rest else _SHORT[first])
    if first in DEVICE_LISTS and rest:
        by_key = _by_number if first == "cdroms" else _by_name
        entry = by_key(value).get(rest[0], {})
        return entry.get(rest[1]) if len(rest) > 1 else entry
    return value


def _in_full(field: str, value: Any) -> Mapping[str, Any]:
    """A field with parts, which a record may have as one of them alone."""
    return value if isinstance(value, Mapping) else {_SHORT[field]: value}


def _parts(
    field: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterable[RequestedChange]:
    """A field whose parts differ in what their change costs; the one that it is short for is its
    own."""
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            name = field if key == _SHORT[field] else f"{field}.{key}"
            yield name, before.get(key), after.get(key)


def _as_recorded(field: str, entry: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """An entry without what no record mentions."""
    if entry is None:
        return None
    return {k: v for k, v in entry.items() if v is not None or not row_of(f"{field}.X.{k}").sparse}


def _interfaces(requested: Any) -> Any:
    return [{"name": DEFAULT_NETWORK}] if requested is None else requested


def _by_name(entries: Any) -> dict[str, Mapping[str, Any]]:
    """Entries by name; a second one of a name (two interfaces on one network) is ``NAME#2``."""
    answer: dict[str, Mapping[str, Any]] = {}
    for each in entries or ():
        name, count = each["name"], 1
        while name in answer:
            count += 1
            name = f"{each['name']}#{count}"
        answer[name] = each
    return answer


def _by_number(discs: Any) -> dict[str, Mapping[str, Any]]:
    """The drives by their numbers, from 1, with the disc in each."""
    return {str(number): {"disc": each} for number, each in enumerate(discs or (), 1)}


def _discs(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> Iterable[RequestedChange]:
    """Discs that are changed, and drives that come or go; a disc leaves before its drive does."""
    for name in before:
        if name not in after:
            yield f"cdroms.{name}.disc", before[name]["disc"], None
    yield from _entries("cdroms", before, after)


def _entries(
    field: str, before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> Iterable[RequestedChange]:
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            yield f"{field}.{name}", _as_recorded(field, old), _as_recorded(field, new)
            continue
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield f"{field}.{name}.{key}", old.get(key), new.get(key)
