"""The contract of all guest types, on the machine itself."""

from __future__ import annotations

import pytest
from integration.contract import *  # noqa: F403 - its tests and their lab

PLACE, TYPES = "local", ("qemu", "lxc")

pytestmark = pytest.mark.timeout(1200)  # the first test waits for all guests
