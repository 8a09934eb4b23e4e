"""What may be where nobody answers: on a silent host, or of a driver that does not answer on one
that does."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from virtkit import access
from virtkit.api._hosts import existing_guests
from virtkit.api._observation import (
    HostState,
    Observation,
    may_have,
    observe,
    place_of,
    schemes_of,
)
from virtkit.drivers import DRIVERS
from virtkit.host import Host
from virtkit.spec import Spec


def observe_spec(spec: Spec, hosts: Sequence[Host], *, pool: bool = False) -> Observation:
    """What stands on those hosts that answer; all are looked at side by side.

    Args:
        pool: look into the pools, too.

    Raises:
        RequestError: what was asked for is wrong.
        VirtkitError: none of them answers.
    """
    observation = observe(hosts, pool=pool)
    if not pool and _may_be_hidden(spec, observation):
        observation = observe(hosts, pool=True)
    return with_lost_drivers(spec, observation)


def _may_be_hidden(spec: Spec, observation: Observation) -> bool:
    """Whether a guest is not there, and its host seems not to have the driver: only the pool's
    record tells whether it ever was."""
    existing = existing_guests(spec, observation.host_states)
    return any(
        spec.host_of(name) in (None, each.host.name)
        and schemes_of(guest.type) & each.observed.absent.keys()
        for name, guest in spec.guests.items()
        for each in observation.host_states
        if name not in existing
    )


def with_lost_drivers(spec: Spec, observation: Observation) -> Observation:
    """The same, where a driver that a host seems not to have does not answer if the pool's record
    lists guests of the environment that it had."""
    return observation.with_places(
        {
            place_of(each.host.name, scheme): each.observed.absent[scheme]
            for each in observation.host_states
            for scheme in _hidden(spec, each).values()
            if scheme in each.observed.absent
        }
    )


def _hidden(spec: Spec, host_state: HostState) -> dict[str, str]:
    """The environment's guests of which nobody knows whether they have a domain, and the drivers
    that would tell."""
    records = host_state.observed.hidden_of(spec.name)
    return {each.guest: DRIVERS[each.type].scheme for each in records}


def unknown_places(
    spec: Spec, host_states: Sequence[HostState], unanswered: Collection[str]
) -> dict[str, str]:
    """The guests that may be where nobody answers, each with the place: those that the spec has
    there, those that were last seen there, and those that a pool's record lists."""
    answer: dict[str, str] = {}
    existing = existing_guests(spec, host_states, undefined=True)
    for name, guest in spec.guests.items() if unanswered else ():
        host = spec.host_of(name)
        if host is None and name not in existing:
            host = access.last_host(spec.name, f"{spec.name}-{name}")
        places = [each for each in unanswered if may_have(each, host or "", guest.type)]
        if name in existing:  # a driver hides none that is seen
            places = [each for each in places if each == host]
        if places:
            answer[name] = min(places, key=len)
    for host_state in host_states:
        for name, scheme in _hidden(spec, host_state).items():
            place = place_of(host_state.host.name, scheme)
            if place in unanswered and name not in existing:
                answer.setdefault(name, place)
    return answer
