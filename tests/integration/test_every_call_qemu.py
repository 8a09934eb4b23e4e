"""`up` and `down` interrupted at every call, on an emulated virtual machine."""

from __future__ import annotations

from integration.every_call import *  # noqa: F403 - its tests
from integration.every_call import MARKS, Do

TYPE = "qemu"
# each costs seconds: all that change something are the test driver's
UP = {"first": False, "rest": True}
UNDEFINED = {"first": True, "rest": True}
DOWN = {"all": True}
DAEMON: dict[Do, bool] = {"end": True, "freeze": True}

pytestmark = MARKS
