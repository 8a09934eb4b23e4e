"""The contract of all guest types, on User-Mode Linux."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.contract import *  # noqa: F403 - its tests
from integration.contract import Lab, spec, upped
from integration.lab import laboratory

PLACE, TYPES = "local", ("uml",)

# in CI test_uml.py and test_models.py have such guests
pytestmark = [pytest.mark.timeout(1200), pytest.mark.long]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("contract"), "contract-uml", spec(TYPES)) as lab:
        yield upped(lab)
