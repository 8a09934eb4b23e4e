"""What only Xen's own tools know of a host: guests' console logs, and what `doctor` looks at."""

from __future__ import annotations

from pathlib import Path

from virtkit.host.names import strict
from virtkit.host.remote import Remote

#: Where ``xenconsoled --log=guest`` writes; only root may look.
LOGS = Path("/var/log/xen/console")


def printed(remote: Remote | None, domain: str, offset: int) -> bytes:
    """What a guest printed, from ``offset`` on; nothing where it has no log."""
    path = LOGS / f"guest-{strict(domain)}.log"
    if remote is not None:
        return remote.run(f"tail -c +{offset + 1} {path} 2>/dev/null || true")
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    except OSError:
        return b""
