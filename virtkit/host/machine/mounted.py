"""Which block devices a machine itself uses: it would not know of what a guest writes there."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

_ROOT = Path("/")


def mounted(*quoted: str) -> dict[str, str]:
    """Where block devices are mounted, or a part of theirs, or what lies on them (a logical volume,
    a RAID); ``swap`` for swap space. Others are left out.

    Args:
        quoted: paths as in a URL, so that one may have a comma.
    """
    places = mount_points()
    answer = {}
    for path in map(unquote, quoted):
        number = _number(path)
        used = (places[each] for each in (related(number) if number else ()) if each in places)
        if place := next(used, ""):
            answer[path] = place
    return answer


def mount_points(root: Path = _ROOT) -> dict[str, str]:
    """The devices that are mounted, as ``8:1``, and where; ``swap`` for swap space."""
    answer: dict[str, str] = {}
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, source = before.split(), after.split()[1:2]
        if len(fields) < 5:
            continue
        # file systems over several devices (btrfs) have a number of their own
        for each in (fields[2], *(_number(_unescaped(e)) for e in source)):
            answer.setdefault(each, _unescaped(fields[4]))
    for line in _lines(root / "proc/swaps")[1:]:
        answer.setdefault(_number(_unescaped(line.split()[0])), "swap")
    answer.pop("", None)
    return answer


def related(number: str, root: Path = _ROOT) -> Iterator[str]:
    """A device, its partitions, and what lies on any of them, as ``8:1``."""
    seen: set[str] = set()
    waiting = [number]
    while waiting:
        device = waiting.pop()
        if device in seen:
            continue
        seen.add(device)
        yield device
        folder = root / "sys/dev/block" / device
        below = [*folder.glob("*/partition"), *folder.glob("holders/*/dev")]
        waiting += ["".join(_lines(each.with_name("dev"))) for each in below]


def _number(path: str) -> str:
    """The number of a block device, as ``8:1``; empty for what is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return ""
    is_device = path.startswith("/") and stat.S_ISBLK(status.st_mode)
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" if is_device else ""


def _unescaped(text: str) -> str:
    """A path as the kernel writes it into its lists."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
