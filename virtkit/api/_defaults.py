"""What the door's functions take where nothing is said; without their modules, for help texts."""

#: Seconds to wait for another run on the same environment.
LOCK_TIMEOUT = 600.0
#: Seconds that a guest gets to shut down when asked.
STOP_TIMEOUT = 60.0
#: What the playbook for hosts knows; QEMU comes with kvm.
HOST_TYPES = ("kvm", "lxc", "uml", "xen")
