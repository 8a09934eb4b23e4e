"""A laboratory whose guests are on the emulated Xen host, which is asked what stands there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from integration.lab import POOL, Lab
from xenhost.xenhost import XenHost

from virtkit.host import Remote


@dataclass
class XenLab(Lab):
    """``xen``: its host, empty of all but the image."""

    xen: XenHost = None  # type: ignore[assignment]  # it has no default, but others before it do

    def there(self, command: str) -> str:
        """What a shell command prints on the host, over the connection that virtkit keeps."""
        way = remote(self.xen)
        way.connect()
        return way.run(command).decode(errors="replace")

    def virsh(self, *words: str, scheme: str = "xen") -> str:
        return self.there(shlex.join(["virsh", "-q", "-c", f"{scheme}:///system", *words])).strip()

    def domains(self) -> set[str]:
        return set(self.virsh("list", "--all", "--name").split())

    def printed(self, guest: str) -> list[str]:
        log = f"/var/log/xen/console/guest-{self.name}-{guest}.log"
        return self.there(f"cat {log} 2>/dev/null || true").splitlines()

    def mode(self, volume: str) -> int:
        return int(self.there(f"stat -c %a {POOL}/{self.name}-{volume}"), 8)

    def read(self, volume: str, path: str) -> str:
        return self.there(f"debugfs -R 'cat /{path}' {POOL}/{self.name}-{volume}").strip()

    def volumes(self) -> set[str]:
        prefix = f"{self.name}-"
        names = self.there(f"ls {POOL}").split()
        return {each.removeprefix(prefix) for each in names if each.startswith(prefix)}

    def left(self) -> list[str]:
        """All that is there in the environment's name; Xen keeps the consoles' logs."""
        prefix = f"{self.name}-"
        found = [f"domain {each}" for each in self.domains() if each.startswith(prefix)]
        nets = self.virsh("net-list", "--all", "--name").split()
        found += [f"network {each}" for each in nets if each.startswith(prefix)]
        found += [f"volume {prefix}{each}" for each in self.volumes()]
        loops = self.there("losetup --list --noheadings --output BACK-FILE").split()
        found += [f"loop device of {each}" for each in loops if f"/{prefix}" in each]
        folders = "/var/lib/libvirt /etc/libvirt /run/libvirt/libxl"
        files = self.there(f"find {folders} -name '{prefix}*' -type f").split()
        return sorted([*found, *(f"file {each}" for each in files)])


def remote(xen: XenHost) -> Remote:
    """The way there that virtkit takes, from that spec."""
    at = xen.folder
    return Remote("xen1", xen.address, xen.port, str(at / "id"), str(at / "known_hosts"))


@contextmanager
def xen_laboratory(folder: Path, name: str, spec: str, xen: XenHost) -> Iterator[XenLab]:
    """A Lab on the Xen host whose guests are gone in the end, whatever happened."""
    lab = XenLab(folder, name, xen=xen)
    lab.write(xen.spec + spec)
    try:
        yield lab
    finally:
        lab.virtkit("down", "--volumes", code=None)
