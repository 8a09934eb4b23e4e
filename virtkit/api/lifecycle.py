"""Plans carried out, and environments removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from virtkit import access
from virtkit.api._hosts import (
    default_parallel,
    existing_guests,
    guests_named,
    hosts_of,
    path_of,
    update_known_hosts,
    with_spec_path,
)
from virtkit.api._observation import (
    HostState,
    Observation,
    observe,
    observe_each,
    split_place,
)
from virtkit.api._placement import unknown_guests
from virtkit.api._silence import with_lost_drivers
from virtkit.api.inventory import RunInventory
from virtkit.api.plan import plan_on
from virtkit.api.run_options import DEFAULT, RunOptions
from virtkit.apply import Context, Report, Result, Step, StepOptions, engine, steps_of
from virtkit.errors import RequestError, VirtkitError, from_os_error
from virtkit.host import Host
from virtkit.plan import Plan, UnknownGuest, joined, removal
from virtkit.progress import Progress
from virtkit.spec import LOCAL, Spec
from virtkit.system import temporary


def apply(
    spec: Spec,
    plan: Plan,
    *,
    consent: bool = False,
    confirmed: bool = False,
    wait: bool = True,
    restart: bool = False,
    run: RunOptions = DEFAULT,
) -> Report:
    """Carries out a plan. It is made again once nobody else changes the environment.

    Args:
        consent: recreate and delete what the plan says, and what the new plan says.
        confirmed: somebody saw this plan and agreed to what it loses, and to nothing else.
        wait: wait until guests are ready; else only for what others are ``after``.
        restart: restart the guests that lack what only a restart brings.
        run: how the run goes.

    Raises:
        RequestError: the plan loses data and nobody agreed, or another run takes longer;
            nothing was touched.
        Interrupted: ``run.stop`` was set before the first step; later the report says so.
    """
    refusal = removal.apply_refusal(plan)
    if refusal is not None and not (consent or confirmed):
        raise refusal
    if not plan.changes:
        return Report(spec.name, _unanswered_results(plan), notes=plan.notes)
    temporary.sweep()
    hosts = [each for each in hosts_of(spec) if each.name not in plan.unanswered]
    with locked(spec, hosts, run, images=True) as waited_for:
        new_plan = plan_on(
            hosts, spec, plan.guests, restart=restart, say=run.say, unanswered=plan.unanswered
        )
        others = _others(spec, waited_for, new_plan)
        if not consent:
            _check_loss(new_plan, plan, f"environment {spec.name}: {others}")
        if not new_plan.changes:
            what = f"nothing left to change: {others} has already made these changes"
            run.say(f"environment {spec.name}: {what}")
            return Report(spec.name, _unanswered_results(new_plan), notes=new_plan.notes)
        changed = _changes(new_plan) != _changes(plan)
        if changed:
            what = f"{others} changed something meanwhile: planning again"
            run.say(f"environment {spec.name}: {what}")
        options = StepOptions(
            spec=path_of(spec),
            settings=spec.settings,
            folder=spec.folder,
            wait=wait,
            restart=restart,
            inventory=RunInventory(spec, hosts, new_plan.unanswered),
            vault=run.vault,
        )
        report = _carry_out(spec, new_plan, hosts, options, run)
    # where it is the plan that was shown, that one's: they tell of guests that are not ready, too
    report.notes = new_plan.notes if changed else plan.notes
    return report


@contextmanager
def locked(
    spec: Spec,
    hosts: Iterable[Host],
    run: RunOptions,
    *,
    images: bool = False,
) -> Iterator[list[str]]:
    """The environment's lock on each of its hosts, in an order that all runs have; and a share in
    the image stores'. Yields the runs on the environment that it waited for."""
    waited_for = []
    timeout, say, sleep = run.lock_timeout, run.say, Progress(stop=run.stop).sleep
    with ExitStack() as stack:
        for host in sorted(hosts, key=lambda each: each.name):
            waited_for.append(
                stack.enter_context(host.lock(spec.name).acquire(timeout, say, sleep=sleep))
            )
            if images:
                stack.enter_context(
                    host.images_lock.acquire(timeout, say, shared=True, sleep=sleep)
                )
        yield list(filter(None, waited_for))


def _others(spec: Spec, waited_for: Sequence[str], plan: Plan) -> str:
    """Who changed the environment before us, in words, as far as it is known: the runs that we
    waited for, and the other specs that guests were made from."""
    records = (each.observed.record for each in plan.changes if each.observed is not None)
    paths = sorted({each.spec for each in records} - {path_of(spec)})
    evidence = [f"this one waited for {each}" for each in waited_for]
    evidence += [f"it has guests made from {each}" for each in paths]
    return f"another run ({'; '.join(evidence)})" if evidence else "another run"


def _changes(plan: Plan) -> list[Any]:
    """What a plan does, without its notes."""
    return [each.as_dict() for each in (*plan.changes, *plan.pending)]


def _check_loss(plan: Plan, shown: Plan, others: str) -> None:
    """Refuses a plan that loses what the one that was shown does not.

    Args:
        others: the environment, and who changed something since.
    """
    agreed = {(each.object, each.lost) for each in shown.needs_consent}
    new = [each for each in plan.needs_consent if (each.object, each.lost) not in agreed]
    if new:
        raise RequestError(
            f"{others} changed something meanwhile, and now this would lose more than was shown",
            why=f"this would be lost: {'; '.join(each.loss_text for each in new)}",
            cure="run again: it shows what would be lost now, and asks",
        )


def _carry_out(
    spec: Spec,
    plan: Plan,
    hosts: Sequence[Host],
    options: StepOptions,
    run: RunOptions,
    *,
    removing: bool = False,
) -> Report:
    """Carries out a plan, for whoever holds the environment's lock."""
    contexts = [Context(host, options) for host in hosts if host.name not in plan.unanswered]
    report = runner(spec, [each.host for each in contexts], run)(steps_of(plan, *contexts))
    report.results += _unanswered_results(plan)
    update_records(spec, contexts, report, removing=removing)
    return report


def unanswered_results(
    unanswered: Mapping[str, VirtkitError], unknown: Sequence[UnknownGuest], *, all_guests: bool
) -> list[Result]:
    """What was left undone, as hosts do not answer.

    Args:
        all_guests: the run is about the whole environment: silent hosts count in any case.
    """
    if not all_guests and not unknown:
        return []
    hosts = [(split_place(place)[0], error) for place, error in unanswered.items()]
    return [
        *(Result(f"host/{name}", name, "connect", "failed", 0.0, e) for name, e in hosts),
        *(
            Result(f"guest/{each.guest}", each.host, "look", "skipped", 0.0, note=each.why)
            for each in unknown
        ),
    ]


def _unanswered_results(plan: Plan) -> list[Result]:
    return unanswered_results(plan.unanswered, plan.unknown, all_guests=not plan.guests)


def runner(
    spec: Spec, hosts: Sequence[Host], run: RunOptions
) -> Callable[[Sequence[Step]], Report]:
    """What runs a plan's steps, as many at a time as was asked or as suits their hosts."""
    parallel = run.parallel or default_parallel(hosts)
    return partial(engine.run, spec.name, parallel=parallel, tell=run.tell, stop=run.stop)


def update_records(
    spec: Spec, contexts: Sequence[Context], report: Report, *, removing: bool = False
) -> None:
    """Brings the pools' records and known_hosts up to date after a run.

    Where the environment is gone, its keys are removed, unless it has guests on a host that left
    the spec. Where that fails, the report says so, and what the run did stays done.
    """
    if not contexts:
        return
    try:
        observation = observe([each.host for each in contexts])
        host_states = observation.host_states
        report.results += [
            Result("pool", name, "record", "failed", 0.0, error)
            for name, error in observation.unanswered.items()
            if not split_place(name)[1]
        ]
        any_undefined = _write_pool_records(spec, contexts, host_states, report)
        other_hosts = access.hosts_with_guests(spec.name) - {
            each.name for each in observation.hosts
        }
        if (
            removing
            and not any_undefined
            and not existing_guests(spec, host_states)
            and not other_hosts
            and not observation.unanswered
        ):
            access.remove_folder(spec.name)
            return
        for each in host_states:
            update_known_hosts(spec.name, each)
    except (VirtkitError, OSError) as error:
        what = f"the host keys of {spec.name} were not written to known_hosts"
        failure = error if isinstance(error, VirtkitError) else from_os_error(what, error)
        report.results.append(Result("known_hosts", LOCAL, "write", "failed", 0.0, failure))


def _write_pool_records(
    spec: Spec, contexts: Sequence[Context], host_states: Sequence[HostState], report: Report
) -> bool:
    """Writes into the pools' records what the guests' own say.

    Returns whether guests without a domain are listed there, or may be.
    """
    any_undefined = False
    by_host = {each.host.name: each for each in contexts}
    for host_state in host_states:
        each = by_host[host_state.host.name]
        try:
            guests = host_state.observed.guests_of(spec.name).values()
            any_undefined |= each.pool_records.write_after(
                spec.name, [guest.record for guest in guests]
            )
        except VirtkitError as error:
            report.results.append(
                Result("pool", host_state.host.name, "record", "failed", 0.0, error)
            )
            any_undefined = True
    return any_undefined


def _observe_with_pool(host: Host, environment: str) -> HostState:
    """What stands there, with the pool activated first: in an inactive one nothing is seen.

    So is the one in which the records say that the volumes are; where somebody undefined it, it
    is defined again there.
    """
    guests = host.observe(pool=False).guests_of(environment).values()
    folders = {each.record.folder for each in guests if each.record.volumes}
    storages = {folder: host.storage_at(folder) for folder in folders}
    if host.storage not in storages.values() and host.storage.describe().exists:
        storages[""] = host.storage
    for folder, storage in storages.items():
        storage.ensure(folder)
        storage.refresh()
    return HostState(host, host.observe())


def down_plan(spec: Spec, guests: Sequence[str] = (), *, volumes: bool = False) -> Plan:
    """What ``down`` would remove, as far as it is seen before anything is touched: in a pool that
    is not active nobody sees kept disks."""
    observation = observe_each(hosts_of(spec), _observe_as_is)
    return _removal_plan(spec, observation, guests, volumes=volumes)


def down_refusal(spec: Spec, plan: Plan, *, volumes: bool) -> RequestError | None:
    """The error that ``down`` raises for its plan where nobody agreed to it."""
    return removal.down_refusal(plan, path_of(spec), volumes=volumes)


def _observe_as_is(host: Host) -> HostState:
    """What stands on a host; nothing is touched.

    Raises:
        RequestError: its pool is none that virtkit can use.
    """
    host.storage.describe()
    return HostState(host, host.observe(pool=host.storage.active()))


def _removal_plan(
    spec: Spec, observation: Observation, guests: Sequence[str], *, volumes: bool
) -> Plan:
    observation = with_lost_drivers(spec, observation)
    host_states = observation.host_states
    only = (
        guests_named(spec, existing_guests(spec, host_states, undefined=True), guests)
        if guests
        else None
    )
    path = path_of(spec)
    plans = [
        removal.down(
            with_spec_path(each, path).observed,
            spec.name,
            spec_path=path,
            names=spec.guests.keys(),
            only=only,
            volumes=volumes,
        )
        for each in host_states
    ]
    unknown = unknown_guests(spec, host_states, observation.unanswered)
    return replace(
        joined(plans),
        guests=tuple(guests),
        unanswered=observation.unanswered,
        unknown=tuple(each for each in unknown if only is None or each.guest in only),
    )


def down(
    spec: Spec,
    guests: Sequence[str] = (),
    *,
    volumes: bool = False,
    consent: bool = False,
    confirmed: Plan | None = None,
    run: RunOptions = DEFAULT,
) -> Report:
    """Removes guests and everything that belongs to them; without ``guests`` the environment.

    Kept disks stay unless ``volumes``; images and the pool stay.

    Args:
        consent: remove what was made from another spec, too.
        confirmed: somebody saw this plan and agreed to what it loses, and to nothing else.
        run: how the run goes.

    Raises:
        RequestError: something was made from another spec and nobody agreed, or another run takes
            longer; nothing was touched.
    """
    observation = observe_each(hosts_of(spec), _observe_as_is)
    hosts = observation.hosts
    active = all(each.observed.pool_active for each in observation.host_states)
    preview = _removal_plan(spec, observation, guests, volumes=volumes)
    if active and not preview.changes and not access.has_folder(spec.name):
        for note in preview.notes:
            run.say(note)
        return Report(spec.name, _unanswered_results(preview))

    def check(plan: Plan) -> None:
        refusal = removal.down_refusal(plan, path_of(spec), volumes=volumes)
        if refusal is not None and not consent and confirmed is None:
            raise refusal

    check(preview)
    with locked(spec, hosts, run, images=True) as waited_for:
        looked_at = observe_each(hosts, partial(_observe_with_pool, environment=spec.name))
        plan = _removal_plan(
            spec, looked_at.with_unanswered(observation.unanswered), guests, volumes=volumes
        )
        check(plan)
        if confirmed is not None and not consent:
            who = _others(spec, waited_for, plan)
            _check_loss(plan, confirmed, f"environment {spec.name}: {who}")
        for note in plan.notes:
            run.say(note)
        options = StepOptions(
            spec=path_of(spec), settings=spec.settings, folder=spec.folder, volumes=volumes
        )
        return _carry_out(spec, plan, hosts, options, run, removing=True)
