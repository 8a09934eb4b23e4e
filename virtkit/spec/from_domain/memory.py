"""A domain's NUMA cells and huge pages, and where the hypervisor's own threads run."""

from __future__ import annotations

from typing import Any

from lxml import etree

from virtkit.spec import sizes
from virtkit.spec.from_domain.elements import drop, number, take, take_if, take_text
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
    drop(root, "cpu/numa/cell")
    for each in root.findall("numatune/memnode"):
        _take_all(each, "cellid", "mode", "nodeset")
    return {"numa": cells}


def hugepages(reading: Reading) -> str | None:
    """The value of ``hugepages``, where all of its memory is of one size of pages."""
    root = reading.root
    backing = root.find("memoryBacking")
    pages = root.findall("memoryBacking/hugepages/page")
    if backing is None or backing.find("hugepages") is None or len(pages) > 1:
        return None
    if any("nodeset" in each.attrib for each in pages):
        return None
    page = next(iter(pages), None)
    # without a size they are the host's usual ones
    size = 2 * sizes.MIB if page is None else _in_bytes(page, "size")
    if not size:
        return None
    if page is None:
        drop(backing, "hugepages")
    _take_all(page, "size", "unit")
    take_if(backing.find("source"), "type", "memfd")
    return sizes.format_size(size)


def threads(reading: Reading) -> dict[str, Any]:
    """The parts of ``cpu`` that say where the hypervisor's own threads run, and that it hides."""
    root = reading.root
    answer: dict[str, Any] = {}
    emulator = root.find("cputune/emulatorpin")
    if emulator is not None and (cpus := _numbers(emulator.get("cpuset", ""))):
        answer["emulator_pin"] = cpus
        take(emulator, "cpuset")
    answer |= _io_threads(root)
    hidden = root.find("features/kvm/hidden")
    is_kvm = reading.driver is not None and reading.driver.needs_kvm
    if is_kvm and hidden is not None and hidden.get("state") == "on":
        answer["hidden"] = True
        take(hidden, "state")
        _take_all(root.find("features/hyperv/vendor_id"), "state", "value")
    return answer


def _io_threads(root: etree._Element) -> dict[str, Any]:
    """The threads of disks, and the host's CPUs of them where they all have the same."""
    count = number((root.findtext("iothreads") or "").strip())
    if not count or count > 32:
        return {}
    answer: dict[str, Any] = {"io_threads": count}
    take_text(root, "iothreads")
    for disk in root.iterfind("devices/disk"):
        target = disk.find("target")
        if target is not None and target.get("bus") == "virtio":
            take(disk.find("driver"), "iothread")
    pins = root.findall("cputune/iothreadpin")
    cpusets = {each.get("cpuset", "") for each in pins}
    if len(pins) == count and len(cpusets) == 1 and (cpus := _numbers(*cpusets)):
        answer["io_thread_pin"] = cpus
        for each in pins:
            _take_all(each, "iothread", "cpuset")
    return answer


def _cell(element: etree._Element) -> Any:
    """What a spec says of a cell, and its ``id``; None where it can't say all of it."""
    if {*map(str, element.attrib)} - {"id", "cpus", "memory", "unit"} or len(element):
        return None
    cpus = _numbers(element.get("cpus", ""))
    size = _in_bytes(element, "memory")
    if not cpus or not size or size % sizes.MIB:
        return None
    return {
        "id": number(element.get("id", "0")),
        "cpus": cpus,
        "memory": sizes.format_size(size),
    }


def _take_all(element: etree._Element | None, *names: str) -> None:
    for each in names:
        take(element, each)


def _in_bytes(element: etree._Element, name: str) -> int:
    """The size that an attribute says, in bytes; 0 where it says none."""
    unit = _IN_KIB.get(element.get("unit", ""), 0)
    return (number(element.get(name, "")) or 0) * unit * sizes.KIB


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
