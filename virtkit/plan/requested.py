"""What a spec asks of a guest now, against what it asked for when the guest was last brought up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from virtkit.spec.defaults import completed
from virtkit.spec.model import DEFAULT_NETWORK

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
        elif old != new:
            yield name, old, new


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


def _entries(
    field: str, before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> Iterable[RequestedChange]:
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            yield f"{field}.{name}", old, new
            continue
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield f"{field}.{name}.{key}", old.get(key), new.get(key)
