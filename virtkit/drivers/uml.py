"""A Linux kernel that runs as a program (kernel level, without a hypervisor): User-Mode Linux.

libvirt has no driver for it any more. It runs in a container of libvirt's LXC driver, whose disks
and network interfaces it takes for its own; the container's init (templates/uml_init.py) starts it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from virtkit.drivers.base import WHOLE_DISKS, Blocker, Bus, connected, installed
from virtkit.drivers.lxc import LXC

if TYPE_CHECKING:
    from virtkit.facts import HostFacts

_PROGRAMS = {"/usr/bin/linux.uml": "user-mode-linux"}
_NO_FIRMWARE = "the kernel is a program of the host's and starts without firmware"


def check(facts: HostFacts) -> list[Blocker]:
    """The processor, libvirt's containers with their own ids, and the kernel."""
    if facts.arch != "x86_64":
        return [
            Blocker(f"User-Mode Linux does not run on {facts.arch}", "use `type: qemu` or `lxc`")
        ]
    reasons = connected("lxc", "libvirt-daemon-driver-lxc")(facts)
    reasons += installed(_PROGRAMS)(facts)
    if facts.no_userns is not None:
        reasons.append(Blocker(facts.no_userns.why, facts.no_userns.cure))
    return reasons


UML = replace(
    LXC,
    type="uml",
    virtualization="kernel level, without a hypervisor (User-Mode Linux)",
    template="uml.xml.j2",
    root="copied",
    layered=False,
    mounts_disks=True,
    grows_filesystems=True,
    own_cpus=True,
    starts_with_max_memory=False,
    stop=("signal",),
    exec=("ssh",),
    effects={
        "memory": "restart",
        "networks": "restart",
        "networks.mac": "restart",
        "disks.mount": "live",
    },
    unsupported={
        "cpu": "User-Mode Linux runs on the host's processors as any program",
        "hugepages": "User-Mode Linux has its memory in a file",
        **dict.fromkeys(
            ("networks.model", "networks.queues"), "User-Mode Linux has a card of its own"
        ),
        "cpus": "User-Mode Linux has one processor",
        "max": "User-Mode Linux can't grow while it runs",
        "kernel": "the kernel is the host's program linux.uml",
        "firmware": _NO_FIRMWARE,
        "boot": _NO_FIRMWARE,
        "cdroms": "User-Mode Linux has disks and no drives",
        "system": "User-Mode Linux is Linux",
        "ignition": _NO_FIRMWARE,
        "tpm": "User-Mode Linux has no TPM",
        "sound": "User-Mode Linux has no sound card",
        "graphics": "User-Mode Linux has no display",
        **dict.fromkeys(
            ("disks.bus", "disks.cache", "disks.discard", "disks.io"),
            "User-Mode Linux opens its disks by itself, and on no bus",
        ),
        "disks.partition": WHOLE_DISKS,
        "disks.shared": "User-Mode Linux opens its disks for itself alone",
        "host_devices": "its kernel is a program, which has no drivers for them",
        "privileged": "it has its own kernel; only containers have this",
    },
    confined={"userns": LXC.confined["userns"]},
    # the kernel decides on the size of its cards' buffers when it starts
    max_mtu=1500,
    buses={"uml": Bus("ubd", "/dev/{target}")},
    folders_by="hostfs",
    boot_args="console=ttyS0",
    # the kernel itself has net_raw alone, as its network interfaces are raw sockets; what starts it
    # takes IPv6 off the container, and then gives the others up
    capabilities=("net_raw", "net_admin", "setpcap"),
    folders=("/usr", "/lib", "/lib64"),
    programs=_PROGRAMS,
    timeout_factor=2.0,
    check=check,
)
