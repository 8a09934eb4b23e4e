"""A laboratory whose guests are on the emulated Xen host, which is asked what stands there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from integration.lab import POOL
from integration.remote import RemoteLab
from xenhost.xenhost import XenHost

from virtkit.host import Remote


@dataclass
class XenLab(RemoteLab):
    """``xen``: its host, empty of all but the image. Xen keeps the consoles' logs."""

    schemes: tuple[str, ...] = ("xen",)
    folders: tuple[str, ...] = ("/var/lib/libvirt", "/etc/libvirt", "/run/libvirt/libxl")
    xen: XenHost = None  # type: ignore[assignment]  # it has no default, but others before it do

    def run_on_host(self, command: str) -> str:
        """By the connection that virtkit keeps."""
        way = remote(self.xen)
        way.connect()
        return way.run(command).decode(errors="replace")

    def printed(self, guest: str) -> list[str]:
        log = f"/var/log/xen/console/guest-{self.name}-{guest}.log"
        return self.run_on_host(f"cat {log} 2>/dev/null || true").splitlines()

    def read(self, volume: str, path: str) -> str:
        """Its volumes are raw."""
        return self.run_on_host(f"debugfs -R 'cat /{path}' {POOL}/{self.name}-{volume}").strip()


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
