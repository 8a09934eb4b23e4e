"""The guest types that virtkit knows, by the ``type:`` of the spec."""

from virtkit.drivers.base import Blocker, Driver, Exec, ImageKind, Stop
from virtkit.drivers.kvm import KVM
from virtkit.drivers.lxc import LXC
from virtkit.drivers.qemu import QEMU
from virtkit.drivers.uml import UML
from virtkit.drivers.xen import XEN_HVM, XEN_PV, XEN_PVH

#: One line per guest type. ``auto`` is none of them: it is a choice among them.
DRIVERS: dict[str, Driver] = {
    driver.type: driver
    for driver in (  # in the order in which `virtkit doctor` lists them
        KVM,
        QEMU,
        LXC,
        UML,
        XEN_PV,
        XEN_PVH,
        XEN_HVM,
    )
}

#: What ``auto`` tries, in this order.
AUTO = ("kvm", "qemu")

__all__ = ["AUTO", "DRIVERS", "Blocker", "Driver", "Exec", "ImageKind", "Stop"]
