"""Texts and numbers in libvirt's XML: the same size may stand there in other units.

Pure.
"""

from __future__ import annotations

import re
from typing import TypeVar

from lxml import etree

#: An attribute's or an element's text, which may be missing.
Text = TypeVar("Text", str, str | None)

#: libvirt's units of size.
_UNIT = re.compile(r"(?:(b)(?:ytes?)?|([kmgtpe])(i?b)?)", re.IGNORECASE)
_KIB, _MIB = 1024, 1024**2
#: Quantities with a unit: an element's text (``""``) or one of its attributes, by its tag or by its
#: parent's and its own; and the bytes of the unit that libvirt takes where none is given. It rounds
#: up to whole ones of these.
_QUANTITIES = {
    ("memory", ""): _KIB,
    ("currentMemory", ""): _KIB,
    ("maxMemory", ""): _KIB,
    ("hard_limit", ""): _KIB,
    ("soft_limit", ""): _KIB,
    ("swap_hard_limit", ""): _KIB,
    ("min_guarantee", ""): _KIB,
    ("target/size", ""): _KIB,  # a memory device's
    ("label/size", ""): _KIB,
    ("block", ""): _KIB,
    ("requested", ""): _KIB,
    ("current", ""): _KIB,
    ("pagesize", ""): _KIB,
    ("maxpagesize", ""): _KIB,
    ("alignsize", ""): _KIB,
    ("pcihole64", ""): _KIB,
    ("tb-cache", ""): _KIB,
    ("tseg", ""): _MIB,
    ("shmem/size", ""): 1,
    ("max_size", ""): 1,
    ("space_hard_limit", ""): 1,
    ("space_soft_limit", ""): 1,
    ("numa/cell", "memory"): _KIB,
    ("page", "size"): _KIB,
    ("cachetune/cache", "size"): _KIB,
    ("cache/size", "value"): _KIB,
    ("cache/line", "value"): _KIB,
    ("interconnects/bandwidth", "value"): _KIB,
    ("filesystem/source", "usage"): _KIB,
}


def text_of(element: etree._Element) -> str:
    """An element's text without the space around it; empty where it has none."""
    return (element.text or "").strip()


def value_of(element: etree._Element) -> str:
    """An element's text; of a size what libvirt makes of it."""
    return amount(element, "", text_of(element))


def with_unit(element: etree._Element, key: str, value: Text) -> Text:
    """A value with its unit, for people: an element's text (``key`` is empty) or an attribute's."""
    unit = unit_of(element, key)
    return f"{value} {element.get(unit)}" if value and unit and element.get(unit) else value


def unit_of(element: etree._Element, key: str) -> str | None:
    """The attribute with the unit of an element's text (``""``) or of an attribute's number."""
    if key == "usage" and element.tag == "source":
        return "units"
    text = not key and "unit" in element.attrib and text_of(element).isdigit()
    return "unit" if text or _default_unit(element, key) is not None else None


def _default_unit(element: etree._Element, key: str) -> int | None:
    """The bytes of the unit that libvirt takes for a quantity; None where it is none of these."""
    parent = element.getparent()
    above = f"{parent.tag}/{element.tag}" if parent is not None else ""
    return _QUANTITIES.get((above, key)) or _QUANTITIES.get((str(element.tag), key))


def size_of(element: etree._Element, key: str, text: str) -> int | None:
    """The bytes of a quantity, as libvirt rounds it; None where ``text`` is no size."""
    name, default = unit_of(element, key), _default_unit(element, key)
    unit = element.get(name) if name else None
    factor = _factor(unit) if unit else default
    if name is None or factor is None or not (text.isascii() and text.isdigit()):
        return None
    step = min(default or 1, _KIB)
    return -(-int(text) * factor // step) * step


def _factor(unit: str) -> int | None:
    """The bytes of a unit: KiB and K are binary, KB is decimal; None for what is no size."""
    match = _UNIT.fullmatch(unit)
    if match is None or match[1]:
        return 1 if match else None
    decimal = (match[3] or "").lower() == "b"
    return int((1000 if decimal else 1024) ** ("kmgtpe".index(match[2].lower()) + 1))


def amount(element: etree._Element, key: str, text: str) -> str:
    """A text or an attribute's value, to compare."""
    size = size_of(element, key, text)
    return f"{size} bytes" if size is not None else with_unit(element, key, text)
