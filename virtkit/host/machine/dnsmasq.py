"""Which of libvirt's networks give no addresses, though they are active."""

from __future__ import annotations

import os
from pathlib import Path


def without_dnsmasq(folder: Path = Path("/run/libvirt/network")) -> list[str]:
    """The active networks of this machine whose dnsmasq has ended: libvirt does not look after it.

    Goes by the files that libvirt leaves for all to read; where there are none, nothing is known.
    """
    names = []
    for path in sorted(folder.glob("*.pid")):
        try:
            active = path.with_suffix(".xml").exists()
            if active and not _is_dnsmasq(int(path.read_text())):
                names.append(path.stem)
        except (OSError, ValueError):  # it is not for us, or has just gone
            continue
    return names


def _is_dnsmasq(pid: int) -> bool:
    """Whether a process runs and has the name, or may have it: a /proc that is mounted with hidepid
    hides others' processes from users. One that has ended and that nobody waited for yet does not
    run."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")  # proc(5): the name, then its state
    return name == b"dnsmasq" and rest.split()[0] not in (b"Z", b"X")
