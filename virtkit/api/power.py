"""Guests started, stopped, restarted, paused and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

from virtkit import access
from virtkit.api._defaults import STOP_TIMEOUT
from virtkit.api._hosts import (
    GuestOnHost,
    Say,
    existing_guests,
    guests_named,
    hosts_of,
    is_own,
    path_of,
    quiet,
    with_spec_path,
)
from virtkit.api._observation import Observation
from virtkit.api._placement import unknown_guests
from virtkit.api._silence import observe_spec
from virtkit.api.lifecycle import locked, runner, unanswered_results
from virtkit.api.run_options import DEFAULT, RunOptions
from virtkit.apply import Report, Step, stop_guest
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError
from virtkit.plan import UnknownGuest, pending_fields
from virtkit.progress import Progress
from virtkit.spec import Spec

Verb = Literal["start", "stop", "restart", "pause", "resume"]

#: The state in which a guest has no need of a verb; restart is always something.
_TARGET_STATES: Mapping[str, str] = {
    "start": "running",
    "stop": "stopped",
    "pause": "paused",
    "resume": "running",
}


def change_state(
    spec: Spec,
    verb: Verb,
    guests: Sequence[str] = (),
    *,
    timeout: float = STOP_TIMEOUT,
    wait: bool = True,
    run: RunOptions = DEFAULT,
) -> Report:
    """Starts, stops, restarts, pauses or resumes guests that exist.

    Args:
        timeout: seconds that a guest gets to shut down before it is forced off, or before it is
            reset.
        wait: wait until started guests are ready.
        run: how the run goes.

    Raises:
        RequestError: a guest does not exist, its host can't do this, or another run takes
            longer; nothing was touched.
    """
    observation = observe_spec(spec, hosts_of(spec))
    chosen, unknown = _chosen(observation, spec, verb, guests, run.say)
    has_work = any(each.observed.state != _TARGET_STATES.get(verb) for each in chosen)
    touched = {each.host.name: each.host for each in chosen}.values()
    lock = locked(spec, touched, run) if has_work else nullcontext()
    with lock:
        if has_work:
            again = observe_spec(spec, observation.hosts).with_unanswered(observation.unanswered)
            chosen, _ = _chosen(again, spec, verb, guests)
        steps = [s for each in chosen for s in _verb_steps(each, verb, timeout)]
        if verb in ("start", "restart", "resume"):
            steps += [_ready_step(spec, each, verb) for each in chosen if wait]
        report = runner(spec, observation.hosts, run)(steps)
    report.results += unanswered_results(observation.unanswered, unknown, all_guests=not guests)
    return report


def _chosen(
    observation: Observation, spec: Spec, verb: Verb, guests: Sequence[str], say: Say = quiet
) -> tuple[list[GuestOnHost], list[UnknownGuest]]:
    """The guests that a verb is for, as they are now, where it can be done to them; and those that
    are on hosts which do not answer.

    Those that this spec does not name and that were made from another one are left alone, unless
    they are called by their own name.
    """
    host_states = [with_spec_path(each, path_of(spec)) for each in observation.host_states]
    existing = existing_guests(spec, host_states)
    own = {n: e for n, e in existing.items() if n in guests or is_own(spec, e)}
    names = guests_named(spec, own, guests) if guests else {*spec.guests, *own}
    if not guests:
        for name in sorted({*existing} - {*own}):
            path = existing[name].observed.record.spec
            say(f"guest {name} is left alone: it was made from {path}; to {verb} it, name it")
    unknown = [
        each
        for each in unknown_guests(spec, host_states, observation.unanswered)
        if each.guest in names
    ]
    missing = sorted(names - {*own} - {each.guest for each in unknown})
    if missing and (guests or not own):
        raise RequestError(
            f"guest {', '.join(missing)} does not exist yet",
            cure=f"make it: {spec.command('up', *missing)}",
        )
    chosen = [own[name] for name in names if name in own]
    if verb in ("pause", "resume"):
        _check_not_stopped(spec, chosen, verb)
    if verb == "pause":
        _check_pause(spec, chosen)
    return chosen, unknown


def _check_not_stopped(spec: Spec, chosen: Iterable[GuestOnHost], verb: Verb) -> None:
    stopped = [e.observed.record.guest for e in chosen if e.observed.state == "stopped"]
    if stopped:
        raise RequestError(
            f"guest {', '.join(stopped)} is stopped: there is nothing to {verb}",
            cure=f"start it: {spec.command('start', *stopped)}",
        )


def _check_pause(spec: Spec, chosen: Iterable[GuestOnHost]) -> None:
    for each in chosen:
        record = each.observed.record
        why = each.host.no_pause_reason(DRIVERS[record.type])
        if why:
            raise RequestError(
                f"guest {record.guest} can't be paused on this host",
                why=why,
                cure=f"stop it instead: {spec.command('stop', record.guest)}",
            )


def _verb_steps(guest: GuestOnHost, verb: Verb, timeout: float) -> Iterable[Step]:
    host, observed = guest.host, guest.observed
    driver, name = DRIVERS[observed.record.type], observed.domain
    object = f"guest/{observed.record.guest}"
    after = tuple((f"guest/{each}", "ready") for each in observed.record.requested["after"])

    # a reset guest would go on with the definition that it was started with
    reset = not pending_fields(observed)

    def restart(progress: Progress) -> None:
        off = host.domains.state(driver, name) == "stopped"
        if off or stop_guest(host, driver, name, timeout, progress, reset=reset) or not reset:
            host.domains.start(driver, name)

    runs: dict[Verb, Callable[[Progress], Any]] = {
        "start": lambda _: host.domains.start(driver, name),
        "stop": lambda progress: stop_guest(host, driver, name, timeout, progress),
        "restart": restart,
        "pause": lambda _: host.domains.pause(driver, name),
        "resume": lambda _: host.domains.resume(driver, name),
    }
    after = after if verb == "start" else ()
    yield Step(object, verb, host.name, runs[verb], after_on_any_host=after)


def _ready_step(spec: Spec, guest: GuestOnHost, verb: Verb) -> Step:
    host, observed = guest.host, guest.observed
    object = f"guest/{observed.record.guest}"

    def ready(progress: Progress) -> None:
        access.wait_ready(host, observed.record, spec.folder, progress)

    return Step(object, "ready", host.name, ready, ((object, verb),), waits=True)
