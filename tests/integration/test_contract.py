"""The contract of all guest types, on the machine itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.contract import *  # noqa: F403 - its tests
from integration.contract import Lab, spec, upped
from integration.lab import laboratory

PLACE, TYPES = "local", ("qemu", "lxc")

pytestmark = pytest.mark.timeout(1200)  # the first test waits for all guests


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("contract"), "contract", spec(TYPES)) as lab:
        yield upped(lab)
