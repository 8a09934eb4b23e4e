"""The guest types that virtkit knows, by their word in the spec."""

from virtkit.drivers.base import Driver, Exec, Reason, Stop
from virtkit.drivers.kvm import KVM
from virtkit.drivers.lxc import LXC
from virtkit.drivers.qemu import QEMU
from virtkit.drivers.uml import UML

#: One line per guest type. ``auto`` is none of them: it is a choice among them.
DRIVERS: dict[str, Driver] = {driver.word: driver for driver in (KVM, QEMU, LXC, UML)}

#: What ``auto`` tries, in this order.
AUTO = ("kvm", "qemu")

__all__ = ["AUTO", "DRIVERS", "Driver", "Exec", "Reason", "Stop"]
