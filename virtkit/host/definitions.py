"""What libvirt has written down of one host's domains: defined, read, recorded, undefined."""

from __future__ import annotations

from dataclasses import replace

import libvirt

from virtkit.drivers import DRIVERS, Driver
from virtkit.errors import RequestError, VirtkitError
from virtkit.host.connection import Connections
from virtkit.host.errors import libvirt_errors
from virtkit.host.names import checked_name
from virtkit.state.record import GuestRecord
from virtkit.state.record_text import NAMESPACE, guest_element, read_guest
from virtkit.xml import machine_state, tree

#: What libvirt says of XML that it will not have.
_REFUSALS = (
    libvirt.VIR_ERR_XML_ERROR,
    libvirt.VIR_ERR_XML_DETAIL,
    libvirt.VIR_ERR_XML_INVALID_SCHEMA,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
)
#: What libvirt says where it does not undefine a domain, as something would go with it; or where it
#: does not know how to leave the rest.
_KEPT_FOR_OTHERS = (
    libvirt.VIR_ERR_OPERATION_INVALID,
    libvirt.VIR_ERR_INVALID_ARG,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
)


class Definitions:
    """The definitions of one host's domains. A driver and a domain's name say which."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def _domain(self, driver: Driver, name: str) -> libvirt.virDomain:
        with libvirt_errors("find", f"domain {name}", where=self._connections.host):
            return self._connections.get(driver.scheme).lookupByName(checked_name(name))

    def define(self, driver: Driver, xml: str, *, autostart: bool) -> None:
        """Defines a domain; libvirt checks the XML against its schema first."""
        connection = self._connections.get(driver.scheme)
        name = checked_name(tree.parse(xml, "a domain").findtext("name"))
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
        if not driver.native_format:
            return
        connection = self._connections.get(driver.scheme)
        try:
            connection.domainXMLToNative(driver.native_format, xml, 0)
        except libvirt.libvirtError as error:
            if invalid_xml(error):
                name = tree.parse(xml, "a domain").findtext("name")
                raise RequestError(
                    f"domain {name}: libvirt refuses this XML",
                    why=error.get_error_message() or str(error),
                    cure="look at it with `virtkit render SPEC GUEST`; fix `devices`, `template` "
                    "or the value named",
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

    def forget_state(self, driver: Driver, name: str, former: str, wanted: str) -> None:
        """Removes what libvirt keeps of a domain that is off and that it no longer has: variables
        of other firmware, a TPM's state. libvirt itself does so as it undefines a domain that has
        them, so the domain is defined as it was, undefined, and defined again.

        Where that would lose what others made of it (snapshots, saved memory), the state stays.

        Args:
            former: the XML of the domain as it was.
            wanted: its XML as it is to be.
        """
        was = tree.parse(former, "a domain")
        state = machine_state.outdated(was, tree.parse(wanted, "a domain"))
        if not state:
            return
        domain = self._domain(driver, name)
        if domain.isActive():
            return
        current = self.definition(driver, name)
        old = tree.to_text(machine_state.with_former_machine(tree.parse(current, "a domain"), was))
        connection, flags = self._connections.get(driver.scheme), 0
        for each in ("NVRAM", "TPM"):
            flag = each if each in state else f"KEEP_{each}"
            flags |= getattr(libvirt, f"VIR_DOMAIN_UNDEFINE_{flag}")
        with libvirt_errors("define", f"domain {name}", where=self._connections.host):
            autostart = domain.autostart()
            try:
                connection.defineXMLFlags(old, 0).undefineFlags(flags)
            except libvirt.libvirtError as error:
                if error.get_error_code() not in _KEPT_FOR_OTHERS:
                    raise
            finally:
                connection.defineXMLFlags(current, 0).setAutostart(autostart)

    def write_record(self, record: GuestRecord) -> None:
        """Replaces our element in a domain's metadata, live and for the next boot."""
        domain = self._domain(DRIVERS[record.type], record.domain)
        with libvirt_errors("record", f"domain {record.domain}", where=self._connections.host):
            kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
            element = guest_element(record, without_namespace=True)
            domain.setMetadata(kind, element, "vk", NAMESPACE, affect_flags(domain))

    def set_autostart(self, driver: Driver, name: str, on: bool) -> None:
        """Says whether libvirt starts a domain with the host."""
        domain = self._domain(driver, name)
        with libvirt_errors("autostart", f"domain {name}", where=self._connections.host):
            domain.setAutostart(int(on))

    def secure_xml(self, driver: Driver, name: str) -> str:
        """The running domain's XML with its secrets, for the caller's eyes only."""
        domain = self._domain(driver, name)
        with libvirt_errors("read", f"domain {name}", where=self._connections.host):
            return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))

    # --- the end --------------------------------------------------------------------------

    def check_record(self, record: GuestRecord) -> None:
        """Looks once more, right before something of a guest's goes, whether it is its own.

        Raises:
            VirtkitError: the domain is no longer this guest, or lists other volumes.
        """
        domain = self._domain(DRIVERS[record.type], record.domain)
        if not record.is_covered_by(self._record(domain)):
            raise domain_changed(record, self._connections)

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
        if not replace(record, volumes=()).is_covered_by(self._record(domain)):
            raise domain_changed(record, self._connections)
        with libvirt_errors("delete", f"domain {record.domain}", where=self._connections.host):
            flags = 0
            for flag in driver.undefine_flags:
                flags |= getattr(libvirt, flag)
            domain.undefineFlags(flags) if flags else domain.undefine()


def invalid_xml(error: libvirt.libvirtError) -> bool:
    """Whether libvirt finds a domain's XML wrong, whatever is on the host."""
    code, part = error.get_error_code(), error.get_error_domain()
    return code in _REFUSALS or (
        # its parser and validator have no code of their own for some; drivers use this for all
        code == libvirt.VIR_ERR_INTERNAL_ERROR and part == libvirt.VIR_FROM_DOMAIN
    )


def affect_flags(domain: libvirt.virDomain) -> int:
    """libvirt's flags for a change of a domain as it runs and as it is defined, as far as it is."""
    flags: int = libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
    return flags | (libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0)


def domain_changed(record: GuestRecord, connections: Connections) -> VirtkitError:
    """The error for a domain that was ours when a run began."""
    virsh = connections.virsh_command(DRIVERS[record.type].scheme)
    return VirtkitError(
        f"domain {record.domain} (guest {record.guest} of environment {record.environment}) has "
        "changed since this run looked at it",
        why="its record is gone or has changed; nothing was deleted",
        cure=f"see {virsh} dumpxml {record.domain}, then run again",
        where=f"{connections.host} guest/{record.guest}",
    )
