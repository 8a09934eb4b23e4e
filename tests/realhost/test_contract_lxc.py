"""The contract of all guest types on a plain Debian host with systemd, cgroup v2, AppArmor and a
KVM that works, driven over ssh as its ordinary user: type lxc.

    .venv/bin/python -m pytest tests/realhost/test_contract_lxc.py

The machine is emulated, and has one processor.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.contract import *  # noqa: F403 - its tests
from integration.contract import Lab, spec, upped
from realhost.outside import outside_laboratory, prepared_host

PLACE, TYPES = "rack", ("lxc",)

pytestmark = [pytest.mark.timeout(3600), pytest.mark.long]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("contract")
    with (
        prepared_host(tmp_path_factory.mktemp("realhost")) as host,
        outside_laboratory(folder, "contract", spec(TYPES), host) as lab,
    ):
        yield upped(lab)
