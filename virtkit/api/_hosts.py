"""What the public functions share: the spec's hosts, what stands there, and guests by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from virtkit import access
from virtkit._dataclass import dataclass
from virtkit.api._observation import (
    HostState,
    Observation,
    ask_each,
    may_have,
    split_place,
    try_observe,
    unanswered_error,
)
from virtkit.errors import RequestError, VirtkitError
from virtkit.host import Host, Remote, close_all
from virtkit.plan import select
from virtkit.spec import LOCAL, Problem, Spec, ssh_address
from virtkit.spec.command import join_files, split_files
from virtkit.state.observed import ObservedGuest

if TYPE_CHECKING:
    from virtkit.apply import Event

Tell: TypeAlias = "Callable[[Event], None]"
Say: TypeAlias = Callable[[str], None]


def quiet(_: Any) -> None:
    """Takes lines or events, and tells nobody."""


def close() -> None:
    """Ends all connections of this process: the last thing that a program does with them."""
    close_all()


@dataclass(frozen=True)
class GuestOnHost:
    """A guest that exists, and its host."""

    host: Host
    observed: ObservedGuest


def hosts_of(spec: Spec | None) -> list[Host]:
    """A spec's hosts, or this machine."""
    return [_host(spec, name) for name in spec.hosts] if spec else [Host()]


def _host(spec: Spec, name: str) -> Host:
    entry = spec.hosts[name]
    if entry.address is None:
        return Host(name, entry.pool, entry.uris)
    key, known_hosts = (
        str(spec.folder / Path(each).expanduser()) if each else ""
        for each in (entry.ssh.key, entry.ssh.known_hosts)
    )
    trust = spec.command("host trust", name)
    remote = Remote(name, entry.address, entry.ssh.port or 0, key, known_hosts, trust)
    prepare = spec.command("host prepare", name)
    return Host(name, entry.pool, entry.uris, remote, prepare)


def host_named(name: str, spec: Spec | None) -> Host:
    """The host that ``name`` stands for: one of the spec, ``local``, or one as for ssh.

    Raises:
        RequestError: it stands for none.
    """
    if spec is not None and name in spec.hosts:
        return _host(spec, name)
    if name == LOCAL:
        return Host()
    try:
        remote = Remote(name, ssh_address(name))
    except Problem as error:
        hosts = f", or a host of the spec: {', '.join(spec.hosts)}" if spec else ""
        cure = f"name it as for ssh (root@rack1); `{LOCAL}` is this machine{hosts}"
        raise RequestError(error.what, cure=cure) from error
    return Host(name, remote=remote, prepare_command=f"virtkit host prepare {name}")


def chosen_hosts(spec: Spec | None, names: Sequence[str]) -> list[Host]:
    """The hosts that are named; without names a spec's, or this machine.

    Raises:
        RequestError: a name stands for none.
    """
    return [host_named(each, spec) for each in dict.fromkeys(names)] or hosts_of(spec)


def existing_guests(
    spec: Spec, host_states: Iterable[HostState], *, undefined: bool = False
) -> dict[str, GuestOnHost]:
    """The environment's guests that exist, by name. Of one that an interrupted run left on two
    hosts, the one on the host that the spec names counts.

    Args:
        undefined: those that have volumes and no domain, too.
    """
    answer: dict[str, GuestOnHost] = {}
    for host_state in host_states:
        without_domain = host_state.observed.undefined_of(spec.name) if undefined else {}
        for name, guest in (without_domain | host_state.observed.guests_of(spec.name)).items():
            spec_host = spec.guests[name].host if name in spec.guests else None
            if name not in answer or spec_host == host_state.host.name:
                answer[name] = GuestOnHost(host_state.host, guest)
    return answer


def is_own(spec: Spec, guest: GuestOnHost) -> bool:
    """Whether a guest of the environment is the spec's: named there, or made from it before it left
    it. Another spec may have given its environment the same name."""
    record = guest.observed.record
    return record.guest in spec.guests or record.spec == path_of(spec)


def path_of(spec: Spec) -> str:
    """The spec's absolute path, of several files all, as records keep it."""
    return join_files(e if e.startswith("<") else str(Path(e).resolve()) for e in spec.files)


def with_spec_path(host_state: HostState, path: str) -> HostState:
    """The same, where records that have the spec's file by another path (a symlink, a mount) have
    it by this one.

    Args:
        path: the spec's, as ``path_of`` has it.
    """
    observed = host_state.observed
    paths = {each.record.spec for each in observed.guests.values()}
    paths |= {each.record.spec for each in observed.networks.values()}
    paths |= {each.spec for each in observed.pool.kept.values()}
    paths |= {each.spec for each in observed.pool.guests.values()}
    aliases = {each for each in paths - {path} if _same_files(each, path)}
    if not aliases:
        return host_state

    def with_path(owned: Any) -> Any:
        return replace(owned, spec=path) if owned.spec in aliases else owned

    return HostState(
        host_state.host,
        replace(
            observed,
            guests={k: replace(e, record=with_path(e.record)) for k, e in observed.guests.items()},
            networks={
                k: replace(e, record=with_path(e.record)) for k, e in observed.networks.items()
            },
            undefined={
                k: replace(e, record=with_path(e.record)) for k, e in observed.undefined.items()
            },
            pool=replace(
                observed.pool,
                kept={k: with_path(e) for k, e in observed.pool.kept.items()},
                guests={k: with_path(e) for k, e in observed.pool.guests.items()},
            ),
        ),
    )


def _same_files(path: str, other_path: str) -> bool:
    """Whether two specs are of the same files, each as ``path_of`` has it."""
    files, others = split_files(path), split_files(other_path)
    return len(files) == len(others) and all(map(_same_file, files, others))


def _same_file(path: str, other_path: str) -> bool:
    try:
        return path.startswith("/") and Path(path).samefile(other_path)
    except (OSError, ValueError):  # there is none, or none for us to see
        return False


def active_runs(environment: str, hosts: Iterable[Host]) -> list[str]:
    """The runs that are changing an environment now, as far as they can be seen."""
    every = list(hosts)
    holders = ask_each(every, lambda host: host.lock(environment).holder())
    answer = []
    for host, holder in zip(every, holders, strict=True):
        if holder and isinstance(holder, str):
            place = f" on host {host.name}" if host.remote else ""
            answer.append(
                f"a run is working on environment {environment}{place}: {holder}; what is "
                "unfinished may belong to it"
            )
    return answer


def default_parallel(hosts: Iterable[Host]) -> dict[str, int]:
    """How many steps run at once on each host: starting guests is work for its CPUs (4 threads are
    2.4 times as fast as one on two cores, 8 are 2.8 times)."""
    every = list(hosts)
    cpus = ask_each(every, Host.cpus)
    known = {host.name: each for host, each in zip(every, cpus, strict=True)}
    return {n: max(4, min(16, 2 * each)) for n, each in known.items() if isinstance(each, int)}


def update_known_hosts(environment: str, host_state: HostState) -> Path:
    """Brings the environment's known_hosts for a host up to date, and returns its path."""
    observed = host_state.observed
    records = [each.record for each in observed.guests_of(environment).values()]
    unseen = bool(observed.silent)  # guests may be there that are in it
    return access.write_known_hosts(environment, records, host_state.host.name, add=unseen)


def ordered(spec: Spec, names: Collection[str]) -> list[str]:
    """Guests in the spec's order, then those that left it."""
    return [n for n in spec.guests if n in names] + sorted(n for n in names if n not in spec.guests)


def guests_named(
    spec: Spec, existing: Mapping[str, GuestOnHost], guests: Sequence[str]
) -> set[str]:
    """The guests that ``guests`` name, those included that left the spec but are there."""
    groups = {
        name: each.observed.record.requested.get("groups", ()) for name, each in existing.items()
    }
    bases = {name: name for name in existing}
    groups |= {name: guest.groups for name, guest in spec.guests.items()}
    bases |= {name: guest.base for name, guest in spec.guests.items()}
    return select(guests, groups, bases)


def unanswered_of(
    spec: Spec, observation: Observation, missing: Iterable[str], guests: Sequence[str]
) -> Mapping[str, VirtkitError]:
    """Why hosts, or drivers of them, do not answer that may have guests which were asked for.

    Args:
        missing: those of them that were found nowhere.
        guests: how they were named; empty where all were asked for.
    """
    if not guests:
        return observation.unanswered
    wanted = [
        (spec.host_of(each), spec.guests[each].type) for each in missing if each in spec.guests
    ]
    return {
        place: error
        for place, error in observation.unanswered.items()
        if any(may_have(place, *each) for each in wanted)
    }


def find_one(spec: Spec, guest: str) -> tuple[HostState, ObservedGuest]:
    """The one guest that ``guest`` names, and where it is: other hosts are left alone where the
    spec, or the caller's folder, tells on which one it is.

    Raises:
        RequestError: there is none, or it isn't made.
        VirtkitError: it may be on a host that does not answer.
    """
    observation = _observe_for(spec, guest)
    host_states = observation.host_states
    if not host_states and len(spec.hosts) == 1:
        raise next(iter(observation.unanswered.values()))
    existing = existing_guests(spec, host_states)
    names = guests_named(spec, existing, [guest])
    if len(names) > 1:
        raise RequestError(
            f"{guest} names {len(names)} guests: {', '.join(sorted(names))}",
            cure="name one of them",
        )
    name = names.pop()
    if name not in existing:
        if unanswered := unanswered_of(spec, observation, [name], [guest]):
            what = f"guest {guest} is on no host that answers"
            if all(split_place(each)[1] for each in unanswered):
                what = f"guest {guest} is not seen"
            raise unanswered_error(what, unanswered)
        raise RequestError(
            f"guest {guest} does not exist yet",
            cure=f"make it: {spec.command('up', name)}",
        )
    host_state = next(each for each in host_states if each.host is existing[name].host)
    return host_state, existing[name].observed


def _observe_for(spec: Spec, guest: str) -> Observation:
    """What stands on the host that has a guest: on the one where it is by the spec, or was last;
    where it isn't there, on all on which it may be."""
    hosts = hosts_of(spec)
    named = spec.host_of(guest) if guest in spec.guests else None
    likely = named or access.last_host(spec.name, f"{spec.name}-{guest}")
    observation = try_observe([each for each in hosts if each.name == likely])
    if named is not None or guest in existing_guests(spec, observation.host_states):
        return observation
    others = try_observe([each for each in hosts if each.name != likely])
    host_states = [*observation.host_states, *others.host_states]
    return Observation(host_states, {**observation.unanswered, **others.unanswered})


def check_running(spec: Spec, guest: ObservedGuest) -> None:
    """Refuses what only a running guest can do.

    Raises:
        RequestError: it does not run.
    """
    if guest.state != "running":
        name = guest.record.guest
        verb = "resume" if guest.state == "paused" else "start"
        raise RequestError(
            f"guest {name} is {guest.state}",
            cure=f"first: {spec.command(verb, name)}",
        )
