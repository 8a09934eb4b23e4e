"""Guests as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from virtkit import access
from virtkit._dataclass import dataclass
from virtkit.api._hosts import (
    GuestOnHost,
    Say,
    active_runs,
    existing_guests,
    guests_named,
    hosts_of,
    ordered,
    path_of,
    quiet,
    with_spec_path,
)
from virtkit.api._observation import (
    Observation,
    may_have,
    observe,
    split_place,
    unanswered_line,
)
from virtkit.api._silence import observe_spec, unknown_places
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.host import Host
from virtkit.plan import pending_fields
from virtkit.spec import LOCAL, Spec
from virtkit.spec.command import split_files
from virtkit.state.observed import ObservedGuest
from virtkit.state.record import Provisioned


@dataclass(frozen=True)
class GuestStatus:
    """One guest as it is.

    Attributes:
        virtualization: its kind, such as "hardware-assisted"; ``model`` in JSON.
        spec: the path of the spec that it was made from; ``owner``: the user whose file that is,
            empty where there is none here.
        pending: fields whose change waits until it is restarted.
        why: how it got into its state, where libvirt knows and it isn't as it should be.
        playbooks: those that it was last given, how they ended (empty: they run, or were killed),
            when, and how many tasks changed something; None where it was given none.
    """

    environment: str
    name: str
    type: str
    virtualization: str
    host: str
    state: str
    ready: bool
    addresses: tuple[str, ...]
    user: str
    groups: tuple[str, ...]
    spec: str
    pending: tuple[str, ...] = ()
    why: str = ""
    owner: str = ""
    playbooks: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "environment": self.environment,
            "name": self.name,
            "type": self.type,
            "model": self.virtualization,
            "host": self.host,
            "state": self.state,
            "ready": self.ready,
            "addresses": list(self.addresses),
            "user": self.user,
            "groups": list(self.groups),
            "spec": self.spec,
            "pending": list(self.pending),
            "why": self.why,
            "owner": self.owner,
            "playbooks": self.playbooks,
        }


def status(
    spec: Spec | None = None, guests: Sequence[str] = (), *, say: Say = quiet
) -> list[GuestStatus]:
    """The guests of an environment, or all that virtkit owns on this machine.

    Args:
        say: told which of several hosts does not answer, or which driver of one: its guests' state
            is unknown; which guests were made from another spec; and who is changing the
            environment now.

    Raises:
        VirtkitError: no host answers.
    """
    if spec is None:
        return _all_statuses(say)
    observation = observe_spec(spec, hosts_of(spec))
    host_states = observation.host_states
    _say_unanswered(observation, say)
    path = path_of(spec)
    existing = existing_guests(spec, [with_spec_path(each, path) for each in host_states])
    for name, each in existing.items():
        if each.observed.record.spec != path:
            say(f"guest {name} was made from another spec: {each.observed.record.spec}")
    for line in active_runs(spec.name, observation.hosts):
        say(line)
    only = guests_named(spec, existing, guests) if guests else {*spec.guests, *existing}
    answer = _statuses([existing[name] for name in ordered(spec, existing) if name in only])
    missing = [name for name in spec.guests if name in only and name not in existing]
    unanswered = observation.unanswered
    places = unknown_places(spec, host_states, unanswered)
    return answer + [_missing(spec, name, unanswered, places.get(name, "")) for name in missing]


def _say_unanswered(observation: Observation, say: Say) -> None:
    for place, error in observation.unanswered.items():
        say(unanswered_line(place, error))


def _all_statuses(say: Say) -> list[GuestStatus]:
    """All guests of this machine, by environment and by the spec that they were made from."""
    observation = observe(hosts_of(None))
    _say_unanswered(observation, say)
    (host_state,) = observation.host_states
    guests = host_state.observed.guests.values()
    for environment in sorted({each.record.environment for each in guests}):
        for line in active_runs(environment, [host_state.host]):
            say(line)
    statuses = _statuses([GuestOnHost(host_state.host, each) for each in guests])
    return sorted(statuses, key=lambda each: (each.environment, each.spec, each.name))


def _statuses(guests: Sequence[GuestOnHost]) -> list[GuestStatus]:
    if len(guests) < 2:
        return [_status(each.host, each.observed) for each in guests]
    from concurrent.futures import ThreadPoolExecutor  # takes as long to load as a guest to look at

    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(lambda each: _status(each.host, each.observed), guests))


def _status(host: Host, guest: ObservedGuest) -> GuestStatus:
    addresses: list[str] = []
    ready = False
    why = ""
    if guest.state == "running":
        try:
            addresses, _ = access.addresses(host, guest.record)
            ready = not access.unready_reason(host, guest.record, addresses)
        except VirtkitError:  # it went away while we looked
            addresses, ready = [], False
    if not ready and guest.record.finished:  # else it may only be on its way up
        with suppress(VirtkitError):
            why = host.domains.state_reason(DRIVERS[guest.record.type], guest.domain).why
    return GuestStatus(
        environment=guest.record.environment,
        name=guest.record.guest,
        type=guest.record.type,
        virtualization=DRIVERS[guest.record.type].virtualization,
        host=host.name,
        state=guest.state,
        ready=ready,
        addresses=tuple(addresses),
        user=guest.record.requested["user"],
        groups=tuple(guest.record.requested["groups"]),
        spec=guest.record.spec,
        pending=pending_fields(guest),
        why=why,
        owner=_owner(guest.record.spec),
        playbooks=_playbooks(guest.record.provisioned),
    )


def _playbooks(provisioned: Provisioned | None) -> dict[str, Any] | None:
    if provisioned is None:
        return None
    names = list(provisioned.playbooks)
    return {
        "names": names,
        "ended": provisioned.ended,
        "at": provisioned.at,
        "changed": provisioned.changed,
    }


def _owner(path: str) -> str:
    """The user whose file a spec is; empty where there is none to be seen from here."""
    try:
        return Path(split_files(path)[0]).owner() if path.startswith("/") else ""
    except (OSError, ValueError, KeyError):
        return ""


def _missing(spec: Spec, name: str, unanswered: Collection[str], place: str = "") -> GuestStatus:
    """A guest that nobody has seen.

    Args:
        unanswered: what does not answer.
        place: of these, the one that may have it, where that is known.
    """
    guest, host = spec.guests[name], split_place(place)[0] or spec.host_of(name)
    silent = {split_place(e)[0] for e in unanswered if may_have(e, host, guest.type)}
    if host is None and silent:
        last_host = access.last_host(spec.name, f"{spec.name}-{name}")
        host = last_host if last_host in silent else " or ".join(sorted(silent))
    return GuestStatus(
        environment=spec.name,
        name=name,
        type=guest.type,
        virtualization=DRIVERS[guest.type].virtualization if guest.type in DRIVERS else "",
        host=host or LOCAL,
        state="unknown" if place or silent else "missing",
        ready=False,
        addresses=(),
        user=guest.user,
        groups=guest.groups,
        spec=path_of(spec),
        owner=_owner(path_of(spec)),
    )
