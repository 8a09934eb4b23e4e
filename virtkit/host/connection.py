"""The connections to one host's libvirt: opened when needed, one per driver and thread.

A connection carries at most five calls at once (libvirtd's max_client_requests), so threads
share none.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import libvirt

from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.host.errors import told

libvirt.registerErrorHandler(lambda *_: None, None)  # else libvirt prints each error on stderr


class Connections:
    """Opens ``SCHEME:///system``, or the URI given outright for a scheme.

    Args:
        host: the host's name, for messages.
        uris: URI by scheme where it is not the usual one.
    """

    def __init__(self, host: str, uris: Mapping[str, str] | None = None) -> None:
        self.host = host
        #: libvirtd's first two checks against a schema at once fail (libxml2 sets up its types)
        self.validating = threading.Lock()
        self._uris = dict(uris or {})
        self._threads = threading.local()
        self._schemes: list[str] = []

    def uri(self, scheme: str) -> str:
        return self._uris.get(scheme, f"{scheme}:///system")

    def get(self, scheme: str) -> libvirt.virConnect:
        """This thread's connection.

        Raises:
            VirtkitError: libvirt does not answer there.
        """
        held: dict[str, libvirt.virConnect] = self._threads.__dict__
        if scheme not in held:
            with told("open", self.uri(scheme), where=self.host):
                held[scheme] = libvirt.open(self.uri(scheme))
            if scheme not in self._schemes:
                self._schemes.append(scheme)
        return held[scheme]

    def any(self) -> libvirt.virConnect:
        """A connection for what all drivers of a host share: networks and storage."""
        error: VirtkitError | None = None
        for scheme in [*self._schemes, *(each.scheme for each in DRIVERS.values())]:
            try:
                return self.get(scheme)
            except VirtkitError as raised:
                error = error or raised
        assert error is not None
        raise error
