"""Domains of one host: started, stopped, changed while they run. Each strategy stands here once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import libvirt

from virtkit.drivers import Driver, Stop
from virtkit.host import guest_addresses, power
from virtkit.host.connection import Connections
from virtkit.host.definitions import Definitions, affect_flags
from virtkit.host.errors import libvirt_errors
from virtkit.host.names import checked_name
from virtkit.host.power import force_off
from virtkit.host.state_reason import StateReason, reason_of
from virtkit.host.timeouts import ANSWER_TIMEOUT, call_with_timeout
from virtkit.state.observed import GuestState

if TYPE_CHECKING:
    from virtkit.state.desired import Volume

_STATES: Mapping[int, GuestState] = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_SHUTDOWN: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "paused",
}


def state_of(domain: libvirt.virDomain) -> GuestState:
    """A domain's state in virtkit's words."""
    return _STATES.get(domain.state()[0], "stopped")


class Domains(Definitions):
    """The domains of one host, running or not. A driver and a domain's name say which."""

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections)
        self._starting = threading.Lock()

    def _call(
        self,
        driver: Driver,
        name: str,
        call: Callable[[libvirt.virDomain], object],
        timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        call_with_timeout(
            partial(self._domain, driver, name), call, self._connections.host, timeout
        )

    def start(self, driver: Driver, name: str) -> None:
        """Starts a stopped domain, resumes a paused one, leaves a running one."""
        domain = self._domain(driver, name)
        with libvirt_errors("start", f"domain {name}", where=self._connections.host):
            state = state_of(domain)
            if state == "stopped":
                self._create(driver, domain)
            elif state == "paused":
                self._call(driver, name, _resume)

    def pause(self, driver: Driver, name: str) -> None:
        """Pauses a running domain, leaves others."""
        domain = self._domain(driver, name)
        with libvirt_errors("pause", f"domain {name}", where=self._connections.host):
            if state_of(domain) == "running":
                self._call(driver, name, libvirt.virDomain.suspend)

    def resume(self, driver: Driver, name: str, timeout: float = ANSWER_TIMEOUT) -> None:
        """Resumes a paused domain, leaves a running one."""
        domain = self._domain(driver, name)
        with libvirt_errors("resume", f"domain {name}", where=self._connections.host):
            if state_of(domain) == "paused":
                self._call(driver, name, _resume, timeout)

    def reset(self, driver: Driver, name: str) -> None:
        """Presses the reset button; a container is destroyed and started."""
        domain = self._domain(driver, name)
        with libvirt_errors("reset", f"domain {name}", where=self._connections.host):
            if driver.restart == "reset":
                self._call(driver, name, libvirt.virDomain.reset)
            else:
                force_off(domain)
                self._create(driver, domain)

    def _create(self, driver: Driver, domain: libvirt.virDomain) -> None:
        with self._starting if driver.serial_start else nullcontext():
            power.create(domain, driver, self._sockets)
        power.limit_memory(domain, driver)

    def _sockets(self) -> str:
        from virtkit.host import questions

        return str(questions.ask(self._connections.remote, "sockets")["sockets"])

    def ask_to_stop(self, driver: Driver, name: str, way: Stop, timeout: float) -> None:
        """Asks a running guest to shut down in one of libvirt's ways, and does not wait for it.

        Raises:
            HypervisorUnresponsive: it did not take the question within ``timeout`` seconds.
        """
        flags = {
            "acpi": libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
            "initctl": libvirt.VIR_DOMAIN_SHUTDOWN_INITCTL,
            "paravirt": libvirt.VIR_DOMAIN_SHUTDOWN_PARAVIRT,
            "signal": libvirt.VIR_DOMAIN_SHUTDOWN_SIGNAL,  # to a container's first process
        }
        with libvirt_errors("stop", f"domain {name}", where=self._connections.host):
            self._call(driver, name, lambda each: each.shutdownFlags(flags[way]), timeout)

    def destroy(self, driver: Driver, name: str) -> None:
        """Forces a domain off, where it is on."""
        if self.ended(driver, name):
            return
        domain = self._domain(driver, name)
        with libvirt_errors("stop", f"domain {name}", where=self._connections.host):
            force_off(domain)

    def state(self, driver: Driver, name: str) -> GuestState:
        """A domain's state; one that is gone counts as stopped: libvirt forgets a domain that was
        undefined while it ran as soon as it ends."""
        with libvirt_errors("read", f"domain {name}", where=self._connections.host):
            try:
                return state_of(
                    self._connections.get(driver.scheme).lookupByName(checked_name(name))
                )
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return "stopped"
                raise

    def ended(self, driver: Driver, name: str) -> bool:
        """Whether a domain is stopped, or gone."""
        return self.state(driver, name) == "stopped"

    def state_reason(self, driver: Driver, name: str) -> StateReason:
        """Why it is in its state, where libvirt knows."""
        with libvirt_errors("read", f"domain {name}", where=self._connections.host):
            return reason_of(partial(self._domain, driver, name), self._connections.host)

    def wait_stopped(
        self,
        driver: Driver,
        name: str,
        timeout: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> bool:
        """Whether the domain stopped within ``timeout`` seconds; ``sleep`` may raise to give up."""
        end = time.monotonic() + timeout
        while not self.ended(driver, name):
            if time.monotonic() >= end:
                return False
            sleep(0.2)
        return True

    def addresses(self, driver: Driver, name: str) -> tuple[list[str], list[str]]:
        """The addresses that the host learned of a running guest, and what each source answered."""
        domain = self._domain(driver, name)
        with libvirt_errors("read", f"domain {name}", where=self._connections.host):
            macs = guest_addresses.macs_of(domain)
        return guest_addresses.learned(domain, macs)

    # --- changes of a running domain ------------------------------------------------------

    def attach_device(self, driver: Driver, name: str, device: str) -> None:
        """Gives a running domain a device; its definition is not touched."""
        domain = self._domain(driver, name)
        with libvirt_errors("attach", f"a device of domain {name}", where=self._connections.host):
            domain.attachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def detach_device(self, driver: Driver, name: str, device: str) -> None:
        """Asks a running guest to release a device; it is gone only once the guest has."""
        domain = self._domain(driver, name)
        with libvirt_errors("detach", f"a device of domain {name}", where=self._connections.host):
            domain.detachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def change_disc(self, driver: Driver, name: str, drive: str) -> None:
        """Puts the disc into a running domain's drive that ``drive``, its XML, names, or takes out
        what is in it where that names none.

        Raises:
            VirtkitError: the guest holds it: it has mounted what is in it.
        """
        domain = self._domain(driver, name)
        with libvirt_errors("change", f"a disc of domain {name}", where=self._connections.host):
            domain.updateDeviceFlags(drive, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def set_memory(self, driver: Driver, name: str, size: int) -> None:
        """Gives a running domain ``size`` bytes of the memory that it may have."""
        domain = self._domain(driver, name)
        with libvirt_errors("set the memory of", f"domain {name}", where=self._connections.host):
            domain.setMemoryFlags(size // 1024, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def describe(self, driver: Driver, name: str, text: str | None) -> None:
        """Gives a domain the text that libvirt shows of it, or none, live and for the next boot."""
        domain, kind = self._domain(driver, name), libvirt.VIR_DOMAIN_METADATA_DESCRIPTION
        with libvirt_errors("describe", f"domain {name}", where=self._connections.host):
            domain.setMetadata(kind, text, None, None, affect_flags(domain))

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


def _resume(domain: libvirt.virDomain) -> None:
    """Lets a paused domain go on; one whose own system suspended it is woken."""
    if domain.state()[0] == libvirt.VIR_DOMAIN_PMSUSPENDED:
        domain.pMWakeup(0)
    else:
        domain.resume()
