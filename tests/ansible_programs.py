"""Ansible's programs as users run them, and virtkit's collection and playbooks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).parents[1]
PLAYBOOKS = REPO / "playbooks"
COLLECTIONS = PLAYBOOKS / "collections"
COLLECTION = COLLECTIONS / "ansible_collections/virtkit/core"
PROGRAMS = Path(sys.executable).parent

#: A play for this machine, with the Python that has virtkit beside it; tasks follow.
LOCAL_PLAY = """
- hosts: localhost
  gather_facts: false
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  tasks:
"""


def ansible(
    program: str, *words: str | Path, folder: Path, code: int | None = 0, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Runs one of Ansible's programs in a folder; it must exit with ``code`` (None: any)."""
    done = subprocess.run(
        [PROGRAMS / program, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=os.environ
        | {
            "ANSIBLE_HOME": str(folder / "ansible"),
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
            "ANSIBLE_TIMEOUT": "60",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        }
        | settings,
    )
    assert code is None or done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


def recap(done: subprocess.CompletedProcess[str], host: str = "localhost") -> dict[str, int]:
    """What the last lines of a playbook's run count for a host."""
    (line,) = (each for each in done.stdout.splitlines() if each.startswith(f"{host} "))
    pairs = (each.split("=") for each in line.partition(":")[2].split())
    return {name: int(count) for name, count in pairs}
