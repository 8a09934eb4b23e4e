"""Which of a guest's changes account for a difference that is seen."""

from __future__ import annotations

from collections.abc import Sequence, Set

from virtkit.drivers.fields import accounts_for, row_of

#: What may bring a guest any device.
RAW = frozenset({"devices", "template"})


def explained(field: str, fields: Set[str]) -> bool:
    """Whether one of the ``fields`` that change anyway accounts for a difference in ``field``."""
    first, _, rest = field.partition(".")
    name = f"{first}.{rest.partition('.')[0]}" if rest else first
    if any(each == field or f"{each}.".startswith(f"{name}.") for each in fields):
        return True
    if by := accounts_for(field):
        return bool(fields & by)
    row = row_of(field)
    if any(each.partition(".")[0] in row.beside for each in fields):
        return True
    device = row.action != "plug" and any(each.startswith("devices/") for each in row.xml_paths)
    raw = device or "/" in field
    return "template" in fields or (raw and bool(fields & RAW))


def is_covered_by_parts(field: str, fields: Sequence[str]) -> bool:
    """Whether a list of devices differs only in those of its devices that are named."""
    is_list = "." not in field and row_of(field).action == "plug"
    return is_list and any(each.startswith(f"{field}.") for each in fields)


def is_seen_with(field: str, fields: Sequence[str]) -> bool:
    """Whether a field differs only because another one that is named does."""
    return any(each.partition(".")[0] in row_of(field).beside for each in fields)
