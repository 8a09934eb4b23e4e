"""Plans carried out, environments removed, guests started, stopped, paused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from virtkit import plan as planning
from virtkit import reach
from virtkit.api.world import (
    Say,
    Tell,
    host_of,
    known_hosts,
    observed_names,
    path_of,
    quiet,
)
from virtkit.api.world import (
    parallel as usual_parallel,
)
from virtkit.apply import Hands, Options, Report, Step, engine, steps_of
from virtkit.apply import stop as stopping
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError, VirtkitError
from virtkit.host import Host
from virtkit.observed import ObservedGuest
from virtkit.plan import Plan
from virtkit.spec import Spec

Verb = Literal["start", "stop", "restart", "pause", "resume"]

#: Seconds that a guest gets to shut down when asked.
STOP_TIMEOUT = 60.0


def apply(
    spec: Spec,
    found: Plan,
    *,
    consent: bool = False,
    wait: bool = True,
    parallel: int | None = None,
    tell: Tell = quiet,
) -> Report:
    """Carries out a plan.

    Args:
        consent: recreate and delete what the plan says.
        wait: wait until guests are ready; else only for what others are ``after``.
        parallel: steps at a time; left out, what suits this machine.

    Raises:
        RequestError: the plan loses data and ``consent`` is missing; nothing was touched.
    """
    refused = planning.needs_consent(found)
    if refused is not None and not consent:
        raise refused
    if not found.changes:
        return Report(spec.name)
    host = host_of(spec)
    options = Options(spec=path_of(spec), folder=spec.folder, wait=wait)
    report = engine.run(
        spec.name,
        steps_of(found, Hands(host, options)),
        parallel=parallel or usual_parallel(host),
        tell=tell,
    )
    with _reported(report):
        known_hosts(spec.name, host.observe())
    return report


@contextmanager
def _reported(report: Report) -> Iterator[None]:
    """What is done after a run: where libvirt went away meanwhile, its report says so already."""
    try:
        yield
    except VirtkitError:
        if report.ok:
            raise


def down(
    spec: Spec,
    guests: Sequence[str] = (),
    *,
    volumes: bool = False,
    parallel: int | None = None,
    tell: Tell = quiet,
) -> Report:
    """Removes guests and all that is theirs; without ``guests`` the whole environment.

    Kept disks stay unless ``volumes``; images and the pool stay.
    """
    host = host_of(spec)
    observed = host.observe()
    found = planning.down(
        observed,
        spec.name,
        only=observed_names(spec, observed, guests) if guests else None,
        volumes=volumes,
    )
    options = Options(spec=path_of(spec), folder=spec.folder, volumes=volumes)
    report = engine.run(
        spec.name,
        steps_of(found, Hands(host, options)),
        parallel=parallel or usual_parallel(host),
        tell=tell,
    )
    with _reported(report):
        left = host.observe()
        if left.guests_of(spec.name):
            known_hosts(spec.name, left)
        else:
            reach.forget(spec.name)
    return report


def change_state(
    spec: Spec,
    verb: Verb,
    guests: Sequence[str] = (),
    *,
    timeout: float = STOP_TIMEOUT,
    wait: bool = True,
    tell: Tell = quiet,
) -> Report:
    """Starts, stops, restarts, pauses or resumes guests that exist.

    Args:
        timeout: seconds that a guest gets to shut down before the plug is pulled, or before
            its reset button is pressed.
        wait: wait until started guests are ready.

    Raises:
        RequestError: a guest does not exist, or its host can't do this.
    """
    host = host_of(spec)
    observed = host.observe()
    mine = observed.guests_of(spec.name)
    names = observed_names(spec, observed, guests) if guests else {*spec.guests, *mine}
    missing = sorted(names - {*mine})
    if missing and (guests or not mine):
        raise RequestError(
            f"guest {', '.join(missing)} does not exist yet", cure="make it: virtkit up"
        )
    chosen = {name: mine[name] for name in names if name in mine}
    if verb in ("pause", "resume"):
        _check_runs(chosen.values(), verb)
    if verb == "pause":
        _check_pause(host, chosen.values())
    steps = [s for each in chosen.values() for s in _verb_steps(host, verb, each, timeout)]
    if verb in ("start", "restart", "resume"):
        steps += [_ready_step(host, spec, each, verb) for each in chosen.values() if wait]
    return engine.run(spec.name, steps, parallel=usual_parallel(host), tell=tell)


def _check_runs(chosen: Iterable[ObservedGuest], verb: Verb) -> None:
    stopped = [each.record.guest for each in chosen if each.state == "stopped"]
    if stopped:
        raise RequestError(
            f"guest {', '.join(stopped)} is stopped: there is nothing to {verb}",
            cure="start it: virtkit start",
        )


def _check_pause(host: Host, chosen: Iterable[ObservedGuest]) -> None:
    for each in chosen:
        why = host.no_pause(DRIVERS[each.record.type])
        if why:
            raise RequestError(
                f"guest {each.record.guest} can't be paused on this host",
                why=why,
                cure="stop it instead: virtkit stop",
            )


def _verb_steps(host: Host, verb: Verb, there: ObservedGuest, timeout: float) -> Iterable[Step]:
    driver, name = DRIVERS[there.record.type], there.domain
    object = f"guest/{there.record.guest}"
    after = tuple((f"guest/{each}", "ready") for each in there.record.asked["after"])

    def restart(_say: Say) -> None:
        if host.domains.state(driver, name) != "running" or stopping(
            host, driver, name, timeout, reset=True
        ):
            host.domains.start(driver, name)

    runs: dict[Verb, Callable[[Say], Any]] = {
        "start": lambda _: host.domains.start(driver, name),
        "stop": lambda _: stopping(host, driver, name, timeout),
        "restart": restart,
        "pause": lambda _: host.domains.pause(driver, name),
        "resume": lambda _: host.domains.resume(driver, name),
    }
    yield Step(object, verb, host.name, runs[verb], after if verb == "start" else ())


def _ready_step(host: Host, spec: Spec, there: ObservedGuest, verb: Verb) -> Step:
    object = f"guest/{there.record.guest}"

    def ready(say: Say) -> None:
        reach.wait_ready(host, there.record, spec.folder, say)

    return Step(object, "ready", host.name, ready, ((object, verb),), waits=True)
