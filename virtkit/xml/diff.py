"""Our XML against libvirt's: what of ours is missing there, and the two merged.

Pure. libvirt rewrites what it is given and adds to it, so its XML is never compared as a whole:
every element and attribute that we rendered must stand in it (a subset match). It must never
complain of what others added, nor take that out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Sequence

from lxml import etree

from virtkit._dataclass import dataclass
from virtkit.xml import machine_state
from virtkit.xml.quantities import amount, size_of, text_of, unit_of, value_of, with_unit

#: Elements whose text is shown in bytes.
_SIZES = {"memory", "currentMemory"}
#: What distinguishes an element from others of its tag (or of its parent's and its own): a path
#: below it or an attribute of its own, the first that is there.
_IDENTITIES = {
    "disk": ("target/@dev",),
    "interface": ("mac/@address",),
    "filesystem": ("target/@dir",),
    "channel": ("target/@name",),
    "initenv": ("@name",),
    "graphics": ("@type",),
    "input": ("@type",),
    "sound": ("@model",),
    "rng": ("backend/@model",),
    "shmem": ("@name",),
    "ip": ("@address",),
    "host": ("@mac", "@ip"),
    "range": ("@start",),
    "dns/forwarder": ("@domain",),
    "cpu/feature": ("@name",),
    "cputune/vcpupin": ("@vcpu",),
    "cputune/iothreadpin": ("@iothread",),
    "numa/cell": ("@id",),
    "numatune/memnode": ("@cellid",),
}
#: Elements that only hold others together, and may hold somebody else's.
_GROUPS = {"cputune", "dns", "memoryBacking"}
#: Attributes that libvirt has a second time in a child, where it must be the same.
_TWICE = {("graphics", "listen"): ("listen", "address")}
#: Attributes that distinguish further, where we set them; libvirt may choose them itself.
_ALSO = {"input": ("bus",), "controller": ("type",)}


@dataclass(frozen=True)
class Difference:
    """Something of ours that libvirt has changed, or lacks.

    Attributes:
        path: where, as ``devices/disk[vdb]/source/@file``.
        wanted: what we rendered: a text or, of a whole element, what distinguishes it.
        current: what stands there; None where it is missing.
    """

    path: str
    wanted: str | None
    current: str | None


def differences(wanted: etree._Element, current: etree._Element) -> list[Difference]:
    """What of ``wanted`` isn't in ``current``; our record is never looked at."""
    return list(_missing(wanted, current, ""))


def removed(
    before: etree._Element, wanted: etree._Element, current: etree._Element
) -> list[Difference]:
    """What we once rendered and no longer want, and what of it still stands in ``current``."""
    return list(_left_over(before, wanted, current, ""))


def merged(
    before: etree._Element | None, wanted: etree._Element, current: etree._Element
) -> etree._Element:
    """libvirt's own XML with our changes: what others added stays.

    Where the guest becomes another kind of machine only their metadata does: devices, and what
    libvirt itself added, were for the old one.

    Args:
        before: what we rendered last time; what of it we no longer want is taken out.
    """
    if _another_machine(wanted, current):
        answer = copy.deepcopy(wanted)
        for each in current.findall("metadata"):
            answer.insert(2, copy.deepcopy(each))  # after name and uuid
        return answer
    answer = copy.deepcopy(current)
    if before is not None:
        machine_state.forget_chosen(before, wanted, answer)
        _take_out(before, wanted, answer)
    _put_in(wanted, answer)
    return answer


def _another_machine(wanted: etree._Element, current: etree._Element) -> bool:
    mine, theirs = wanted.find("./os/type"), current.find("./os/type")
    if mine is None or theirs is None:
        return False
    kept = "machine" not in mine.attrib or _same(mine, theirs, "machine")
    return text_of(mine) != text_of(theirs) or not kept


def element_at(root: etree._Element, path: str) -> etree._Element | None:
    """The element that a difference's path names, where it is there."""
    here = root
    for name in split_path(path):
        below = (each for each in _children(here) if _name(each) == name)
        if (child := next(below, None)) is None:
            return None
        here = child
    return here


def remaining(paths: Iterable[str], wanted: etree._Element, current: etree._Element) -> list[str]:
    """Those of the places of differences that are still in ``current``, and not in ``wanted``."""

    def has(root: etree._Element, path: str) -> bool:
        place, _, attribute = path.partition("/@")
        element = element_at(root, place)
        return element is not None and (not attribute or attribute in element.attrib)

    return [each for each in paths if has(current, each) and not has(wanted, each)]


def split_path(path: str) -> list[str]:
    """The elements of a difference's path; a name in brackets may have slashes."""
    return re.findall(r"(?:\{[^}]*\})?[^/\[]+(?:\[[^\]]*\])?", path)


def value_at(root: etree._Element, path: str) -> str | None:
    """What stands at ``path``, as a difference shows it: sizes in bytes."""
    element = element_at(root, path)
    return _shown(element) if element is not None else None


def disk_target(root: etree._Element, key: str) -> str:
    """The target of a domain's disk whose source is the volume ``key``; empty where none is."""
    name = key.rpartition("/")[2]
    for disk in root.iterfind("./devices/disk"):
        source = disk.find("source")
        if source is not None and (
            key in (source.get("file"), source.get("dev")) or source.get("volume") == name
        ):
            return _identity(disk)
    return ""


# --- the match ------------------------------------------------------------------------------


def _missing(wanted: etree._Element, current: etree._Element, path: str) -> Iterator[Difference]:
    if text_of(wanted) and value_of(wanted) != value_of(current):
        yield Difference(path, _shown(wanted), _shown(current))
    for key, value in _attributes(wanted):
        current_value = _attribute(current, key)
        if not _same(wanted, current, key):
            shown = (
                with_unit(wanted, key, value),
                with_unit(current, key, current_value),
            )
            yield Difference(f"{path}/@{key}", *shown)
    for mine, theirs in _pairs(wanted, current):
        below = f"{path}/{_name(mine)}".lstrip("/")
        if theirs is None and mine.tag in _GROUPS:
            theirs = etree.Element(str(mine.tag))
        if theirs is None:
            yield Difference(below, _shown(mine), None)
        else:
            yield from _missing(mine, theirs, below)


def _left_over(
    before: etree._Element, wanted: etree._Element, current: etree._Element, path: str
) -> Iterator[Difference]:
    for key, value in _attributes(before):
        if key not in wanted.attrib and key in current.attrib and _same(before, current, key):
            yield Difference(f"{path}/@{key}", None, with_unit(before, key, value))
    counterparts = _counterparts(before, wanted)
    for old, theirs in _pairs(before, current):
        new = counterparts[old]
        below = f"{path}/{_name(old)}".lstrip("/")
        if theirs is not None and new is None:
            yield Difference(below, None, _shown(theirs))
        elif theirs is not None and new is not None:
            yield from _left_over(old, new, theirs, below)


# --- the merge ------------------------------------------------------------------------------


def _take_out(before: etree._Element, wanted: etree._Element, current: etree._Element) -> None:
    for key, _ in _attributes(before):
        if key not in wanted.attrib and key in current.attrib and _same(before, current, key):
            if (twin := _twin(current, key)) is not None:
                current.remove(twin[0])
            del current.attrib[key]
            if (unit := unit_of(current, key)) is not None:
                current.attrib.pop(unit, "")
    counterparts = _counterparts(before, wanted)
    for old, theirs in list(_pairs(before, current)):
        new = counterparts[old]
        if theirs is not None and new is None:
            current.remove(theirs)
        elif theirs is not None and new is not None:
            _take_out(old, new, theirs)
            if old.tag in _GROUPS and not len(new) and not len(theirs) and not theirs.attrib:
                current.remove(theirs)


def _counterparts(
    before: etree._Element, wanted: etree._Element
) -> dict[etree._Element, etree._Element | None]:
    """What each child of ``before`` is in ``wanted``; a group that is gone there is an empty one,
    so that what others added to it stays."""
    return {
        each: etree.Element(str(each.tag)) if new is None and each.tag in _GROUPS else new
        for each, new in _pairs(before, wanted)
    }


def _put_in(wanted: etree._Element, current: etree._Element) -> None:
    if text_of(wanted) and value_of(wanted) != value_of(current):
        current.text = wanted.text
        _put_unit(wanted, current, "")
    for key, value in _attributes(wanted):
        if not _same(wanted, current, key):
            if (twin := _twin(current, key)) is not None:
                twin[0].set(twin[1], value)
            current.set(key, value)
            _put_unit(wanted, current, key)
    for mine, theirs in list(_pairs(wanted, current)):
        if theirs is None:
            current.append(copy.deepcopy(mine))
        else:
            _put_in(mine, theirs)


def _twin(element: etree._Element, key: str) -> tuple[etree._Element, str] | None:
    """The child, and its attribute, in which libvirt has an attribute a second time."""
    tag, name = _TWICE.get((str(element.tag), key), ("", ""))
    child = element.find(tag) if tag else None
    return (child, name) if child is not None and child.get(name) == element.get(key) else None


def _put_unit(wanted: etree._Element, current: etree._Element, key: str) -> None:
    """A number goes in with its unit; where we give none, libvirt's own is meant."""
    unit = unit_of(wanted, key) or unit_of(current, key)
    if unit is None:
        return
    if unit in wanted.attrib:
        current.set(unit, wanted.get(unit, ""))
    else:
        current.attrib.pop(unit, "")


# --- what is meant by the same ----------------------------------------------------------------


def _pairs(
    wanted: etree._Element, current: etree._Element
) -> Iterator[tuple[etree._Element, etree._Element | None]]:
    """Each child of ``wanted`` with the one of ``current`` that is meant: by identity, else the
    one with the fewest differences. A device that a guest has once (a watchdog) is always meant."""
    by_tag: dict[str, list[etree._Element]] = {}
    by_identity: dict[tuple[str, str], list[etree._Element]] = {}
    for each in _children(current):
        by_tag.setdefault(str(each.tag), []).append(each)
        by_identity.setdefault((str(each.tag), _identity(each)), []).append(each)
    taken: set[etree._Element] = set()
    for mine in _children(wanted):
        tag, identity = str(mine.tag), _identity(mine)
        alike = by_identity.get((tag, identity), []) if identity else by_tag.get(tag, [])
        candidates = [each for each in alike if each not in taken]
        for key in _ALSO.get(tag, ()):
            candidates = [each for each in candidates if mine.get(key) in (None, each.get(key))]
        chosen = _closest(mine, candidates)
        if chosen is not None:
            taken.add(chosen)
        yield mine, chosen


def _closest(mine: etree._Element, candidates: Sequence[etree._Element]) -> etree._Element | None:
    """The one with the fewest differences; mostly the first has none."""
    if len(candidates) < 2:
        return next(iter(candidates), None)
    for each in candidates:
        if next(_missing(mine, each, ""), None) is None:
            return each
    return min(candidates, key=lambda each: len(differences(mine, each)))


def _children(element: etree._Element) -> list[etree._Element]:
    return [each for each in element.iterchildren(etree.Element) if each.tag != "metadata"]


def _identity(element: etree._Element) -> str:
    """What distinguishes an element from others of its tag; empty where nothing does."""
    if element.tag == "controller" and element.get("index"):
        return f"{element.get('type')} {element.get('index')}"
    parent = element.getparent()
    above = f"{parent.tag}/{element.tag}" if parent is not None else ""
    for path in _IDENTITIES.get(above) or _IDENTITIES.get(str(element.tag), ()):
        where, _, attribute = path.rpartition("@")
        owner = element.find(where.rstrip("/")) if where else element
        value = owner.get(attribute) if owner is not None else None
        if value:
            return value.lower()
    return ""


def _name(element: etree._Element) -> str:
    identity = _identity(element)
    return f"{element.tag}[{identity}]" if identity else str(element.tag)


def _shown(element: etree._Element) -> str:
    """An element's value for people: sizes in bytes; without one, what distinguishes it."""
    text = text_of(element)
    if element.tag in _SIZES and (size := size_of(element, "", text)) is not None:
        return str(size)
    return with_unit(element, "", text) or _identity(element) or "yes"


def _attributes(element: etree._Element) -> list[tuple[str, str]]:
    """The attributes but the units of numbers, which go with these."""
    units = {unit_of(element, key) for key in ("", *map(str, element.attrib))}
    return [(str(key), str(value)) for key, value in element.attrib.items() if key not in units]


def _attribute(element: etree._Element, key: str) -> str | None:
    """An attribute, or what libvirt means where it leaves it out."""
    value = element.get(key)
    if value is None and element.tag == "vcpu" and key == "current":
        return text_of(element)
    if value is None and element.tag == "os" and key == "firmware":
        return "efi" if element.find("loader") is not None else None  # a running guest's choice
    return value


def _same(wanted: etree._Element, current: etree._Element, key: str) -> bool:
    """Whether libvirt means with an attribute what we mean with it."""
    value, current_value = wanted.get(key, ""), _attribute(current, key)
    if current_value is None:
        return False
    if key == "machine":
        return _same_machine(value, current_value)
    if unit_of(wanted, key) is not None:
        return amount(wanted, key, value) == amount(current, key, current_value)
    return value == current_value or (key == "address" and value.lower() == current_value.lower())


def _same_machine(value: str, other: str) -> bool:
    """libvirt pins an alias to the version of the day."""
    return value == other or bool(re.fullmatch(rf"(pc-)?{re.escape(value)}-[0-9.]+", other))
