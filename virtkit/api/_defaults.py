"""Defaults of the public functions' parameters. They stand here so that help texts can say them
without loading the modules of these functions."""

#: Seconds to wait for another run on the same environment.
LOCK_TIMEOUT = 600.0
#: Seconds that a guest gets to shut down when asked.
STOP_TIMEOUT = 60.0
#: What the playbook for hosts knows; QEMU comes with kvm.
HOST_TYPES = ("kvm", "lxc", "uml", "xen")
