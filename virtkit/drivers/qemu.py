"""Full virtualization by emulation (hosted model): QEMU without hardware support."""

from virtkit.drivers.base import Driver, connected

QEMU = Driver(
    word="qemu",
    model="full virtualization, emulated (hosted)",
    scheme="qemu",
    domain_type="qemu",
    template="qemu.xml.j2",
    root="disk",
    seed="iso9660",
    log="file",
    stop=("acpi",),
    exec=("agent", "ssh"),
    restart="reset",
    undefine=(
        "VIR_DOMAIN_UNDEFINE_NVRAM",
        "VIR_DOMAIN_UNDEFINE_MANAGED_SAVE",
        "VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA",
        "VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA",
    ),
    lacks={"privileged": "a virtual machine has its own kernel; only containers have this"},
    cpu="maximum",
    boot_args="console=ttyS0",
    patience=4.0,
    check=connected("qemu", "libvirt-daemon-system libvirt-daemon-driver-qemu qemu-system-x86"),
)
