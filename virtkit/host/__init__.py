"""One host's libvirt: read at the start of a run, written at its end.

The only room that imports libvirt. It must never decide what a guest should be.
What only some verbs need of a host is imported where they ask for it.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from virtkit.drivers import Driver
from virtkit.errors import RequestError, VirtkitError
from virtkit.facts import HostFacts, Room, version_text
from virtkit.host import file_users, guest_exec, lock, observe
from virtkit.host.connection import PREPARE_LOCAL, Connections, close_all
from virtkit.host.definitions import domain_changed
from virtkit.host.domains import Domains
from virtkit.host.errors import FileUnusable, LibvirtUnavailable, libvirt_errors
from virtkit.host.guest_exec import MAX_AGENT_INPUT, CommandResult, OutcomeUnknown, Unreachable
from virtkit.host.lock import Lock, RemoteLock
from virtkit.host.networks import Networks
from virtkit.host.ssh import Remote, ssh_config_path
from virtkit.host.state_reason import StateReason
from virtkit.host.storage import Storage, rotations
from virtkit.host.storage_pool import pool_at
from virtkit.host.streams import data_length
from virtkit.host.timeouts import HypervisorUnresponsive
from virtkit.progress import Progress
from virtkit.state.observed import Observed

if TYPE_CHECKING:
    from virtkit.host.fetch import Fetch
    from virtkit.host.firewall import Bridge, Rules


class Host:
    """A machine with libvirt.

    Args:
        name: its name in the spec.
        pool: the storage pool for its volumes.
        uris: libvirt URI by scheme, where it is not the usual one.
        remote: how another machine is reached; None for this one.
        prepare_command: the command that makes it a prepared host.
    """

    def __init__(
        self,
        name: str = "local",
        pool: str = "default",
        uris: Mapping[str, str] | None = None,
        remote: Remote | None = None,
        prepare_command: str = PREPARE_LOCAL,
    ) -> None:
        self.name = name
        self.remote = remote
        self.connections = Connections(name, uris, remote, prepare_command)
        self.schemes = self.connections.schemes
        self.domains = Domains(self.connections)
        self.networks = Networks(self.connections)
        self.storage = Storage(self.connections, pool)
        #: Shared by whoever uses the pool; held alone by whoever removes an image from it, or has
        #: it active for a while.
        self.images_lock = self.connections.lock("images", "the image store")

    def lock(self, environment: str) -> Lock | RemoteLock:
        """The lock of whoever changes an environment here."""
        return self.connections.lock(f"env-{environment}", f"environment {environment}")

    @property
    def made_from(self) -> str:
        """The machine that a record names as its object's maker; empty where that is the host."""
        return socket.gethostname() if self.remote is not None else ""

    def facts(self) -> HostFacts:
        """What is known of this host; ``kvm`` is not probed yet.

        Raises:
            RequestError: the spec's pool is none that virtkit can use.
            VirtkitError: no libvirt answers here at all.
        """
        self.connections.any()
        return observe.facts(self.connections, self.schemes, self.storage.describe())

    def with_kvm(
        self, facts: HostFacts, say: Callable[[str], None], *, refresh: bool = False
    ) -> HostFacts:
        """The same facts with the verdict on KVM.

        Args:
            say: gets a line before a probe guest is started, and while it runs.
            refresh: start one, whatever is known.

        Raises:
            VirtkitError: the probe could not be run.
        """
        from virtkit.host import kvm_probe

        connection = facts.connections.get("qemu")
        if connection is None or connection.error:
            return facts
        kvm = kvm_probe.verdict(
            self.connections, facts.pool.path, self.images_lock, say, refresh=refresh
        )
        return replace(facts, kvm=kvm)

    def storage_at(self, folder: str) -> Storage:
        """The pool that keeps its volumes in this folder; the spec's own where it does.

        Raises:
            RequestError: no pool has it.
        """
        pool = self.storage.describe()
        if pool.exists and pool.path == folder:
            return self.storage
        name = pool_at(self.connections, folder)
        if name is not None:
            return Storage(self.connections, name)
        if not pool.exists:
            return self.storage  # it can be defined there
        raise RequestError(
            f"no pool has the folder {folder}",
            why=f"volumes of guests are listed there, and pool {pool.name} is {pool.path}",
            cure=f"{self.connections.virsh_command()} pool-define-as NAME dir --target "
            f"{shlex.quote(folder)}, then run again",
            where=self.name,
        )

    def pool_at(self, folder: str) -> str:
        """The name of the pool with this folder; empty where none has it."""
        return pool_at(self.connections, folder) or ""

    def folder_missing(self, path: str) -> bool:
        """Whether a folder is not there, as far as can be seen from here."""
        from virtkit.host.questions import folder_missing

        return folder_missing(self.remote, path)

    def has_driver(self, driver: Driver) -> bool:
        """Whether libvirt there has the driver of a guest type; it may be silent."""
        try:
            self.connections.get(driver.scheme)
        except VirtkitError as error:
            return self.connections.is_silent(driver.scheme, error)
        return True

    def room(self) -> Room:
        """Its memory and CPUs, and what is left of them.

        Raises:
            VirtkitError: libvirt does not answer.
        """
        from virtkit.host import room

        return room.room(self.connections, self.schemes)

    def libvirt_version(self) -> str:
        """libvirt's version on the host, as ``9.0.0``."""
        with libvirt_errors("read", "libvirt's version", where=self.name):
            return version_text(self.connections.any().getLibVersion())

    def cpus(self) -> int:
        """Logical CPUs of the host."""
        with libvirt_errors("read", "the host", where=self.name):
            return int(self.connections.any().getInfo()[2])

    def console_output(self, driver: Driver, domain: str, offset: int = 0) -> bytes:
        """What a guest's console has in its log, from ``offset`` on."""
        if driver.log == "xenconsoled":
            from virtkit.host import xen

            return xen.console_output(self.remote, domain, offset)
        return self.storage.read(f"{domain}-console", offset)

    def xen_checks(self) -> list[tuple[str, bool | None, str, str]]:
        """What a look at a Xen host finds: name, whether it is well, what it is, and the cure."""
        from virtkit.host import xen

        return list(xen.checks(self.remote))

    def no_pause_reason(self, driver: Driver) -> str:
        """Why this host can't pause a driver's guests; empty where it can."""
        if driver.pause_needs_freezer and not self.ask("freezer")["freezer"]:
            return "libvirt pauses containers with the freezer of cgroup v1, and this host has v2"
        return ""

    def files_in_use(self) -> frozenset[str]:
        """All files that any domain names, strangers' too."""
        return file_users.files_in_use(self.connections, self.schemes)

    def ask(self, *questions: str) -> dict[str, Any]:
        """What only the host's own files tell; see `virtkit.host.machine.inspection`.

        Raises:
            VirtkitError: ssh does not get there.
        """
        from virtkit.host.questions import ask

        return ask(self.remote, *questions)

    def fetching(self, url: str, progress: Progress) -> AbstractContextManager[Fetch]:
        """Another host, ready to download a file into its pool; see `virtkit.host.fetch`."""
        from virtkit.host import fetch

        assert self.remote is not None
        scheme = self.connections.any_scheme()
        return fetch.fetching(self.remote, url, scheme, self.storage.pool_name, progress)

    def no_address_reason(self, driver: Driver, domain: str) -> StateReason:
        """Why a running guest that does not answer has no address, as its interfaces tell."""
        from virtkit.host import bridge_ports

        live = self.domains.live(driver, domain)
        return bridge_ports.no_address_reason(self.connections, live) if live else StateReason()

    def beside_reason(self, driver: Driver, domain: str) -> StateReason:
        """Why no way leads from the host to a running guest, whatever addresses it has; empty where
        one may."""
        from virtkit.host import bridge_ports

        live = self.domains.live(driver, domain)
        return bridge_ports.beside_reason(self.connections, live) if live else StateReason()

    @contextmanager
    def forwarded(self, address: str, port: int) -> Iterator[tuple[str, int]]:
        """An address and port here that lead to these of the host's, until the context ends."""
        if self.remote is None:
            yield address, port
            return
        from virtkit.host import forward

        with forward.forwarded(self.remote, address, port) as here:
            yield here

    def firewall_rules(self) -> Rules | None:
        """The host's firewall; None where nobody may look."""
        from virtkit.host import firewall

        return firewall.rules(self.remote)

    def bridges(self) -> list[Bridge]:
        """The bridges of the active networks for which libvirt makes firewall rules."""
        from virtkit.host import bridge_ports

        return bridge_ports.bridges(self.connections)

    def start_network(self, environment: str, network: str) -> None:
        """Starts a network, and reattaches the guests that ran on without it.

        Raises:
            VirtkitError: it did not start, or a guest is not on it; then the others are.
        """
        from virtkit.host import reattach

        active = self.networks.active(network)
        cut_off = reattach.running_guests(self.connections, self.schemes, environment, network)
        self.networks.start(network)
        errors: list[VirtkitError] = []
        for each in [] if active else cut_off:
            try:
                reattach.attach(self.connections, each, network)
            except VirtkitError as error:
                errors.append(error)
        if errors:
            first = errors[0]
            cure = f"{first.cure}; restarting the guest puts it back on the network, too"
            raise first.as_type(type(first), cure=cure) from first

    def observe(self, *, pool: bool = True) -> Observed:
        """All that stands in this host's libvirt.

        Args:
            pool: read the pool, too; without it one that can't be read is no error.

        Raises:
            VirtkitError: libvirt, or its pool, can't be read.
        """
        self.connections.any()
        return observe.observed(self.connections, self.schemes, self.storage, pool=pool)


__all__ = [
    "MAX_AGENT_INPUT",
    "CommandResult",
    "FileUnusable",
    "Host",
    "HypervisorUnresponsive",
    "LibvirtUnavailable",
    "Lock",
    "OutcomeUnknown",
    "Remote",
    "StateReason",
    "Storage",
    "Unreachable",
    "close_all",
    "data_length",
    "domain_changed",
    "guest_exec",
    "lock",
    "rotations",
    "ssh_config_path",
]
