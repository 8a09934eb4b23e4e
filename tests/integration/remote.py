"""A laboratory whose guests are on another host, which is asked over ssh what stands there."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass

from integration.lab import POOL, Lab, until

from virtkit.api._hosts import hosts_of
from virtkit.host import Host
from virtkit.spec import load


@dataclass
class RemoteLab(Lab, ABC):
    """A Lab of that kind.

    Attributes:
        schemes: the host's drivers of libvirt's, by the scheme of their URI.
        folders: where nothing of an environment is left after it.
    """

    schemes: tuple[str, ...] = ("qemu", "lxc")
    folders: tuple[str, ...] = ("/var/lib/libvirt", "/etc/libvirt")

    @abstractmethod
    def run_on_host(self, command: str) -> str:
        """What a shell command prints on the guests' host, as its root."""

    def guests_host(self) -> Host:
        (host,) = hosts_of(load(self.spec))
        return host

    def virsh(self, *words: str, scheme: str = "") -> str:
        uri = f"{scheme or self.schemes[0]}:///system"
        return self.run_on_host(shlex.join(["virsh", "-q", "-c", uri, *words])).strip()

    def domains(self) -> set[str]:
        lists = (self.virsh("list", "--all", "--name", scheme=each) for each in self.schemes)
        return {name for each in lists for name in each.split()}

    def printed(self, guest: str) -> list[str]:
        log = POOL / f"{self.name}-{guest}-console"
        return self.run_on_host(f"cat {log} 2>/dev/null || true").splitlines()

    def mode(self, volume: str) -> int:
        return int(self.run_on_host(f"stat -c %a {POOL}/{self.name}-{volume}"), 8)

    def read(self, volume: str, path: str) -> str:
        """As `Lab.read`; a volume in qcow2 is made a raw one for the look."""
        script = (
            f"raw=$(mktemp); qemu-img convert -O raw {POOL}/{self.name}-{volume} $raw; "
            f"debugfs -R 'cat /{path}' $raw; rm $raw"
        )
        return self.run_on_host(script).strip()

    def volumes(self) -> set[str]:
        prefix = f"{self.name}-"
        names = self.run_on_host(f"ls {POOL} 2>/dev/null || true").split()
        return {each.removeprefix(prefix) for each in names if each.startswith(prefix)}

    def left(self) -> list[str]:
        """All that is there in the environment's name."""
        prefix = f"{self.name}-"
        found = [f"domain {each}" for each in self.domains() if each.startswith(prefix)]
        nets = self.virsh("net-list", "--all", "--name").split()
        found += [f"network {each}" for each in nets if each.startswith(prefix)]
        found += [f"volume {prefix}{each}" for each in self.volumes()]
        # the kernel lets go of a loop device some time after the last mount has gone
        until(lambda: not self._loops(prefix), 30)
        found += [f"loop device of {each}" for each in self._loops(prefix)]
        files = self.run_on_host(f"find {' '.join(self.folders)} -name '{prefix}*' -type f").split()
        return sorted([*found, *(f"file {each}" for each in files)])

    def _loops(self, prefix: str) -> list[str]:
        loops = self.run_on_host("losetup --list --noheadings --output BACK-FILE").split()
        return [each for each in loops if f"/{prefix}" in each]
