"""A spec as YAML that holds what is meant, whatever it is.

A text that is not plainly a word is quoted, and nothing but printable characters is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from virtkit.spec.problem import escaped
from virtkit.spec.scalars import not_text
from virtkit.spec.yaml11 import resolve

_PLAIN = re.compile(r"[A-Za-z0-9/][A-Za-z0-9_./@+-]*(:[A-Za-z0-9_./@+-]+)*", re.ASCII)
#: The places whose maps are written with a line for each key.
_BLOCKS = (("hosts",), ("images",), ("networks",), ("guests",), ("guests", "*"))


def flow(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    return _text(str(value))


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and not not_text(text) and _is_text_in_yaml11(text):
        return text
    return '"' + "".join(map(_quoted, text)) + '"'


def _is_text_in_yaml11(text: str) -> bool:
    try:
        return isinstance(resolve(text), str)
    except ValueError:
        return False


def _quoted(char: str) -> str:
    """A character inside double quotes."""
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def block(values: dict[str, Any], place: tuple[str, ...] = ()) -> Iterator[str]:
    """Lines of a spec: guests have one for each key, and so have lists of maps for each map.

    Args:
        place: where in the spec it stands, a guest's name as ``*``.
    """
    indent = "  " * len(place)
    for key, value in values.items():
        below = (*place, "*" if place else key)
        if isinstance(value, dict) and value and below in _BLOCKS:
            yield f"{indent}{flow(key)}:"
            yield from block(value, below)
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            yield f"{indent}{flow(key)}:"
            yield from (f"{indent}  - {flow(each)}" for each in value)
        else:
            yield f"{indent}{flow(key)}: {flow(value)}"


def comment(text: str, indent: str = "") -> str:
    """A comment of one line, whatever the text holds."""
    return f"# {indent}{escaped(text)}".rstrip()
