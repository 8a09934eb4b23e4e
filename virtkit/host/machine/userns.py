"""Whether a machine can give containers their own ids, and what fixes it where not.

Reads files only: cheap enough for every plan. All that a prepared host has is in `preparation`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from virtkit.host.machine import preparation

#: With it overlays lie on file systems whose ids are mapped.
KERNEL = (5, 19)


#: Older interfaces of the hook that do for all but folders of the host.
_ENOUGH = ("2",)


def no_userns(root: Path = Path("/")) -> tuple[str, str] | None:
    """Why containers can't have a user namespace here; None where they can.

    The second word tells what fixes it: ``kernel``, ``prepare``, or ``restart`` (libvirt's daemon).
    """
    release = os.uname().release
    version = tuple(int(each) for each in re.findall(r"\d+", release)[:2])
    if version < KERNEL:
        return f"the kernel {release} can't map the ids of file systems", "kernel"
    if any(_gone(each) for each in preparation.hook_paths(root)):
        return "libvirt's hook for virtkit is not installed", "prepare"
    understood = (*_ENOUGH, preparation.shipped_interface())
    if preparation.loaded_interface(root) not in understood:
        if not preparation.hook_outdated(root):
            return "libvirtd was not restarted since its hook was installed", "restart"
        return "libvirt's hook was installed by another version of virtkit", "prepare"
    return None


def _gone(path: Path) -> bool:
    """False, too, where only root may look into libvirt's folder."""
    try:
        path.stat()
    except PermissionError:
        return False
    except OSError:
        return True
    return False


def subordinate_ids() -> Iterator[range]:
    """The ids that users of this machine have for namespaces of their own."""
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        for line in path.read_text().splitlines() if path.is_file() else ():
            _, first, count = [*line.split(":"), "", ""][:3]
            if first.isdigit() and count.isdigit():
                yield range(int(first), int(first) + int(count))
