"""Networks of one host. A network in use is never restarted: its guests would be cut off."""

from __future__ import annotations

import threading
from dataclasses import replace

import libvirt
from lxml import etree

from virtkit.errors import VirtkitError
from virtkit.host.connection import Connections
from virtkit.host.errors import libvirt_errors
from virtkit.host.names import checked_name
from virtkit.state.observed import ObservedNetwork
from virtkit.state.record import NetworkRecord
from virtkit.state.record_text import network_element, read_network
from virtkit.xml import diff, tree


class Networks:
    """The libvirt networks of one host, by their libvirt name."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._defining = threading.Lock()  # saves this program's threads the lock's polling
        self._lock = connections.lock("networks", "the list of networks")

    def _network(self, name: str) -> libvirt.virNetwork:
        with libvirt_errors("find", f"network {name}", where=self._connections.host):
            return self._connections.any().networkLookupByName(checked_name(name))

    def define(self, record: NetworkRecord) -> None:
        """Defines a network as its record says; libvirt checks the XML against its schema first.

        One at a time on this machine: of two at once, libvirt gives both the same bridge.
        """
        xml = tree.with_record(record.rendered, network_element(record))
        name = checked_name(tree.parse(xml, "a network").findtext("name"))
        connection = self._connections.any()
        with (
            self._defining,
            self._lock.acquire(),
            libvirt_errors("define", f"network {name}", where=self._connections.host),
        ):
            with self._connections.validating:
                network = connection.networkDefineXMLFlags(xml, libvirt.VIR_NETWORK_DEFINE_VALIDATE)
            network.setAutostart(1)
            self._note_rewritten(network, record)

    def _note_rewritten(self, network: libvirt.virNetwork, record: NetworkRecord) -> None:
        """What libvirt has otherwise right after we defined it is no drift later."""
        current = inactive(network)
        places = diff.differences(tree.parse(record.rendered, "a network"), current)
        paths = tuple(each.path for each in places)
        if paths != record.rewritten:
            element = network_element(replace(record, rewritten=paths))
            xml = tree.with_record(tree.to_text(current), element)
            self._connections.any().networkDefineXML(xml)

    def start(self, name: str) -> None:
        """Starts a network, now and with the host; leaves an active one."""
        network = self._network(name)
        with libvirt_errors("connect", f"network {name}", where=self._connections.host):
            network.setAutostart(1)
            if not network.isActive():
                network.create()

    def active(self, name: str) -> bool:
        network = self._network(name)
        with libvirt_errors("read", f"network {name}", where=self._connections.host):
            return bool(network.isActive())

    def delete(self, current: ObservedNetwork) -> None:
        """Removes a network, where its record still says that it is this one.

        Raises:
            VirtkitError: it is another one by now.
        """
        name, record = current.name, current.record
        network = self._network(name)
        with libvirt_errors("delete", f"network {name}", where=self._connections.host):
            if not record.is_same_network(read_network(inactive(network))):
                virsh = self._connections.virsh_command()
                raise VirtkitError(
                    f"network {name} of environment {record.environment} has changed since this "
                    "run looked at it",
                    why="its record is gone or has changed; nothing was deleted",
                    cure=f"see {virsh} net-dumpxml {name}, then run again",
                    where=f"{self._connections.host} network/{record.network}",
                )
            if network.isActive():
                network.destroy()
            network.undefine()

    def update(
        self, current: ObservedNetwork, new: NetworkRecord, *, restart: bool = False
    ) -> None:
        """Brings a network up to date: its hosts while it is active, the rest in its definition.

        What others added stays. A network that nobody uses is stopped where it lacks the rest, to
        be started again; with ``restart`` one that guests use, too.
        """
        network = self._network(current.name)
        desired = tree.parse(new.rendered, current.name)
        recorded = tree.parse(current.record.rendered or new.rendered, current.name)
        with libvirt_errors("update", f"network {current.name}", where=self._connections.host):
            if network.isActive():
                live = tree.parse(network.XMLDesc(0), current.name)
                self._update_hosts(network, recorded, desired, live)
                new = replace(new, outdated=_outdated(current, recorded, desired, network))
            merged = diff.merged(recorded, desired, inactive(network))
            xml = tree.with_record(tree.to_text(merged), network_element(new))
            with self._connections.validating:
                changed = self._connections.any().networkDefineXMLFlags(
                    xml, libvirt.VIR_NETWORK_DEFINE_VALIDATE
                )
            self._note_rewritten(changed, new)
            if network.isActive() and (restart or not current.users):
                live = tree.parse(network.XMLDesc(0), current.name)
                if new.outdated or diff.differences(desired, live):
                    network.destroy()

    def _update_hosts(
        self,
        network: libvirt.virNetwork,
        recorded: etree._Element,
        desired: etree._Element,
        live: etree._Element,
    ) -> None:
        """Reservations and DNS names of an active network: what is no longer wanted goes first,
        since an address can be reserved once only."""
        hosts = [each for each in desired.iter("host") if each.getparent() is not None]
        desired_texts = {_canonical(each) for each in hosts}
        ips = {each.get("ip") for each in hosts if each.get("mac") is None}
        recorded_texts = {_canonical(each) for each in recorded.iter("host")}
        macs = {each.get("mac") for each in hosts if each.get("mac")}
        live_texts = {_canonical(each) for each in live.iter("host")}
        for each in live.iter("host"):
            text = _canonical(each)
            mac = each.get("mac")
            ours = text in recorded_texts or (mac in macs if mac else each.get("ip") in ips)
            if text not in desired_texts and ours:
                _update(network, libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE, each)
        for each in hosts:
            if _canonical(each) not in live_texts:
                _update(network, libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, each)


def _outdated(
    current: ObservedNetwork,
    recorded: etree._Element,
    desired: etree._Element,
    network: libvirt.virNetwork,
) -> tuple[str, ...]:
    """The places of what an active network has of what its definition is to lose."""
    live = tree.parse(network.XMLDesc(0), current.name)
    removed = [each.path for each in diff.removed(recorded, desired, live)]
    former = diff.remaining(current.record.outdated, desired, live)
    return tuple(dict.fromkeys([*removed, *former]))


def inactive(network: libvirt.virNetwork) -> etree._Element:
    """A network's definition; a driver that knows one XML only (test, esx) gives that."""
    try:
        xml = network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
            raise
        xml = network.XMLDesc(0)
    return tree.parse(xml, f"network {network.name()}")


def _canonical(host: etree._Element) -> str:
    """A reservation or DNS entry as text that is the same for the same entry."""
    names = sorted(each.text or "" for each in host.iter("hostname"))
    return f"{sorted(host.attrib.items())} {names}".lower()


def _update(network: libvirt.virNetwork, command: int, element: etree._Element) -> None:
    """Changes one host of the active network; its definition is not touched."""
    section = libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST
    if element.get("mac") is None:
        section = libvirt.VIR_NETWORK_SECTION_DNS_HOST
        if command == libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE:
            # by its names libvirt would find other addresses, too, and refuse
            element = etree.Element("host", {"ip": element.get("ip", "")})
    text = etree.tostring(element, encoding="unicode")
    network.update(command, section, -1, text, libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE)
