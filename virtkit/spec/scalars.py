"""Plain scalars of YAML: their values by YAML 1.2's core schema, and their names in messages."""

from __future__ import annotations

import re
import unicodedata
from math import isfinite

from virtkit.spec.nodes import Scalar
from virtkit.spec.problem import quote

_NO_TEXT = "\ufffe\uffff\u2028\u2029"
NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_OCTAL = re.compile(r"[-+]?0[0-9]+", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
    r"|\.(?:nan|NaN|NAN)",
    re.ASCII,
)


def resolve(text: str) -> Scalar:
    """The value of a plain scalar by YAML 1.2's core schema.

    Raises:
        ValueError: a number that programs read in different ways, or that none can hold.
    """
    if text in NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _OCTAL.fullmatch(text):
        raise ValueError("is octal to some programs and decimal to others")
    if _INT.fullmatch(text):
        if len(text) > 19:
            raise ValueError("has too many digits for a number")
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if not isfinite(number):
            raise ValueError("is not a finite number")
        return number
    return text


def not_text(text: str) -> str:
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


def control_character(text: str) -> str:
    """The first character of ``text`` that no spec may hold, in words; empty where none is."""
    for char in text:
        if char in _NO_TEXT or (unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t"):
            return f"the control character U+{ord(char):04X}"
    return ""
