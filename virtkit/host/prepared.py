"""Whether this machine can give containers ids of their own, and what mends it where not.

Reads files only: cheap enough for every plan. Whoever starts libvirtd prepares it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from virtkit.facts import Unprepared
from virtkit.host import hook

#: Our hook as it is shipped, and where libvirt runs it. `daemon.d` is for telling `hook.READY`.
SHIPPED = Path(hook.__file__)
INSTALLED = tuple(Path("/etc/libvirt/hooks", each, "virtkit") for each in ("lxc.d", "daemon.d"))
#: With it overlays lie on file systems whose ids are mapped.
KERNEL = (5, 19)

#: What systemd and its daemons in a container take of inotify instances, and how many a host should
#: allow (inotify(7)). Seen: the kernel counts those of all containers as root's.
INOTIFY_EACH, INOTIFY_ENOUGH = 12, 512

_RESTART = "systemctl restart libvirtd"


def unprepared() -> Unprepared | None:
    """Why containers can't have a user namespace here; None where they can."""
    release = os.uname().release
    version = tuple(int(each) for each in re.findall(r"\d+", release)[:2])
    if version < KERNEL:
        return Unprepared(
            f"the kernel {release} can't map the ids of file systems",
            f"use a kernel from {'.'.join(map(str, KERNEL))} on",
        )
    if any(_gone(each) for each in INSTALLED):
        return Unprepared("libvirt's hook for virtkit is not installed", install_command())
    if ready() != str(hook.INTERFACE):
        if not outdated():
            return Unprepared("libvirtd was not restarted since its hook came", _RESTART)
        return Unprepared("libvirt's hook is another virtkit's", install_command())
    return None


def ready() -> str:
    """The hook that libvirtd knew when it started: its interface."""
    path = Path(hook.READY)
    return path.read_text().strip() if path.is_file() else ""


def outdated() -> bool:
    """Whether the installed hook is not the one that this virtkit ships."""
    own = SHIPPED.read_bytes()
    try:
        return any(_gone(each) or each.read_bytes() != own for each in INSTALLED)
    except PermissionError:
        return False


def _gone(path: Path) -> bool:
    """False, too, where only root may look into libvirt's folder."""
    try:
        path.stat()
    except PermissionError:
        return False
    except OSError:
        return True
    return False


def install_command() -> str:
    """What prepares this machine, for root's shell."""
    installs = (f"install -D -m 755 {SHIPPED} {each}" for each in INSTALLED)
    return " && ".join([*installs, _RESTART])


def inotify_instances() -> int:
    """How many inotify instances a user of this machine may have."""
    return int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())


def subordinate_ids() -> Iterable[range]:
    """The ids that users of this machine have for namespaces of their own."""
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        for line in path.read_text().splitlines() if path.is_file() else ():
            _, first, count = [*line.split(":"), "", ""][:3]
            if first.isdigit() and count.isdigit():
                yield range(int(first), int(first) + int(count))
