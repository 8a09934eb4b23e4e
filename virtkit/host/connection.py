"""The connections to one host's libvirt: opened when needed, one per driver and thread.

A connection carries at most five calls at once (libvirtd's max_client_requests), so threads
share none.

libvirt itself waits for ever for a daemon that is stopped. So every connection has a keepalive,
which needs libvirt's event loop running in a thread; and opening, where no keepalive runs yet,
has an end of its own.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping

import libvirt

from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.host.errors import STOPPED, told
from virtkit.host.lock import Lock, RemoteLock
from virtkit.host.remote import Remote

libvirt.registerErrorHandler(lambda *_: None, None)  # else libvirt prints each error on stderr

#: Seconds between two signs of life, and how many may stay away: a connection to a daemon that
#: does nothing any more is dead after KEEPALIVE * (MISSED + 1). One that works gives them all
#: along, but for a few seconds while it ends a container.
KEEPALIVE, MISSED = 5, 5
#: Seconds that a daemon has to take a connection; the first one may have to start it.
OPENING = 30.0

_loop = threading.Lock()
_looping = False


class Connections:
    """Opens ``SCHEME:///system``, or the URI given outright for a scheme.

    Args:
        host: the host's name, for messages.
        uris: URI by scheme where it is not the usual one.
        remote: how another machine is reached; None for this one.
    """

    def __init__(
        self, host: str, uris: Mapping[str, str] | None = None, remote: Remote | None = None
    ) -> None:
        self.host = host
        self.remote = remote
        #: The URI schemes of all guest types that virtkit runs there.
        drivers = [each for each in DRIVERS.values() if each.remote or remote is None]
        self.schemes = tuple(dict.fromkeys(each.scheme for each in drivers))
        #: libvirtd's first two checks against a schema at once fail (libxml2 sets up its types)
        self.validating = threading.Lock()
        self._uris = dict(uris or {})
        self._threads = threading.local()
        self._opened: list[str] = []
        self._locks: list[RemoteLock] = []
        self._hangs: dict[str, VirtkitError] = {}

    def uri(self, scheme: str) -> str:
        """The URI of a scheme; of a host that is reached by ssh, by our own ssh."""
        if self.remote is not None and scheme not in self._uris:
            return self.remote.uri(scheme)
        return self._uris.get(scheme, f"{scheme}:///system")

    def shown(self, scheme: str) -> str:
        """The URI that people know."""
        if self.remote is not None and scheme not in self._uris:
            return self.remote.shown(scheme)
        return self.uri(scheme)

    def lock(self, name: str, what: str) -> Lock | RemoteLock:
        """A lock of the host, for all who change something there."""
        if self.remote is None:
            return Lock(name, what)
        self._locks.append(RemoteLock(self.remote, name, what))
        return self._locks[-1]

    def get(self, scheme: str) -> libvirt.virConnect:
        """This thread's connection; another one where libvirt has ended it.

        Raises:
            VirtkitError: libvirt does not answer there, or the way to its host was cut and a lock
                went with it.
        """
        held: dict[str, libvirt.virConnect] = self._threads.__dict__
        if scheme not in held or not held[scheme].isAlive():
            for each in self._locks:
                each.check()
            with told("open", self.shown(scheme), where=self.host):
                held[scheme] = self._open(self.uri(scheme))
            if scheme not in self._opened:
                self._opened.append(scheme)
        return held[scheme]

    def _open(self, uri: str) -> libvirt.virConnect:
        """A new connection; a daemon that hangs is waited for once, not by each thread and step."""
        if uri in self._hangs:
            raise self._hangs[uri]
        if self.remote is not None:
            self.remote.connect()
        _run_events()
        answer: queue.SimpleQueue[libvirt.virConnect | Exception] = queue.SimpleQueue()
        threading.Thread(target=_connect, args=(uri, answer), daemon=True).start()
        try:
            opened = answer.get(timeout=OPENING)
        except queue.Empty:
            self._hangs[uri] = VirtkitError(
                f"open {uri} failed",
                why=f"libvirt's daemon takes connections and said nothing for {OPENING:.0f} s",
                cure=STOPPED,
                where=self.host,
            )
            raise self._hangs[uri] from None
        if isinstance(opened, Exception):
            raise opened
        return opened

    def any(self) -> libvirt.virConnect:
        """A connection for what all drivers of a host share: networks and storage."""
        error: VirtkitError | None = None
        for scheme in [*self._opened, *self.schemes]:
            try:
                return self.get(scheme)
            except VirtkitError as raised:
                error = error or raised
        assert error is not None
        raise error


def _connect(uri: str, answer: queue.SimpleQueue[libvirt.virConnect | Exception]) -> None:
    """Opens a connection with a keepalive; beside its caller, so that that one can stop waiting."""
    try:
        opened = libvirt.open(uri)
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
