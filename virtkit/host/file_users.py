"""Which files of a host are named in a domain's XML: these are no leftovers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libvirt
from lxml import etree

from virtkit.errors import VirtkitError
from virtkit.host.connection import Connections
from virtkit.host.errors import libvirt_errors, skip_unreadable
from virtkit.xml import tree


def files_in_use(connections: Connections, schemes: Iterable[str]) -> frozenset[str]:
    """The paths in all domains' XML, as defined and as they run; volumes of pools by name."""
    files: set[str] = set()
    for scheme in schemes:
        try:
            opened = connections.get(scheme)
        except VirtkitError:
            continue
        with libvirt_errors("read", f"the domains of {scheme}", where=connections.host):
            for domain in opened.listAllDomains():
                for flags in (libvirt.VIR_DOMAIN_XML_INACTIVE, 0):
                    with skip_unreadable():
                        files.update(paths_in(tree.parse(domain.XMLDesc(flags), "a domain")))
    return frozenset(files)


def paths_in(root: etree._Element) -> Iterator[str]:
    """The paths in a domain's XML, and volumes of pools by name."""
    for element in root.iter("*"):
        values = [element.text or "", *map(str, element.attrib.values())]
        yield from (each.strip() for each in values if each.strip().startswith("/"))
        if element.get("volume"):
            yield str(element.get("volume"))
