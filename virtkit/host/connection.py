"""The connections to one host's libvirt: opened when needed, one per driver and thread.

A connection carries at most five calls at once (libvirtd's max_client_requests), so threads
share none.

libvirt itself waits for ever for a daemon that is stopped. So every connection has a keepalive,
which needs libvirt's event loop running in a thread; and opening, where no keepalive runs yet,
has an end of its own.
"""

from __future__ import annotations

import errno
import queue
import shlex
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

import libvirt

from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.host.errors import (
    LibvirtUnavailable,
    NoDaemon,
    NoDriver,
    NotConnected,
    connection_lost,
    cure,
    daemon_cure,
    restart_command,
)
from virtkit.host.lock import Lock, RemoteLock
from virtkit.host.ssh import Remote

libvirt.registerErrorHandler(lambda *_: None, None)  # else libvirt prints each error on stderr

#: Seconds between two keepalive messages, and how many may go unanswered: a connection to a daemon
#: that hangs is closed after KEEPALIVE * (MISSED + 1). A daemon that works answers them, but for
#: seconds while it ends a container; a slow emulated host's was silent for more than 30.
KEEPALIVE, MISSED = 5, 11
#: Seconds that a daemon has to take a connection; the first one may have to start it.
OPEN_TIMEOUT = 30.0


#: What makes this machine a prepared host.
PREPARE_LOCAL = "virtkit host prepare local"

#: Stands for all of a host's usual URIs.
_ALL = ""

_loop = threading.Lock()
_looping = False
#: All that this process opened and that nobody has closed.
_unclosed: weakref.WeakSet[libvirt.virConnect] = weakref.WeakSet()


class Connections:
    """Opens ``SCHEME:///system``, or the URI given outright for a scheme.

    Args:
        host: the host's name, for messages.
        uris: URI by scheme where it is not the usual one.
        remote: how another machine is reached; None for this one.
        prepare_command: the command that makes it a prepared host.
        read_only: libvirt itself refuses whatever would change something there.
    """

    def __init__(
        self,
        host: str,
        uris: Mapping[str, str] | None = None,
        remote: Remote | None = None,
        prepare_command: str = PREPARE_LOCAL,
        *,
        read_only: bool = False,
    ) -> None:
        self.host = host
        self.remote = remote
        self.prepare_command = prepare_command
        #: The commands that start its daemons again, by what each serves; another host tells them
        #: when it is looked at.
        self.restart_commands: Mapping[str, str] = {}
        #: The URI schemes of all guest types.
        self.schemes = tuple(dict.fromkeys(each.scheme for each in DRIVERS.values()))
        #: libvirtd's first two checks against a schema at once fail (libxml2 sets up its types)
        self.validating = threading.Lock()
        self._uris = dict(uris or {})
        self._read_only = read_only
        self._threads = threading.local()
        self._idle: dict[str, list[libvirt.virConnect]] = {}
        self._sharing = threading.Lock()
        self._opened_schemes: list[str] = []
        self._locks: list[RemoteLock] = []
        #: Errors by URI that are raised again instead of asking again, until `forget_refusals`: of
        #: a daemon that hangs, lets nobody in, or isn't there at all.
        self._refusals: dict[str, VirtkitError] = {}

    def uri(self, scheme: str) -> str:
        """The URI of a scheme; of a host that is reached by ssh, by our own ssh."""
        if self.remote is not None and scheme not in self._uris:
            return self.remote.uri(scheme)
        return self._uris.get(scheme, f"{scheme}:///system")

    def display_uri(self, scheme: str) -> str:
        """The URI that people know."""
        if self.remote is not None and scheme not in self._uris:
            return self.remote.display_uri(scheme)
        return self.uri(scheme)

    def virsh_command(self, scheme: str = "") -> str:
        """How a cure calls virsh: alone it asks qemu:///session where its user isn't root."""
        return f"virsh -c {shlex.quote(self.display_uri(scheme or self.schemes[0]))}"

    def restart_command(self, part: str = "qemu") -> str:
        """The command that starts the host's daemon again."""
        if self.remote is None:
            return restart_command(part)
        if part in self.restart_commands:
            return f"on host {self.host}: {self.restart_commands[part]}"
        return restart_command(part, self.host)

    def lock(self, name: str, what: str) -> Lock | RemoteLock:
        """A lock of the host, for all who change something there."""
        if self.remote is None:
            return Lock(name, what)
        self._locks.append(RemoteLock(self.remote, name, what))
        return self._locks[-1]

    def get(self, scheme: str) -> libvirt.virConnect:
        """This thread's connection; another one where libvirt has ended it.

        Raises:
            NotConnected: libvirt does not answer there, and nothing was asked of it before.
            VirtkitError: it does not answer any more, or the way to its host was cut and a lock
                went with it.
        """
        connections: dict[str, libvirt.virConnect] = self._threads.__dict__
        if scheme not in connections and (idle := self._take(scheme)):
            connections[scheme] = idle
        if scheme not in connections or not connections[scheme].isAlive():
            for each in self._locks:
                each.check()
            try:
                connections[scheme] = self._open(scheme)
            except VirtkitError as error:
                if self._opened_schemes:
                    raise
                raise error.as_type(NotConnected) from error
            if scheme not in self._opened_schemes:
                self._opened_schemes.append(scheme)
        return connections[scheme]

    def is_silent(self, scheme: str, error: VirtkitError) -> bool:
        """Whether the host has a driver that failed to answer, and may have guests; as far as the
        error tells, and what was heard of it before."""
        return scheme in self._opened_schemes or not isinstance(error, (NoDriver, NoDaemon))

    def forget_refusals(self) -> None:
        """Lets the next call ask again where libvirt did not answer: for whoever waits for it."""
        self._refusals.clear()

    def release(self) -> None:
        """Leaves this thread's connections to the next thread that needs one."""
        connections: dict[str, libvirt.virConnect] = self._threads.__dict__
        with self._sharing:
            for scheme, each in connections.items():
                self._idle.setdefault(scheme, []).append(each)
        connections.clear()

    def _take(self, scheme: str) -> libvirt.virConnect | None:
        """A connection that another thread left."""
        with self._sharing:
            idle = self._idle.get(scheme)
            return idle.pop() if idle else None

    def _open(self, scheme: str) -> libvirt.virConnect:
        """A new connection; a daemon that hangs is waited for once, and one that lets nobody in is
        asked once, not by each thread and step."""
        uri = self.uri(scheme)
        usual = scheme not in self._uris
        refusal = self._refusals.get(uri) or (self._refusals.get(_ALL) if usual else None)
        if refusal is not None:
            raise refusal
        if usual and scheme == "xen" and self.remote is None and not _on_xen():
            raise NoDaemon(
                f"open {uri} failed",
                why="Xen does not run on this machine",
                cure="boot it into Xen: sudo apt-get install xen-system-amd64 "
                "libvirt-daemon-driver-xen, then reboot",
                where=self.host,
            )
        if self.remote is not None and usual:
            self._connect_to_host(self.remote)
        _run_events()
        answer: queue.SimpleQueue[libvirt.virConnect | Exception] = queue.SimpleQueue()
        threading.Thread(target=_connect, args=(uri, answer, self._read_only), daemon=True).start()
        try:
            result = answer.get(timeout=OPEN_TIMEOUT)
        except queue.Empty:
            why = (
                f"libvirt's daemon accepts connections, but did not answer for {OPEN_TIMEOUT:.0f} s"
            )
            # by ssh all go to one socket
            key = _ALL if self.remote is not None and usual else uri
            self._refusals[key] = self._unavailable(scheme, why, daemon_cure(self.host))
            raise self._refusals[key] from None
        if isinstance(result, libvirt.libvirtError):
            raise self._open_error(scheme, result) from result
        if isinstance(result, Exception):
            raise result
        _unclosed.add(result)
        return result

    def _connect_to_host(self, remote: Remote) -> None:
        """Connects to the host; one that is not there is looked for once."""
        try:
            remote.connect()
        except VirtkitError as error:
            self._refusals[_ALL] = error.as_type(LibvirtUnavailable)
            raise self._refusals[_ALL] from error

    def _open_error(self, scheme: str, error: libvirt.libvirtError) -> VirtkitError:
        """libvirt's own answer, where it opened no connection."""
        code, message = error.get_error_code(), error.get_error_message() or str(error)
        foreign = scheme not in self.schemes  # no driver of virtkit's
        if scheme in self._uris and (foreign or urlsplit(self._uris[scheme]).netloc):
            local_cure = (
                f"see what virsh says: {self.virsh_command(scheme)} uri; if it says the same, fix "
                f"what it names on host {self.host}, then run again"
            )
            return self._unavailable(scheme, message, local_cure)
        from virtkit.host import daemon_access  # for an error only

        if daemon_access.denied(code, message):
            failure = self._unavailable(scheme, message, cure("open", code, message))
            # all of a machine's daemons ask for the same group
            self._refusals[self.uri(scheme) if scheme in self._uris else _ALL] = failure
            return failure
        if connection_lost(error) or code == libvirt.VIR_ERR_SYSTEM_ERROR:
            local_cure = f"{self.restart_command(scheme)}; then run again"
            failure = self._unavailable(scheme, message, local_cure)
            no_socket = error.get_int1() == errno.ENOENT and scheme not in self._uris
            return failure.as_type(NoDaemon) if no_socket else failure
        no_driver = self._no_driver(scheme, message)
        if code == libvirt.VIR_ERR_NO_CONNECT:
            self._refusals[self.uri(scheme)] = no_driver
        return no_driver

    def _unavailable(self, scheme: str, why: str, local_cure: str) -> VirtkitError:
        """The error for a daemon that doesn't answer; ``local_cure``: the cure on this machine."""
        if self.remote is not None and scheme not in self._uris:
            local_cure = (
                f"log in there and see what virsh says: {self.remote.ssh_command} "
                f"virsh -c {scheme}:///system uri; if it says the same, start its daemon or let "
                "the user into the group libvirt (sudo usermod -aG libvirt USER), and run again "
                "after a minute"
            )
        what = f"open {self.display_uri(scheme)} failed"
        return LibvirtUnavailable(what, why=why, cure=local_cure, where=self.host)

    def _no_driver(self, scheme: str, why: str) -> VirtkitError:
        package = f"libvirt-daemon-driver-{scheme}"
        return NoDriver(
            f"open {self.display_uri(scheme)} failed",
            why=why,
            cure=f"install libvirt's driver for it (sudo apt-get install {package}), then "
            f"{self.restart_command(scheme)}",
            where=self.host,
        )

    def any_scheme(self) -> str:
        """The scheme of a driver that the host has."""
        self.any()
        return self._opened_schemes[0]

    @property
    def elsewhere(self) -> bool:
        """Whether the host is another machine: by ssh, or by a URI that names it."""
        return self.remote is not None or bool(
            [e for e in self._uris.values() if urlsplit(e).netloc]
        )

    def any(self) -> libvirt.virConnect:
        """A connection for what all drivers of a host share: networks and storage."""
        error: VirtkitError | None = None
        for scheme in [*self._opened_schemes, *self.schemes]:
            try:
                return self.get(scheme)
            except VirtkitError as raised:
                error = error or raised
        assert error is not None
        raise error


def _on_xen() -> bool:
    from virtkit.host.machine import inspection  # where Xen is asked only

    return inspection.xen()


def close_all(timeout: float = 1.0) -> None:
    """Closes all connections of this process; else a daemon logs that they were cut off.

    One that does not answer is left behind after ``timeout`` seconds.
    """
    opened = list(_unclosed)
    _unclosed.clear()

    def close() -> None:
        for each in opened:
            with suppress(libvirt.libvirtError):
                each.close()

    closing = threading.Thread(target=close, daemon=True)
    if opened:
        closing.start()
        closing.join(timeout)


def _connect(
    uri: str, answer: queue.SimpleQueue[libvirt.virConnect | Exception], read_only: bool
) -> None:
    """Opens a connection with a keepalive; beside its caller, so that that one can stop waiting."""
    try:
        opened = libvirt.openReadOnly(uri) if read_only else libvirt.open(uri)
        _keep_alive(opened)
    except libvirt.libvirtError as error:
        answer.put(error)
    else:
        answer.put(opened)


def _keep_alive(opened: libvirt.virConnect) -> None:
    try:
        opened.setKeepAlive(KEEPALIVE, MISSED)
    except libvirt.libvirtError as error:  # a driver without a daemon can't lose it
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise


def _run_events() -> None:
    """Starts libvirt's event loop, once in a process and before its first connection."""
    global _looping
    with _loop:
        if not _looping:
            libvirt.virEventRegisterDefaultImpl()
            threading.Thread(target=_events, name="libvirt events", daemon=True).start()
            _looping = True


def _events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
