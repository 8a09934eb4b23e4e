"""The tests' emulated Debian host as `virtkit host prepare` leaves it, and with the image of the
tests' guests in its pool.

Made once of the host's own snapshot (realhost.py), over ssh as its ordinary user, and kept as a
snapshot, too: a test that needs such a host has it in seconds.

usage: python -m realhost.prepared     (in tests/): builds it, and prints where it is
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
from machine import Tell
from realhost import realhost
from realhost.disk import REPO
from realhost.realhost import RealHost

from virtkit import images
from virtkit.api._hosts import close, hosts_of
from virtkit.progress import Progress
from virtkit.spec import load

#: Its name in specs, and who logs in: in the groups sudo and, since it is prepared, libvirt.
NAME, USER = "rack", "alice"
#: What `host prepare` runs and leaves there, and what fills a pool.
SOURCES = (
    *("playbooks/host.yml", "playbooks/roles", "virtkit/ansible", "virtkit/api/host.py"),
    *("virtkit/host/80-virtkit.link", "virtkit/host/programs/lxc_hook.py"),
    *("virtkit/images/pool.py", "virtkit/host/storage.py", "virtkit/host/storage_pool.py"),
    *("templates/pool.xml.j2", "templates/volume.xml.j2"),
)
#: What its machine takes of the host's snapshot, beside its disk.
PARTS = ("base.raw", "vmlinuz", "initrd", "id.pub", "hostkey.pub")


def start(folder: Path) -> RealHost:
    """A fresh host in ``folder``, from the snapshot; that is built where there is none."""
    started = machine.from_snapshot(built(), folder, realhost.arguments)
    return RealHost(started.folder, started.port)


def entry(host: RealHost) -> dict[str, Any]:
    """What a spec's ``hosts:`` says of it."""
    files = {"key": f"{host.folder}/id", "known_hosts": f"{host.folder}/known_hosts"}
    return {"address": f"{USER}@127.0.0.1", "ssh": {"port": host.port, **files}}


# --- building -------------------------------------------------------------------------------


def built(*, say: bool = False) -> Path:
    """The folder with its snapshot; made where there is none for what it is made of."""
    base = realhost.built(say=say)
    key = machine.key_of(Path(__file__), *_sources(), words=(base.name,))
    return machine.kept(
        f"{base.parent.name}-prepared", key, lambda into, tell: _build(into, base, tell), say=say
    )


def _sources() -> Iterator[Path]:
    for name in SOURCES:
        path = REPO / name
        every = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (each for each in every if each.is_file() and each.suffix != ".pyc")


def _build(into: Path, base: Path, tell: Tell) -> None:
    tell("starting the host")
    started = machine.from_snapshot(base, into, realhost.arguments)
    host = RealHost(started.folder, started.port)
    try:
        for each in PARTS:
            (into / each).hardlink_to(base / each)
        spec = into / "hosts.yaml"
        spec.write_text(json.dumps({"name": "prepare", "hosts": {NAME: entry(host)}}))
        tell("virtkit host prepare")
        _prepare(spec)
        tell("putting the image of the tests' guests into its pool")
        _fill(spec)
        tell("saving the machine")
        host.save()
    except BaseException:
        host.stop()
        raise


def _prepare(spec: Path) -> None:
    line = [sys.executable, "-m", "virtkit", "host", "prepare", spec, NAME]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)


def _fill(spec: Path) -> None:
    """Uploads the image, as the first guest of it does; and has libvirt ask QEMU what it can do."""
    (host,) = hosts_of(load(spec))
    host.connections.get("qemu").getDomainCapabilities(None, None, None, "kvm")
    host.storage.ensure()
    ref, local = machine.tests_image()
    images.upload(host, ref, local, Progress())
    close()
    assert host.remote is not None
    host.remote.disconnect()


if __name__ == "__main__":
    print(built(say=True))
