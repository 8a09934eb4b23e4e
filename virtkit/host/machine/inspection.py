"""Looks at the machine that it runs on, and answers questions about it.

Questions are words, as ``boot`` or ``missing_files=/usr/bin/linux.uml``. As a program it prints the
answers as JSON. It must never change anything, and never needs root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from virtkit.host.machine import dnsmasq, mounted, preparation, shared, uml, userns

#: Where programs are that users' own PATH has not.
_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
#: A line for each question to ``ip``, then the machine's id, then a file of many lines.
_NETWORK = f"""PATH=$PATH:{_PATH}
for what in "route show table all" rule "-6 rule" "-d link"; do
printf '%s\\n' "$(ip -j $what 2>/dev/null)"; done
printf '%s\\n' "$(cat /etc/machine-id 2>/dev/null)"
cat /proc/net/route 2>/dev/null || :"""


def answer(questions: Iterable[str]) -> dict[str, Any]:
    """The answers by the questions' first words, of types that JSON has."""
    answers = {}
    for question in questions:
        name, _, arguments = question.partition("=")
        answers[name] = _QUESTIONS[name](*filter(None, arguments.split(",")))
    return answers


def boot() -> str:
    """Names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def counting(count: str) -> float:
    """Seconds of processor time in which Python counts so far here."""
    part = 100
    began = time.thread_time()
    for _ in range(int(count) // part):
        pass
    return (time.thread_time() - began) * part


def freezer() -> bool:
    """Whether there is the freezer of cgroup v1, with which libvirt pauses containers."""
    return Path("/sys/fs/cgroup/freezer").is_dir()


def ids() -> list[list[int]]:
    """First ids, and how many, that users have for namespaces of their own."""
    return [[each.start, len(each)] for each in userns.subordinate_ids()]


def load() -> float:
    """How many processes wanted a processor over the last minute, on average."""
    return os.getloadavg()[0]


def missing_files(*paths: str) -> list[str]:
    """The files of these that are not there."""
    return [each for each in paths if not Path(each).is_file()]


def kinds(*paths: str) -> dict[str, str]:
    """What paths are: ``file``, ``block``, ``other``, or empty where nothing is there."""
    return {each: _kind(Path(each)) for each in paths}


def real_paths(*quoted: str) -> dict[str, str]:
    """Paths without links, as far as the caller may look.

    Args:
        quoted: paths as in a URL, so that one may have a comma.
    """
    return {path: os.path.realpath(path) for path in map(unquote, quoted)}


def _kind(path: Path) -> str:
    try:
        if not path.exists():
            return ""
        return "block" if path.is_block_device() else "file" if path.is_file() else "other"
    except OSError:  # nobody but root may look
        return "unknown"


def network() -> str:
    """What `virtkit.host.routes` reads: routes, rules and links."""
    done = subprocess.run(["sh", "-c", _NETWORK], capture_output=True, check=False)
    return done.stdout.decode("utf-8", "replace")


def missing_programs(*names: str) -> list[str]:
    """The programs of these that are missing."""
    path = f"{os.environ.get('PATH', '')}:{_PATH}"
    return [each for each in names if shutil.which(each, path=path) is None]


def restart_commands() -> dict[str, str]:
    """The command that starts each of libvirt's daemons again."""
    return {each: preparation.restart_command(each) for each in preparation.PARTS}


def missing_settings() -> list[dict[str, str]]:
    """What a prepared host has and this one lacks, with ``name``, ``why``, and ``advice`` where
    the playbook leaves it to an administrator."""
    return [vars(each) for each in preparation.missing_settings()]


def sockets() -> str:
    """The machine's Unix sockets (proc(5))."""
    return Path("/proc/net/unix").read_text()


def no_userns() -> list[str] | None:
    """Why containers can't have their own ids here, and what fixes that (`userns.no_userns`)."""
    reason = userns.no_userns()
    return None if reason is None else list(reason)


def xen(root: Path = Path("/")) -> bool:
    """Whether the kernel runs on Xen: libvirt logs a warning for each vain question."""
    hypervisor = root / "sys/hypervisor/type"
    on_xen = hypervisor.is_file() and hypervisor.read_text().strip() == "xen"
    return on_xen or (root / "proc/xen").is_dir()


_QUESTIONS: dict[str, Callable[..., Any]] = {
    "boot": boot,
    "counting": counting,
    "devices": shared.devices,
    "folders": shared.folders,
    "freezer": freezer,
    "hook_interface": preparation.loaded_interface,
    "hook_outdated": preparation.hook_outdated,
    "ids": ids,
    "kinds": kinds,
    "iommu": shared.iommu,
    "load": load,
    "missing_files": missing_files,
    "missing_programs": missing_programs,
    "missing_settings": missing_settings,
    "mounted": mounted.mounted,
    "network": network,
    "no_userns": no_userns,
    "real_paths": real_paths,
    "restart_commands": restart_commands,
    "sockets": sockets,
    "unfit": uml.unfit,
    "virtiofsd": shared.virtiofsd,
    "without_dnsmasq": dnsmasq.without_dnsmasq,
    "xen": xen,
}


def main(*questions: str) -> None:
    """The program."""
    json.dump(answer(questions), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
