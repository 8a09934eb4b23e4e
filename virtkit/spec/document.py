"""YAML text to a tree of nodes that know where they stand.

YAML 1.2's core rules for plain values, and less than all of YAML: no tags, bounded depth and
size. Pure: text in, tree out. It must never construct anything but str, int, float, bool,
None, lists and maps.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from virtkit.errors import RequestError, SpecErrors
from virtkit.spec import yaml11
from virtkit.spec.value_error import Wrong, quote, shown

#: Keys and list indices from the top of the document down.
Path = tuple[str | int, ...]
Scalar = str | int | float | bool | None

MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_ALIASES = 1000

_NO_TEXT = "\ufffe\uffff\u2028\u2029"
_YAML_TAG = "tag:yaml.org,2002:"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_OCTAL = re.compile(r"[-+]?0[0-9]+", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
    r"|\.(?:nan|NaN|NAN)",
    re.ASCII,
)
#: The keys below which plain words are cloud-init's and Ansible's, and so YAML 1.1's.
CLOUD, VARS = "cloud_init", "vars"
#: Ansible's tags for a variable's value, and what its JSON has instead.
_ANSIBLE_TAGS = {"!vault": "__ansible_vault", "!unsafe": "__ansible_unsafe"}
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII)


def dotted(path: Path) -> str:
    """A path as messages show it: ``guests.web.disks[0].size``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = part if _PLAIN_KEY.fullmatch(part) else quote(part)
            text += f".{word}" if text else word
    return text


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; line and column count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


def error_at(source: str, mark: Mark, path: Path, wrong: Wrong) -> RequestError:
    """The error about ``path``, which stands at ``mark`` in ``source``."""
    return RequestError(
        shown(wrong.what),
        why=shown(wrong.why),
        cure=shown(wrong.cure),
        where=shown(f"{source}:{mark} {dotted(path)}".rstrip()),
    )


@dataclass(slots=True)
class Node:
    """A value of the document.

    Attributes:
        value: a scalar, a list of nodes, or a map of nodes by key.
        path: where it stands in the document, by keys.
        mark: where the value itself starts in the file.
        key: where the key (or list entry) it belongs to starts.
        core: a plain word's value by YAML 1.2, where it is not that one.
    """

    value: Scalar | list[Node] | dict[str, Node]
    path: Path
    mark: Mark
    key: Mark
    core: tuple[Scalar] | None = None

    @property
    def place(self) -> Mark:
        """Where a message about this value points: at a scalar itself, else at its key."""
        return self.key if isinstance(self.value, (dict, list)) else self.mark

    @property
    def entries(self) -> dict[str, Node]:
        """The entries of a map; none for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The items of a list; none for anything else."""
        return self.value if isinstance(self.value, list) else []

    def plain(self, *, core: bool = False) -> Any:
        """The value as plain Python data; ``core``: by YAML 1.2 wherever it stands."""
        if isinstance(self.value, dict):
            return {key: node.plain(core=core) for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain(core=core) for node in self.value]
        return self.core[0] if core and self.core else self.value

    def find(self, path: Path) -> tuple[Node, Path]:
        """The deepest node on ``path`` from here, and what of the path is left."""
        node = self
        for depth, part in enumerate(path):
            below: Node | None = None
            if isinstance(part, str):
                below = node.entries.get(part)
            elif part < len(node.items):
                below = node.items[part]
            if below is None:
                return node, path[depth:]
            node = below
        return node, ()


@dataclass(slots=True)
class _Raw:
    """A value as it is written: aliases not yet followed, keys not yet checked."""

    mark: Mark
    tag: str = ""
    kind: Literal["scalar", "list", "map"] = "scalar"
    text: str = ""
    plain: bool = False
    items: list[_Raw] = field(default_factory=list)
    pairs: list[tuple[_Raw, _Raw]] = field(default_factory=list)
    done: bool = False

    @property
    def is_null(self) -> bool:
        """Whether nothing was written."""
        return self.kind == "scalar" and self.plain and not self.tag and self.text in _NULL


@dataclass(frozen=True, slots=True)
class Flaw:
    """What no spec may hold, in a document that could be read all the same.

    Attributes:
        of_value: the value at ``path`` is not known; else a key below it was left out.
    """

    mark: Mark
    path: Path
    wrong: Wrong
    of_value: bool = True


def read_document(text: str, source: str) -> tuple[Node | None, list[Flaw]]:
    """The tree of a YAML document, None where it holds nothing, and what is wrong in it.

    Args:
        text: the document.
        source: its name in messages.

    Raises:
        SpecErrors: it is not YAML, or larger than a spec may be.
    """
    raw = _Parser(text, source).document()
    if raw is None or raw.is_null:
        return None, []
    builder = _Builder(source)
    return builder.build(raw, (), raw.mark, 0), builder.flaws


def top(text: str, source: str) -> str:
    """What stands at the top of a YAML document of any kind: ``list``, ``map``, ``text``; empty for
    nothing. Values and tags are not looked at.

    Raises:
        SpecErrors: it is not YAML.
    """
    kinds = {SequenceStartEvent: "list", MappingStartEvent: "map", ScalarEvent: "text"}
    found = [kinds.get(type(each), "") for each in _events(text, source)]
    return next(filter(None, found), "")


class _Parser:
    """From ruamel.yaml's events to raw nodes, with every limit applied while reading."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.events = _events(text, source)
        self.anchors: dict[str, _Raw] = {}
        self.count = 0
        self.aliases = 0

    def document(self) -> _Raw | None:
        root: _Raw | None = None
        documents = 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refuse(
                        event,
                        "the file holds more than one YAML document",
                        cure="keep one, and take out the `---` line between them",
                    )
            elif isinstance(event, NodeEvent):
                root = self._node(event, 0)
        return root

    def _node(self, event: NodeEvent, depth: int) -> _Raw:
        self.count += 1
        if self.count > 2 * MAX_NODES:
            raise _too_many(self.source, _mark(event))
        if depth > MAX_DEPTH:
            raise _too_deep(self.source, _mark(event))
        if isinstance(event, AliasEvent):
            return self._alias(event)
        raw = _Raw(_mark(event), tag=str(getattr(event, "tag", None) or ""))
        if event.anchor:
            self.anchors[event.anchor] = raw
        if isinstance(event, ScalarEvent):
            raw.text = event.value
            raw.plain = event.style is None
        elif isinstance(event, SequenceStartEvent):
            raw.kind = "list"
            raw.items = list(self._items(depth))
        else:
            raw.kind = "map"
            raw.pairs = list(self._pairs(depth))
        raw.done = True
        return raw

    def _alias(self, event: AliasEvent) -> _Raw:
        self.aliases += 1
        raw = self.anchors.get(event.anchor)
        if raw is None or not raw.done:
            why = "it stands inside the very value it names" if raw else ""
            raise self._refuse(
                event,
                f"there is no anchor {quote(f'&{event.anchor}')} before this alias",
                why=why,
                cure="write the value out",
            )
        if self.aliases > MAX_ALIASES:
            raise self._refuse(
                event,
                f"the spec has more than {MAX_ALIASES} aliases",
                cure="use `defaults:` and `profiles:` instead of aliases",
            )
        return raw

    def _items(self, depth: int) -> Iterator[_Raw]:
        while not isinstance(event := next(self.events), SequenceEndEvent):
            assert isinstance(event, NodeEvent)
            yield self._node(event, depth + 1)

    def _pairs(self, depth: int) -> Iterator[tuple[_Raw, _Raw]]:
        while not isinstance(event := next(self.events), MappingEndEvent):
            assert isinstance(event, NodeEvent)
            # A key that is an alias stands where the alias does.
            key = replace(self._node(event, depth + 1), mark=_mark(event))
            value = next(self.events)
            assert isinstance(value, NodeEvent)
            yield key, self._node(value, depth + 1)

    def _refuse(self, event: Event, what: str, *, cure: str, why: str = "") -> SpecErrors:
        return _refusal(self.source, _mark(event), what, cure=cure, why=why)


class _Builder:
    """From raw nodes to nodes with paths: follows aliases, resolves scalars, checks keys."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.count = 0
        self.flaws: list[Flaw] = []

    def build(self, raw: _Raw, path: Path, key: Mark, depth: int) -> Node:
        self.count += 1
        if self.count > MAX_NODES:
            raise _too_many(self.source, raw.mark)
        if depth > MAX_DEPTH:
            raise _too_deep(self.source, raw.mark)
        node = Node(None, path, raw.mark, key)
        if raw.tag in _ANSIBLE_TAGS and raw.kind == "scalar" and _below(path, VARS):
            value = Node(raw.text, (*path, _ANSIBLE_TAGS[raw.tag]), raw.mark, key)
            node.value = {_ANSIBLE_TAGS[raw.tag]: value}
        elif raw.tag:
            self._report(
                raw.mark,
                path,
                f"the tag {quote(raw.tag.replace(_YAML_TAG, '!!'))} cannot stand in a spec",
                cure="leave the tag out; quotes make a value text",
            )
        elif raw.kind == "scalar":
            cloud = _below(path, CLOUD)
            older = cloud or _below(path, VARS)
            node.value = self._scalar(raw, path, yaml11.resolve if older else resolve)
            node.core = _core(raw) if cloud else None
        elif raw.kind == "list":
            node.value = [
                self.build(item, (*path, index), item.mark, depth + 1)
                for index, item in enumerate(raw.items)
            ]
        else:
            node.value = self._map(raw, path, depth)
        return node

    def _map(self, raw: _Raw, path: Path, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for raw_key, raw_value in raw.pairs:
            key = self._key(raw_key, path)
            if key is None:
                continue
            if key in entries:
                self._report(
                    raw_key.mark,
                    (*path, key),
                    f"the key {quote(key)} stands here twice",
                    why=f"it is on line {entries[key].key.line} already",
                    cure="take one of them out",
                )
                continue
            entries[key] = self.build(raw_value, (*path, key), raw_key.mark, depth + 1)
        return entries

    def _key(self, raw: _Raw, path: Path) -> str | None:
        """The text of a key; None, and an error, where it is something else."""
        if raw.kind != "scalar" or raw.tag:
            self._report_key(raw.mark, path, "a key is not text", cure="write keys as plain words")
            return None
        if raw.text == "<<" and raw.plain:
            self._report_key(
                raw.mark,
                path,
                "'<<' is not a key",
                why="YAML 1.2 has no merge keys",
                cure="use `defaults:` and `profiles:`",
            )
            return None
        bad = _control_character(raw.text)
        if bad:
            self._report_key(raw.mark, path, f"the key holds {bad}", cure="take it out")
            return None
        if raw.plain and not raw.text:
            self._report_key(raw.mark, path, "a key is empty", cure="write a key before the `:`")
            return None
        read_as = _not_text(raw.text) if raw.plain else ""
        if read_as:
            self._report_key(
                raw.mark,
                path,
                f"the key {quote(raw.text)} is read as {read_as}",
                cure=f'put it in quotes: "{raw.text}"',
            )
            return None
        return raw.text

    def _scalar(self, raw: _Raw, path: Path, read: Callable[[str], Scalar]) -> Scalar:
        text = raw.text
        bad = _control_character(text)
        if bad:
            self._report(raw.mark, path, f"the text holds {bad}", cure="take it out")
            return ""
        if not raw.plain:
            return text
        try:
            return read(text)
        except ValueError as error:
            self._report(
                raw.mark, path, f"{quote(text)} {error}", cure="put it in quotes if it is text"
            )
            return 0

    def _report(self, mark: Mark, path: Path, what: str, *, cure: str, why: str = "") -> None:
        self.flaws.append(Flaw(mark, path, Wrong(what, cure=cure, why=why)))

    def _report_key(self, mark: Mark, path: Path, what: str, *, cure: str, why: str = "") -> None:
        self.flaws.append(Flaw(mark, path, Wrong(what, cure=cure, why=why), of_value=False))


def resolve(text: str) -> Scalar:
    """The value of a plain scalar by YAML 1.2's core schema.

    Raises:
        ValueError: a number that programs read in different ways, or that none can hold.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _OCTAL.fullmatch(text):
        raise ValueError("is octal to some programs and decimal to others")
    if _INT.fullmatch(text):
        if len(text) > 19:
            raise ValueError("is a number of too many digits")
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if not isfinite(number):
            raise ValueError("is a number without end")
        return number
    return text


def _below(path: Path, key: str) -> bool:
    """Whether ``path`` leads below that key of a guest, a profile or the defaults."""
    depth = 1 if path[:1] == ("defaults",) else 2
    return path[depth : depth + 1] == (key,) and path[0] in ("defaults", "profiles", "guests")


def _core(raw: _Raw) -> tuple[Scalar] | None:
    """A plain word's value by YAML 1.2; None where there is none."""
    try:
        return (resolve(raw.text),) if raw.plain else None
    except ValueError:
        return None


def _not_text(text: str) -> str:
    """What a plain scalar is if not text, in words; empty where it is text."""
    try:
        value = resolve(text)
    except ValueError:
        return "a number"
    return "" if isinstance(value, str) else kind_of(value)


def kind_of(value: object) -> str:
    """What a plain value is, in words."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"the number {quote(value)}"
    if isinstance(value, str):
        return f"the text {quote(value)}"
    return "a list" if isinstance(value, (list, tuple)) else "a map"


def _control_character(text: str) -> str:
    """The first character of ``text`` that no spec may hold, in words; empty where none is."""
    for char in text:
        if char in _NO_TEXT or (unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t"):
            return f"the control character U+{ord(char):04X}"
    return ""


def _mark(event: Event) -> Mark:
    mark = event.start_mark
    return Mark(mark.line + 1, mark.column + 1)


def _events(text: str, source: str) -> Iterator[Event]:
    yaml = YAML(typ="safe", pure=True)
    try:
        yield from yaml.parse(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        raise _refusal(
            source,
            Mark(line, column),
            f"the text holds the control character U+{ord(text[error.position]):04X}",
            cure="take it out",
        ) from error
    except MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        if "end of stream" in str(error.problem) or "stream end" in str(error.problem):
            place = error.context_mark or place
        mark = Mark(place.line + 1, place.column + 1) if place else Mark(1, 1)
        raise _refusal(
            source,
            mark,
            "this is not valid YAML",
            why=_why_invalid(error),
            cure=_cure_invalid(error),
        ) from error
    except (YAMLError, ValueError, IndexError, AttributeError, TypeError, AssertionError) as error:
        # ruamel.yaml lets errors of its own code through on some broken input.
        raise _refusal(
            source,
            Mark(1, 1),
            "this is not valid YAML",
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            cure="check the file with `yamllint`",
        ) from error


def _why_invalid(error: MarkedYAMLError) -> str:
    parts = [str(part) for part in (error.context, error.problem) if part]
    return ": ".join(parts).replace("\0", "the end").replace("'\\x00'", "the end")


def _cure_invalid(error: MarkedYAMLError) -> str:
    problem = str(error.problem)
    if "\\t" in problem:
        return "indent with spaces, not with tabs"
    if "cannot start any token" in problem:
        return "put the value in quotes"
    if "mapping values are not allowed" in problem:
        return "put text that holds ': ' in quotes, and see that keys line up"
    if "end of stream" in problem or "stream end" in problem:
        return "close the quote or bracket that was opened"
    return "see that keys line up, and that text with special characters is in quotes"


def _refusal(source: str, mark: Mark, what: str, *, cure: str, why: str = "") -> SpecErrors:
    return SpecErrors([error_at(source, mark, (), Wrong(what, cure=cure, why=why))])


def _too_many(source: str, mark: Mark) -> SpecErrors:
    return _refusal(
        source,
        mark,
        f"the spec has more than {MAX_NODES} values",
        why="aliases count as what they stand for",
        cure="use `count:`, `defaults:` and `profiles:`, or split the environment",
    )


def _too_deep(source: str, mark: Mark) -> SpecErrors:
    return _refusal(
        source,
        mark,
        f"the spec is nested deeper than {MAX_DEPTH} levels",
        cure="no key of a spec needs that; take the extra brackets out",
    )
