"""The life of an environment: plan shows what changes; up, down, provision, start, stop and their
like change it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from virtkit import api
from virtkit.cli import output, progress, signals
from virtkit.cli.arguments import (
    Json,
    LockTimeout,
    Run,
    SpecAndGuests,
    Timeout,
    Vault,
)
from virtkit.cli.parser import flag
from virtkit.errors import RequestError


def plan(
    *,
    chosen: SpecAndGuests,
    exit_code: Annotated[
        bool, flag("--exit-code", help="Exit with 3 if there are changes.")
    ] = False,
    restart: Annotated[
        bool, flag("--restart", help="Show what up --restart would change.")
    ] = False,
    down: Annotated[bool, flag("--down", help="Show what down would remove.")] = False,
    volumes: Annotated[
        bool, flag("--volumes", help="With --down: what down --volumes would remove.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what up would change, and how disruptive each change is."""
    if (restart and down) or (volumes and not down):
        raise RequestError(
            "--restart belongs to up, and --volumes to down", cure="see virtkit plan --help"
        )
    spec, guests = chosen.read()
    if down:
        planned = api.down_plan(spec, guests, volumes=volumes)
        refused = api.down_refusal(spec, planned, volumes=volumes)
    else:
        planned = api.plan(spec, guests, restart=restart, say=output.say)
        refused = api.apply_refusal(planned)
    if json:
        output.data(planned.as_dict() | {"refused": refused.as_dict() if refused else None})
    else:
        output.plan(planned)
    if planned.incomplete:
        raise SystemExit(1)
    if exit_code and planned.changes:
        raise SystemExit(3)


def up(
    *,
    chosen: SpecAndGuests,
    yes: Annotated[
        bool, flag("-y", "--yes", help="Recreate and delete what the plan says.")
    ] = False,
    no_wait: Annotated[
        bool, flag("--no-wait", help="Wait only for guests that others start after.")
    ] = False,
    restart: Annotated[
        bool, flag("--restart", help="Restart guests whose changes need a restart.")
    ] = False,
    vault: Vault = None,
    run: Run,
    json: Json = False,
) -> None:
    """Make it so: create, change, start, run playbooks, and wait until ready."""
    spec, guests = chosen.read()
    planned = api.plan(spec, guests, restart=restart, say=output.say)
    if not json:
        output.plan(planned)
    confirmed = bool(planned.needs_consent) and not yes and not json and _ask_consent()
    if not planned.changes and not planned.incomplete and not json:
        return
    with progress.shown(output.err(), f"{planned.environment}: up") as tell:
        report = api.apply(
            spec,
            planned,
            consent=yes,
            confirmed=confirmed,
            wait=not no_wait,
            restart=restart,
            run=_options(run, tell, _vault(vault)),
        )
    _show_report(report, "up", json)


def _options(run: Run, tell: api.Tell, vault: str = "") -> api.RunOptions:
    """The options of a run, as the API takes them."""
    return api.RunOptions(
        vault=vault,
        parallel=run.parallel,
        lock_timeout=run.lock_timeout,
        tell=tell,
        say=output.say,
    )


def _vault(path: str | None) -> str:
    """The file with the vaults' password, from any folder; empty where none is named."""
    if path is None:
        return ""
    if not Path(path).expanduser().is_file():
        raise RequestError(
            f"there is no vault password file {path}", cure="correct --vault-password-file"
        )
    return str(Path(path).expanduser().absolute())


def _ask_consent() -> bool:
    """Whether somebody at a terminal agrees to the plan that was shown; the input's end is a no."""
    return output.ask("Do it?")


def _show_report(report: api.Report, done: str, json: bool) -> None:
    """Shows how a run ended; exits where it did not end well."""
    if json:
        output.data(report.as_dict())
    else:
        output.report(report, done)
    if report.interrupted:
        raise SystemExit(signals.INTERRUPTED)
    if not report.ok:
        raise SystemExit(1)


def provision(
    *,
    chosen: SpecAndGuests,
    vault: Vault = None,
    run: Run,
    json: Json = False,
) -> None:
    """Run the guests' playbooks again."""
    spec, guests = chosen.read()
    password = _vault(vault)
    with progress.shown(output.err(), f"{spec.name}: provision") as tell:
        report = api.provision(spec, guests, run=_options(run, tell, password))
    _show_report(report, "provisioned", json)


def down(
    *,
    chosen: SpecAndGuests,
    volumes: Annotated[bool, flag("--volumes", help="Remove kept disks too.")] = False,
    yes: Annotated[
        bool, flag("-y", "--yes", help="Remove what was made from another spec, too.")
    ] = False,
    run: Run,
    json: Json = False,
) -> None:
    """Remove the guests and everything that belongs to them; kept disks and images stay."""
    spec, guests = chosen.read()
    confirmed = None
    if not yes and not json and output.at_terminal():
        removal = api.down_plan(spec, guests, volumes=volumes)
        if removal.needs_consent:
            output.plan(removal)
            confirmed = removal if _ask_consent() else None
    with progress.shown(output.err(), f"{spec.name}: down") as tell:
        report = api.down(
            spec,
            guests,
            volumes=volumes,
            consent=yes,
            confirmed=confirmed,
            run=_options(run, tell),
        )
    _show_report(report, "down", json)


def _change_state(
    verb: api.Verb,
    done: str,
    chosen: SpecAndGuests,
    lock_timeout: float,
    *,
    json: bool,
    timeout: float = api.STOP_TIMEOUT,
    wait: bool = True,
) -> None:
    spec, guests = chosen.read()
    with progress.shown(output.err(), f"{spec.name}: {verb}") as tell:
        report = api.change_state(
            spec,
            verb,
            guests,
            timeout=timeout,
            wait=wait,
            run=_options(Run(lock_timeout=lock_timeout), tell),
        )
    _show_report(report, done, json)


NoWait = Annotated[bool, flag("--no-wait", help="Don't wait until guests are ready.")]


def start(
    *,
    chosen: SpecAndGuests,
    no_wait: NoWait = False,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
) -> None:
    """Start guests that are stopped."""
    _change_state("start", "started", chosen, lock_timeout, json=json, wait=not no_wait)


def stop(
    *,
    chosen: SpecAndGuests,
    timeout: Timeout = api.STOP_TIMEOUT,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
) -> None:
    """Ask guests to shut down; force them off after the timeout."""
    _change_state("stop", "stopped", chosen, lock_timeout, json=json, timeout=timeout)


def restart(
    *,
    chosen: SpecAndGuests,
    timeout: Timeout = api.STOP_TIMEOUT,
    no_wait: NoWait = False,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
) -> None:
    """Shut guests down and start them; reset them after the timeout."""
    wait = not no_wait
    _change_state(
        "restart", "restarted", chosen, lock_timeout, json=json, timeout=timeout, wait=wait
    )


def pause(
    *,
    chosen: SpecAndGuests,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
) -> None:
    """Pause running guests."""
    _change_state("pause", "paused", chosen, lock_timeout, json=json)


def resume(
    *,
    chosen: SpecAndGuests,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
) -> None:
    """Resume paused guests."""
    _change_state("resume", "resumed", chosen, lock_timeout, json=json)
