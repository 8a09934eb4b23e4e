"""A plain Debian host that is driven from here, over ssh, as its ordinary user: made ready by
`virtkit host prepare`, and by nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.remote import RemoteLab
from realhost import realhost
from realhost.realhost import RealHost

#: Who logs in: in the groups sudo and, once it is prepared, libvirt.
USER = "alice"


@dataclass(frozen=True)
class OutsideHost:
    """Where such a host is.

    Attributes:
        name: its name in specs.
        entry: what a spec's ``hosts:`` says of it.
        shell: what a shell command prints on it, as root.
    """

    name: str
    entry: Mapping[str, Any]
    shell: Callable[[str], str]


@dataclass
class OutsideLab(RemoteLab):
    """A Lab on that host."""

    timeout: float = 3600.0
    host: OutsideHost = None  # type: ignore[assignment]  # it has no default, but others before it do

    def there(self, command: str) -> str:
        return self.host.shell(command)


@contextmanager
def prepared_host(folder: Path) -> Iterator[OutsideHost]:
    """The tests' emulated host, which virtkit has made ready."""
    host = realhost.start(folder)
    try:
        there = OutsideHost("rack", _entry(host), host.ssh)
        spec = folder / "hosts.yaml"
        spec.write_text(json.dumps({"name": "prepare", "hosts": {there.name: there.entry}}))
        virtkit = Path(sys.executable).with_name("virtkit")
        line = [virtkit, "host", "prepare", "--json", spec, there.name]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        yield there
    finally:
        host.stop()


def _entry(host: RealHost) -> dict[str, Any]:
    """The host in a spec."""
    files = {"key": f"{host.folder}/id", "known_hosts": f"{host.folder}/known_hosts"}
    return {"address": f"{USER}@127.0.0.1", "ssh": {"port": host.port, **files}}


@contextmanager
def outside_laboratory(
    folder: Path, name: str, spec: str, host: OutsideHost
) -> Iterator[OutsideLab]:
    """A Lab there whose guests are gone in the end, whatever happened."""
    lab = OutsideLab(folder, name, host=host)
    patient = spec.replace("defaults: {", "defaults: {ready: {timeout: 1h}, ")
    lab.write(f"hosts: {json.dumps({host.name: host.entry})}\n{patient}")
    try:
        yield lab
    finally:
        lab.virtkit("down", "--volumes", "--yes", code=None)
