"""What a person at the keyboard of an emulated host types, and what comes of it."""

from __future__ import annotations

import json
import shlex
from typing import Any

from realhost.realhost import RealHost

#: The README's example, but that its guests have all the time that an emulated host takes.
SPEC = "~/mine.yaml"


def make_spec(host: RealHost, user: str = "alice") -> None:
    line = "s|^guests:|defaults: {ready: {timeout: 1h}}\\nguests:|"
    host.ssh(f"sed '{line}' virtkit/examples/hello.yaml >{SPEC}", user)


def told(host: RealHost, command: str, user: str = "alice", code: int = 0) -> str:
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
