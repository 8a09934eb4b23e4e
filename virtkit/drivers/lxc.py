"""Shared-kernel (system-level) virtualization: Linux containers through libvirt's LXC driver."""

from virtkit.drivers.base import Driver, connected

_FEW_RIGHTS = ("features/privnet", "features/capabilities[@policy='deny']")
_NO_BLOCKS = "a container sees file systems, which the host reads and writes as its own"
_OWN_KERNEL = "a container shares the host's kernel"

LXC = Driver(
    type="lxc",
    virtualization="shared kernel (system level)",
    scheme="lxc",
    domain_type="lxc",
    os_type="exe",
    template="lxc.xml.j2",
    root="ext4",
    layered=True,
    mounts_disks=False,
    grows_filesystems=False,
    own_cpus=False,
    starts_with_max_memory=True,
    seed="ext4",
    log="journal",
    stop=("initctl", "poweroff"),
    exec=("namespaces", "ssh"),
    restart="cycle",
    pause_needs_freezer=True,
    reserves_memory=False,
    controller_socket="/run/libvirt/lxc/{name}.sock",
    unsupported={
        "kernel": _OWN_KERNEL,
        "firmware": f"{_OWN_KERNEL} and has no firmware",
        "boot": f"{_OWN_KERNEL} and boots from no device",
        "cdroms": "libvirt gives containers no drives",
        "system": f"{_OWN_KERNEL}, which is Linux",
        "ignition": "a container has no firmware to read an Ignition file from",
        "tpm": "libvirt gives containers no emulated TPM",
        "sound": "libvirt gives containers no sound card",
        "graphics": "libvirt gives containers no display",
        "cpu": f"{_OWN_KERNEL} and its processors",
        "hugepages": f"{_OWN_KERNEL} and its memory",
        **dict.fromkeys(("disks.bus", "disks.cache", "disks.discard", "disks.io"), _NO_BLOCKS),
        "disks.partition": _NO_BLOCKS,
        **dict.fromkeys(("networks.model", "networks.queues"), "a container's card is the host's"),
        **dict.fromkeys(
            ("disks.existing", "disks.format", "disks.readonly", "disks.shared"),
            f"{_NO_BLOCKS}; what is on such a disk is not virtkit's to mount",
        ),
        "disks.blank": "a container sees disks as mounted folders only; give it `mount:`",
    },
    confined={
        "userns": (
            *_FEW_RIGHTS,
            "idmap/uid[@start='0'][@target='{ids}'][@count='65536']",
            "idmap/gid[@start='0'][@target='{ids}'][@count='65536']",
        ),
        "hardened": _FEW_RIGHTS,
        "privileged": (),
    },
    images=("built", "rootfs"),
    other_images="it needs a root file system, and a disk has partitions and a boot loader",
    buses={},
    card_mtu=1500,
    folders_by="bind",
    host_devices=("char",),
    capabilities=(
        "sys_admin",  # the image's init drops it before it hands over
        "chown",
        "dac_override",
        "fowner",
        "fsetid",
        "kill",
        "setgid",
        "setuid",
        "setpcap",
        "setfcap",
        "net_bind_service",
        "net_admin",
        "net_raw",
        "sys_chroot",
        "audit_write",
        "sys_boot",
    ),
    caveats=(
        (
            "a container shares the host's kernel; where the plan calls it hardened, its root is "
            "the host's root with few capabilities, which is no boundary against a hostile guest"
        ),
    ),
    check=connected("lxc", "libvirt-daemon-driver-lxc"),
)
