"""Our XML against libvirt's: what of ours is missing there, and the two merged.

Pure. libvirt rewrites what it is given and adds to it, so its XML is never compared as a whole:
every element and attribute that we rendered must stand in it (a subset match). It must never
complain of what others added, nor take that out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lxml import etree

#: Bytes in libvirt's units of size.
_UNITS = {"b": 1, "bytes": 1, "": 1024, "k": 1024, "kib": 1024, "m": 1024**2, "mib": 1024**2}
_UNITS |= {"g": 1024**3, "gib": 1024**3, "kb": 1000, "mb": 1000**2, "gb": 1000**3}
#: Elements whose text is a size in KiB where no unit is given.
_SIZES = {"memory", "currentMemory"}
#: What tells one element from others of its tag: a path below it, or an attribute of its own; the
#: first that is there.
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
}
#: Attributes that tell more, where we say them; libvirt may choose them itself.
_ALSO = {"input": ("bus",), "controller": ("type",)}


@dataclass(frozen=True)
class Difference:
    """Something of ours that libvirt has otherwise, or not at all.

    Attributes:
        path: where, as ``devices/disk[vdb]/source/@file``.
        wanted: what we rendered: a text or, of a whole element, what tells it from others.
        found: what stands there; None where it is missing.
    """

    path: str
    wanted: str | None
    found: str | None


def differences(wanted: etree._Element, found: etree._Element) -> list[Difference]:
    """What of ``wanted`` isn't in ``found``; our record is never looked at."""
    return list(_missing(wanted, found, ""))


def removed(
    before: etree._Element, wanted: etree._Element, found: etree._Element
) -> list[Difference]:
    """What we once rendered and no longer want, and what of it still stands in ``found``."""
    return list(_left_over(before, wanted, found, ""))


def merged(
    before: etree._Element | None, wanted: etree._Element, found: etree._Element
) -> etree._Element:
    """libvirt's own XML with our changes: what others added stays.

    Where the guest becomes another kind of machine only their metadata does: devices, and what
    libvirt itself added, were for the old one.

    Args:
        before: what we rendered last time; what of it we no longer want is taken out.
    """
    if _another_machine(wanted, found):
        answer = copy.deepcopy(wanted)
        for each in found.findall("metadata"):
            answer.insert(2, copy.deepcopy(each))  # after name and uuid
        return answer
    answer = copy.deepcopy(found)
    if before is not None:
        _take_out(before, wanted, answer)
    _put_in(wanted, answer)
    return answer


def _another_machine(wanted: etree._Element, found: etree._Element) -> bool:
    mine, theirs = wanted.find("./os/type"), found.find("./os/type")
    if mine is None or theirs is None:
        return False
    machine = mine.get("machine")
    kept = machine is None or _same("machine", machine, theirs.get("machine"))
    return _text(mine) != _text(theirs) or not kept


def at(root: etree._Element, path: str) -> etree._Element | None:
    """The element that a difference's path names, where it is there."""
    here = root
    for name in steps(path):
        below = (each for each in _children(here) if _name(each) == name)
        if (found := next(below, None)) is None:
            return None
        here = found
    return here


def steps(path: str) -> list[str]:
    """The elements of a difference's path; a name in brackets may have slashes."""
    return re.findall(r"(?:\{[^}]*\})?[^/\[]+(?:\[[^\]]*\])?", path)


def value(root: etree._Element, path: str) -> str | None:
    """What stands at ``path``, as a difference shows it: sizes in bytes."""
    found = at(root, path)
    return _shown(found) if found is not None else None


def target_of(root: etree._Element, key: str) -> str:
    """What a domain calls the disk whose source is the volume ``key``; empty where none is."""
    name = key.rpartition("/")[2]
    for disk in root.iterfind("./devices/disk"):
        source = disk.find("source")
        if source is not None and (
            key in (source.get("file"), source.get("dev")) or source.get("volume") == name
        ):
            return _identity(disk)
    return ""


# --- the match ------------------------------------------------------------------------------


def _missing(wanted: etree._Element, found: etree._Element, path: str) -> Iterator[Difference]:
    if _text(wanted) and _value(wanted) != _value(found):
        yield Difference(path, _shown(wanted), _shown(found))
    for key, value in _attributes(wanted):
        other = _attribute(found, key)
        if not _same(key, value, other):
            yield Difference(f"{path}/@{key}", value, other)
    for mine, theirs in _pairs(wanted, found):
        below = f"{path}/{_name(mine)}".lstrip("/")
        if theirs is None:
            yield Difference(below, _shown(mine), None)
        else:
            yield from _missing(mine, theirs, below)


def _left_over(
    before: etree._Element, wanted: etree._Element, found: etree._Element, path: str
) -> Iterator[Difference]:
    for key, value in _attributes(before):
        if key not in wanted.attrib and _same(key, value, found.get(key)):
            yield Difference(f"{path}/@{key}", None, value)
    still = dict(_pairs(before, wanted))
    for old, theirs in _pairs(before, found):
        new = still[old]
        below = f"{path}/{_name(old)}".lstrip("/")
        if theirs is not None and new is None:
            yield Difference(below, None, _shown(theirs))
        elif theirs is not None and new is not None:
            yield from _left_over(old, new, theirs, below)


# --- the merge ------------------------------------------------------------------------------


def _take_out(before: etree._Element, wanted: etree._Element, found: etree._Element) -> None:
    for key, value in _attributes(before):
        if key not in wanted.attrib and _same(key, value, found.get(key)):
            del found.attrib[key]
    still = dict(_pairs(before, wanted))
    for old, theirs in list(_pairs(before, found)):
        new = still[old]
        if theirs is not None and new is None:
            found.remove(theirs)
        elif theirs is not None and new is not None:
            _take_out(old, new, theirs)


def _put_in(wanted: etree._Element, found: etree._Element) -> None:
    if _text(wanted) and _value(wanted) != _value(found):
        found.text = wanted.text
        if wanted.get("unit"):
            found.set("unit", wanted.get("unit", ""))
    for key, value in _attributes(wanted):
        if not _same(key, value, _attribute(found, key)):
            found.set(key, value)
    for mine, theirs in list(_pairs(wanted, found)):
        if theirs is None:
            found.append(copy.deepcopy(mine))
        else:
            _put_in(mine, theirs)


# --- what is meant by the same ----------------------------------------------------------------


def _pairs(
    wanted: etree._Element, found: etree._Element
) -> Iterator[tuple[etree._Element, etree._Element | None]]:
    """Each child of ``wanted`` with the one of ``found`` that is meant: by identity, else the
    one with the fewest differences. A device that a guest has once (a watchdog) is always meant."""
    free: dict[str, list[etree._Element]] = {}
    for each in _children(found):
        free.setdefault(str(each.tag), []).append(each)
    for mine in _children(wanted):
        candidates = free.get(str(mine.tag), [])
        identity = _identity(mine)
        if identity:
            candidates = [each for each in candidates if _identity(each) == identity]
        for key in _ALSO.get(str(mine.tag), ()):
            candidates = [each for each in candidates if mine.get(key) in (None, each.get(key))]
        chosen = _closest(mine, candidates)
        if chosen is not None:
            free[str(mine.tag)].remove(chosen)
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
    """What tells an element from others of its tag; empty where nothing does."""
    if element.tag == "controller" and element.get("index"):
        return f"{element.get('type')} {element.get('index')}"
    for path in _IDENTITIES.get(str(element.tag), ()):
        where, _, attribute = path.rpartition("@")
        owner = element.find(where.rstrip("/")) if where else element
        value = owner.get(attribute) if owner is not None else None
        if value:
            return value.lower()
    return ""


def _name(element: etree._Element) -> str:
    identity = _identity(element)
    return f"{element.tag}[{identity}]" if identity else str(element.tag)


def _text(element: etree._Element) -> str:
    return (element.text or "").strip()


def _value(element: etree._Element) -> str:
    """An element's text; sizes in KiB, as libvirt rounds them."""
    text = _text(element)
    if text.isdigit() and (element.get("unit") or element.tag in _SIZES):
        factor = _UNITS.get(element.get("unit", "").lower())
        return str(-(-int(text) * factor // 1024)) if factor else text
    return text


def _shown(element: etree._Element) -> str:
    """An element's value for people: sizes in bytes; without one, what tells it from others."""
    if element.tag in _SIZES and _value(element).isdigit():
        return str(int(_value(element)) * 1024)
    return _text(element) or _identity(element) or "yes"


def _attributes(element: etree._Element) -> list[tuple[str, str]]:
    return [(str(key), str(value)) for key, value in element.attrib.items() if key != "unit"]


def _attribute(element: etree._Element, key: str) -> str | None:
    """An attribute, or what libvirt means where it leaves it out."""
    value = element.get(key)
    if value is None and element.tag == "vcpu" and key == "current":
        return _text(element)
    if value is None and element.tag == "os" and key == "firmware":
        return "efi" if element.find("loader") is not None else None  # a running guest's choice
    return value


def _same(key: str, value: str, other: str | None) -> bool:
    """Whether libvirt's ``other`` means our ``value`` of an attribute."""
    if other is None:
        return False
    if key == "machine":  # libvirt pins an alias to the version of the day
        return value == other or bool(re.fullmatch(rf"(pc-)?{re.escape(value)}-[0-9.]+", other))
    return value == other or (key == "address" and value.lower() == other.lower())
