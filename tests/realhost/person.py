"""What a person at the keyboard of an emulated host types, and what comes of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from realhost.realhost import RealHost

HOST_YML = Path(__file__).parents[2] / "playbooks/host.yml"

#: The README's example, but that its guests have all the time that an emulated host takes.
SPEC = "~/mine.yaml"


def make_spec(host: RealHost, user: str = "alice") -> None:
    line = "s|^guests:|defaults: {ready: {timeout: 1h}}\\nguests:|"
    host.ssh(f"sed '{line}' virtkit/examples/hello.yaml >{SPEC}", user)


def output_of(host: RealHost, command: str, user: str = "alice", code: int = 0) -> str:
    """What a login shell's command says, on both streams; it must exit with ``code``."""
    done = host.run(f"bash -lc {shlex.quote(command)} 2>&1", user)
    text = done.stdout.decode(errors="replace")
    print(f"{user}$ {command}\n{text}")
    assert done.returncode == code, text
    return text


def data(host: RealHost, words: str, user: str = "alice") -> Any:
    """The JSON that virtkit answers."""
    done = host.run(f"bash -lc 'virtkit {words} --json'", user)
    return json.loads(done.stdout)


def kinds(host: RealHost) -> dict[str, tuple[str, bool]]:
    guests = data(host, f"status {SPEC}")["guests"]
    return {each["name"]: (each["type"], each["ready"]) for each in guests}


def left(host: RealHost, name: str) -> list[str]:
    """All that is there in an environment's name: nothing after `down`."""
    found = [
        each
        for scheme in ("qemu", "lxc")
        for each in host.ssh(f"virsh -q -c {scheme}:///system list --all --name").split()
    ]
    found += host.ssh("virsh -q -c qemu:///system net-list --all --name").split()
    found += host.ssh("ls /var/lib/libvirt/images").split()
    return [each for each in found if each.startswith(f"{name}-")]


def playbook(host: RealHost, *words: str) -> dict[str, int]:
    """How host.yml ended on the host, as its user alice by ssh: tasks by outcome."""
    inventory = host.folder / "inventory.ini"
    options = f"-F /dev/null -o UserKnownHostsFile={host.folder}/known_hosts"
    inventory.write_text(
        f"realhost ansible_host=127.0.0.1 ansible_port={host.port} ansible_user=alice "
        f"ansible_python_interpreter=/usr/bin/python3 ansible_ssh_common_args='{options}' "
        f"ansible_ssh_private_key_file={host.folder}/id\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", inventory, HOST_YML, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ANSIBLE_PIPELINING": "1", "ANSIBLE_NOCOLOR": "1"},
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    recap = done.stdout.rpartition("realhost ")[2]
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", recap)}


def missing(host: RealHost, user: str = "alice") -> list[str]:
    """What the host's own virtkit sees as missing."""
    said = host.ssh("/usr/bin/python3 -I virtkit/virtkit/host/machine/preparation.py missing", user)
    return [line.split("\t")[0] for line in said.splitlines()]
