"""`up` and `down` interrupted at every call, on a container."""

from __future__ import annotations

from integration.every_call import *  # noqa: F403 - its tests
from integration.every_call import MARKS, Do

TYPE = "lxc"
# most calls are as those of qemu, and each costs seconds
UP = {"first": False, "rest": True}
DAEMON: dict[Do, bool] = {"end": False, "freeze": True}

pytestmark = MARKS
