"""Whether this machine can give containers their own ids, and what fixes it where not.

Reads files only: cheap enough for every plan. All that a prepared host has is in
`virtkit.host.preparation`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from virtkit.facts import Unprepared
from virtkit.host import preparation

#: With it overlays lie on file systems whose ids are mapped.
KERNEL = (5, 19)


def unprepared(root: Path = Path("/")) -> Unprepared | None:
    """Why containers can't have a user namespace here; None where they can."""
    release = os.uname().release
    version = tuple(int(each) for each in re.findall(r"\d+", release)[:2])
    if version < KERNEL:
        return Unprepared(
            f"the kernel {release} can't map the ids of file systems",
            f"use kernel {'.'.join(map(str, KERNEL))} or later",
        )
    if any(_gone(each) for each in preparation.installed(root)):
        return Unprepared("libvirt's hook for virtkit is not installed", preparation.CURE)
    if preparation.ready(root) != preparation.interface():
        if not outdated(root):
            restart = preparation.as_root(preparation.restart_command(root))
            return Unprepared("libvirtd was not restarted since its hook was installed", restart)
        why = "libvirt's hook was installed by another version of virtkit"
        return Unprepared(why, preparation.CURE)
    return None


def outdated(root: Path = Path("/")) -> bool:
    """Whether the installed hook is not the one that this version ships."""
    return preparation.outdated(root)


def _gone(path: Path) -> bool:
    """False, too, where only root may look into libvirt's folder."""
    try:
        path.stat()
    except PermissionError:
        return False
    except OSError:
        return True
    return False


def subordinate_ids() -> Iterable[range]:
    """The ids that users of this machine have for namespaces of their own."""
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        for line in path.read_text().splitlines() if path.is_file() else ():
            _, first, count = [*line.split(":"), "", ""][:3]
            if first.isdigit() and count.isdigit():
                yield range(int(first), int(first) + int(count))
