"""Checks documents against the calling machine's libvirt schemas, before anything is touched."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import libvirt
from lxml import etree

from virtkit.errors import RequestError
from virtkit.spec import suggestion

#: Where libvirt installs its RelaxNG schemas.
FOLDER = Path("/usr/share/libvirt/schemas")


#: What says what may stand in libvirt's documents.
_MANUAL = {
    "domain": "https://libvirt.org/formatdomain.html",
    "network": "https://libvirt.org/formatnetwork.html",
}
_NG = "{http://relaxng.org/ns/structure/1.0}"
#: Characters of an element that an error shows.
_MAX_SHOWN = 160


def version() -> int:
    """The version of libvirt on the calling machine, as 9000000 for 9.0.0: that of its schemas."""
    return int(libvirt.getVersion())


def check(kind: Literal["domain", "network"], xml: str, what: str, where: str = "") -> None:
    """Raises RequestError where ``xml`` isn't what libvirt's schema for ``kind`` allows.

    Without schemas on this machine libvirt's own check at define time has to do.
    """
    schema = _schema(kind)
    root = etree.fromstring(xml)
    if schema is None or schema.validate(root):
        return
    # the first words of libxml2 are of the whole document, mostly of what surrounds the fault
    last = [f"line {each.line}: {each.message}" for each in schema.error_log][-3:]
    faults = list(_faults(kind, schema, root))
    names = [name for name, _ in faults]
    cures = dict.fromkeys(cure for _, cure in faults)
    raise RequestError(
        f"{what}: libvirt's schema does not allow {'; '.join(names) or 'this XML'}",
        why="" if faults else "; ".join(last),
        cure="; ".join(cures) or f"fix `devices`, `template` or the value named: {_MANUAL[kind]}",
        where=where,
    )


def _faults(kind: str, schema: etree.RelaxNG, root: etree._Element) -> Iterator[tuple[str, str]]:
    """What the schema does not allow, and what to do about each; none where nobody can tell."""
    bare = copy.deepcopy(root)
    devices = bare.find("devices")
    if devices is None:
        yield from _smallest(kind, schema, bare)
        return
    children = list(devices)
    for each in children:
        devices.remove(each)
    if not schema.validate(bare):  # it is not, or not only, a device
        devices.extend(children)
        yield from _smallest(kind, schema, bare)
        return
    known_tags = _names(kind, "devices")
    for each in children:
        devices.append(each)
        if not schema.validate(bare):
            tag = str(each.tag)
            if known_tags and tag not in known_tags:
                unknown = f"fix it in `devices` or `template`: {suggestion(tag, known_tags)}"
                yield f"a device {_text(each)}: there is no <{tag}>", unknown
            else:
                yield from list(_smallest(kind, schema, bare)) or [(_text(each), _cure(kind, each))]
        devices.remove(each)


def _smallest(kind: str, schema: etree.RelaxNG, root: etree._Element) -> Iterator[tuple[str, str]]:
    """The attribute, or else the smallest element, without which the document is right."""
    faulty = [each for each in root.iterdescendants() if _without(schema, each)]
    # a parent whose only fault is in there is found, too
    for each in faulty[-1:]:
        keys = [key for key in each.attrib if _without(schema, each, str(key))]
        attributes = [f"{key!s}='{each.get(key)}' in {_text(each)}" for key in keys]
        yield (attributes[0] if len(attributes) == 1 else _text(each)), _cure(kind, each)


def _without(schema: etree.RelaxNG, element: etree._Element, key: str = "") -> bool:
    """Whether the document is right without an element, or an attribute of its."""
    if key:
        value = element.attrib.pop(key)
        valid = schema.validate(element.getroottree())
        element.set(key, value)
        return bool(valid)
    parent = element.getparent()
    assert parent is not None
    place = parent.index(element)
    parent.remove(element)
    valid = schema.validate(parent.getroottree())
    parent.insert(place, element)
    return bool(valid)


def _text(element: etree._Element) -> str:
    text = etree.tostring(element, encoding="unicode", with_tail=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _cure(kind: str, element: etree._Element) -> str:
    return (
        f"see what <{element.tag!s}> may have: {_MANUAL[kind]}; fix it in `devices` or `template`"
    )


@functools.cache
def _schema(kind: str) -> etree.RelaxNG | None:
    path = FOLDER / f"{kind}.rng"
    return etree.RelaxNG(etree.parse(str(path))) if path.is_file() else None


@functools.cache
def _names(kind: str, parent: str) -> frozenset[str]:
    """The elements that the schema knows right below ``parent``."""
    defined: dict[str, list[etree._Element]] = {}
    for path in sorted(FOLDER.glob("*.rng")):
        if path.stem in (kind, "basictypes") or path.stem.endswith(("common", "types")):
            for each in etree.parse(str(path)).iter(f"{_NG}define"):
                defined.setdefault(each.get("name", ""), []).append(each)

    def below(element: etree._Element, seen: frozenset[str]) -> Iterable[str]:
        for each in element:
            if each.tag == f"{_NG}element":
                yield each.get("name", "")
            elif each.tag == f"{_NG}ref" and (name := each.get("name", "")) not in seen:
                for definition in defined.get(name, ()):
                    yield from below(definition, seen | {name})
            elif each.tag != f"{_NG}attribute":
                yield from below(each, seen)

    return frozenset(
        name
        for definitions in defined.values()
        for definition in definitions
        for element in definition.iter(f"{_NG}element")
        if element.get("name") == parent
        for name in below(element, frozenset())
        if name
    )
