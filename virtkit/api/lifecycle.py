"""Plans carried out, environments removed, guests started, stopped, paused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Literal

from virtkit import access
from virtkit.api._defaults import LOCK_TIMEOUT, STOP_TIMEOUT
from virtkit.api._hosts import (
    GuestOnHost,
    HostState,
    Say,
    Tell,
    as_named,
    found_of,
    hosts_of,
    is_own,
    known_hosts,
    named,
    observe_all,
    path_of,
    quiet,
)
from virtkit.api._hosts import parallel as usual_parallel
from virtkit.api.access import inventory
from virtkit.api.plan import plan_on
from virtkit.apply import Context, Options, Report, Result, Step, engine, steps_of
from virtkit.apply import stop as stopping
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError, VirtkitError, of_system
from virtkit.host import Host
from virtkit.plan import Plan, joined, removal, waiting
from virtkit.progress import Progress
from virtkit.spec import LOCAL, Spec
from virtkit.system import temporary

Verb = Literal["start", "stop", "restart", "pause", "resume"]

#: The state in which a guest has no need of a verb; restart is always something.
_AIMS: Mapping[str, str] = {
    "start": "running",
    "stop": "stopped",
    "pause": "paused",
    "resume": "running",
}


def apply(
    spec: Spec,
    found: Plan,
    *,
    consent: bool = False,
    confirmed: bool = False,
    wait: bool = True,
    restart: bool = False,
    vault: str = "",
    parallel: int | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    tell: Tell = quiet,
    say: Say = quiet,
) -> Report:
    """Carries out a plan, made anew once nobody else changes the environment.

    Args:
        consent: recreate and delete what the plan says, and what it says made anew.
        confirmed: somebody saw this plan and agreed to what it loses, and to nothing else.
        wait: wait until guests are ready; else only for what others are ``after``.
        restart: restart the guests that lack what only a restart brings.
        vault: the file with the password of Ansible's vaults; empty where Ansible's own settings
            say it.
        parallel: steps at a time; left out, what suits this machine.
        lock_timeout: seconds to wait for another run on the environment.
        say: told for whom one waits, and where the plan is another afterwards.

    Raises:
        RequestError: the plan loses data and nobody agreed, or another run takes longer;
            nothing was touched.
    """
    refused = removal.needs_consent(found)
    if refused is not None and not (consent or confirmed):
        raise refused
    if not found.changes:
        return Report(spec.name, notes=found.notes)
    temporary.sweep()
    hosts = hosts_of(spec)
    with locked(spec, hosts, lock_timeout, say, images=True) as before:
        now = plan_on(hosts, spec, found.guests, restart=restart, say=say)
        others = _others(spec, before, now)
        if not consent:
            _check_loss(now, found, f"environment {spec.name}: {others}")
        if not now.changes:
            say(f"environment {spec.name}: nothing to change any more: {others} did it")
            return Report(spec.name)
        if _changes(now) != _changes(found):
            what = f"{others} changed something meanwhile: the plan is made anew"
            say(f"environment {spec.name}: {what}")
        options = Options(
            spec=path_of(spec),
            folder=spec.folder,
            wait=wait,
            restart=restart,
            inventory=lambda: inventory(spec).tree(),
            vault=vault,
        )
        report = _carried_out(spec, now, hosts, options, parallel, tell)
    report.notes = found.notes
    return report


@contextmanager
def locked(
    spec: Spec, hosts: Iterable[Host], timeout: float, say: Say, *, images: bool = False
) -> Iterator[list[str]]:
    """The environment's lock on each of its hosts, in an order that all runs have; and a share in
    the image stores'. Yields the runs on the environment that it waited for."""
    before = []
    with ExitStack() as stack:
        for host in sorted(hosts, key=lambda each: each.name):
            before.append(stack.enter_context(host.lock(spec.name).held(timeout, say)))
            if images:
                stack.enter_context(host.images_lock.held(timeout, say, shared=True))
        yield list(filter(None, before))


def _others(spec: Spec, before: Sequence[str], now: Plan) -> str:
    """Who changed the environment before us, as far as it is known: for whom we waited, and which
    other specs its guests were made from."""
    records = (each.observed.record for each in now.changes if each.observed is not None)
    paths = sorted({each.spec for each in records} - {path_of(spec)})
    known = [f"this one waited for {each}" for each in before]
    known += [f"it has guests made from {each}" for each in paths]
    return f"another run ({'; '.join(known)})" if known else "another run"


def _changes(found: Plan) -> list[Any]:
    """What a plan does, without its notes."""
    return [each.as_dict() for each in (*found.changes, *found.pending)]


def _check_loss(now: Plan, shown: Plan, others: str) -> None:
    """Refuses a plan that loses what the one that was shown does not.

    Args:
        others: the environment, and who changed something since.
    """
    known = {(each.object, each.lost) for each in shown.asks}
    new = [each for each in now.asks if (each.object, each.lost) not in known]
    if new:
        raise RequestError(
            f"{others} changed something meanwhile, and now this would lose more than was shown",
            why=f"lost would be: {'; '.join(each.loss for each in new)}",
            cure="run again: it shows what would be lost by now, and asks",
        )


def _carried_out(
    spec: Spec,
    found: Plan,
    hosts: Sequence[Host],
    options: Options,
    parallel: int | None,
    tell: Tell,
    *,
    removing: bool = False,
) -> Report:
    """The report of a plan that was carried out, by who has the environment's lock."""
    context = [Context(host, options) for host in hosts]
    steps = steps_of(found, *context)
    report = engine.run(spec.name, steps, parallel=parallel or usual_parallel(hosts), tell=tell)
    remember(spec, context, report, removing=removing)
    return report


def remember(
    spec: Spec, context: Sequence[Context], report: Report, *, removing: bool = False
) -> None:
    """Brings the pools' records and known_hosts up to date, and forgets the keys of an environment
    that is gone, but where it has guests on a host that left the spec. What was done stays done
    where that fails."""
    try:
        sites = observe_all([each.host for each in context])
        left = _list(spec, context, sites, report)
        elsewhere = access.hosts(spec.name) - {each.host.name for each in context}
        if removing and not left and not found_of(spec, sites) and not elsewhere:
            access.forget(spec.name)
            return
        for each in sites:
            known_hosts(spec.name, each)
    except (VirtkitError, OSError) as error:
        what = f"the host keys of {spec.name} were not written to known_hosts"
        told = error if isinstance(error, VirtkitError) else of_system(what, error)
        report.results.append(Result("known_hosts", LOCAL, "write", "failed", 0.0, told))


def _list(
    spec: Spec, context: Sequence[Context], sites: Sequence[HostState], report: Report
) -> bool:
    """Writes into the pools' records what the guests' own say; whether guests are listed there that
    have no domain, as far as it is known."""
    left = False
    for each, site in zip(context, sites, strict=True):
        try:
            there = site.observed.guests_of(spec.name).values()
            left |= each.ledger.end(spec.name, [guest.record for guest in there])
        except VirtkitError as error:
            report.results.append(Result("pool", site.host.name, "record", "failed", 0.0, error))
            left = True
    return left


def _with_pool(host: Host, environment: str) -> HostState:
    """What stands there, with the pool activated first: in an inactive one nothing is seen.

    So is the one in which the records say that the volumes are; where somebody undefined it, it
    is defined again there.
    """
    guests = host.observe(pool=False).guests_of(environment).values()
    folders = {each.record.folder for each in guests if each.record.volumes}
    found = {folder: host.storage_at(folder) for folder in folders}
    if host.storage not in found.values() and host.storage.describe().exists:
        found[""] = host.storage
    for folder, storage in found.items():
        storage.ensure(folder)
        storage.refresh()
    return HostState(host, host.observe())


def down_plan(spec: Spec, guests: Sequence[str] = (), *, volumes: bool = False) -> Plan:
    """What ``down`` would remove, as far as it is seen before anything is touched: in a pool that
    is not active nobody sees kept disks."""
    return _going(spec, _seen(hosts_of(spec)), guests, volumes=volumes)


def needs_consent(found: Plan) -> RequestError | None:
    """The error that ``apply`` raises for a plan that nobody agreed to."""
    return removal.needs_consent(found)


def needs_consent_to_go(spec: Spec, found: Plan, *, volumes: bool) -> RequestError | None:
    """The error that ``down`` raises for its plan where nobody agreed to it."""
    return removal.needs_consent_to_go(found, path_of(spec), volumes=volumes)


def _seen(hosts: Iterable[Host]) -> list[HostState]:
    """What stands on hosts, without a touch."""
    return [HostState(each, each.observe(pool=each.storage.active())) for each in hosts]


def _going(spec: Spec, sites: Sequence[HostState], guests: Sequence[str], *, volumes: bool) -> Plan:
    only = named(spec, found_of(spec, sites, lost=True), guests) if guests else None
    path = path_of(spec)
    return joined(
        [
            removal.down(
                as_named(each, path).observed,
                spec.name,
                spec=path,
                names=spec.guests.keys(),
                only=only,
                volumes=volumes,
            )
            for each in sites
        ]
    )


def down(
    spec: Spec,
    guests: Sequence[str] = (),
    *,
    volumes: bool = False,
    consent: bool = False,
    confirmed: Plan | None = None,
    parallel: int | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    tell: Tell = quiet,
    say: Say = quiet,
) -> Report:
    """Removes guests and all that is theirs; without ``guests`` the whole environment.

    Kept disks stay unless ``volumes``; images and the pool stay.

    Args:
        consent: remove what was made from another spec, too.
        confirmed: somebody saw this plan and agreed to what it loses, and to nothing else.
        lock_timeout: seconds to wait for another run on the environment.
        say: told for whom, and what stays.

    Raises:
        RequestError: something was made from another spec and nobody agreed, or another run takes
            longer; nothing was touched.
    """
    hosts = hosts_of(spec)
    active = all(host.storage.active() for host in hosts)
    seen = _going(spec, _seen(hosts), guests, volumes=volumes)
    if active and not seen.changes and not access.known(spec.name):
        for note in seen.notes:
            say(note)
        return Report(spec.name)

    def check(found: Plan) -> None:
        refused = removal.needs_consent_to_go(found, path_of(spec), volumes=volumes)
        if refused is not None and not consent and confirmed is None:
            raise refused

    check(seen)
    with locked(spec, hosts, lock_timeout, say) as before:
        sites = [_with_pool(host, spec.name) for host in hosts]
        found = _going(spec, sites, guests, volumes=volumes)
        check(found)
        if confirmed is not None and not consent:
            who = _others(spec, before, found)
            _check_loss(found, confirmed, f"environment {spec.name}: {who}")
        for note in found.notes:
            say(note)
        options = Options(spec=path_of(spec), folder=spec.folder, volumes=volumes)
        return _carried_out(spec, found, hosts, options, parallel, tell, removing=True)


def change_state(
    spec: Spec,
    verb: Verb,
    guests: Sequence[str] = (),
    *,
    timeout: float = STOP_TIMEOUT,
    wait: bool = True,
    lock_timeout: float = LOCK_TIMEOUT,
    tell: Tell = quiet,
    say: Say = quiet,
) -> Report:
    """Starts, stops, restarts, pauses or resumes guests that exist.

    Args:
        timeout: seconds that a guest gets to shut down before it is forced off, or before its
            reset button is pressed.
        wait: wait until started guests are ready.
        lock_timeout: seconds to wait for another run on the environment.
        say: told for whom.

    Raises:
        RequestError: a guest does not exist, its host can't do this, or another run takes
            longer; nothing was touched.
    """
    hosts = hosts_of(spec)
    chosen = _chosen(hosts, spec, verb, guests, say)
    something = any(each.there.state != _AIMS.get(verb) for each in chosen)
    touched = {each.host.name: each.host for each in chosen}.values()
    lock = locked(spec, touched, lock_timeout, say) if something else nullcontext()
    with lock:
        if something:
            chosen = _chosen(hosts, spec, verb, guests)
        steps = [s for each in chosen for s in _verb_steps(each, verb, timeout)]
        if verb in ("start", "restart", "resume"):
            steps += [_ready_step(spec, each, verb) for each in chosen if wait]
        return engine.run(spec.name, steps, parallel=usual_parallel(hosts), tell=tell)


def _chosen(
    hosts: Sequence[Host], spec: Spec, verb: Verb, guests: Sequence[str], say: Say = quiet
) -> list[GuestOnHost]:
    """The guests that a verb is for, as they are now, where it can be done to them.

    Those that this spec does not name and that were made from another one are left alone, unless
    they are called by their own name.
    """
    sites = [as_named(each, path_of(spec)) for each in observe_all(hosts)]
    every = found_of(spec, sites)
    found = {n: e for n, e in every.items() if n in guests or is_own(spec, e)}
    names = named(spec, found, guests) if guests else {*spec.guests, *found}
    if not guests:
        for name in sorted({*every} - {*found}):
            made = every[name].there.record.spec
            say(f"guest {name} is left alone: it was made from {made}; to {verb} it, name it")
    missing = sorted(names - {*found})
    if missing and (guests or not found):
        raise RequestError(
            f"guest {', '.join(missing)} does not exist yet", cure="make it: virtkit up"
        )
    chosen = [found[name] for name in names if name in found]
    if verb in ("pause", "resume"):
        _check_runs(chosen, verb)
    if verb == "pause":
        _check_pause(chosen)
    return chosen


def _check_runs(chosen: Iterable[GuestOnHost], verb: Verb) -> None:
    stopped = [e.there.record.guest for e in chosen if e.there.state == "stopped"]
    if stopped:
        raise RequestError(
            f"guest {', '.join(stopped)} is stopped: there is nothing to {verb}",
            cure="start it: virtkit start",
        )


def _check_pause(chosen: Iterable[GuestOnHost]) -> None:
    for each in chosen:
        record = each.there.record
        why = each.host.no_pause(DRIVERS[record.type])
        if why:
            raise RequestError(
                f"guest {record.guest} can't be paused on this host",
                why=why,
                cure="stop it instead: virtkit stop",
            )


def _verb_steps(found: GuestOnHost, verb: Verb, timeout: float) -> Iterable[Step]:
    host, there = found.host, found.there
    driver, name = DRIVERS[there.record.type], there.domain
    object = f"guest/{there.record.guest}"
    after = tuple((f"guest/{each}", "ready") for each in there.record.asked["after"])

    # a reset guest would go on with the definition that it was started with
    reset = not waiting(there)

    def restart(progress: Progress) -> None:
        off = host.domains.state(driver, name) == "stopped"
        if off or stopping(host, driver, name, timeout, progress, reset=reset) or not reset:
            host.domains.start(driver, name)

    runs: dict[Verb, Callable[[Progress], Any]] = {
        "start": lambda _: host.domains.start(driver, name),
        "stop": lambda progress: stopping(host, driver, name, timeout, progress),
        "restart": restart,
        "pause": lambda _: host.domains.pause(driver, name),
        "resume": lambda _: host.domains.resume(driver, name),
    }
    after = after if verb == "start" else ()
    yield Step(object, verb, host.name, runs[verb], after_all=after)


def _ready_step(spec: Spec, found: GuestOnHost, verb: Verb) -> Step:
    host, there = found.host, found.there
    object = f"guest/{there.record.guest}"

    def ready(progress: Progress) -> None:
        access.wait_ready(host, there.record, spec.folder, progress)

    return Step(object, "ready", host.name, ready, ((object, verb),), waits=True)
