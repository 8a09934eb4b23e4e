"""What a guest asks of its host's libvirt, against what that has: processor, memory, TPM,
firmware.

Only what is to be made or started is looked at. What nobody could ask the host is let through:
libvirt itself then says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from virtkit.errors import RequestError
from virtkit.facts import HostFacts, MachineFacts, version_text
from virtkit.plan import host_memory
from virtkit.plan.changes import Change
from virtkit.spec import suggestion
from virtkit.spec.model import CPU_MODES, DiskDevice, GuestSpec, Spec, number_ranges
from virtkit.spec.problem import quote
from virtkit.state.desired import Guest
from virtkit.state.observed import ObservedGuest

#: What is asked of a CPU's feature where the guest can do without it.
_GIVEN_UP = ("disable", "forbid", "optional")
#: The parts of ``cpu`` that name the host's.
_PINS = ("pin", "emulator_pin", "io_thread_pin")
_INSTALL = "on the host: sudo apt-get install"


def asks(guest: GuestSpec) -> bool:
    """Whether a guest asks for something that not every host's libvirt has."""
    cpu = guest.cpu
    named = cpu.model is not None and cpu.model not in CPU_MODES
    other = guest.tpm or guest.firmware != "bios" or guest.system != "linux"
    pinned = any(getattr(cpu, key) for key in _PINS)
    return named or pinned or other or host_memory.asks(guest)


def errors(changes: Iterable[Change], facts: HostFacts) -> Iterator[RequestError]:
    """What the host that ``facts`` describe can't give the guests that ``changes`` start."""
    every = [*changes]
    starting = {each.object for each in every if isinstance(each.desired, Guest) and _starts(each)}
    yield from host_memory.page_errors(every, starting, facts)
    for change in every:
        guest = change.desired
        if isinstance(guest, Guest) and change.object in starting:
            yield from _pins(guest, facts)
            yield from _buses(guest, facts)
            yield from host_memory.node_errors(guest, facts)
            machine = facts.machines.get(guest.driver.domain_type)
            if machine is not None:
                yield from _model(guest, machine)
                yield from _tpm(guest, machine)
                yield from _firmware(guest, machine)
                yield from _hyperv(guest, machine)


def notes(changes: Iterable[Change]) -> Iterator[str]:
    """What guests that ``changes`` start see otherwise than their spec has it."""
    for change in changes:
        guest = change.desired
        if not isinstance(guest, Guest) or not _starts(change):
            continue
        cpu = guest.spec.cpu
        if cpu.topology and cpu.topology.threads > 1 and cpu.model in guest.driver.threadless:
            yield (
                f"guest/{guest.name}: its system sees a core for each thread: the processor "
                f"{cpu.model} of type {guest.driver.type} has none; without `cpu: {{model: …}}` it "
                "has another one"
            )


def _starts(change: Change) -> bool:
    """Whether a guest begins to run with what it now asks for, or will when it is restarted."""
    current = change.observed
    off = isinstance(current, ObservedGuest) and current.state == "stopped"
    return change.action in ("create", "replace") or off or change.effect == "restart"


def _pins(guest: Guest, facts: HostFacts) -> Iterator[RequestError]:
    cpu, online = guest.spec.cpu, facts.cpu_numbers
    for key in _PINS:
        missing = [each for each in dict.fromkeys(getattr(cpu, key) or ()) if each not in online]
        if online and missing:
            yield RequestError(
                f"guest {guest.name}: host {guest.host} has no CPU {', '.join(map(str, missing))}",
                why=f"its CPUs are {number_ranges(online).replace(',', ', ')}",
                cure=f"name others in `cpu: {{{key}: […]}}`, or remove it",
                where=guest.where("cpu"),
            )


def bus_positions(spec: Spec, name: str) -> dict[str, str]:
    """Where in the spec a guest names the buses of its disks, by the path there."""
    guest = spec.guests[name]
    paths = [("disk",), *(("disks", index) for index in range(len(guest.disks)))]
    return {
        _bus_key(disk): spec.where(("guests", name, *path, "bus"))
        for path, disk in zip(paths, (guest.disk, *guest.disks), strict=True)
        if disk.bus is not None
    }


def _bus_key(disk: DiskDevice) -> str:
    """What ``Guest.positions`` calls the place of a disk's bus."""
    return f"disks.{getattr(disk, 'name', '')}.bus"


def _buses(guest: Guest, facts: HostFacts) -> Iterator[RequestError]:
    connection = facts.connections.get(guest.driver.scheme)
    version = connection.libvirt_version if connection else 0
    buses = guest.driver.buses
    for disk in (guest.spec.disk, *guest.spec.disks):
        bus = buses.get(disk.bus or "")
        if bus is not None and 0 < version < bus.since:
            others = " or ".join(name for name, each in buses.items() if not each.since)
            yield RequestError(
                f"guest {guest.name}: libvirt of host {guest.host} has no bus {disk.bus}",
                why=f"it is version {version_text(version)}, and has that from "
                f"{version_text(bus.since)} on",
                cure=f"use {others}, or a host with a newer libvirt",
                where=guest.positions.get(_bus_key(disk), guest.where()),
            )


def _model(guest: Guest, machine: MachineFacts) -> Iterator[RequestError]:
    cpu, known = guest.spec.cpu, machine.cpu_models
    name = cpu.model
    if name is None or name in CPU_MODES or not known:
        return
    usable = sorted(each for each, runs in known.items() if runs)
    # an emulated processor does without what it can't do; so does one whose features are given up
    lenient = not guest.driver.needs_kvm or not {*cpu.features.values()}.isdisjoint(_GIVEN_UP)
    if name not in known:
        yield RequestError(
            f"guest {guest.name}: libvirt of host {guest.host} knows no CPU model {quote(name)}",
            cure=suggestion(name, [*known]),
            where=guest.where("cpu"),
        )
    elif not known[name] and not lenient:
        yield RequestError(
            f"guest {guest.name}: host {guest.host} can't run the CPU model {name}",
            why="its libvirt says that the host's processor lacks something of it",
            cure=f"use host-model, or one of: {', '.join(usable)}",
            where=guest.where("cpu"),
        )


def _tpm(guest: Guest, machine: MachineFacts) -> Iterator[RequestError]:
    if guest.spec.tpm and not machine.tpm:
        yield RequestError(
            f"guest {guest.name}: host {guest.host} can't emulate a TPM",
            why="libvirt starts swtpm for that, and finds none there",
            cure=f"{_INSTALL} swtpm swtpm-tools; or remove `tpm:`",
            where=guest.where("tpm"),
        )


def _firmware(guest: Guest, machine: MachineFacts) -> Iterator[RequestError]:
    wanted = guest.spec.firmware
    if wanted not in machine.firmware:
        what = "UEFI firmware with Secure Boot" if wanted == "secure" else "UEFI firmware"
        yield RequestError(
            f"guest {guest.name}: host {guest.host} has no {what}",
            why="its libvirt finds none in /usr/share/qemu/firmware",
            cure=f"{_INSTALL} ovmf; or use another `firmware:`",
            where=guest.where("firmware"),
        )


def _hyperv(guest: Guest, machine: MachineFacts) -> Iterator[RequestError]:
    if guest.spec.system != "windows" or machine.hyperv is None:
        return
    wanted = (*guest.driver.hyperv, *(("vendor_id",) if guest.spec.cpu.hidden else ()))
    missing = [each for each in wanted if each not in machine.hyperv]
    if missing:
        yield RequestError(
            f"guest {guest.name}: KVM of host {guest.host} lacks what Windows is given",
            why=f"its libvirt knows none of Hyper-V's {', '.join(missing)} there",
            cure="use another host, or `type: qemu`, which does without and is slow; or a "
            "`template:` that leaves them out",
            where=guest.where("system"),
        )
