"""Which host each guest of an environment is on, and which may move."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence

from virtkit import access
from virtkit.api._hosts import HostState
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError, SpecErrors
from virtkit.spec import LOCAL, Spec, model
from virtkit.state.observed import Observed


def place_guests(spec: Spec, host_states: Sequence[HostState]) -> dict[str, str]:
    """The host of each guest: the spec's; else the one that has it already; else ``local``, or
    the only other one whose libvirt knows its type where ``local`` doesn't."""
    host_for = functools.cache(lambda type: _able(type, host_states))
    answer: dict[str, str] = {}
    for name, guest in spec.guests.items():
        host = spec.host_of(name)
        if host is None:
            holders = (each for each in host_states if _has(each.observed, spec, guest))
            holder = next(holders, None)
            host = holder.host.name if holder else host_for(guest.type)
        answer[name] = host
    return answer


def _has(observed: Observed, spec: Spec, guest: model.GuestSpec) -> bool:
    """Whether a guest is there, and as the type that it is to be."""
    current = (observed.undefined_of(spec.name) | observed.guests_of(spec.name)).get(guest.name)
    return current is not None and guest.type in ("auto", current.record.type)


def _able(type: str, host_states: Sequence[HostState]) -> str:
    """The host for new guests of a type."""
    if type == "auto":
        return LOCAL
    names = [each.host.name for each in host_states if each.host.has_driver(DRIVERS[type])]
    return names[0] if len(names) == 1 else LOCAL


def check_moves(
    spec: Spec,
    host_states: Sequence[HostState],
    placement: Mapping[str, str],
    only: Collection[str] | None,
) -> None:
    """Refuses to move guests to a host where their disks can't follow."""
    errors = []
    for host_state in host_states:
        host = host_state.host.name
        guests = host_state.observed.undefined_of(spec.name) | host_state.observed.guests_of(
            spec.name
        )
        for name, guest in guests.items():
            new_host = placement.get(name, host)
            disks = [each.name for each in guest.record.volumes if each.role == "disk"]
            if new_host != host and disks and (only is None or name in only):
                errors.append(
                    RequestError(
                        f"guest {name} can't move from host {host} to {new_host}",
                        why=f"{', '.join(disks)} would not follow",
                        cure=f"set `host: {host}`; or take the disks out of the spec and "
                        "run `virtkit up` before it moves",
                        where=spec.where(("guests", name)),
                    )
                )
    if errors:
        raise SpecErrors(errors)


def left_hosts(spec: Spec) -> Iterable[str]:
    """The hosts that left the spec: what is there is not looked at."""
    for name in sorted(access.hosts(spec.name) - {*spec.hosts}):
        yield (
            f"host {name} is no longer in the spec, so guests of {spec.name} on it are not looked "
            "at; put it back into `hosts:` to see or remove them"
        )
