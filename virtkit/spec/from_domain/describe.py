"""The spec that describes a libvirt domain, with what it can't say in comments.

Keys are read one by one, and the spec's own checks judge them: what they refuse becomes a comment,
in their words. So whatever the domain's XML holds, what is written is a valid spec.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import urlsplit

from lxml import etree

from virtkit.errors import VirtkitError
from virtkit.spec import values
from virtkit.spec.from_domain import elements, yaml_lines
from virtkit.spec.from_domain.devices import drop_usual
from virtkit.spec.from_domain.keys import KEYS
from virtkit.spec.from_domain.machine import driver_of
from virtkit.spec.from_domain.reading import DomainFacts, Reading, guest_has, has_key, hosts_of
from virtkit.spec.model import Disk, InterfaceSpec, Model, NetworkSpec, RootDisk
from virtkit.spec.nodes import Path, dotted
from virtkit.spec.problem import Problem, quote
from virtkit.spec.reader import find_problems
from virtkit.xml import tree

#: Where the spec will be is not known. None of its paths is below this.
_FOLDER = FilePath("/nowhere")
#: The models of a guest's parts, and whether the key has a list of them.
_PARTS: dict[str, type[Model]] = {"disk": RootDisk, "disks": Disk, "networks": InterfaceSpec}
#: How many values may be refused before something is wrong with the spec itself.
_MOST_REFUSALS = 500
#: What a version says of keys that it does not have.
_UNKNOWN = "this version of virtkit has no such key"
#: Attributes by which a device is known, and which say nothing alone.
_IDENTITY = {
    "disk": ("type", "device", "snapshot"),
    "interface": ("type",),
    "filesystem": ("type", "accessmode"),
    "graphics": ("type",),
    "hostdev": ("mode", "type", "managed"),
}
#: Keys of a guest's parts without which they would be something else.
_NEEDED = ("name", "size", "existing", "kind", "path")
#: What may hold secrets or is long: it is named only.
_NAMED_ONLY = ("sysinfo", "metadata", "launchSecurity")


class _Draft:
    """The keys of a spec and the comments on it, from which refused keys are taken out."""

    def __init__(self, name: str, spec: dict[str, Any]) -> None:
        self.name = name
        self.spec = spec
        self.refusals: list[tuple[str, str]] = []

    @property
    def guest(self) -> dict[str, Any]:
        """The guest's keys."""
        guest: dict[str, Any] = self.spec["guests"][self.name]
        return guest

    def refuse(self, path: Path, why: str, *, entire: bool = False) -> None:
        """Takes what is at a path out, and tells it in a comment.

        Args:
            entire: a list of maps goes as a whole; else its last entry.

        Raises:
            VirtkitError: there is nothing at the path that could be taken out.
        """
        path = self._removable(path)
        at: Any = _at(self.spec, path)
        if isinstance(at, list) and not entire and len(at) > 1 and isinstance(at[0], dict):
            path = (*path, len(at) - 1)  # more disks or cards than a guest can have
        last = path[-1]
        value = _at(self.spec, path[:-1]).pop(last)
        self.refusals.append((f"{dotted(path)}: {yaml_lines.flow(value)}", why))
        if isinstance(last, int) and not _at(self.spec, path[:-1]) and path[-2] != "networks":
            _at(self.spec, path[:-2]).pop(path[-2])
        if last == "image":
            self.spec.pop("images", None)
        self._complete()

    def _removable(self, path: Path) -> Path:
        """The path of what goes where something at ``path`` is refused: a whole network, a whole
        entry of a list where its name or its size is, no more than there is, and no guest."""
        least = 3 if path[:1] == ("guests",) else 2
        if path[:1] in (("hosts",), ("networks",), ("images",)):
            path = path[:2]
        if path[-1:] in (("name",), ("source",)):  # which an entry needs
            path = path[:-1]
        while path and _at(self.spec, path) is None:  # a key that is missing
            path = path[:-1]
        if len(path) < least:
            raise VirtkitError(
                "the domain can't be described",
                why=f"virtkit would not read what it wrote, at {dotted(path) or 'the top'}",
                cure="report this with the domain's XML (`virsh -c URI dumpxml NAME`)",
            )
        return path

    def _complete(self) -> None:
        """Keeps what is left a whole: a guest without networks says so, and waits for none."""
        guest = self.guest
        if not guest.get("networks"):
            guest["networks"] = []
            guest["ready"] = "none"
        if "disks" in guest and not guest["disks"]:
            del guest["disks"]
        used = {each["name"] for each in guest["networks"]}
        networks = {key: e for key, e in self.spec.get("networks", {}).items() if key in used}
        self.spec.pop("networks", None)
        if networks:
            self.spec = {"name": self.spec["name"], "networks": networks, **self.spec}
        for key in ("max", "cpu", "graphics", "kernel"):
            if guest.get(key) == {}:
                del guest[key]


def _at(spec: Any, path: Path) -> Any:
    """What is at a path; None where nothing is."""
    for part in path:
        is_index = isinstance(spec, list) and isinstance(part, int) and part < len(spec)
        if not is_index and not (isinstance(spec, dict) and part in spec):
            return None
        spec = spec[part]
    return spec


def describe(facts: DomainFacts) -> str:
    """The spec that describes a domain, as YAML with comments. It passes all checks of a spec.

    Raises:
        RequestError: its XML isn't well-formed, or carries a DOCTYPE.
        VirtkitError: virtkit would refuse what it wrote.
    """
    root = elements.parse(facts.xml)
    devices = root.find("devices")
    if devices is None:
        devices = etree.SubElement(root, "devices")
    reading = Reading(facts, root, devices, driver_of(root))
    draft = _read(reading)
    drop_usual(reading)
    for _ in range(_MOST_REFUSALS):
        problems = _problems(draft.spec)
        if not problems:
            return "\n".join(_lines(reading, draft)) + "\n"
        path, problem = problems[0]
        draft.refuse(_smallest(draft.spec, path), _reason(problem))
    raise VirtkitError(
        "the domain can't be described",
        why=f"more than {_MOST_REFUSALS} of its values stand in no spec",
        cure="write its spec by hand: virtkit init",
    )


def _problems(spec: dict[str, Any]) -> list[tuple[Path, Problem]]:
    """What is wrong with the keys of a spec."""
    return find_problems("\n".join(yaml_lines.block(spec)), "", _FOLDER)


def _smallest(spec: dict[str, Any], path: Path) -> Path:
    """The path of the one key of a part of a guest, without which nothing is wrong with that part;
    where no single key is, of the part."""
    value = _at(spec, path)
    if len(path) < 3 or path[0] != "guests" or not isinstance(value, dict):
        return path
    for key in reversed(value):
        trial = deepcopy(spec)
        del _at(trial, path)[key]
        if key not in _NEEDED and path not in [each for each, _ in _problems(trial)]:
            return (*path, key)
    return path


def _reason(problem: Problem) -> str:
    return f"{problem.what}; {problem.cure}"


def _read(reading: Reading) -> _Draft:
    """All keys that say something, those that this version lacks taken out again."""
    name = (values.suggest_label(reading.facts.name)[:31].strip("-")) or "domain"
    guest = {key: value for key, read in KEYS.items() if (value := read(reading)) not in _NOTHING}
    spec: dict[str, Any] = {"name": name}
    spec |= {"hosts": hosts} if (hosts := hosts_of(reading.facts)) else {}
    spec |= {"networks": reading.networks} if reading.networks else {}
    spec |= {"images": reading.images} if reading.images else {}
    draft = _Draft(name, {**spec, "guests": {name: guest}})
    for path in list(_unknown(draft)):
        if _at(draft.spec, path) is not None:
            draft.refuse(path, _UNKNOWN, entire=True)
    draft._complete()
    return draft


_NOTHING: tuple[Any, ...] = (None, [], {}, "")


def _unknown(draft: _Draft) -> Iterator[Path]:
    """The paths of keys that this version does not have, those of whole networks first."""
    for name, network in draft.spec.get("networks", {}).items():
        yield from (("networks", name, e) for e in network if not has_key(NetworkSpec, e))
    for key, value in draft.guest.items():
        path: Path = ("guests", draft.name, key)
        if not guest_has(key):
            yield path
        elif key in _PARTS and isinstance(value, dict):
            yield from ((*path, e) for e in value if not has_key(_PARTS[key], e))
        elif key in _PARTS and isinstance(value, list):
            for index, entry in enumerate(value):
                yield from ((*path, index, e) for e in entry if not has_key(_PARTS[key], e))


def _lines(reading: Reading, draft: _Draft) -> Iterator[str]:
    """The file: what it is, the spec, and what it does not say."""
    facts = reading.facts
    yield from map(yaml_lines.comment, _introduction(facts, draft))
    yield from yaml_lines.block(draft.spec)
    if draft.refusals:
        yield ""
        yield yaml_lines.comment("What this spec can't have, and why:")
        for value, why in draft.refusals:
            yield yaml_lines.comment(value, "  ")
            yield yaml_lines.comment(why, "    ")
    rest = [*reading.notes, *_rest(reading)]
    if rest:
        yield ""
        yield yaml_lines.comment("What of the domain is not said:")
        yield from (yaml_lines.comment(each, "  ") for each in rest)


def _introduction(facts: DomainFacts, draft: _Draft) -> Iterator[str]:
    yield f"What `virtkit init --from-domain` saw of libvirt's domain {quote(facts.name)}"
    place = urlsplit(facts.uri)
    yield f"at {place.scheme}://{place.hostname or ''}{place.path}. It changed nothing there."
    if not facts.persistent:
        yield "That domain is not defined: it is gone once it stops."
    yield f"`virtkit up` would make another guest of it, {draft.name}-{draft.name} in libvirt."
    yield "The two must not run at once: the MAC addresses and disks here are the first one's."
    if draft.guest.get("image") == "root":
        yield "Its root disk would begin as a copy of the first one's, which must be shut off then."
    if place.hostname and "hosts" not in draft.spec:
        yield "Its host is this machine here; for the other one, add `hosts:` and `host:`."


def _rest(reading: Reading) -> Iterator[str]:
    """What no key said, an element a line."""
    root, devices = reading.root, reading.devices
    elements.take(root, "id")  # of one that runs
    if root.attrib:
        attributes = sorted(tree.attributes(root))
        yield "<domain> with " + ", ".join(f"{key}={quote(value)}" for key, value in attributes)
    for each in root.iterchildren(etree.Element):
        if each is devices or not elements.is_left(each):
            continue
        name = etree.QName(each)
        if name.namespace or name.localname in _NAMED_ONLY:
            inside = sorted({str(etree.QName(e).namespace or "") for e in each} - {""})
            yield f"<{name.localname}>" + (f" of {', '.join(inside)}" if inside else "")
        else:
            yield elements.shown(each)
    for each in devices.iterchildren(etree.Element):
        if _says_something(each):
            yield elements.shown(each)


def _says_something(device: etree._Element) -> bool:
    """Whether something of a device is left beside what it is called."""
    copy = deepcopy(device)
    for key in _IDENTITY.get(str(copy.tag), ()):
        elements.take(copy, key)
    target = copy.find("target")
    if target is not None and copy.tag == "disk":
        elements.take(target, "dev")
    elements.drop(copy, *(("address", "alias") if copy.tag in _IDENTITY else ()))
    return elements.is_left(copy) and elements.is_left(device)
