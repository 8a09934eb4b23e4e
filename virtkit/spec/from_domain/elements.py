"""A domain's XML as something to take from: what is left in the end is what nobody could say."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

from lxml import etree

from virtkit.spec.problem import escaped
from virtkit.xml import tree

#: Marks what says something by being there, such as ``<readonly/>``: without it, an element that
#: has nothing any more has been said.
_FLAG = "virtkit-flag"
#: How much of an element a comment shows, in characters.
_SHOWN = 1000


def parse(xml: str) -> etree._Element:
    """A domain's XML, to take from; without passwords, which no spec has.

    Raises:
        RequestError: it isn't well-formed, or carries a DOCTYPE.
    """
    root = tree.parse_plain(xml, "the domain's XML")
    for each in root.iter(etree.Element):
        for secret in ("passwd", "passwdValidTo"):
            take(each, secret)
        if not len(each) and not each.attrib and not (each.text or "").strip():
            each.set(_FLAG, "")
    return root


def take(element: etree._Element | None, name: str) -> str:
    """An attribute's text, which is then said; empty where it has none."""
    return "" if element is None else str(element.attrib.pop(name, ""))


def take_text(element: etree._Element | None, path: str = ".") -> str:
    """The text of the element at a path, which is then said; empty where there is none."""
    at = None if element is None else element.find(path)
    text = "" if at is None else (at.text or "").strip()
    if at is not None:
        at.text = None
    return text


def take_if(element: etree._Element | None, name: str, *usual: str) -> None:
    """Takes an attribute where it has one of these values, which need not be said."""
    if element is not None and element.get(name) in usual:
        del element.attrib[name]


def drop(element: etree._Element, *paths: str) -> int:
    """Removes all elements at these paths, which need not be said; how many they were."""
    gone = [each for path in paths for each in element.findall(path)]
    for each in gone:
        remove(each)
    return len(gone)


def remove(element: etree._Element) -> None:
    """Removes an element from the one around it."""
    around = element.getparent()
    if around is not None:
        around.remove(element)


def is_left(element: etree._Element) -> bool:
    """Whether something of an element has not been said; what was, goes."""
    for each in list(element.iterchildren(etree.Element)):
        if not is_left(each):
            element.remove(each)
    return bool(len(element) or element.attrib or (element.text or "").strip())


def shown(element: etree._Element) -> str:
    """An element in one short line."""
    copy = deepcopy(element)
    copy.tail = None
    for each in copy.iter(etree.Element):
        take(each, _FLAG)
    etree.cleanup_namespaces(copy)
    text = escaped(" ".join(tree.to_text(copy).split()))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def number(text: str) -> int | None:
    """A number that libvirt writes in decimals; None for what is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def unique(name: str, taken: Iterable[str]) -> str:
    """``name``, or with a number behind it where that is taken."""
    others = set(taken)
    names = (name, *(f"{name[:12]}-{at}" for at in range(2, len(others) + 3)))
    return next(each for each in names if each not in others)
