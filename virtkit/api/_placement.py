"""Which host each guest of an environment is on, and which may move."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace

from virtkit import access
from virtkit._dataclass import dataclass
from virtkit.api._hosts import Say
from virtkit.api._observation import HostState, ask_each, check_request, silence, split_place
from virtkit.api._silence import unknown_places
from virtkit.drivers import AUTO, DRIVERS
from virtkit.errors import RequestError, SpecErrors, VirtkitError
from virtkit.facts import HostFacts, KvmVerdict
from virtkit.host import Host, LibvirtUnavailable
from virtkit.plan import Plan, UnknownGuest
from virtkit.plan.placement import Candidate, place
from virtkit.spec import LOCAL, Spec, model
from virtkit.state.observed import ObservedGuest

#: What starts a guest.
_STARTS = ("create", "replace", "start")


def unknown_guests(
    spec: Spec, host_states: Sequence[HostState], unanswered: Collection[str]
) -> list[UnknownGuest]:
    """The guests that may be where nobody answers."""
    places = unknown_places(spec, host_states, unanswered)
    return [
        UnknownGuest(name, split_place(place)[0], silence(place), place)
        for name, place in places.items()
    ]


def blocked_guests(spec: Spec, unknown: Iterable[UnknownGuest]) -> list[UnknownGuest]:
    """The guests that are ``after`` unknown ones, and may not start before those are ready."""
    because = {each.guest: each for each in unknown}
    answer: dict[str, UnknownGuest] = {}
    todo = True
    while todo:
        todo = False
        for name, guest in spec.guests.items():
            cause = next((each for each in guest.after if each in because), None)
            if cause is not None and name not in because:
                host, place = because[cause].host, because[cause].place
                why = f"it is after {cause}, and {silence(place)}"
                because[name] = answer[name] = UnknownGuest(name, host, why, place)
                todo = True
    return list(answer.values())


def with_unknown(
    plan: Plan,
    spec: Spec,
    unanswered: Mapping[str, VirtkitError],
    unknown: Sequence[UnknownGuest],
    only: Collection[str] | None,
) -> Plan:
    """A plan of the hosts that answer, with what is left alone because others don't."""
    blocked = blocked_guests(spec, unknown)
    starting = {f"guest/{each.guest}" for each in blocked}
    changes = tuple(e for e in plan.changes if e.object not in starting or e.action not in _STARTS)
    dropped = {each.object for each in plan.changes} - {each.object for each in changes}
    alone = [*unknown, *(each for each in blocked if f"guest/{each.guest}" in dropped)]
    alone = [each for each in alone if only is None or each.guest in only]
    return replace(
        plan,
        changes=changes,
        unanswered=dict(unanswered),
        unknown=tuple(alone),
    )


def place_guests(
    spec: Spec, host_states: Sequence[HostState], unknown: Iterable[UnknownGuest] = ()
) -> dict[str, str]:
    """The host of each guest: the spec's; else the one that has it already; else ``local``, or
    the only other one whose libvirt knows its type where ``local`` doesn't.

    Args:
        unknown: guests that are left out, as are new ones that the spec has a ``place`` for.
    """
    host_for = functools.cache(lambda type: _host_for_type(type, host_states))
    left_out = {each.guest for each in unknown}
    existing = {
        each.host.name: each.observed.undefined_of(spec.name) | each.observed.guests_of(spec.name)
        for each in host_states
    }
    answer: dict[str, str] = {}
    for name, guest in spec.guests.items():
        if name in left_out:
            continue
        host = spec.host_of(name)
        if host is None:
            holder = _current_host(host_states, existing, guest)
            if holder is None and guest.place is not None and len(spec.hosts) > 1:
                continue
            host = holder.host.name if holder else host_for(guest.type)
        answer[name] = host
    return answer


@dataclass(frozen=True)
class ChosenHosts:
    """The hosts of new guests that have a ``place``.

    Attributes:
        hosts: by guest.
        notes: why.
        facts: what is known of the hosts that were asked, by their names.
        silent: why others of them did not answer.
    """

    hosts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: Mapping[str, HostFacts] = field(default_factory=dict)
    silent: Mapping[str, VirtkitError] = field(default_factory=dict)


def choose_hosts(
    spec: Spec,
    host_states: Sequence[HostState],
    unknown: Sequence[UnknownGuest],
    only: Collection[str] | None,
    say: Say,
) -> ChosenHosts:
    """Chooses hosts for the new guests that have a ``place``, among those that answer; none where
    one of these is silent now.

    Raises:
        RequestError: a host has no pool that virtkit can use.
        SpecErrors: no host has room, or may have one of them.
    """
    current = place_guests(spec, host_states, unknown)
    left_out = {*current, *(each.guest for each in unknown)}
    new = [n for n in spec.guests if n not in left_out and (only is None or n in only)]
    if not new:
        return ChosenHosts()
    kvm = any(spec.guests[name].type == "kvm" for name in new)

    def candidate(host: Host) -> tuple[HostFacts, Candidate]:
        facts = host.facts()
        try:
            facts = host.with_kvm(facts, say) if kvm else facts
        except LibvirtUnavailable:
            raise
        except VirtkitError as error:  # it answers, and can't have this guest
            unusable = KvmVerdict(False, error.why or error.what, temporary=True)
            return facts, _candidate(spec, host, replace(facts, kvm=unusable))
        return facts, _candidate(spec, host, facts)

    hosts = [each.host for each in host_states]
    answers = ask_each(hosts, candidate)
    check_request(answers)
    names = [each.name for each in hosts]
    silent = {n: e for n, e in zip(names, answers, strict=True) if isinstance(e, VirtkitError)}
    if silent:
        return ChosenHosts(silent=silent)
    looked_at = [each for each in answers if not isinstance(each, VirtkitError)]
    placements = place(spec, [each for _, each in looked_at], current, new)
    return ChosenHosts(
        {name: each.host for name, each in placements.items()},
        tuple(f"guest/{name} goes to {each.host}: {each.why}" for name, each in placements.items()),
        {facts.name: facts for facts, _ in looked_at},
    )


def _candidate(spec: Spec, host: Host, facts: HostFacts) -> Candidate:
    """A host on which new guests may be placed."""
    types = {guest.type for guest in spec.guests.values() if guest.place is not None}
    unable = {}
    for type in types:
        drivers = [DRIVERS[each] for each in (AUTO if type == "auto" else (type,))]
        reasons = [driver.check(facts) for driver in drivers]
        if all(reasons):
            unable[type] = reasons[-1][0].why
    return Candidate(host.name, host.room(), spec.hosts[host.name].labels, unable)


def _current_host(
    host_states: Sequence[HostState],
    existing: Mapping[str, Mapping[str, ObservedGuest]],
    guest: model.GuestSpec,
) -> HostState | None:
    """The host that has a guest as the type that it is to be; one with a ``place`` stays where it
    is as another type, too, where that host runs it.

    Args:
        existing: the environment's guests, by host and by name.
    """
    other = None
    for each in host_states:
        current = existing[each.host.name].get(guest.name)
        if current is None:
            continue
        if guest.type in ("auto", current.record.type):
            return each
        if guest.place is not None and each.host.has_driver(DRIVERS[guest.type]):
            other = other or each
    return other


def _host_for_type(type: str, host_states: Sequence[HostState]) -> str:
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
                        cure=f"set `host: {host}`; or remove the disks from the spec and run "
                        f"`{spec.command('up', name)}` before it moves",
                        where=spec.where(("guests", name)),
                    )
                )
    if errors:
        raise SpecErrors(errors)


def left_host_notes(spec: Spec) -> Iterable[str]:
    """A note for each host that left the spec: what is there is not looked at."""
    for name in sorted(access.hosts_with_guests(spec.name) - {*spec.hosts}):
        yield (
            f"host {name} is no longer in the spec, so guests of {spec.name} on it are not looked "
            "at; put it back into `hosts:` to see or remove them"
        )
