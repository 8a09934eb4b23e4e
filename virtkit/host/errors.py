"""libvirt's errors in virtkit's words: by operation first, then by what libvirt says, then by code.

The code alone is too coarse: 38 is a missing socket, a bad ssh host and a missing disk. So are the
words alone: "Permission denied" is said of the socket, of a disk and of a pool's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import libvirt

from virtkit.errors import RUN_AGAIN, RequestError, VirtkitError

_GENERAL = (
    "see `virtkit doctor` and libvirt's log on its host (sudo journalctl -u 'libvirt*' -u "
    f"'virt*'), then {RUN_AGAIN}"
)

#: What cures disks and images that can't be used.
_DAMAGED = (
    "an image or disk is damaged: `virtkit up SPEC` makes an image again if its size is wrong; "
    "else virtkit down SPEC GUEST for each of its guests, virtkit image rm SPEC IMAGE, virtkit up "
    "SPEC"
)
_GONE = (
    "a file that the guest needs is gone: check that the pool's folder is mounted. An image comes "
    "back with `virtkit up SPEC`; where a guest's own disk is lost, `virtkit plan SPEC` says what "
    "went with it, and `virtkit up --yes SPEC GUEST` makes it again"
)
_ROOT_DENIED = (
    "libvirt's daemon, which is root, may not do this there: see whose folder that is (namei -l "
    "PATH); on NFS root has no rights unless it is exported with no_root_squash"
)
#: Stands for the command that restarts the daemon which this machine has.
_RESTART = "RESTART"
#: Stands for the host.
_HOST = "HOST"
#: Where another program took libvirt's firewall rules away.
RULES = (
    f"{_RESTART} (libvirt's firewall rules are gone, as after a reload of nftables; "
    "a restart puts them back, a reload does not, and guests go on running); then run again"
)

#: What programs say of a file that they may not use.
_DENIED = "Permission denied"
#: What libvirt says in any operation, to the cure.
_CURES_BY_PHRASE: Mapping[str, str] = {
    "Cannot check QEMU binary": (
        "that program is gone from the host: install its package again (on Debian qemu-system-x86 "
        "or qemu-system-arm), then run again"
    ),
    "KVM kernel module": (
        "the host's KVM is gone or can't be opened (ls -l /dev/kvm): sudo modprobe kvm_intel or "
        "kvm_amd brings it back, and it must belong to root and the group kvm, with mode 0660; "
        "else the guest can run as `type: qemu`"
    ),
    "/run/virtkit/lxc": (
        "its volumes are mounted by libvirt's hook, and that did not run: `virtkit doctor` says "
        "how to prepare this host again"
    ),
    "Failed to create bind target": (
        "a container's <filesystem> takes a folder of the host, and this is a file: name its folder"
    ),
    "Failed to bind mount directory": (
        "something else is mounted in that folder of the host (findmnt -R FOLDER), and a container "
        "with its own ids can't have it then: name a folder in which nothing is mounted"
    ),
    "Failed to access '": (
        "check that the folder of the host under `devices` is there, and that every user can reach "
        "it (namei -l PATH): a container with its own ids has no more rights than other users"
    ),
    "/sys/fs/cgroup/unified": (
        "libvirt's LXC driver fails where both versions of cgroups are mounted: boot the host with "
        "systemd.unified_cgroup_hierarchy=1, or start the daemon in a mount namespace without "
        "/sys/fs/cgroup/unified (scripts/libvirt does)"
    ),
    "'/sys/fs/cgroup/": (
        "the container's cgroup disappeared while libvirt was starting it; this happens on busy "
        f"hosts: {RUN_AGAIN}; if that fails too, see systemd's log there (sudo journalctl -b)"
    ),
    "No chain/target/match by that name": RULES,
    "Chain 'LIBVIRT_": RULES,
    "already in use by": "free the subnet, or give the network another `cidr:`",
    "accept_ra": (
        "let the host keep its IPv6 routes while it forwards: sudo sysctl "
        "net.ipv6.conf.INTERFACE.accept_ra=2, or leave out `ipv6:`"
    ),
    "No space left": (
        f"free some space on {_HOST} (df -h), then {RUN_AGAIN}, and what was half made is recreated"
    ),
    "Read-only file system": (
        "make it writable again (the host's kernel log says why it isn't; sudo mount -o "
        "remount,rw), then run again"
    ),
    _DENIED: _ROOT_DENIED,
    "cannot open directory": (
        "mount or make the pool's folder again, then run again: `up` and `down` activate the pool"
    ),
    "is not active": "`virtkit up SPEC` activates it: run that, then this again",
    "Failed to terminate process": (
        "its process hangs in the host's kernel: see the kernel log and the disks, then run again"
    ),
    "cannot acquire state change lock": (
        "another call still waits for this guest's hypervisor process; if that is stopped: "
        "virtkit stop SPEC GUEST --timeout 0, then virtkit up SPEC GUEST"
    ),
}

#: Operations that hand files to a hypervisor, and what it or libvirt says then.
_FILE_OPERATIONS = ("start", "reset", "attach", "grow")
_BUSY: Mapping[str, str] = {
    "Is another process using": "another guest or program writes to this disk: stop that one first",
}
_UNUSABLE: Mapping[str, str] = {
    "Could not open backing file": _DAMAGED,
    "Image is corrupt": _DAMAGED,
    "is not in qcow2 format": _DAMAGED,
    "No such file or directory": _GONE,
    "Cannot access": _GONE,
    "Unable to open file": _GONE,
    "-blockdev": _DAMAGED,  # QEMU's own words follow it
}

#: (operation, libvirt's code) to the cure, where the words say nothing.
_CURES_BY_CODE: Mapping[tuple[str, int], str] = {
    ("start", libvirt.VIR_ERR_NO_DOMAIN): "run `virtkit up SPEC GUEST` again: the domain is gone",
    ("start", libvirt.VIR_ERR_OPERATION_TIMEOUT): (
        "see what else keeps this host busy, then run again"
    ),
    ("create", libvirt.VIR_ERR_STORAGE_VOL_EXIST): (
        "remove the volume if nobody needs it (on its host: virsh -c qemu:///system vol-delete "
        "VOLUME --pool POOL), then run again"
    ),
}

#: Says Y where the kernel confines programs by AppArmor's profiles.
_APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


class LibvirtUnavailable(VirtkitError):
    """libvirt's daemon ended, hangs, or can't be reached; what it did of the last call, nobody
    knows."""


class NoDriver(LibvirtUnavailable):
    """libvirt is there, and has no driver for a URI."""


class NoDaemon(LibvirtUnavailable):
    """Nothing listens for a driver: a host that never had it is like that, too."""


class NotConnected(LibvirtUnavailable, RequestError):
    """libvirt does not answer, and nothing was asked of it before: nothing was touched."""


class FileUnusable(VirtkitError):
    """A hypervisor can't use a disk or an image that a guest needs: it is damaged, or gone."""


def daemon_cure(where: str = "") -> str:
    """The cure where the daemon of a host ended or hangs."""
    return f"check that libvirt's daemon runs: {restart_command('qemu', where)}; then {RUN_AGAIN}"


def restart_command(part: str, where: str = "") -> str:
    """The command that starts a host's daemon again.

    ``part`` as for `preparation.restart_command`.
    """
    if where not in ("", "local"):
        return f"on host {where}: sudo systemctl restart libvirtd"
    from virtkit.host.machine import preparation  # for an error only

    return preparation.restart_command(part)


def cure(operation: str, code: int, message: str = "", where: str = "") -> str:
    """What to do where libvirt answered ``operation`` with error ``code`` and ``message``."""
    if operation == "open":
        from virtkit.host import daemon_access

        return daemon_access.cure() if daemon_access.denied(code, message) else daemon_cure()
    opens_files = operation in _FILE_OPERATIONS
    phrase = _known_phrase(message, opens_files)
    if phrase == _DENIED and opens_files:
        return unreadable_cure(message)
    table = {**_CURES_BY_PHRASE, **_BUSY, **_UNUSABLE}
    text = table[phrase] if phrase else _CURES_BY_CODE.get((operation, code), _GENERAL)
    text = text.replace(_HOST, "the host" if where in ("", "local") else f"host {where}")
    return text.replace(_RESTART, restart_command("network", where)) if _RESTART in text else text


def _known_phrase(message: str, opens_files: bool) -> str:
    """The phrase in libvirt's ``message`` that the tables know; empty where they know none."""
    phrases = (*_CURES_BY_PHRASE, *_BUSY, *_UNUSABLE) if opens_files else tuple(_CURES_BY_PHRASE)
    return next((phrase for phrase in phrases if phrase in message), "")


def _type(operation: str, message: str) -> type[VirtkitError]:
    """The type of the error where libvirt answered ``operation`` with ``message``."""
    if operation in _FILE_OPERATIONS and _known_phrase(message, True) in _UNUSABLE:
        return FileUnusable
    return VirtkitError


def unreadable_cure(message: str, apparmor: Path = _APPARMOR) -> str:
    """The cure where a hypervisor may not open a file: by its owner, or by AppArmor's profile."""
    advice = (
        "let the hypervisor's user (libvirt-qemu) reach and read what is named there: namei -l PATH"
    )
    active = apparmor.is_file() and apparmor.read_text().strip() == "Y"
    if active or "apparmor" in message.lower():
        advice += (
            ". Where that is so already, AppArmor denies it: sudo journalctl -k -g apparmor= tells "
            "what, and a line for it in /etc/apparmor.d/local/abstractions/libvirt-qemu (as "
            '"/data/vms/** rwk,") allows it'
        )
    return advice


def connection_lost(error: libvirt.libvirtError) -> bool:
    """Whether the connection is gone, and not only the call refused."""
    return error.get_error_domain() in (
        libvirt.VIR_FROM_RPC,
        libvirt.VIR_FROM_REMOTE,
    ) and error.get_error_code() in (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR)


@contextmanager
def skip_unreadable() -> Iterator[None]:
    """Passes over one of others' objects that can't be read: it has gone since it was listed, or
    libvirt can't say it, or what it says is nothing that we can read. It must never hide that
    libvirt itself stopped answering.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        if connection_lost(error):
            raise
    except LibvirtUnavailable:
        raise
    except (VirtkitError, ValueError):  # ValueError: a text that is none, an address that is none
        return


@contextmanager
def libvirt_errors(operation: str, what: str, *, where: str = "") -> Iterator[None]:
    """Turns libvirt's error in the block into a VirtkitError.

    Args:
        operation: one word (open, define, start, stop, create, upload, delete, read …).
        what: the object, as ``domain lab-web``.
        where: the host's name.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        message = error.get_error_message() or str(error)
        if connection_lost(error):
            raise LibvirtUnavailable(
                f"{operation} {what} failed",
                why=f"libvirt stopped answering: {message}",
                cure=daemon_cure(where),
                where=where,
            ) from error
        raise _type(operation, message)(
            f"{operation} {what} failed",
            why=message,
            cure=cure(operation, error.get_error_code() or 0, message, where),
            where=where,
        ) from error
