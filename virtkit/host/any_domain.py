"""A domain of anybody's, read to be described. Its libvirt is asked by a connection that can't
change anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import libvirt
from lxml import etree

from virtkit.errors import RequestError, VirtkitError
from virtkit.host.connection import Connections
from virtkit.host.domains import state_of
from virtkit.host.errors import libvirt_errors
from virtkit.host.timeouts import call_with_timeout
from virtkit.spec.from_domain.reading import DomainFacts
from virtkit.spec.problem import quote, suggestion
from virtkit.xml import tree

#: Stands for this machine in messages.
_LOCAL = "local"


def read_domain(name: str, uri: str = "") -> DomainFacts:
    """What libvirt tells of a domain.

    Args:
        name: the domain's name.
        uri: the URI of its libvirt; empty for all of this machine's.

    Raises:
        RequestError: there is none of that name, or several.
        VirtkitError: libvirt does not answer.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    uris = {scheme: uri} if uri else {}
    connections = Connections(_LOCAL, uris, read_only=True)
    schemes = [scheme] if uri else list(connections.schemes)
    domains: dict[str, libvirt.virDomain] = {}
    names: list[str] = []
    errors: list[VirtkitError] = []
    for each in schemes:
        try:
            opened = connections.get(each)
        except VirtkitError as error:
            errors.append(error)
            continue
        with libvirt_errors("read", "the domains", where=_LOCAL):
            known = {domain.name(): domain for domain in opened.listAllDomains()}
        names += known
        if name in known:
            domains[connections.uri(each)] = known[name]
    if not domains and len(errors) == len(schemes):
        raise errors[0]
    (place, domain) = _only(name, domains, names, errors)
    with libvirt_errors("read", f"domain {quote(name)}", where=_LOCAL):
        return _facts(name, place, domain)


def _only(
    name: str,
    domains: dict[str, libvirt.virDomain],
    names: list[str],
    errors: list[VirtkitError],
) -> tuple[str, libvirt.virDomain]:
    """The one domain of that name, with its libvirt's URI."""
    if len(domains) > 1:
        raise RequestError(
            f"there are several domains called {quote(name)}",
            why=f"at {' and at '.join(domains)}",
            cure=f"say which: --connect {next(iter(domains))}",
        )
    if not domains:
        why = "; ".join(f"{each.what}: {each.why}" for each in errors)
        cure = suggestion(name, names) if names else "name another libvirt: --connect URI"
        raise RequestError(f"libvirt has no domain {quote(name)}", why=why, cure=cure)
    return next(iter(domains.items()))


def _facts(name: str, uri: str, domain: libvirt.virDomain) -> DomainFacts:
    persistent = bool(domain.isPersistent())
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE if persistent else 0)
    autostart = False
    with suppress(libvirt.libvirtError):  # not all drivers have that
        autostart = persistent and bool(domain.autostart())
    return DomainFacts(
        name=name,
        uri=uri,
        xml=xml,
        state=state_of(domain),
        persistent=persistent,
        autostart=autostart,
        disk_sizes=dict(_sizes(domain, xml)),
    )


def _sizes(domain: libvirt.virDomain, xml: str) -> Iterator[tuple[str, int]]:
    """Bytes of the domain's disks and volumes, by their targets, as far as libvirt knows them."""
    root = tree.parse(xml, "the domain's XML")
    for device in [*root.iterfind("devices/disk"), *root.iterfind("devices/filesystem")]:
        target, source = device.find("target"), device.find("source")
        if target is None or source is None or device.get("device") in ("cdrom", "floppy"):
            continue
        name = target.get("dev", target.get("dir", ""))
        size = _volume_size(domain.connect(), source)
        if not size and device.tag == "disk":
            size = _block_size(domain, name)
        if size:
            yield name, size


def _volume_size(connection: libvirt.virConnect, source: etree._Element) -> int:
    """Bytes of the volume that a source is; 0 where it is none that libvirt knows."""
    path = source.get("file", source.get("dev", ""))
    with suppress(libvirt.libvirtError):
        if source.get("pool"):
            pool = connection.storagePoolLookupByName(source.get("pool", ""))
            return int(pool.storageVolLookupByName(source.get("volume", "")).info()[1])
        if path:
            return int(connection.storageVolLookupByPath(path).info()[1])
    return 0


def _block_size(domain: libvirt.virDomain, target: str) -> int:
    """Bytes of a disk as its hypervisor sees it; 0 where that is not known."""
    with suppress(libvirt.libvirtError, VirtkitError):
        sizes = call_with_timeout(lambda: domain, lambda each: each.blockInfo(target), _LOCAL)
        return int(sizes[0])
    return 0
