"""The contract of all guest types, on the emulated Xen host, where each boot takes minutes. In CI
test_models.py has Xen's guests.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.contract import *  # noqa: F403 - its tests
from integration.contract import Lab, spec, upped
from integration.xen import xen_laboratory
from xenhost.xenhost import XenHost

PLACE, TYPES = "xen1", ("xen-pv",)

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]  # the first test waits for all guests


@pytest.fixture(scope="module")
def lab(xen: XenHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("contract")
    with xen_laboratory(folder, "contract", spec(TYPES), xen) as lab:
        yield upped(lab)
