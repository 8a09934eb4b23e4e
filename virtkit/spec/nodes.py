"""The values of a YAML document as a tree whose nodes know where they stand. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from virtkit.errors import RequestError
from virtkit.spec.problem import Problem, escaped, quote

#: Keys and list indices from the top of the document down.
Path = tuple[str | int, ...]
Scalar = str | int | float | bool | None
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
    """A place in one of a spec's files, or in what the command line sets.

    Attributes:
        line: from 1; 0 where it is no file's.
        column: from 1.
        source: the file as messages call it, or the option of the command line.
    """

    line: int
    column: int
    source: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


def error_at(mark: Mark, path: Path, problem: Problem) -> RequestError:
    """The error about ``path``, which stands at ``mark``."""
    return RequestError(
        escaped(problem.what),
        why=escaped(problem.why),
        cure=escaped(problem.cure),
        where=escaped(f"{mark} {dotted(path)}".rstrip()),
    )


@dataclass(slots=True)
class Node:
    """A value of the document.

    Attributes:
        value: a scalar, a list of nodes, or a map of nodes by key.
        path: where it stands in the document, by keys.
        mark: where the value itself starts in the file.
        key: where the key (or list entry) it belongs to starts.
        core: a plain scalar's value by YAML 1.2, where ``value`` is read by YAML 1.1.
    """

    value: Scalar | list[Node] | dict[str, Node]
    path: Path
    mark: Mark
    key: Mark
    core: tuple[Scalar] | None = None

    @property
    def position(self) -> Mark:
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


@dataclass(frozen=True, slots=True)
class DocumentProblem:
    """What no spec may hold, in a document that could be read all the same.

    Attributes:
        of_value: the value at ``path`` is not known; else a key below it was left out.
    """

    mark: Mark
    path: Path
    problem: Problem
    of_value: bool = True
