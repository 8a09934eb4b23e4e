"""Domains of one host: defined, started, stopped, undefined. Each strategy stands here once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import libvirt

from virtkit.drivers import DRIVERS, Driver, Stop
from virtkit.errors import RequestError, VirtkitError
from virtkit.host.connection import Connections
from virtkit.host.errors import libvirt_errors
from virtkit.host.names import strict
from virtkit.host.state_reason import Condition, condition
from virtkit.host.timeouts import PATIENCE, answered
from virtkit.state.desired import Volume
from virtkit.state.observed import GuestState
from virtkit.state.record import GuestRecord
from virtkit.state.record_text import NAMESPACE, guest_element, read_guest
from virtkit.xml import tree

_STATES: Mapping[int, GuestState] = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_SHUTDOWN: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "paused",
}

#: How often a container's start, or its end, is tried; seconds between two tries to end it.
_ATTEMPTS, _AGAIN = 20, 0.25
#: What libvirt says of XML that it will not have.
_REFUSALS = (
    libvirt.VIR_ERR_XML_ERROR,
    libvirt.VIR_ERR_XML_DETAIL,
    libvirt.VIR_ERR_XML_INVALID_SCHEMA,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
)
#: What libvirt says of a domain that has just stopped; one without a definition is gone then.
_ENDED = (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN)
#: A socket's state in /proc/net/unix; one that listens has another.
_CONNECTED = "03"


def state_of(domain: libvirt.virDomain) -> GuestState:
    """A domain's state in virtkit's words."""
    return _STATES.get(domain.state()[0], "stopped")


class Domains:
    """The domains of one host. ``driver`` words and domain names say which."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._starting = threading.Lock()

    def _domain(self, driver: Driver, name: str) -> libvirt.virDomain:
        with libvirt_errors("find", f"domain {name}", where=self._connections.host):
            return self._connections.get(driver.scheme).lookupByName(strict(name))

    def _answered(
        self,
        driver: Driver,
        name: str,
        call: Callable[[libvirt.virDomain], object],
        timeout: float = PATIENCE,
    ) -> None:
        answered(partial(self._domain, driver, name), call, self._connections.host, timeout)

    def define(self, driver: Driver, xml: str, *, autostart: bool) -> None:
        """Defines a domain; libvirt checks the XML against its schema first."""
        connection = self._connections.get(driver.scheme)
        name = strict(tree.parse(xml, "a domain").findtext("name"))
        with libvirt_errors("define", f"domain {name}", where=self._connections.host):
            with self._connections.validating:
                domain = connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
            domain.setAutostart(int(autostart))

    def check(self, driver: Driver, xml: str, where: str) -> None:
        """Looks whether libvirt would define a domain; it reads the XML and makes nothing.

        Only what libvirt says of the XML itself counts: a volume, a secret or a device that is not
        there may be there once the domain starts.

        Raises:
            RequestError: it would not.
        """
        if not driver.native:
            return
        connection = self._connections.get(driver.scheme)
        try:
            connection.domainXMLToNative(driver.native, xml, 0)
        except libvirt.libvirtError as error:
            if refused(error):
                name = tree.parse(xml, "a domain").findtext("name")
                raise RequestError(
                    f"domain {name}: libvirt refuses this XML",
                    why=error.get_error_message() or str(error),
                    cure="look at it with `virtkit render`; mend `devices`, `template` or the "
                    "value named",
                    where=where,
                ) from error

    def definition(self, driver: Driver, name: str) -> str:
        """The domain's XML of the next boot with its secrets; empty where there is none."""
        with libvirt_errors("read", f"domain {name}", where=self._connections.host):
            try:
                domain = self._connections.get(driver.scheme).lookupByName(name)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return ""
                raise
            flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
            return str(domain.XMLDesc(flags))

    def live(self, driver: Driver, name: str) -> str:
        """The running domain's XML; empty where it doesn't run."""
        domain = self._domain(driver, name)
        with libvirt_errors("read", f"domain {name}", where=self._connections.host):
            return str(domain.XMLDesc(0)) if domain.isActive() else ""

    def write_record(self, record: GuestRecord) -> None:
        """Replaces our element in a domain's metadata, live and for the next boot."""
        domain = self._domain(DRIVERS[record.type], record.domain)
        with libvirt_errors("record", f"domain {record.domain}", where=self._connections.host):
            flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
            if domain.isActive():
                flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
            kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
            element = guest_element(record, bare=True)
            domain.setMetadata(kind, element, "vk", NAMESPACE, flags)

    def set_autostart(self, driver: Driver, name: str, on: bool) -> None:
        domain = self._domain(driver, name)
        with libvirt_errors("autostart", f"domain {name}", where=self._connections.host):
            domain.setAutostart(int(on))

    def start(self, driver: Driver, name: str) -> None:
        """Starts a stopped domain, resumes a paused one, leaves a running one."""
        domain = self._domain(driver, name)
        with libvirt_errors("start", f"domain {name}", where=self._connections.host):
            state = state_of(domain)
            if state == "stopped":
                self._create(driver, domain)
            elif state == "paused":
                self._answered(driver, name, _go_on)

    def pause(self, driver: Driver, name: str) -> None:
        domain = self._domain(driver, name)
        with libvirt_errors("pause", f"domain {name}", where=self._connections.host):
            if state_of(domain) == "running":
                self._answered(driver, name, libvirt.virDomain.suspend)

    def resume(self, driver: Driver, name: str, timeout: float = PATIENCE) -> None:
        """Resumes a paused domain, leaves a running one."""
        domain = self._domain(driver, name)
        with libvirt_errors("resume", f"domain {name}", where=self._connections.host):
            if state_of(domain) == "paused":
                self._answered(driver, name, _go_on, timeout)

    def reset(self, driver: Driver, name: str) -> None:
        """Presses the reset button; a container is destroyed and started."""
        domain = self._domain(driver, name)
        with libvirt_errors("reset", f"domain {name}", where=self._connections.host):
            if driver.restart == "reset":
                self._answered(driver, name, libvirt.virDomain.reset)
            else:
                force_off(domain)
                self._create(driver, domain)

    def _create(self, driver: Driver, domain: libvirt.virDomain) -> None:
        with self._starting if driver.serial_start else nullcontext():
            _create(domain)
        _limit(domain, driver)

    def ask_to_stop(self, driver: Driver, name: str, way: Stop, timeout: float) -> None:
        """Asks a running guest to shut down in one of libvirt's ways; libvirt's yes proves nothing.

        Raises:
            Silent: its hypervisor process did not take the question within ``timeout`` seconds.
        """
        flags = {
            "acpi": libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
            "initctl": libvirt.VIR_DOMAIN_SHUTDOWN_INITCTL,
            "paravirt": libvirt.VIR_DOMAIN_SHUTDOWN_PARAVIRT,
            "signal": libvirt.VIR_DOMAIN_SHUTDOWN_SIGNAL,  # to a container's first process
        }
        with libvirt_errors("stop", f"domain {name}", where=self._connections.host):
            self._answered(driver, name, lambda each: each.shutdownFlags(flags[way]), timeout)

    def destroy(self, driver: Driver, name: str) -> None:
        """Forces a domain off, where it is on."""
        if self.ended(driver, name):
            return
        domain = self._domain(driver, name)
        with libvirt_errors("stop", f"domain {name}", where=self._connections.host):
            force_off(domain)

    def state(self, driver: Driver, name: str) -> GuestState:
        """A domain's state; one that is gone is stopped: who undefines a running one lets libvirt
        forget it at its end."""
        with libvirt_errors("read", f"domain {name}", where=self._connections.host):
            try:
                return state_of(self._connections.get(driver.scheme).lookupByName(strict(name)))
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return "stopped"
                raise

    def ended(self, driver: Driver, name: str) -> bool:
        """Whether a domain is stopped, or gone."""
        return self.state(driver, name) == "stopped"

    def condition(self, driver: Driver, name: str) -> Condition:
        """Why it is in its state, where libvirt knows."""
        with libvirt_errors("read", f"domain {name}", where=self._connections.host):
            return condition(partial(self._domain, driver, name), self._connections.host)

    def wait_stopped(
        self,
        driver: Driver,
        name: str,
        timeout: float,
        rest: Callable[[float], None] = time.sleep,
    ) -> bool:
        """Whether the domain stopped within ``timeout`` seconds; ``rest`` may raise to give up."""
        end = time.monotonic() + timeout
        while not self.ended(driver, name):
            if time.monotonic() >= end:
                return False
            rest(0.2)
        return True

    # --- changes of a running domain ------------------------------------------------------

    def plug(self, driver: Driver, name: str, device: str) -> None:
        """Gives a running domain a device; its definition is not touched."""
        domain = self._domain(driver, name)
        with libvirt_errors("plug", f"a device of domain {name}", where=self._connections.host):
            domain.attachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def unplug(self, driver: Driver, name: str, device: str) -> None:
        """Takes a device from a running domain; the guest has to let go of it, so look again."""
        domain = self._domain(driver, name)
        with libvirt_errors("unplug", f"a device of domain {name}", where=self._connections.host):
            domain.detachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def set_memory(self, driver: Driver, name: str, size: int) -> None:
        """Gives a running domain ``size`` bytes of the memory that it may have."""
        domain = self._domain(driver, name)
        with libvirt_errors("set the memory of", f"domain {name}", where=self._connections.host):
            domain.setMemoryFlags(size // 1024, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def set_cpus(self, driver: Driver, name: str, count: int) -> None:
        """Gives a running domain ``count`` of the virtual CPUs that it may have."""
        domain = self._domain(driver, name)
        with libvirt_errors("set the CPUs of", f"domain {name}", where=self._connections.host):
            domain.setVcpusFlags(count, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def grow_disk(self, driver: Driver, name: str, volume: Volume) -> None:
        """Grows a volume that a running domain has as a disk, whatever a template calls that."""
        domain, flags = self._domain(driver, name), libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
        with libvirt_errors(
            "grow", f"disk {volume.name} of domain {name}", where=self._connections.host
        ):
            domain.blockResize(volume.key, volume.size, flags)

    # --- the end --------------------------------------------------------------------------

    def check_record(self, record: GuestRecord) -> None:
        """Looks once more, right before something of a guest's goes, whether it is its own.

        Raises:
            VirtkitError: the domain is no longer this guest, or lists other volumes.
        """
        domain = self._domain(DRIVERS[record.type], record.domain)
        if not record.is_of(self._record(domain)):
            raise not_ours(record, self._connections)

    def _record(self, domain: libvirt.virDomain) -> GuestRecord | None:
        with libvirt_errors("read", f"domain {domain.name()}", where=self._connections.host):
            # as it is defined; where somebody's definition left the record out, as it runs
            xmls = [domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), domain.XMLDesc(0)]
        return next(filter(None, (read_guest(tree.parse(e, "a domain")) for e in xmls)), None)

    def undefine(self, driver: Driver, record: GuestRecord) -> None:
        """Removes a guest's definition with all that libvirt keeps beside it (NVRAM, memory), where
        it has one.

        Raises:
            VirtkitError: the domain is no longer this guest.
        """
        if not self.definition(driver, record.domain):
            return
        domain = self._domain(driver, record.domain)
        if not replace(record, volumes=()).is_of(self._record(domain)):
            raise not_ours(record, self._connections)
        with libvirt_errors("delete", f"domain {record.domain}", where=self._connections.host):
            flags = 0
            for flag in driver.undefine:
                flags |= getattr(libvirt, flag)
            domain.undefineFlags(flags) if flags else domain.undefine()

    def addresses(self, driver: Driver, name: str) -> tuple[list[str], list[str]]:
        """Addresses that the host learned of a running guest, and what was looked at.

        Leases, then the guest agent, then ARP; a source that fails means "not yet".
        """
        domain = self._domain(driver, name)
        with libvirt_errors("read", f"domain {name}", where=self._connections.host):
            macs = _macs(domain)
        looked: list[str] = []
        sources = {
            "DHCP leases": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
            "guest agent": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
            "ARP": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
        }
        for word, source in sources.items():
            try:
                interfaces = domain.interfaceAddresses(source)
            except libvirt.libvirtError as error:
                looked.append(f"{word}: {error.get_error_message()}")
                continue
            found = _usable(interfaces, macs)
            if found:
                return found, looked
            looked.append(f"{word}: none")
        return [], looked

    def secure_xml(self, driver: Driver, name: str) -> str:
        """The running domain's XML with its secrets, for the caller's eyes only."""
        domain = self._domain(driver, name)
        with libvirt_errors("read", f"domain {name}", where=self._connections.host):
            return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))


def refused(error: libvirt.libvirtError) -> bool:
    """Whether libvirt finds a domain's XML wrong, whatever is on the host."""
    code, part = error.get_error_code(), error.get_error_domain()
    return code in _REFUSALS or (
        # its parser and validator have no code of their own for some; drivers use this for all
        code == libvirt.VIR_ERR_INTERNAL_ERROR and part == libvirt.VIR_FROM_DOMAIN
    )


def not_ours(record: GuestRecord, connections: Connections) -> VirtkitError:
    """The error for a domain that was ours when a run began."""
    virsh = connections.virsh(DRIVERS[record.type].scheme)
    return VirtkitError(
        f"domain {record.domain} is not guest {record.guest} of environment {record.environment} "
        "as this run knew it",
        why="its record is gone or another one; nothing was deleted",
        cure=f"see {virsh} dumpxml {record.domain}, then run again: it looks anew",
        where=f"{connections.host} guest/{record.guest}",
    )


def _go_on(domain: libvirt.virDomain) -> None:
    """Lets a paused domain go on; one whose own system suspended it is woken."""
    if domain.state()[0] == libvirt.VIR_DOMAIN_PMSUSPENDED:
        domain.pMWakeup(0)
    else:
        domain.resume()


def force_off(domain: libvirt.virDomain) -> None:
    """Forces a domain off, where it is on.

    With cgroup v2 libvirt kills a container's processes group by group, and gives up where a group
    goes while it looks into it: then it is asked again.
    """
    for attempt in range(_ATTEMPTS):
        try:
            if domain.isActive():
                domain.destroy()
            return
        except libvirt.libvirtError as error:
            if error.get_error_code() in _ENDED:
                return  # it stopped by itself in between
            gone = "/sys/fs/cgroup/" in (error.get_error_message() or "")
            if not gone or attempt == _ATTEMPTS - 1:
                raise
        time.sleep(_AGAIN)


def _create(domain: libvirt.virDomain) -> None:
    """Starts a domain.

    libvirt finds a free loop device for a container and then takes it, in two steps: where two
    containers start at once, one finds it taken and has to look again. A container that libvirt
    would not see end starts again, too.
    """
    for attempt in range(_ATTEMPTS):
        last = attempt == _ATTEMPTS - 1
        try:
            domain.create()
        except libvirt.libvirtError as error:
            taken = "to loop device" in (error.get_error_message() or "")
            if not taken or last:
                raise
            time.sleep(random.uniform(0.02, 0.2))  # noqa: S311 - so that they don't meet again
        else:
            if last or not _unheard(domain):
                return
            domain.destroy()


def _unheard(domain: libvirt.virDomain) -> bool:
    """Whether libvirtd has lost its connection to a container's process already.

    Seen with libvirt 9.0 on a busy machine, once in some seventy starts: such a container counts
    as running for ever, whatever becomes of it.
    """
    if domain.connect().getURI() != "lxc:///system":
        return False
    return unconnected(Path("/proc/net/unix").read_text(), f"/run/libvirt/lxc/{domain.name()}.sock")


def unconnected(sockets: str, path: str) -> bool:
    """Whether somebody listens at a path and nobody is connected, by /proc/net/unix (proc(5)).

    Of a path that is not in it, as in a network namespace of our own, nothing is known.
    """
    lines = (line.split() for line in sockets.splitlines() if line.endswith(f" {path}"))
    states = {fields[5] for fields in lines}
    return bool(states) and _CONNECTED not in states


def _limit(domain: libvirt.virDomain, driver: Driver) -> None:
    """Gives a container the memory that it has; libvirt starts it with all that it may have."""
    if driver.root != "layer":
        return
    root = tree.parse(domain.XMLDesc(0), "a domain")
    now, most = (int(root.findtext(each, "0")) for each in ("currentMemory", "memory"))
    if now < most:
        domain.setMemoryFlags(now, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _macs(domain: libvirt.virDomain) -> set[str]:
    root = tree.parse(domain.XMLDesc(0), "a domain")
    return {each.get("address", "").lower() for each in root.iterfind(".//interface/mac")}


def _usable(interfaces: Mapping[str, Mapping[str, object]], macs: set[str]) -> list[str]:
    """The addresses of the guest's own cards that somebody else can reach."""
    found: list[str] = []
    for each in interfaces.values():
        if str(each.get("hwaddr") or "").lower() not in macs:
            continue
        addresses = each.get("addrs") or []
        assert isinstance(addresses, list)
        for entry in addresses:
            try:
                address = ip_address(entry["addr"])
            except ValueError:  # the guest's agent may say anything
                continue
            scoped = "%" in str(address)  # behind the % any text may stand
            if not (address.is_loopback or address.is_link_local or scoped):
                found.append(str(address))
    return sorted(set(found), key=lambda each: (":" in each, each))
