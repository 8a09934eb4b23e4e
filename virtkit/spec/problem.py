"""What is wrong in a spec and what cures it, before anyone knows where it stands.

Text only. It must never know files, lines or columns.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: How much of a user's value is quoted in a message, in characters.
MAX_QUOTED = 63
#: How many known names are listed where none is near.
MAX_LISTED = 40


class Problem(ValueError):
    """Something that can't stand in a spec.

    Args:
        what: one line that names it and says what is wrong with it.
        cure: what the writer can do about it.
        why: the rule behind it, where that is not plain.
    """

    def __init__(self, what: str, *, cure: str, why: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.cure = cure
        self.why = why


def quote(value: object) -> str:
    """A user's value in one short line, without characters that a terminal would act on."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and len(value) > MAX_QUOTED:
        return f"{value[:MAX_QUOTED]!r}…"
    text = repr(value)
    return text if len(text) <= 2 * MAX_QUOTED else f"{text[: 2 * MAX_QUOTED]}…"


def escaped(text: str) -> str:
    """``text`` with every character escaped that a terminal would act on."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def suggestion(name: str, known: Iterable[str]) -> str:
    """The cure for an unknown ``name``: the nearest known one, else all of them."""
    names = sorted(each for each in known if len(each) <= MAX_QUOTED)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    if not names:
        return "remove it"
    more = ", …" if len(names) > MAX_LISTED else ""
    return f"use one of: {', '.join(names[:MAX_LISTED])}{more}"
