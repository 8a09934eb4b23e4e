"""Where in the spec's files the reasons of a plan stand."""

from __future__ import annotations

from dataclasses import replace

from virtkit.plan import Change, Plan
from virtkit.spec import Spec
from virtkit.spec.nodes import Path


def with_positions(plan: Plan, spec: Spec) -> Plan:
    """The same plan, each of whose reasons that is the spec's tells where that says it."""
    changes, pending = (
        tuple(_placed(each, spec) for each in part) for part in (plan.changes, plan.pending)
    )
    return replace(plan, changes=changes, pending=pending, source=spec.source)


def _placed(change: Change, spec: Spec) -> Change:
    section = {"guest": "guests", "network": "networks"}.get(change.object.partition("/")[0], "")
    named = {"guests": [*spec.guests], "networks": [*spec.networks]}.get(section, [])
    if change.name not in named:
        return change
    reasons = (
        replace(each, where=spec.position((section, change.name, *_path(spec, change, each.field))))
        if each.cause == "spec"
        else each
        for each in change.reasons
    )
    return replace(change, reasons=tuple(reasons))


def _path(spec: Spec, change: Change, field: str) -> Path:
    """The keys of a reason's field: disks, networks and discs stand in lists."""
    first, *rest = field.split(".")
    if first == "cdroms" and rest:
        return (first, int(rest[0]) - 1)
    if first == "files" and change.name in spec.guests:
        return _file_path([each.path for each in spec.guests[change.name].files], field)
    if first not in ("disks", "networks") or not rest or change.name not in spec.guests:
        return (first, *rest)
    guest = spec.guests[change.name]
    interfaces, disks = guest.networks or (), guest.disks
    names = [e.name for e in disks] if first == "disks" else [e.name for e in interfaces]
    name, _, which = rest[0].partition("#")
    indexes = [index for index, each in enumerate(names) if each == name]
    number = int(which or 1) - 1
    return (first, indexes[number], *rest[1:]) if number < len(indexes) else (first,)


def _file_path(paths: list[str], field: str) -> Path:
    """The keys of a file's field, ``files.PATH`` or ``files.PATH.PART``: paths hold dots."""
    named = [n for n, each in enumerate(paths) if f"{field}.".startswith(f"files.{each}.")]
    if not named:
        return ("files",)
    index = max(named, key=lambda each: len(paths[each]))
    part = field.removeprefix(f"files.{paths[index]}").removeprefix(".")
    return ("files", index, part) if part else ("files", index)
