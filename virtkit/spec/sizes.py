"""Sizes and durations: from the text of a spec to bytes and seconds, and back.

Pure. It must never guess a unit that was not written.
"""

from __future__ import annotations

import re
from fractions import Fraction

from virtkit.spec.problem import Problem, quote

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

#: The largest size that a spec may name, in bytes.
MAX_SIZE = 1024 * TIB
#: The longest duration that a spec may name, in seconds.
MAX_DURATION = 7 * 24 * 3600

_BYTES = {"K": KIB, "M": MIB, "G": GIB, "T": TIB}
_SECONDS = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?([KMGT])(?:iB)?", re.ASCII)
_DECIMAL_SIZE = re.compile(r"[0-9]+(?:\.[0-9]+)? ?([KMGTkmgt])[Bb]", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?(ms|s|m|h)", re.ASCII)

#: The same rules for editors, as JSON Schema patterns.
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?[KMGT](iB)?$"
DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h)$"


def parse_size(value: object) -> int:
    """Bytes of a size such as ``512MiB``, ``8G`` or ``1.5GiB`` (binary units).

    Raises:
        Problem: no unit, an unknown one, zero, not whole KiB, or too large.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise Problem(
            f"{quote(value)} is not a size",
            why="a number alone does not say which unit is meant",
            cure=f"use {value}MiB or {value}GiB" if 0 < value < 10**6 else "use 512MiB or 8GiB",
        )
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Problem(f"{quote(value)} is not a size", cure=_size_cure(value))
    size = Fraction(match[1]) * _BYTES[match[2]]
    if size == 0:
        raise Problem(
            f"{quote(value)} is zero", cure="use a size above zero, such as 512MiB or 2GiB"
        )
    if size > MAX_SIZE:
        raise Problem(f"{quote(value)} is too large", cure=f"use at most {format_size(MAX_SIZE)}")
    if size % KIB:
        near = format_size(max(1, round(size / KIB)) * KIB)
        raise Problem(f"{quote(value)} is not a whole number of KiB", cure=f"use {near}")
    return int(size)


def _size_cure(value: object) -> str:
    decimal = _DECIMAL_SIZE.fullmatch(value) if isinstance(value, str) else None
    if decimal is not None and isinstance(value, str):
        unit = decimal[1].upper()
        return f"use {value[: decimal.start(1)].strip()}{unit}iB: sizes are binary"
    return "use 512MiB, 2GiB or 8G"


def format_size(size: int) -> str:
    """A size as a spec would say it, in the largest unit; of what isn't whole KiB, the bytes."""
    for unit in "TGMK":
        if size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}iB"
    return f"{size} bytes"


def writable_size(size: int) -> str:
    """The smallest size that a spec can say which is no less than ``size`` bytes."""
    return format_size(-(-size // _BYTES["K"]) * _BYTES["K"])


def parse_duration(value: object) -> float:
    """Seconds of a duration such as ``90s``, ``5m``, ``1h`` or ``500ms``.

    Raises:
        Problem: no unit, an unknown one, zero, or too long.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise Problem(
            f"{quote(value)} is not a duration",
            why="a number alone does not say which unit is meant",
            cure=f"use {value}s or {value}m" if 0 < value < 10**6 else "use 90s, 5m or 1h",
        )
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Problem(f"{quote(value)} is not a duration", cure="use 90s, 5m or 1h")
    seconds = Fraction(match[1]) * _SECONDS[match[2]]
    if seconds == 0:
        raise Problem(
            f"{quote(value)} is zero", cure="use a duration above zero, such as 90s or 5m"
        )
    if seconds > MAX_DURATION:
        raise Problem(f"{quote(value)} is too long", cure=f"use at most {MAX_DURATION // 3600}h")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """A duration as a spec would say it: ``seconds`` in the largest unit that keeps it whole.

    Finer than a millisecond is rounded.
    """
    milliseconds = round(seconds * 1000)
    for unit, length in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % length == 0:
            return f"{milliseconds // length}{unit}"
    return f"{milliseconds}ms"
