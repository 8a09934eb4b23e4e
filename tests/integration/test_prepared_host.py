"""The contract of all guest types in short, on a plain Debian host with systemd, cgroup v2,
AppArmor and a KVM that works: made ready by `virtkit host prepare`, and driven over ssh as its
ordinary user.

The host is emulated, and comes from a snapshot. The contract is whole in tests/realhost.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.contract import (
    place,  # noqa: F401 - a fixture, found by its name
    pytest_generate_tests,  # noqa: F401 - a hook
    types,  # noqa: F401 - a fixture
    upped,
)
from integration.contract_in_short import InShort, spec
from realhost import prepared
from realhost.outside import OutsideLab, outside_laboratory, prepared_host

PLACE, TYPES = prepared.NAME, ("kvm", "lxc")

pytestmark = pytest.mark.timeout(1800)  # the first test waits for both guests


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, alone: None) -> Iterator[OutsideLab]:
    folder = tmp_path_factory.mktemp("short")
    with (
        prepared_host(tmp_path_factory.mktemp("realhost")) as host,
        outside_laboratory(folder, "short", spec(TYPES), host) as lab,
    ):
        yield upped(lab)


class TestTheContractInShort(InShort):
    """Of both guests."""
