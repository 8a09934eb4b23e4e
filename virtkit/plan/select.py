"""Which guests the words of a command line name."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from virtkit.errors import RequestError


def select(
    words: Collection[str], groups: Mapping[str, Collection[str]], bases: Mapping[str, str]
) -> set[str]:
    """The guests that ``words`` name: a guest, all of a ``count``, a glob or ``@group``.

    Args:
        groups: groups by guest name.
        bases: the key in the spec by guest name.

    Raises:
        RequestError: a word names no guest.
    """
    chosen: set[str] = set()
    for word in words:
        if word.startswith("@"):
            matches = {name for name in bases if word[1:] in groups[name]}
        else:
            matches = {n for n, base in bases.items() if base == word or fnmatchcase(n, word)}
        if not matches:
            near = difflib.get_close_matches(word, [*bases, *bases.values()], n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(bases) or 'none'}"
            raise RequestError(f"no guest {word!r} in this environment", cure=hint)
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
