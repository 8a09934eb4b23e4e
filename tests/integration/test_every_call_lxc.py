"""`up` and `down` interrupted at every call, on a container."""

from __future__ import annotations

from integration.every_call import *  # noqa: F403 - its tests
from integration.every_call import MARKS, Do

TYPE = "lxc"
# each costs seconds: all calls are the test driver's, and the ends of libvirtd are qemu's
UP = {"first": False, "rest": True}
DAEMON: dict[Do, bool] = {"end": True, "freeze": True}

pytestmark = MARKS
