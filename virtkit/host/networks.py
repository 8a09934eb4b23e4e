"""Networks of one host. A network in use is never restarted: its guests would lose their link."""

from __future__ import annotations

import threading

import libvirt
from lxml import etree

from virtkit import render
from virtkit.host.connection import Connections
from virtkit.host.errors import told
from virtkit.record import NAMESPACE, NetworkRecord, network_element
from virtkit.resources import HostNames, Network, Reservation, host_names


class Networks:
    """The libvirt networks of one host, by their libvirt name."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._defining = threading.Lock()

    def _network(self, name: str) -> libvirt.virNetwork:
        with told("find", f"network {name}", where=self._connections.host):
            return self._connections.any().networkLookupByName(name)

    def define(self, xml: str) -> None:
        """Defines a network; libvirt checks the XML against its schema first.

        One at a time: of two at once, libvirt gives both the same bridge.
        """
        name = render.parse(xml, "a network").findtext("name")
        with self._defining, told("define", f"network {name}", where=self._connections.host):
            connection = self._connections.any()
            network = connection.networkDefineXMLFlags(xml, libvirt.VIR_NETWORK_DEFINE_VALIDATE)
            network.setAutostart(1)

    def start(self, name: str) -> None:
        network = self._network(name)
        with told("connect", f"network {name}", where=self._connections.host):
            network.setAutostart(1)
            if not network.isActive():
                network.create()

    def active(self, name: str) -> bool:
        network = self._network(name)
        with told("read", f"network {name}", where=self._connections.host):
            return bool(network.isActive())

    def delete(self, name: str) -> None:
        network = self._network(name)
        with told("delete", f"network {name}", where=self._connections.host):
            if network.isActive():
                network.destroy()
            network.undefine()

    def reserve(self, wanted: Network, old: NetworkRecord, new: NetworkRecord) -> None:
        """Brings reservations and DNS names up to date while guests use the network."""
        network = self._network(wanted.libvirt_name)
        before = {each.mac: each for each in old.reservations}
        after = {each.mac: each for each in new.reservations}
        with told("update", f"network {wanted.name}", where=self._connections.host):
            for mac, each in before.items():
                if after.get(mac) != each:
                    self._forget(network, each, wanted.domain)
            for mac, each in after.items():
                if before.get(mac) != each:
                    self._announce(network, each, wanted.domain)
            self._write_record(network, new)

    def _announce(self, network: libvirt.virNetwork, each: Reservation, domain: str) -> None:
        if each.dhcp:
            _update(network, libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, _lease(each))
        for names in host_names(each, domain):
            _update(network, libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, _names(names))

    def _forget(self, network: libvirt.virNetwork, each: Reservation, domain: str) -> None:
        delete = libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE
        if each.dhcp:
            _update(network, delete, _lease(each), missing_ok=True)
        for names in host_names(each, domain):
            _update(network, delete, _names(names), missing_ok=True)

    def _write_record(self, network: libvirt.virNetwork, record: NetworkRecord) -> None:
        """Puts our element into libvirt's own inactive XML; what others added stays."""
        root = inactive(network)
        element = root.find(f"./metadata/{{{NAMESPACE}}}network")
        new = etree.fromstring(network_element(record))
        metadata = root.find("metadata")
        if metadata is None:
            metadata = etree.Element("metadata")
            root.insert(2, metadata)
        if element is None:
            metadata.append(new)
        else:
            metadata.replace(element, new)
        self._connections.any().networkDefineXML(etree.tostring(root, encoding="unicode"))


def inactive(network: libvirt.virNetwork) -> etree._Element:
    """A network's definition; a driver that knows one XML only (test, esx) gives that."""
    try:
        xml = network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
            raise
        xml = network.XMLDesc(0)
    return render.parse(xml, f"network {network.name()}")


def _lease(each: Reservation) -> etree._Element:
    return etree.Element("host", mac=each.mac, name=each.name, ip=each.ip)


def _names(entry: HostNames) -> etree._Element:
    element = etree.Element("host", ip=entry.ip)
    for name in entry.names:
        etree.SubElement(element, "hostname").text = name
    return element


def _update(
    network: libvirt.virNetwork,
    command: int,
    element: etree._Element,
    *,
    missing_ok: bool = False,
) -> None:
    leased = element.get("mac") is not None
    section = libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST
    if not leased:
        section = libvirt.VIR_NETWORK_SECTION_DNS_HOST
    flags = libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
    if network.isActive():
        flags |= libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE
    try:
        network.update(command, section, -1, etree.tostring(element, encoding="unicode"), flags)
    except libvirt.libvirtError as error:
        # an entry that somebody removed by hand, or that an interrupted run had removed already
        if not (missing_ok and error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID):
            raise
