"""Playbooks run again, whatever the guests' records say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from virtkit import access, ansible
from virtkit.api._hosts import (
    GuestOnHost,
    check_running,
    existing_guests,
    guests_named,
    hosts_of,
    ordered,
    path_of,
    with_spec_path,
)
from virtkit.api._placement import unknown_guests
from virtkit.api._playbooks import playbooks
from virtkit.api._silence import observe_spec
from virtkit.api.inventory import RunInventory
from virtkit.api.lifecycle import locked, runner, unanswered_results, update_records
from virtkit.api.run_options import DEFAULT, RunOptions
from virtkit.apply import Context, Report, Step, StepOptions
from virtkit.apply.provision import provision as run_playbooks
from virtkit.apply.provision import wait_login
from virtkit.errors import RequestError
from virtkit.progress import Progress
from virtkit.spec import Spec
from virtkit.state.desired import Playbooks


def provision(
    spec: Spec,
    guests: Sequence[str] = (),
    *,
    run: RunOptions = DEFAULT,
) -> Report:
    """Runs the playbooks of guests that exist; without ``guests`` of all that have any.

    Args:
        run: how the run goes.

    Raises:
        RequestError: a guest is not there, does not run or has no playbooks, a playbook can't be
            read, or another run takes longer; nothing was touched.
    """
    ansible.require()
    files: dict[tuple[str, ...], tuple[str, str]] = {}
    wanted = {name: playbooks(spec, name, files) for name in _names(spec, guests)}
    first = observe_spec(spec, hosts_of(spec))
    with locked(spec, first.hosts, run):
        observation = observe_spec(spec, first.hosts).with_unanswered(first.unanswered)
        host_states = [with_spec_path(each, path_of(spec)) for each in observation.host_states]
        unknown = [
            each
            for each in unknown_guests(spec, host_states, observation.unanswered)
            if each.guest in wanted
        ]
        unseen = {each.guest for each in unknown}
        seen = {name: each for name, each in wanted.items() if name not in unseen}
        existing = existing_guests(spec, host_states)
        _check_exist_and_run(spec, seen, existing)
        options = StepOptions(
            path_of(spec),
            spec.folder,
            inventory=RunInventory(spec, observation.hosts, observation.unanswered),
            vault=run.vault,
        )
        context = {host.name: Context(host, options) for host in observation.hosts}
        steps = [
            step
            for name, each in seen.items()
            for step in _steps(spec, existing[name], each, context[existing[name].host.name])
        ]
        report = runner(spec, observation.hosts, run)(steps)
        update_records(spec, list(context.values()), report)
        all_guests = not guests
        report.results += unanswered_results(observation.unanswered, unknown, all_guests=all_guests)
        return report


def _names(spec: Spec, guests: Sequence[str]) -> list[str]:
    """The guests that ``guests`` name, each with playbooks; without these, all that have any."""
    with_playbooks = [name for name, each in spec.guests.items() if each.playbooks]
    names = ordered(spec, guests_named(spec, {}, guests)) if guests else with_playbooks
    without = [each for each in names if each not in with_playbooks]
    if without or not names:
        who = f"guest {', '.join(without)}" if without else f"no guest of {spec.name}"
        raise RequestError(
            f"{who} has {'no' if without else 'any'} playbooks",
            cure="give it some, such as `playbooks: [site.yml]`",
            where=spec.where(("guests", *without[:1])),
        )
    return names


def _check_exist_and_run(
    spec: Spec, wanted: Iterable[str], existing: dict[str, GuestOnHost]
) -> None:
    missing = [name for name in wanted if name not in existing]
    if missing:
        raise RequestError(
            f"guest {', '.join(missing)} does not exist yet",
            cure=f"{spec.command('up', *missing)} makes it, and runs its playbooks",
        )
    for name in wanted:
        check_running(spec, existing[name].observed)


def _steps(spec: Spec, guest: GuestOnHost, wanted: Playbooks, context: Context) -> Iterable[Step]:
    """A guest's playbooks, and whether it is ready afterwards. Those that it is ``after`` come
    before it."""
    record = guest.observed.record
    name, object, host = record.guest, f"guest/{record.guest}", guest.host

    def login(progress: Progress) -> None:
        wait_login(context, record, progress)

    def run(progress: Progress) -> None:
        run_playbooks(context, record, wanted, spec.guests[name].vars, progress)

    def ready(progress: Progress) -> None:
        requested = {**record.requested, "ready": spec.guests[name].requested["ready"]}
        access.wait_ready(host, replace(record, requested=requested), spec.folder, progress)

    dependencies = tuple((f"guest/{each}", "ready") for each in spec.guests[name].after)
    yield Step(object, "login", host.name, login, after_on_any_host=dependencies, waits=True)
    yield Step(object, "playbooks", host.name, run, ((object, "login"),))
    yield Step(object, "ready", host.name, ready, ((object, "playbooks"),), waits=True)
