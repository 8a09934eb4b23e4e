"""YAML text to values as they are written, by ruamel.yaml's events, with every limit on the way.

Less than all of YAML: bounded depth and size. It must never construct an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

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

from virtkit.errors import SpecErrors
from virtkit.spec.nodes import Mark, error_at
from virtkit.spec.problem import Problem, quote
from virtkit.spec.scalars import NULL

MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_ALIASES = 1000


@dataclass(slots=True)
class RawNode:
    """A value as it is written: aliases not yet followed, keys not yet checked."""

    mark: Mark
    tag: str = ""
    kind: Literal["scalar", "list", "map"] = "scalar"
    text: str = ""
    plain: bool = False
    items: list[RawNode] = field(default_factory=list)
    pairs: list[tuple[RawNode, RawNode]] = field(default_factory=list)
    done: bool = False

    @property
    def is_null(self) -> bool:
        """Whether nothing was written."""
        return self.kind == "scalar" and self.plain and not self.tag and self.text in NULL


def top_kind(text: str, source: str) -> str:
    """What stands at the top of a YAML document of any kind: ``list``, ``map``, ``text``; empty for
    nothing. Values and tags are not looked at.

    Raises:
        SpecErrors: it is not YAML.
    """
    kinds = {SequenceStartEvent: "list", MappingStartEvent: "map", ScalarEvent: "text"}
    event_kinds = [kinds.get(type(each), "") for each in events(text, source)]
    return next(filter(None, event_kinds), "")


class YamlParser:
    """From ruamel.yaml's events to raw nodes, with every limit applied while reading."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.events = events(text, source)
        self.anchors: dict[str, RawNode] = {}
        self.count = 0
        self.aliases = 0

    def document(self) -> RawNode | None:
        root: RawNode | None = None
        documents = 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refuse(
                        event,
                        "the file holds more than one YAML document",
                        cure="keep one, and remove the `---` line between them",
                    )
            elif isinstance(event, NodeEvent):
                root = self._node(event, 0)
        return root

    def _node(self, event: NodeEvent, depth: int) -> RawNode:
        self.count += 1
        if self.count > 2 * MAX_NODES:
            raise too_many(self._mark(event))
        if depth > MAX_DEPTH:
            raise too_deep(self._mark(event))
        if isinstance(event, AliasEvent):
            return self._alias(event)
        raw = RawNode(self._mark(event), tag=str(getattr(event, "tag", None) or ""))
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

    def _alias(self, event: AliasEvent) -> RawNode:
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

    def _items(self, depth: int) -> Iterator[RawNode]:
        while not isinstance(event := next(self.events), SequenceEndEvent):
            assert isinstance(event, NodeEvent)
            yield self._node(event, depth + 1)

    def _pairs(self, depth: int) -> Iterator[tuple[RawNode, RawNode]]:
        while not isinstance(event := next(self.events), MappingEndEvent):
            assert isinstance(event, NodeEvent)
            # A key that is an alias stands where the alias does.
            key = replace(self._node(event, depth + 1), mark=self._mark(event))
            value = next(self.events)
            assert isinstance(value, NodeEvent)
            yield key, self._node(value, depth + 1)

    def _refuse(self, event: Event, what: str, *, cure: str, why: str = "") -> SpecErrors:
        return _refusal(self._mark(event), what, cure=cure, why=why)

    def _mark(self, event: Event) -> Mark:
        mark = event.start_mark
        return Mark(mark.line + 1, mark.column + 1, self.source)


def events(text: str, source: str) -> Iterator[Event]:
    yaml = YAML(typ="safe", pure=True)
    try:
        yield from yaml.parse(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        raise _refusal(
            Mark(line, column, source),
            f"the text holds the control character U+{ord(text[error.position]):04X}",
            cure="remove it",
        ) from error
    except MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        if "end of stream" in str(error.problem) or "stream end" in str(error.problem):
            place = error.context_mark or place
        line, column = (place.line, place.column) if place else (0, 0)
        raise _refusal(
            Mark(line + 1, column + 1, source),
            "this is not valid YAML",
            why=_why_invalid(error),
            cure=_cure_invalid(error),
        ) from error
    except (YAMLError, ValueError, IndexError, AttributeError, TypeError, AssertionError) as error:
        # ruamel.yaml lets errors of its own code through on some broken input.
        raise _refusal(
            Mark(1, 1, source),
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
        return "put text that holds ': ' in quotes, and check that keys line up"
    if "end of stream" in problem or "stream end" in problem:
        return "close the quote or bracket that was opened"
    return "check that keys line up, and that text with special characters is in quotes"


def _refusal(mark: Mark, what: str, *, cure: str, why: str = "") -> SpecErrors:
    return SpecErrors([error_at(mark, (), Problem(what, cure=cure, why=why))])


def too_many(mark: Mark) -> SpecErrors:
    return _refusal(
        mark,
        f"the spec has more than {MAX_NODES} values",
        why="aliases count as what they stand for",
        cure="use `count:`, `defaults:` and `profiles:`, or split the environment",
    )


def too_deep(mark: Mark) -> SpecErrors:
    return _refusal(
        mark,
        f"the spec is nested deeper than {MAX_DEPTH} levels",
        cure="no key of a spec needs that; remove the extra brackets",
    )
