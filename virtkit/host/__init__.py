"""One host's libvirt: read at the start of a run, written at its end.

The only room that imports libvirt. It must never decide what a guest should be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from virtkit.drivers import DRIVERS, Driver
from virtkit.facts import HostFacts
from virtkit.host import claims, inside, lock, probe, read
from virtkit.host.connection import Connections
from virtkit.host.domains import Domains
from virtkit.host.errors import told
from virtkit.host.inside import Lost, Ran, Unreachable
from virtkit.host.lock import Lock
from virtkit.host.networks import Networks
from virtkit.host.storage import Storage, rotations
from virtkit.observed import Observed

#: The URI schemes of all guest types.
SCHEMES = tuple(dict.fromkeys(driver.scheme for driver in DRIVERS.values()))


class Host:
    """A machine with libvirt.

    Args:
        name: its name in the spec.
        pool: the storage pool for its volumes.
        uris: libvirt URI by scheme, where it is not ``SCHEME:///system``.
    """

    def __init__(
        self, name: str = "local", pool: str = "default", uris: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.connections = Connections(name, uris)
        self.domains = Domains(self.connections)
        self.networks = Networks(self.connections)
        self.storage = Storage(self.connections, pool)
        #: Shared by who uses images of the pool, and had alone by who removes one.
        self.images_lock = Lock("images", "the image store")

    def lock(self, environment: str) -> Lock:
        """The lock of whoever changes an environment here."""
        return Lock(f"env-{environment}", f"environment {environment}")

    def facts(self, schemes: Iterable[str] = SCHEMES) -> HostFacts:
        """What is known of this host; ``kvm`` is not probed yet.

        Raises:
            VirtkitError: no libvirt answers here at all.
        """
        self.connections.any()
        return read.facts(self.connections, schemes, self.storage.describe())

    def with_kvm(self, facts: HostFacts, say: Callable[[str], None]) -> HostFacts:
        """The same facts with the verdict on KVM; ``say`` is told where it takes a probe guest."""
        connection = facts.connections.get("qemu")
        if connection is None or connection.error:
            return facts
        return replace(facts, kvm=probe.verdict(self.connections, facts.pool.path, say))

    def cpus(self) -> int:
        """Logical CPUs of the host."""
        with told("read", "the host", where=self.name):
            return int(self.connections.any().getInfo()[2])

    def no_pause(self, driver: Driver) -> str:
        """Why this host can't pause a driver's guests; empty where it can."""
        if driver.freezer and not Path("/sys/fs/cgroup/freezer").is_dir():
            return "libvirt pauses containers with the freezer of cgroup v1, and this host has v2"
        return ""

    def paths(self, schemes: Iterable[str] = SCHEMES) -> frozenset[str]:
        """All files that any domain names, strangers' too."""
        return claims.paths(self.connections, schemes)

    def observe(self, schemes: Iterable[str] = SCHEMES) -> Observed:
        """All that stands in this host's libvirt."""
        self.connections.any()
        guests, domains, users = read.guests(self.connections, schemes)
        networks, strangers = read.networks(self.connections, users)
        return Observed(
            host=self.name,
            guests=guests,
            networks=networks,
            domains=domains,
            strangers=strangers,
            volumes=self.storage.names(),
            active=self.storage.active(),
            sizes=self.storage.sizes(
                volume.name
                for guest in guests.values()
                for volume in guest.record.volumes
                if volume.state == "made" and volume.role in ("root", "disk")
            ),
            pool=self.storage.record(),
        )


__all__ = ["SCHEMES", "Host", "Lock", "Lost", "Ran", "Unreachable", "inside", "lock", "rotations"]
