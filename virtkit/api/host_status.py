"""Hosts as they are: whether they answer, what they can run, how much room they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from functools import partial
from typing import Any

from virtkit._dataclass import dataclass
from virtkit.api._hosts import Say, chosen_hosts, quiet
from virtkit.api._observation import is_silence, side_by_side
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError, VirtkitError
from virtkit.facts import Room
from virtkit.host import Host
from virtkit.spec import Spec


@dataclass(frozen=True)
class HostStatus:
    """One host as it is.

    Attributes:
        address: as for ssh; empty for this machine.
        error: why it does not answer; None where it does.
        libvirt: its version.
        types: the guest types that it can run; None where nobody asked.
        room: its memory and CPUs, and what is left of them.
        load: the processes that want its CPUs, over the last minute; None where nobody could look.
        guests: those of virtkit's there, whatever their environment.
        domains: all that its libvirt knows, strangers' too.
    """

    name: str
    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    error: VirtkitError | None = None
    libvirt: str = ""
    types: tuple[str, ...] | None = None
    room: Room | None = None
    load: float | None = None
    guests: int = 0
    domains: int = 0

    @property
    def reachable(self) -> bool:
        """Whether the host answers; ``answers`` in JSON."""
        return self.error is None

    def as_dict(self) -> dict[str, Any]:
        room = self.room
        document = {
            "name": self.name,
            "address": self.address,
            "labels": dict(self.labels),
            "answers": self.reachable,
            "error": self.error.as_dict() if self.error else None,
            "libvirt": self.libvirt,
            "cpus": {"all": room.cpus, "used": room.used} if room else None,
            "memory": {"all": room.memory, "free": room.free} if room else None,
            "load": self.load,
            "guests": self.guests,
            "domains": self.domains,
        }
        return document if self.types is None else {**document, "types": list(self.types)}


def host_status(
    spec: Spec | None = None,
    names: Sequence[str] = (),
    *,
    types: bool = True,
    say: Say = quiet,
) -> list[HostStatus]:
    """Hosts as they are; they are looked at side by side.

    Args:
        names: of the spec's hosts, or as for ssh; left out, all of the spec's, or this machine.
        types: which guest types each can run, too: it may take a probe guest.
        say: told where it does.

    Raises:
        RequestError: a name stands for no host.
    """
    hosts = chosen_hosts(spec, names)
    known = [
        HostStatus(
            each.name,
            each.remote.address if each.remote else "",
            spec.hosts[each.name].labels if spec and each.name in spec.hosts else {},
        )
        for each in hosts
    ]
    calls = [
        partial(_ask, host, status, types, say) for host, status in zip(hosts, known, strict=True)
    ]
    return [
        replace(status, error=answer) if isinstance(answer, VirtkitError) else answer
        for status, answer in zip(known, side_by_side(calls), strict=True)
    ]


def _ask(host: Host, status: HostStatus, types: bool, say: Say) -> HostStatus:
    """Asks a host for what ``status`` lacks.

    Raises:
        VirtkitError: it does not answer.
    """
    try:
        observed = host.observe(pool=False)
        load = None
        with suppress(VirtkitError):
            load = float(host.ask("load")["load"])
        return replace(
            status,
            libvirt=host.libvirt_version(),
            types=_types(host, say) if types else None,
            room=host.room(),
            load=load,
            guests=len(observed.guests),
            domains=len(observed.guests) + len(observed.foreign_domains),
        )
    finally:
        host.connections.release()


def _types(host: Host, say: Say) -> tuple[str, ...]:
    try:
        facts = host.facts()
    except RequestError as error:
        if is_silence(error):
            raise
        say(f"host {host.name} can run no guests: {error.what}; cure: {error.cure}")
        return ()
    try:
        facts = host.with_kvm(facts, say)
        unknown = set()
    except VirtkitError as error:  # the probe guest could not be had
        say(f"host {host.name}: {error.why or error.what}")
        unknown = {each.type for each in DRIVERS.values() if each.needs_kvm}
    able = (each.type for each in DRIVERS.values() if not each.check(facts))
    return tuple(each for each in able if each not in unknown)
