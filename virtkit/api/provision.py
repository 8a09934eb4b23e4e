"""Playbooks run again, whatever the guests' records say of them; and what they printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from virtkit import access, ansible
from virtkit.api._hosts import (
    GuestOnHost,
    as_named,
    found_of,
    hosts_of,
    must_run,
    named,
    observe_all,
    ordered,
    path_of,
)
from virtkit.api._playbooks import playbooks
from virtkit.api.access import inventory
from virtkit.api.lifecycle import locked, remember, runner
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
    hosts = hosts_of(spec)
    files: dict[tuple[str, ...], str] = {}
    wanted = {name: playbooks(spec, name, files) for name in _names(spec, guests)}
    with locked(spec, hosts, run):
        sites = [as_named(each, path_of(spec)) for each in observe_all(hosts)]
        found = found_of(spec, sites)
        _check_run(wanted, found)
        options = StepOptions(
            path_of(spec), spec.folder, inventory=lambda: inventory(spec).tree(), vault=run.vault
        )
        context = {host.name: Context(host, options) for host in hosts}
        steps = [
            step
            for name, each in wanted.items()
            for step in _steps(spec, found[name], each, context[found[name].host.name])
        ]
        report = runner(spec, hosts, run)(steps)
        remember(spec, list(context.values()), report)
        return report


def _names(spec: Spec, words: Sequence[str]) -> list[str]:
    """The guests that ``words`` name, each with playbooks; without words, all that have any."""
    having = [name for name, each in spec.guests.items() if each.playbooks]
    names = ordered(spec, named(spec, {}, words)) if words else having
    lacking = [each for each in names if each not in having]
    if lacking or not names:
        who = f"guest {', '.join(lacking)}" if lacking else f"no guest of {spec.name}"
        raise RequestError(
            f"{who} has {'no' if lacking else 'any'} playbooks",
            cure="give it some, such as `playbooks: [site.yml]`",
            where=spec.where(("guests", *lacking[:1])),
        )
    return names


def _check_run(wanted: Iterable[str], found: dict[str, GuestOnHost]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise RequestError(
            f"guest {', '.join(missing)} does not exist yet",
            cure="virtkit up makes it, and runs its playbooks",
        )
    for name in wanted:
        must_run(found[name].observed)


def _steps(spec: Spec, found: GuestOnHost, wanted: Playbooks, context: Context) -> Iterable[Step]:
    """A guest's playbooks, and whether it is ready afterwards. Those that it is ``after`` come
    before it."""
    record = found.observed.record
    name, object, host = record.guest, f"guest/{record.guest}", found.host

    def login(voice: Progress) -> None:
        wait_login(context, record, voice)

    def run(voice: Progress) -> None:
        run_playbooks(context, record, wanted, spec.guests[name].vars, voice)

    def ready(voice: Progress) -> None:
        requested = {**record.requested, "ready": spec.guests[name].requested["ready"]}
        access.wait_ready(host, replace(record, requested=requested), spec.folder, voice)

    dependencies = tuple((f"guest/{each}", "ready") for each in spec.guests[name].after)
    yield Step(object, "login", host.name, login, after_all=dependencies, waits=True)
    yield Step(object, "playbooks", host.name, run, ((object, "login"),))
    yield Step(object, "ready", host.name, ready, ((object, "playbooks"),), waits=True)


def playbook_logs(spec: Spec, guests: Sequence[str] = ()) -> dict[str, str]:
    """What Ansible printed when it last ran each guest's playbooks from here, by the guest's name.

    Raises:
        RequestError: it never ran them here.
    """
    names = ordered(spec, named(spec, {}, guests)) if guests else list(spec.guests)
    known = access.known(spec.name)
    logs = {name: access.playbook_log(spec.name, name) for name in names} if known else {}
    found = {name: log.read_text(errors="replace") for name, log in logs.items() if log.is_file()}
    missing = [name for name in names if name not in found]
    if not found or (guests and missing):
        raise RequestError(
            f"playbooks of {', '.join(missing) or spec.name} were never run from here",
            why="who runs them keeps what they print",
            cure="virtkit provision runs them",
        )
    return found
