"""The contract of all guest types in short, on a plain Debian host with systemd, cgroup v2,
AppArmor and a KVM that works: made ready by `virtkit host prepare`, and driven over ssh as its
ordinary user.

The host is emulated, and comes from a snapshot. The contract is whole in tests/realhost.
"""

from __future__ import annotations

from collections.abc import Iterator

import machine
import pytest
from integration.contract import (
    number,
    place,  # noqa: F401 - a fixture, found by its name
    pytest_generate_tests,  # noqa: F401 - a hook
    types,  # noqa: F401 - a fixture
    upped,
)
from integration.contract_in_short import InShort
from realhost import prepared
from realhost.outside import OutsideLab, outside_laboratory, prepared_host

PLACE, TYPES = prepared.NAME, ("kvm", "lxc")
#: What these tests ask of a guest, and no more.
SPEC = """
networks: {front: {cidr: 10.94.0.0/24, domain: contract.test}}
defaults: {memory: 256MiB, user: admin}
guests:
"""
GUEST = """
  TYPE:
    type: TYPE
    groups: [TYPE-guests, all-of-them]
    networks: [{name: front, address: 10.94.0.HOST, mac: "52:54:00:94:00:HOST"}]
"""
#: The image's own, which says nothing as it starts: each letter on a serial port is two ways out of
#: KVM and back, and those were 85 % of them, and most of a boot.
QUIET = """\
    kernel:
      path: {kernel}
      initrd: {initrd}
      cmdline: root=LABEL=virtkit-root rw console=ttyS0 quiet mitigations=off cloud-init=disabled
"""

pytestmark = pytest.mark.timeout(1800)  # the first test waits for both guests


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, alone: None) -> Iterator[OutsideLab]:
    folder = tmp_path_factory.mktemp("short")
    image = machine.tests_image()[1]
    guests = [GUEST.replace("TYPE", e).replace("HOST", str(number(e))) for e in TYPES]
    guests.insert(1, QUIET.format(kernel=image.kernel, initrd=image.initrd))  # the first one's
    with (
        prepared_host(tmp_path_factory.mktemp("realhost")) as host,
        outside_laboratory(folder, "short", SPEC + "".join(guests), host) as lab,
    ):
        yield upped(lab)


class TestTheContractInShort(InShort):
    """Of both guests."""
