"""What a change of a guest costs: the table of fields; drivers say where they differ.

The keys are a guest's fields; ``disks`` and ``networks`` stand for a disk or card that comes or
goes, ``disks.size`` for a change of one. ``FIELD.less`` is the way down, where it costs more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

#: From the cheapest on. ``none``: only virtkit's record; ``live``: while the guest runs;
#: ``next-boot``: whenever it boots again; ``restart``: the guest lacks it until it is restarted;
#: ``recreate``: a new root disk.
Effect = Literal["none", "live", "next-boot", "restart", "recreate"]
ORDER: tuple[Effect, ...] = ("none", "live", "next-boot", "restart", "recreate")

#: What is the same for all types.
COMMON: Mapping[str, Effect] = {
    "after": "none",
    "allow": "none",
    "groups": "none",
    "ready": "none",
    "vars": "none",  # playbooks that read them are given again
    "disks.keep": "none",
    "autostart": "live",
    "playbooks": "live",
    "ssh_keys": "live",
    "networks": "live",
    "memory": "live",
    "cpus": "restart",
    "max": "restart",
    "disk": "restart",
    "disks": "restart",
    "disks.size": "restart",
    "disks.mount": "restart",
    "networks.address": "restart",
    "networks.mac": "live",
    "console": "restart",
    "devices": "restart",
    "firmware": "restart",
    "graphics": "restart",
    "kernel": "restart",
    "template": "restart",
    "cloud_init": "recreate",
    "host": "recreate",
    "image": "recreate",
    "privileged": "recreate",
    "type": "recreate",
    "user": "recreate",
}


def key(field: str) -> str:
    """The table's key for a reason's field: ``disks.data.size`` is ``disks.size``."""
    first, *rest = field.split(".")
    return ".".join([first, *rest[1:]]) if first in ("disks", "networks") else first


def worst(effects: Iterable[Effect]) -> Effect:
    """The most disruptive of ``effects``; ``none`` where there are none."""
    return max(effects, key=ORDER.index, default="none")
