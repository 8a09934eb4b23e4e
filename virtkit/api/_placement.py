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


def placed(spec: Spec, sites: Sequence[HostState]) -> dict[str, str]:
    """The host of each guest: the spec's; else the one that has it already; else ``local``, or
    the only other one whose libvirt knows its type where ``local`` doesn't."""
    host_for = functools.cache(lambda word: _able(word, sites))
    answer: dict[str, str] = {}
    for name, guest in spec.guests.items():
        host = spec.host_of(name)
        if host is None:
            holders = (each for each in sites if _has(each.observed, spec, guest))
            holder = next(holders, None)
            host = holder.host.name if holder else host_for(guest.type)
        answer[name] = host
    return answer


def _has(observed: Observed, spec: Spec, guest: model.GuestSpec) -> bool:
    """Whether a guest is there, and as the type that it is to be."""
    current = (observed.undefined_of(spec.name) | observed.guests_of(spec.name)).get(guest.name)
    return current is not None and guest.type in ("auto", current.record.type)


def _able(word: str, sites: Sequence[HostState]) -> str:
    """The host for new guests of a type."""
    if word == "auto":
        return LOCAL
    names = [each.host.name for each in sites if each.host.runs(DRIVERS[word])]
    return names[0] if len(names) == 1 else LOCAL


def check_moves(
    spec: Spec, sites: Sequence[HostState], places: Mapping[str, str], only: Collection[str] | None
) -> None:
    """Refuses to move guests to a host where their disks can't follow."""
    errors = []
    for site in sites:
        guests = site.observed.undefined_of(spec.name) | site.observed.guests_of(spec.name)
        for name, guest in guests.items():
            place = places.get(name, site.host.name)
            disks = [each.name for each in guest.record.volumes if each.role == "disk"]
            if place != site.host.name and disks and (only is None or name in only):
                errors.append(
                    RequestError(
                        f"guest {name} can't move from host {site.host.name} to {place}",
                        why=f"{', '.join(disks)} would not follow",
                        cure=f"set `host: {site.host.name}`; or take the disks out of the spec and "
                        "run `virtkit up` before it moves",
                        where=spec.where(("guests", name)),
                    )
                )
    if errors:
        raise SpecErrors(errors)


def left_hosts(spec: Spec) -> Iterable[str]:
    """The hosts that left the spec: what is there is not looked at."""
    for name in sorted(access.hosts(spec.name) - {*spec.hosts}):
        yield f"host {name} left the spec and is not looked at: guests of {spec.name} were there"
