"""Whether User-Mode Linux runs on this machine's processor.

Before Linux 6.13 it has room for the registers of AVX-512 and no more. Where the host's processor
has AMX, whose tiles take 8 KiB, its first process ends in "ptrace set fp regs failed, errno = 14".
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

#: The program, and the first version with room for all registers that a processor has.
PROGRAM = "/usr/bin/linux.uml"
_ROOM_SINCE = (6, 13)
_FLAG = "amx_tile"


def unfit(cpuinfo: Path = Path("/proc/cpuinfo"), program: str = PROGRAM) -> dict[str, str]:
    """The program and why it can't run here; nothing where it can, or isn't there."""
    if not Path(program).is_file() or not _has_tiles(cpuinfo):
        return {}
    version = _version(program)
    if version >= _ROOM_SINCE:
        return {}
    shown = ".".join(map(str, version)) or "this one"
    return {
        program: (
            f"User-Mode Linux {shown} does not run on processors with AMX ({_FLAG}), and "
            "this machine's processor has it"
        )
    }


def _has_tiles(cpuinfo: Path) -> bool:
    match = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.M)
    return match is not None and _FLAG in match[1].split()


def _version(program: str) -> tuple[int, ...]:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return tuple(int(each) for each in re.findall(r"\d+", done.stdout)[:2])
