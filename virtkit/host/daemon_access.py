"""Who may ask libvirt's daemon, and what lets the caller in where it says no."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from pathlib import Path

import libvirt

#: Where the daemon listens, and the group that it lets in by default.
_SOCKET, _GROUP = Path("/run/libvirt/libvirt-sock"), "libvirt"
#: What libvirt answers where it, or polkit for it, doesn't let somebody in.
_DENIED = (
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
    libvirt.VIR_ERR_ACCESS_DENIED,
)


def denied(code: int, message: str) -> bool:
    """Whether libvirt is there, and the caller is not let in."""
    by_socket = code == libvirt.VIR_ERR_SYSTEM_ERROR and "Permission denied" in message
    return code in _DENIED or by_socket


def cure() -> str:
    """What lets the caller of this process in, on this machine."""
    uid = os.getuid()
    group = _group()
    try:
        user, primary_gid = pwd.getpwuid(uid).pw_name, pwd.getpwuid(uid).pw_gid
        gid = grp.getgrnam(group).gr_gid
        listed = gid in os.getgrouplist(user, primary_gid)
    except KeyError:  # no such user, or no such group
        return cure_for(str(uid), group, session=False, listed=False)
    session = gid in {os.getegid(), *os.getgroups()}
    return cure_for(user, group, session=session, listed=listed)


def cure_for(
    user: str, group: str, *, session: bool, listed: bool, passwd: Path = Path("/etc/passwd")
) -> str:
    """What a user has to do to be let in by libvirt's daemon.

    Args:
        session: whether their session is in the group already.
        listed: whether the user database says that they are in it.
        passwd: the file with this machine's own users.
    """
    at_once = f"at once, here: sg {group} -c 'virtkit …'"
    if session:
        return (
            f"your session is in the group {group}, so it is not the group that is missing: see "
            "what /etc/libvirt/libvirtd.conf says about auth_unix_rw and unix_sock_group, and that "
            "polkit runs (systemctl status polkit)"
        )
    if listed:
        return f"log in again: this session began before you were in the group {group}; {at_once}"
    name = shlex.quote(user)
    # usermod knows none but the users of /etc/passwd; those of LDAP may be in a group here, too
    command = (
        f"usermod -aG {group} {name}" if _is_in(user, passwd) else f"gpasswd -a {name} {group}"
    )
    return f"sudo {command}, then log in again; {at_once}"


def awaits_login() -> bool:
    """Whether the caller will be in libvirt's group with the next login, and is not yet."""
    try:
        user, gid = pwd.getpwuid(os.getuid()), grp.getgrnam(_group()).gr_gid
    except KeyError:
        return False
    listed = gid in os.getgrouplist(user.pw_name, user.pw_gid)
    return os.getuid() != 0 and listed and gid not in {os.getegid(), *os.getgroups()}


def _is_in(user: str, passwd: Path) -> bool:
    try:
        lines = passwd.read_bytes().splitlines()
    except OSError:
        return True
    return any(each.startswith(f"{user}:".encode()) for each in lines)


def _group() -> str:
    """The group that may write to the daemon's socket; libvirt's own where polkit decides."""
    try:
        status = _SOCKET.stat()
        closed = not status.st_mode & stat.S_IWOTH and status.st_mode & stat.S_IWGRP
        return grp.getgrgid(status.st_gid).gr_name if closed and status.st_gid else _GROUP
    except (OSError, KeyError):
        return _GROUP
