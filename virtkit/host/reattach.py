"""Guests' interfaces on a network that was down: libvirt starts a network without them.

A recreated bridge has no ports, and the guests that ran before keep their interfaces outside.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

import libvirt
from lxml import etree

from virtkit.errors import VirtkitError
from virtkit.host.connection import Connections
from virtkit.host.errors import libvirt_errors, skip_unreadable
from virtkit.host.timeouts import call_with_timeout
from virtkit.state import record_text
from virtkit.xml import tree

#: The URI scheme and the name of a domain.
DomainId = tuple[str, str]
#: How drivers say that they change no interface that is plugged in: LXC's, and Xen's.
_NO_UPDATE = (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_ERR_CONFIG_UNSUPPORTED)
#: Seconds until libvirt knows a new container's init, on a busy host.
_INIT_TIMEOUT = 10.0


def running_guests(
    connections: Connections, schemes: Iterable[str], environment: str, network: str
) -> list[DomainId]:
    """An environment's running guests that have an interface on a network."""
    guests: list[DomainId] = []
    for scheme in schemes:
        try:
            opened = connections.get(scheme)
        except VirtkitError:  # a driver that is not on this host has no guests
            continue
        with libvirt_errors("read", f"the domains of {scheme}", where=connections.host):
            for domain in opened.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                with skip_unreadable():
                    root = tree.parse(domain.XMLDesc(), "a domain")
                    record = record_text.read_guest(root)
                    expected = (environment, domain.name())
                    if record is not None and (record.environment, record.domain) == expected:
                        guests += [(scheme, domain.name())] if _interfaces(root, network) else []
    return guests


def attach(connections: Connections, guest: DomainId, network: str) -> None:
    """Puts the interfaces of a running guest back on a network that was down."""
    scheme, name = guest
    where = connections.host
    with libvirt_errors("connect", f"domain {name}", where=where):
        bridge = connections.any().networkLookupByName(network).bridgeName()

        def find() -> libvirt.virDomain:
            return connections.get(scheme).lookupByName(name)

        for interface in _interfaces(tree.parse(find().XMLDesc(), f"domain {name}"), network):
            call_with_timeout(find, partial(_reattach, interface=interface, bridge=bridge), where)


def _interfaces(domain: etree._Element, network: str) -> list[etree._Element]:
    interfaces = domain.iterfind("./devices/interface")
    return [each for each in interfaces if each.find(f"source[@network='{network}']") is not None]


def _reattach(domain: libvirt.virDomain, interface: etree._Element, bridge: str) -> None:
    """libvirt attaches an interface where its bridge changes: by its name, and back by the
    network's."""
    live = libvirt.VIR_DOMAIN_AFFECT_LIVE
    original = etree.tostring(interface, encoding="unicode")
    by_name = etree.fromstring(original)
    by_name.set("type", "bridge")
    source = by_name.find("source")
    assert source is not None
    source.attrib.clear()
    source.set("bridge", bridge)
    try:
        domain.updateDeviceFlags(etree.tostring(by_name, encoding="unicode"), live)
        domain.updateDeviceFlags(original, live)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _NO_UPDATE:
            raise
        domain.detachDeviceFlags(original, live)  # so it is out and in again
        _attach(domain, original, live)


def _attach(domain: libvirt.virDomain, interface: str, flags: int) -> None:
    """libvirt gives a container no interface before it heard of its init, shortly after its
    start."""
    end = time.monotonic() + _INIT_TIMEOUT
    while True:
        try:
            domain.attachDeviceFlags(interface, flags)
            return
        except libvirt.libvirtError as error:
            early = error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID
            if not early or time.monotonic() >= end:
                raise
        time.sleep(0.2)
