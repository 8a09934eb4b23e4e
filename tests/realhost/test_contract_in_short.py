"""The contract of all guest types in short, on a plain Debian host with systemd, cgroup v2 and
AppArmor, driven over ssh as its ordinary user: the types that need no KVM of it.

    .venv/bin/python -m pytest tests/realhost/test_contract_in_short.py

The host is emulated, and `qemu` emulates once more in it: its guest takes half an hour to boot.
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

PLACE, TYPES = prepared.NAME, ("uml", "qemu")

pytestmark = [pytest.mark.timeout(7200), pytest.mark.long]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideLab]:
    folder = tmp_path_factory.mktemp("short")
    with (
        prepared_host(tmp_path_factory.mktemp("realhost")) as host,
        outside_laboratory(folder, "short", spec(TYPES), host) as lab,
    ):
        yield upped(lab)


class TestTheContractInShort(InShort):
    """Of both guests."""
