"""Which files of a host somebody's domain names, so that nobody takes them for left over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libvirt

from virtkit import render
from virtkit.errors import VirtkitError
from virtkit.host.connection import Connections
from virtkit.host.errors import told


def paths(connections: Connections, schemes: Iterable[str]) -> frozenset[str]:
    """The paths in all domains' XML, as defined and as they run; volumes of pools by name."""
    found: set[str] = set()
    for scheme in schemes:
        try:
            opened = connections.get(scheme)
        except VirtkitError:
            continue
        with told("read", f"the domains of {scheme}", where=connections.host):
            for domain in opened.listAllDomains():
                for flags in (libvirt.VIR_DOMAIN_XML_INACTIVE, 0):
                    found.update(_named(domain, flags))
    return frozenset(found)


def _named(domain: libvirt.virDomain, flags: int) -> Iterator[str]:
    try:
        root = render.parse(domain.XMLDesc(flags), "a domain")
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:  # gone since it was listed
            return
        raise
    for element in root.iter("*"):
        values = [element.text or "", *map(str, element.attrib.values())]
        yield from (each.strip() for each in values if each.strip().startswith("/"))
        if element.get("volume"):
            yield str(element.get("volume"))
