"""Shared-kernel (system-level) virtualization: Linux containers through libvirt's LXC driver."""

from virtkit.drivers.base import Driver, connected

_OWN_KERNEL = "a container shares the host's kernel"

LXC = Driver(
    word="lxc",
    model="shared kernel (system level)",
    scheme="lxc",
    domain_type="lxc",
    template="lxc.xml.j2",
    root="layer",
    seed="ext4",
    log="journal",
    stop=("initctl", "poweroff"),
    exec=("namespaces", "ssh"),
    restart="cycle",
    freezer=True,
    lacks={
        "kernel": _OWN_KERNEL,
        "firmware": f"{_OWN_KERNEL} and has no firmware",
        "graphics": "libvirt gives containers no display",
        "disks.blank": "a container sees disks as mounted folders only; give it `mount:`",
    },
    needs_built_image=True,
    disk_prefix="",
    check=connected("lxc", "libvirt-daemon-driver-lxc"),
)
