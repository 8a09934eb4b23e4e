"""The contract of all guest types in short: what an emulated host does in minutes."""

from __future__ import annotations

from collections.abc import Sequence

import machine
from integration import contract

from virtkit.drivers import DRIVERS

HEAD = """
networks: {front: {cidr: 10.94.0.0/24, domain: contract.test}}
defaults: {memory: 256MiB, user: admin}
guests:
"""
#: What these tests ask of a guest, and no more.
GUEST = """
  TYPE:
    type: TYPE
    groups: [TYPE-guests, all-of-them]
    networks: [{name: front, address: 10.94.0.HOST, mac: "52:54:00:94:00:HOST"}]
"""
#: A virtual machine's: its image's own, which says nothing as it starts. Each letter on a serial
#: port is two ways out of KVM and back, and those were 85 % of them, and most of a boot.
QUIET = """\
    kernel:
      path: {kernel}
      initrd: {initrd}
      cmdline: root=LABEL=virtkit-root rw console=ttyS0 quiet mitigations=off cloud-init=disabled
"""


def spec(types: Sequence[str]) -> str:
    """A guest of each type, which has its name."""
    text = HEAD
    for name in types:
        text += GUEST.replace("TYPE", name).replace("HOST", str(contract.number(name)))
        if not DRIVERS[name].layered:
            image = machine.tests_image()[1]
            text += QUIET.format(kernel=image.kernel, initrd=image.initrd)
    return text


class InShort:
    """In the order of a guest's life. The file that has it has contract.py's fixtures, too."""

    test_status_tells_all = staticmethod(contract.test_status_tells_all)
    test_exec_is_root = staticmethod(contract.test_exec_is_root_and_passes_all_on)
    test_ssh_is_the_user = staticmethod(contract.test_ssh_is_the_user_and_passes_all_on)
    test_ssh_checks_the_host_key = staticmethod(contract.test_ssh_checks_the_host_key)
    test_pause_and_resume = staticmethod(contract.test_pause_and_resume)
    test_down_leaves_nothing = staticmethod(contract.test_down_leaves_nothing)
