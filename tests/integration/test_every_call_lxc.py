"""`up` and `down` interrupted at every call, on a container."""

from __future__ import annotations

import pytest
from integration.every_call import *  # noqa: F403 - its tests
from integration.every_call import MARKS, Do

TYPE = "lxc"
UP = DOWN = {"all": False}
DAEMON: dict[Do, bool] = {"end": False, "freeze": False}

# in CI these are the test driver's, and the real driver's are qemu's
pytestmark = [*MARKS, pytest.mark.long]
