"""What a change of a guest costs, in five words. Which field costs what: fields.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

#: From the cheapest on. ``none``: only virtkit's record; ``live``: while the guest runs;
#: ``next-boot``: whenever it boots again; ``restart``: the guest lacks it until it is restarted;
#: ``recreate``: a new root disk.
Effect = Literal["none", "live", "next-boot", "restart", "recreate"]
ORDER: tuple[Effect, ...] = ("none", "live", "next-boot", "restart", "recreate")


def worst(effects: Iterable[Effect]) -> Effect:
    """The most disruptive of ``effects``; ``none`` where there are none."""
    return max(effects, key=ORDER.index, default="none")
