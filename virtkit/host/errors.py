"""libvirt's errors in virtkit's words, by operation, code and driver together.

The code alone is too coarse: 38 is a missing socket, a bad ssh host and a missing disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from virtkit.errors import VirtkitError

#: (operation, libvirt's code) to the cure. Operations are the first word of ``what``.
_CURES: dict[tuple[str, int], str] = {
    ("open", libvirt.VIR_ERR_SYSTEM_ERROR): (
        "start libvirt (systemctl start libvirtd) and see `virtkit doctor`"
    ),
    ("open", libvirt.VIR_ERR_AUTH_FAILED): (
        "join the group libvirt (usermod -aG libvirt $USER) and log in again"
    ),
    ("start", libvirt.VIR_ERR_NO_DOMAIN): "run `virtkit up` again: the domain is gone",
    ("start", libvirt.VIR_ERR_OPERATION_TIMEOUT): (
        "see what else keeps this host busy, then run again"
    ),
    ("create", libvirt.VIR_ERR_STORAGE_VOL_EXIST): (
        "remove the volume if nobody needs it (virsh vol-delete), then run again"
    ),
}
_GENERAL = "see `virtkit doctor` and libvirt's log, then run again: it goes on from here"
#: Where the daemon ended or hangs; what it did of the last call, nobody knows.
STOPPED = "see that libvirtd runs (`virtkit doctor`), then run again: it goes on from here"

#: Disks and images that can't be used.
DAMAGED = (
    "an image or disk is damaged: `virtkit up` makes an image again where its size tells; else "
    "virtkit down its guests, virtkit image rm IMAGE, virtkit up"
)
GONE = (
    "a file is gone that the guest needs: see that the pool's folder is mounted. An image comes "
    "back with `virtkit up`; for a guest's own disk: virtkit down SPEC GUEST, then up"
)
#: Where another program took libvirt's firewall rules away.
RULES = (
    "systemctl restart libvirtd (libvirt's firewall rules are gone, as after a reload of nftables; "
    "a restart puts them back, a reload does not, and guests go on running); then run again"
)

#: What libvirt says, to the cure: where its code is the same for everything.
_SAID = {
    "/run/virtkit/lxc": (
        "its volumes are mounted by libvirt's hook, and it was not run: `virtkit doctor` says how "
        "to prepare this host again"
    ),
    "/sys/fs/cgroup/unified": (
        "libvirt's LXC driver fails where both versions of cgroups are mounted: start libvirtd "
        "in a mount namespace without /sys/fs/cgroup/unified (scripts/libvirt does)"
    ),
    "No chain/target/match by that name": RULES,
    "Chain 'LIBVIRT_": RULES,
    "already in use by": "free the subnet, or give the network another `cidr:`",
    "accept_ra": (
        "let the host keep its IPv6 routes while it forwards: sysctl "
        "net.ipv6.conf.INTERFACE.accept_ra=2, or leave out `ipv6:`"
    ),
    "No space left": (
        "free some space on the host (df -h), then run again: it goes on from here, and what was "
        "half made is made anew"
    ),
    "Read-only file system": (
        "make it writable again (the host's kernel log says why it isn't; mount -o remount,rw), "
        "then run again"
    ),
    "cannot open directory": (
        "mount or make the pool's folder again, then run again: `up` and `down` activate the pool"
    ),
    "is not active": "`virtkit up` activates it: run that, then this again",
    "Permission denied": (
        "let the hypervisor's user (libvirt-qemu) reach and read what is named there: namei -l PATH"
    ),
    "Is another process using": "another guest or program writes to this disk: stop that one first",
    "Could not open backing file": DAMAGED,
    "Image is corrupt": DAMAGED,
    "is not in qcow2 format": DAMAGED,
    "-blockdev": DAMAGED,  # QEMU's own words follow it
    "Cannot access": GONE,
    "Unable to open file": GONE,
    "Failed to terminate process": (
        "its process hangs in the host's kernel: see the kernel log and the disks, then run again"
    ),
    "cannot acquire state change lock": (
        "another call still waits for this guest's hypervisor process; where that is stopped: "
        "virtkit stop --timeout 0, then up"
    ),
}


def cure(operation: str, code: int, message: str = "") -> str:
    """What to do where libvirt answered ``operation`` with error ``code`` and ``message``."""
    said = next((cure for words, cure in _SAID.items() if words in message), None)
    return said or _CURES.get((operation, code), _GENERAL)


def lost(error: libvirt.libvirtError) -> bool:
    """Whether the connection is gone, and not only the call refused."""
    return error.get_error_domain() in (
        libvirt.VIR_FROM_RPC,
        libvirt.VIR_FROM_REMOTE,
    ) and error.get_error_code() in (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR)


@contextmanager
def told(operation: str, what: str, *, where: str = "") -> Iterator[None]:
    """Turns libvirt's error in the block into a VirtkitError.

    Args:
        operation: one word (open, define, start, stop, create, upload, delete, read …).
        what: the object, as ``domain lab-web``.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        message = error.get_error_message() or str(error)
        if operation != "open" and lost(error):
            raise VirtkitError(
                f"{operation} {what} failed",
                why=f"libvirt stopped answering: {message}",
                cure=STOPPED,
                where=where,
            ) from error
        raise VirtkitError(
            f"{operation} {what} failed",
            why=message,
            cure=cure(operation, error.get_error_code() or 0, message),
            where=where,
        ) from error
