"""Which guests a command line names."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from virtkit.errors import RequestError


def select(
    patterns: Collection[str], groups: Mapping[str, Collection[str]], bases: Mapping[str, str]
) -> set[str]:
    """The guests that ``patterns`` name.

    Args:
        patterns: each a guest's name, its key in the spec (all of a ``count``), a glob, or
            ``@group``.
        groups: each guest's groups, by its name.
        bases: each guest's key in the spec, by its name.

    Raises:
        RequestError: a pattern matches no guest.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        if pattern.startswith("@"):
            matches = {name for name in bases if pattern[1:] in groups[name]}
        else:
            matches = {n for n, base in bases.items() if base == pattern or fnmatchcase(n, pattern)}
        if not matches:
            near = difflib.get_close_matches(pattern, [*bases, *bases.values()], n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(bases) or 'none'}"
            raise RequestError(f"no guest {pattern!r} in this environment", cure=hint)
        chosen |= matches
    return chosen


def with_after(names: Collection[str], after: Mapping[str, Collection[str]]) -> set[str]:
    """``names`` and all that they are ``after``, directly or not."""
    answer: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in answer:
            answer.add(name)
            todo += after.get(name, ())
    return answer
