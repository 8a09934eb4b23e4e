"""Full virtualization by emulation (hosted model): QEMU without hardware support."""

from virtkit.drivers.base import VIRTIO, WHOLE_DISKS, Bus, Driver, connected

QEMU = Driver(
    type="qemu",
    virtualization="full virtualization, emulated (hosted)",
    scheme="qemu",
    domain_type="qemu",
    template="qemu.xml.j2",
    machine="q35",
    root="backed",
    seed="iso9660",
    log="file",
    stop=("acpi",),
    exec=("agent", "ssh"),
    restart="reset",
    buses={
        **VIRTIO,
        "scsi": Bus("sd", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{name}"),
        # libvirt refuses disks on SATA that are only read
        "sata": Bus("sd", "/dev/disk/by-id/ata-QEMU_HARDDISK_{name}", hotplug=False, seed=False),
        "nvme": Bus(
            "nvme",
            "/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_{name}",
            hotplug=False,
            numbered=True,
            seed=False,
            since=11_005_000,
        ),
    },
    existing=("file", "block", "volume"),
    existing_formats=("raw", "qcow2"),
    drive_buses=("sata", "scsi"),
    undefine_flags=(
        "VIR_DOMAIN_UNDEFINE_NVRAM",
        "VIR_DOMAIN_UNDEFINE_MANAGED_SAVE",
        "VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA",
        "VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA",
    ),
    native_format="qemu-argv",
    effects={
        # QEMU aborts, guest and all, where a CPU is plugged in while the last part of its cache of
        # translated code is taken, which is so now and then (7.2): CPUs wait for a restart
        "disk": "live",
        "folders": "live",
        "disks": "live",
        "disks.size": "live",
        "disks.mount": "live",
    },
    unsupported={
        "privileged": "a virtual machine has its own kernel; only containers have this",
        "disks.partition": WHOLE_DISKS,
        "cpu.hidden": "it is emulated, and there is no KVM to hide; "
        "`cpu: {features: {hypervisor: disable}}` hides that it is",
    },
    folders_by="virtiofs",
    host_devices=("pci", "usb"),
    # the oldest model that distributions of today start on (x86-64-v2); `maximum` has AVX, and
    # emulating that costs a boot nearly half its time
    cpu_modes=("host-model", "maximum"),
    # QEMU's emulated maximum is an AMD's, which has threads by `topoext` alone, and that it lacks
    threadless=("host-model", "maximum"),
    cpu_mode="custom",
    cpu_model="Nehalem",
    system_devices={"windows": ("sata", "e1000e")},
    # a boot goes through 350; what has no room is translated again
    tb_cache=256,
    pcie_ports=14,
    # mitigations guard a processor that isn't there; and on a busy host ten emulated ticks can come
    # too late for the kernel, which then stops for good: "IO-APIC + timer doesn't work!"
    boot_args="console=ttyS0 mitigations=off no_timer_check",
    timeout_factor=4.0,
    check=connected("qemu", "libvirt-daemon-system libvirt-daemon-driver-qemu qemu-system-x86"),
)
