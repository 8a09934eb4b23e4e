"""What virtual machines can have on a host, as its libvirt tells: processors, memory, firmware, a
TPM."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import libvirt
from lxml import etree

from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.facts import HostFacts, MachineFacts
from virtkit.host.connection import Connections
from virtkit.spec import sizes
from virtkit.xml import tree


def machines(connections: Connections, facts: HostFacts) -> dict[str, MachineFacts]:
    """What libvirt says of each ``<domain type=…>`` that a driver names a machine for. Those that
    it says nothing of are left out."""
    answer: dict[str, MachineFacts] = {}
    for driver in DRIVERS.values():
        connection = facts.connections.get(driver.scheme)
        if not driver.machine or connection is None or connection.error:
            continue
        if driver.domain_type not in connection.domain_types:
            continue
        with suppress(libvirt.libvirtError, VirtkitError):
            xml = connections.get(driver.scheme).getDomainCapabilities(
                None, facts.arch, driver.machine, driver.domain_type, 0
            )
            answer[driver.domain_type] = parse(tree.parse(xml, "capabilities"))
    return answer


def cpu_numbers(connections: Connections, facts: HostFacts) -> frozenset[int]:
    """The numbers of the host's CPUs that are online."""
    with suppress(libvirt.libvirtError, VirtkitError):
        _, online, _ = connections.any().getCPUMap()
        return frozenset(number for number, on in enumerate(online) if on)
    return frozenset(range(facts.cpus))  # not every driver has numbers


def numa_nodes(connections: Connections) -> dict[int, dict[int, int]]:
    """The host's NUMA nodes by number, with the free pages of each by their bytes. Those of which
    libvirt does not tell are left out."""
    with suppress(libvirt.libvirtError, VirtkitError):
        connection = connections.any()
        known = page_sizes(tree.parse(connection.getCapabilities(), "capabilities"))
        return {node: _free_pages(connection, node, each) for node, each in known.items()}
    return {}


def page_sizes(capabilities: etree._Element) -> dict[int, tuple[int, ...]]:
    """What libvirt's ``<capabilities>`` say: the sizes of pages, in bytes, of each NUMA node."""
    return {
        int(cell.get("id", "0")): tuple(
            int(each.get("size", "0")) * sizes.KIB for each in cell.iterfind("pages")
        )
        for cell in capabilities.iterfind("host/topology/cells/cell")
    }


def _free_pages(
    connection: libvirt.virConnect, node: int, page_bytes: Iterable[int]
) -> dict[int, int]:
    """The free pages of a node by their bytes, of the sizes that libvirt tells of."""
    wanted = [each // sizes.KIB for each in page_bytes]
    with suppress(libvirt.libvirtError):
        counts = connection.getFreePages(wanted, node, 1)[node]
        return {int(size) * sizes.KIB: int(count) for size, count in counts.items()}
    return {}


def parse(capabilities: etree._Element) -> MachineFacts:
    """What libvirt's ``<domainCapabilities>`` say."""
    models = capabilities.iterfind("cpu/mode[@name='custom']/model")
    backends = _values(capabilities, "devices/tpm/enum[@name='backendModel']")
    versions = _values(capabilities, "devices/tpm/enum[@name='backendVersion']")
    hyperv = capabilities.find("features/hyperv")
    firmware = {"bios"}
    if "efi" in _values(capabilities, "os/enum[@name='firmware']"):
        firmware.add("uefi")
        if "yes" in _values(capabilities, "os/loader/enum[@name='secure']"):
            firmware.add("secure")
    return MachineFacts(
        cpu_models={each.text or "": each.get("usable") != "no" for each in models},
        # libvirt before 8.6 names no versions
        tpm="emulator" in backends and (not versions or "2.0" in versions),
        firmware=frozenset(firmware),
        hyperv=None if hyperv is None else frozenset(_values(hyperv, "enum[@name='features']")),
    )


def _values(root: etree._Element, path: str) -> set[str]:
    """The values of libvirt's enumerations at a place."""
    return {each.text or "" for each in root.iterfind(f"{path}/value")}
