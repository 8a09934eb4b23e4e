"""A guest's NUMA cells and huge pages against its CPUs and its memory. Pure."""

from __future__ import annotations

from virtkit.spec.draft import Entry
from virtkit.spec.errors import Problems
from virtkit.spec.model import NumaCell, number_ranges
from virtkit.spec.nodes import Path
from virtkit.spec.problem import Problem
from virtkit.spec.sizes import format_size


def check(entry: Entry, problems: Problems) -> None:
    """Cells that have not each CPU once, or another sum of memory than the guest may have; memory
    that is no whole number of pages."""
    cells = entry.fields.cpu.numa or ()
    if {"cpu", "cpus", "memory", "max", "hugepages"} & entry.invalid:
        return
    if cells:
        _cpus(entry, cells, problems)
        _memory(entry, cells, problems)
    _pages(entry, cells, problems)


def _cpus(entry: Entry, cells: tuple[NumaCell, ...], problems: Problems) -> None:
    most = entry.fields.max.cpus or entry.fields.cpus
    seen: set[int] = set()
    for index, cell in enumerate(cells):
        for place, number in enumerate(cell.cpus):
            path = ("cpu", "numa", index, "cpus", place)
            if number >= most:
                problem = Problem(
                    f"there is no CPU {number} for a cell",
                    why=f"the guest's are {number_ranges(range(most))}",
                    cure="name those, or raise `cpus:` or `max.cpus`",
                )
                problems.at(entry.node, path, problem)
            elif number in seen:
                problem = Problem(
                    f"the CPU {number} is in the cells twice",
                    cure="name each of the guest's CPUs once",
                )
                problems.at(entry.node, path, problem)
            seen.add(number)
    missing = {*range(most)} - seen
    if missing:
        problem = Problem(
            f"no cell has the CPUs {number_ranges(missing)}",
            why="cells have all CPUs that the guest may have: `max.cpus`, or `cpus` where that is "
            "all",
            cure="add them to one",
        )
        problems.at(entry.node, ("cpu", "numa"), problem)


def _memory(entry: Entry, cells: tuple[NumaCell, ...], problems: Problems) -> None:
    limit = entry.fields.max.memory
    most, key = limit or entry.fields.memory, "max.memory" if limit else "memory"
    total = sum(each.memory for each in cells)
    if total != most:
        problem = Problem(
            f"the cells have {format_size(total)} of memory, and the guest {format_size(most)}",
            why="cells have all that the guest may have: `max.memory`, or `memory` where that is "
            "all",
            cure=f"set `{key}: {format_size(total)}`, or other sizes",
        )
        problems.at(entry.node, ("cpu", "numa"), problem)


def _pages(entry: Entry, cells: tuple[NumaCell, ...], problems: Problems) -> None:
    """Memory that does not fill its huge pages: QEMU would have another size of it."""
    fields, page = entry.fields, entry.fields.hugepages
    if page is None:
        return
    parts: list[tuple[Path, int]] = [
        (("cpu", "numa", index, "memory"), cell.memory) for index, cell in enumerate(cells)
    ]
    whole: Path = ("max", "memory") if fields.max.memory else ("memory",)
    for path, size in parts or [(whole, fields.max.memory or fields.memory)]:
        if size % page:
            problem = Problem(
                f"{format_size(size)} of memory are no whole number of pages of "
                f"{format_size(page)}",
                cure=f"use {format_size(-(-size // page) * page)}, or smaller pages",
            )
            problems.at(entry.node, path, problem)
