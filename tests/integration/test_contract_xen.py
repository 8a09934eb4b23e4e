"""The contract of all guest types, on the emulated Xen host. There each session takes seconds and
each boot minutes, so CI asks what is Xen's own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.contract import *  # noqa: F403 - its tests
from integration.contract import Lab, spec, upped
from integration.xen import xen_laboratory
from xenhost.xenhost import XenHost

PLACE, TYPES = "xen1", ("xen-pv",)

#: These go the same ways for all types that ssh alone leads into, or that are on another host.
LONG_TESTS = (
    "test_exec_reads_standard_input",
    "test_exec_tells_of_a_signal",
    "test_ssh_checks_the_host_key",
    "test_cp_goes_both_ways",
    "test_logs_follow",
    "test_some_guests_can_go_before_the_others",
    "test_restart_asks_too_and_up_starts_what_fell",
    "test_a_kept_disk_outlives_its_guest",
)

pytestmark = pytest.mark.timeout(1200)  # the first test waits for all guests


@pytest.fixture(scope="module")
def lab(xen: XenHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("contract")
    with xen_laboratory(folder, "contract", spec(TYPES), xen) as lab:
        yield upped(lab)
