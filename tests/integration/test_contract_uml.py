"""The contract of all guest types, on User-Mode Linux."""

from __future__ import annotations

import pytest
from integration.contract import *  # noqa: F403 - its tests and their lab

PLACE, TYPES = "local", ("uml",)

# in CI test_uml.py and test_models.py have such guests
pytestmark = [pytest.mark.timeout(1200), pytest.mark.long, pytest.mark.needs_uml]
