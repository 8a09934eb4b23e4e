"""Which cipher a connection takes: the fastest, where ssh's own settings leave that to ssh.

Until OpenSSH 10 its first choice is ChaCha20, for which it takes twice the processor time that
AES-GCM takes with a processor's own instructions for AES; large images notice.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from virtkit.system import commands

_FAST = "aes128-gcm@openssh.com"


def options(ssh: Sequence[str], address: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """ssh's options that put AES-GCM first; none where its settings name ciphers, where it does so
    itself, or where the processor has no instructions for it.

    Args:
        ssh: the command line of ssh with a host's options.
    """
    if "aes" not in _flags(cpuinfo):
        return []
    ours, default = _ciphers(*ssh, "-G", address), _ciphers("ssh", "-F", "none", "-G", address)
    if ours != default or _FAST not in ours or ours[0].endswith("-gcm@openssh.com"):
        return []
    return [f"-oCiphers=^{_FAST}"]


def _flags(cpuinfo: Path) -> set[str]:
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return {
        flag
        for line in lines
        if line.startswith(("flags", "Features"))
        for flag in line.partition(":")[2].split()
    }


def _ciphers(*line: str) -> list[str]:
    """The ciphers that ssh would offer, the first choice first."""
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, env=commands.environment()
    )
    for each in done.stdout.splitlines():
        if each.startswith("ciphers "):
            return each.partition(" ")[2].split(",")
    return []
