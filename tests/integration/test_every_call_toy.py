"""`up` and `down` interrupted at every call, on libvirt's test driver."""

from __future__ import annotations

from integration.every_call import *  # noqa: F403 - its tests
from integration.every_call import MARKS, Do

TYPE = "toy"
# what a kill at a reading call leaves is what the changing call before it left
UP = DOWN = {"changing": False, "reading": True}
# not its end: the test driver's world ends with it
DAEMON: dict[Do, bool] = {"freeze": True, "pause": True}

pytestmark = MARKS
