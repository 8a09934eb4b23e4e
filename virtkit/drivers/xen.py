"""Xen through libvirt's libxl driver: paravirtualized (PV), PV on hardware (PVH), full (HVM)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from virtkit.drivers.base import Blocker, Bus, Driver, connected

if TYPE_CHECKING:
    from virtkit.facts import HostFacts

_OWN_KERNEL = "a virtual machine has its own kernel; only containers have this"
_NO_FIRMWARE = "Xen loads its kernel, from the host or by pygrub from its first disk"
_ON_QEMU = "virtkit has Windows on QEMU and KVM alone"
_CONNECTED = connected("xen", "xen-system-amd64 libvirt-daemon-system libvirt-daemon-driver-xen")


def _check(machine: str, what: str) -> Callable[[HostFacts], list[Blocker]]:
    """As for all of Xen, and its capabilities must have ``machine``."""

    def check(facts: HostFacts) -> list[Blocker]:
        reasons = _CONNECTED(facts)
        if reasons or machine in facts.connections["xen"].machines:
            return reasons
        return [
            Blocker(
                f"this Xen runs no {what} guests",
                "turn on hardware virtualization (VT-x or AMD-V) in the host's firmware, or use "
                "`type: xen-pv`",
            )
        ]

    return check


XEN_PV = Driver(
    type="xen-pv",
    virtualization="paravirtualization",
    scheme="xen",
    domain_type="xen",
    os_type="linux",
    template="xen-pv.xml.j2",
    root="copied",  # qcow2 would take a QEMU in dom0 for each disk
    seed="iso9660",
    log="xenconsoled",
    stop=("paravirt",),
    exec=("ssh",),
    restart="cycle",
    undefine_flags=("VIR_DOMAIN_UNDEFINE_MANAGED_SAVE",),
    # libxl plugs disks and interfaces, and can't resize a disk that is in use
    effects={
        "cpus": "live",
        "cpus.less": "restart",
        "disks": "live",
        "disks.mount": "live",
    },
    unsupported={
        "privileged": _OWN_KERNEL,
        "firmware": _NO_FIRMWARE,
        **dict.fromkeys(
            ("disks.bus", "disks.cache", "disks.discard", "disks.io"),
            "libxl gives guests Xen's own disks, and takes none of this",
        ),
        **dict.fromkeys(
            ("cpu.model", "cpu.features", "cpu.topology"),
            "Xen's guests see the host's processor",
        ),
        "hugepages": "Xen gives guests memory itself, and takes huge pages by its own lights",
        **dict.fromkeys(
            ("cpu.emulator_pin", "cpu.io_threads", "cpu.io_thread_pin"),
            "libxl places the threads of no guest's QEMU",
        ),
        "cpu.hidden": "Xen tells its guests what it is",
        "cpu.numa": "virtkit gives Xen's guests no NUMA cells",
        **dict.fromkeys(("networks.model", "networks.queues"), "guests have Xen's own card"),
        "boot": _NO_FIRMWARE,
        "ignition": "libxl gives a guest's firmware no files",
        "cdroms": "virtkit gives Xen's guests Xen's own disks and no drives",
        "folders": "libxl gives guests none of the host's folders",
        "host_devices": "virtkit gives Xen's guests none of the host's devices",
        "system": _ON_QEMU,
        "tpm": "libvirt gives Xen's guests no emulated TPM",
        "sound": "virtkit gives Xen's guests no sound card",
        "graphics": "virtkit gives Xen's guests a console and no display",
    },
    buses={"xen": Bus("xvd", "/dev/{target}")},
    card_mtu=1500,
    max_mtu=1500,  # libxl leaves the host's end of a card as it is
    on_cards=False,
    limited_to_host_cpus=True,  # libxlDomainSetVcpusFlags refuses more
    serial_start=True,  # libxl gives each device's hotplug script ten seconds, however busy a host
    start_limit=10.0,  # LIBXL_HOTPLUG_TIMEOUT: 10 or 40 s, by its version
    boot_args="console=hvc0",
    loader="pygrub",
    timeout_factor=2.0,
    caveats=("libvirt has no snapshots, statistics or guest agent for Xen",),
    check=_check("xenpv", "paravirtualized"),
)

XEN_PVH = replace(
    XEN_PV,
    type="xen-pvh",
    virtualization="paravirtualization on hardware",
    os_type="xenpvh",
    template="xen-pvh.xml.j2",
    check=_check("xenpvh", "PVH"),
)

XEN_HVM = replace(
    XEN_PV,
    type="xen-hvm",
    virtualization="full virtualization on the Xen hypervisor",
    os_type="hvm",
    template="xen-hvm.xml.j2",
    loader="",
    unsupported={
        **XEN_PV.unsupported,
        "firmware": "virtkit gives Xen's fully virtualized guests a BIOS",
        "boot": "it boots from its first disk",
        "disks.partition": "its BIOS sees whole disks",
        # libxl would show it as an IDE disk, too, and refuses to start such a guest
        "disks.readonly": "its QEMU shows the first four disks as IDE disks, which can be written",
    },
    timeout_factor=4.0,
    check=_check("xenfv", "fully virtualized (HVM)"),
)
