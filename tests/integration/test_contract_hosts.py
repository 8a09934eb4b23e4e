"""The contract of all guest types on another host, over ssh: of containers. CI has it in short, on
a host as users have them (test_prepared_host.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.contract import *  # noqa: F403 - its tests
from integration.contract import Lab, spec, upped
from integration.several_hosts import hosts_laboratory, several_hosts

PLACE, TYPES = "h1", ("lxc",)

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]  # the first test waits for all guests


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with (
        several_hosts(tmp_path_factory.mktemp("hosts"), 1) as hosts,
        hosts_laboratory(
            tmp_path_factory.mktemp("contract"), "contract", spec(TYPES), hosts
        ) as lab,
    ):
        yield upped(lab)
