"""A plain Debian host that is driven from here, over ssh, as its ordinary user: made ready by
`virtkit host prepare`, and by nothing else (prepared.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.remote import RemoteLab
from realhost import prepared


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

    def run_on_host(self, command: str) -> str:
        return self.host.shell(command)


@contextmanager
def prepared_host(folder: Path) -> Iterator[OutsideHost]:
    """A fresh one, from the snapshot."""
    host = prepared.start(folder)
    try:
        yield OutsideHost(prepared.NAME, prepared.entry(host), host.ssh)
    finally:
        host.stop()


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
