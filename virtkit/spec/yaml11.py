"""Plain scalars by YAML 1.1, as PyYAML and so cloud-init and Ansible read them: what stands in
``cloud_init`` and ``vars``.

Pure. Dates stay text: a seed is JSON, which has none.
"""

from __future__ import annotations

import re
from math import isfinite

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE, _FALSE = frozenset({"yes", "true", "on"}), frozenset({"no", "false", "off"})
_INT = re.compile(
    r"[-+]?(?:0b[0-1_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*(?::[0-5]?[0-9])+)",
    re.ASCII,
)
_FLOAT = re.compile(
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*",
    re.ASCII,
)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", re.ASCII)
#: More digits no program of a guest's is sure to hold.
_MAX_DIGITS = 19


def resolve(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar.

    Raises:
        ValueError: a number that no program can hold.
    """
    if text in _NULL:
        return None
    if text in (text.lower(), text.upper(), text.capitalize()) and text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("is not a finite number")
    digits = text.replace("_", "")
    if _INT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise ValueError("has too many digits for a number")
        return _int(digits)
    if _FLOAT.fullmatch(text):
        number = _sexagesimal(digits, float) if ":" in digits else float(digits)
        if not isfinite(number):
            raise ValueError("is not a finite number")
        return number
    return text


def _int(digits: str) -> int:
    sign, number = (-1, digits[1:]) if digits[0] == "-" else (1, digits.removeprefix("+"))
    if ":" in number:
        return int(_sexagesimal(digits, int))
    if number[:2] in ("0b", "0x"):
        return sign * int(number[2:] or "0", 2 if number[1] == "b" else 16)
    return sign * int(number, 8 if number.startswith("0") else 10)


def _sexagesimal(digits: str, kind: type[int] | type[float]) -> int | float:
    """Numbers to the base of 60, as ``1:30`` is 90."""
    total: int | float = 0
    for part in digits.lstrip("+-").split(":"):
        total = total * 60 + kind(part)
    return -total if digits.startswith("-") else total
