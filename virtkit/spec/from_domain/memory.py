"""A domain's NUMA cells."""

from __future__ import annotations

from typing import Any

from lxml import etree

from virtkit.spec import sizes
from virtkit.spec.from_domain.elements import drop, number
from virtkit.spec.from_domain.reading import Reading

#: KiB of libvirt's units of a cell's memory.
_IN_KIB = {"": 1, "KiB": 1, "k": 1, "MiB": 1024, "M": 1024, "GiB": 1024**2, "G": 1024**2}


def numa(reading: Reading) -> dict[str, Any]:
    """The part ``numa`` of ``cpu``, where a spec can say all of it."""
    root = reading.root
    cells = [_cell(each) for each in root.findall("cpu/numa/cell")]
    if not cells or None in cells or [each.pop("id") for each in cells] != [*range(len(cells))]:
        return {}
    for each in root.findall("numatune/memnode"):
        place, nodes = number(each.get("cellid", "")), _numbers(each.get("nodeset", ""))
        policy = each.get("mode", "strict")
        known = place is not None and place < len(cells) and policy != "restrictive"
        if place is None or not known or not nodes:
            return {}
        cells[place]["host_nodes"] = nodes
        if policy != "strict":
            cells[place]["policy"] = policy
    drop(root, "cpu/numa", "numatune/memnode")
    return {"numa": cells}


def _cell(element: etree._Element) -> Any:
    """What a spec says of a cell, and its ``id``; None where it can't say all of it."""
    if {*map(str, element.attrib)} - {"id", "cpus", "memory", "unit"} or len(element):
        return None
    cpus = _numbers(element.get("cpus", ""))
    unit = _IN_KIB.get(element.get("unit", ""), 0)
    size = (number(element.get("memory", "")) or 0) * unit * sizes.KIB
    if not cpus or not size or size % sizes.MIB:
        return None
    return {
        "id": number(element.get("id", "0")),
        "cpus": cpus,
        "memory": sizes.format_size(size),
    }


def _numbers(text: str) -> list[int]:
    """The numbers of a set as libvirt writes it; empty where it is none."""
    answer: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = number(first), number(last or first)
        if start is None or end is None or end - start > 4096:
            return []
        answer += range(start, end + 1)
    return answer
