"""The verbs. Each parses its words, calls one function of the door and hands the answer on."""

from __future__ import annotations

import difflib
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from virtkit import api
from virtkit.cli import aliases, image, output, progress
from virtkit.cli import host as hosts
from virtkit.cli.arguments import (
    Debug,
    File,
    Json,
    LockTimeout,
    OneGuest,
    Parallel,
    SpecOnly,
    Timeout,
    Vault,
    Words,
    only_spec,
    spec_of,
)
from virtkit.cli.stdin import Given
from virtkit.errors import RequestError, VirtkitError
from virtkit.system import commands


class _Verbs(TyperGroup):
    """Answers the words of other tools with ours."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and name not in self.commands:
            near = difflib.get_close_matches(name, self.commands, n=1)
            meant = aliases.ALIASES.get(name) or (near[0] if near else None)
            cure = f"did you mean virtkit {meant}?" if meant else "see virtkit --help"
            raise RequestError(f"there is no verb {name!r}", cure=cure)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Real guests from one spec: virtual machines and containers, through libvirt.",
    epilog="SPEC ends in .yaml or .yml (- is standard input) and defaults to virtkit.yaml. GUEST "
    "is a name, a glob or @GROUP. Exit codes: 0 done, 1 failed on the way, 2 wrong request "
    "(nothing was touched), 3 plan --exit-code found changes, 130 interrupted.",
)
app.add_typer(image.app, name="image")
app.add_typer(hosts.app, name="host")

#: For verbs whose last words are a command of the guest's.
_COMMAND = {"allow_interspersed_args": False}


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        output.out.print(f"virtkit {version('virtkit')}", markup=False, highlight=False)
        raise typer.Exit


@app.callback()
def _virtkit(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass  # its help is the program's own


# --- the spec -------------------------------------------------------------------------------


@app.command()
def validate(
    spec: SpecOnly = None, file: File = None, json: Json = False, debug: Debug = False
) -> None:
    """Read and check the spec; touches nothing."""
    found = only_spec(spec, file)
    if json:
        guests = {name: each.asked for name, each in found.guests.items()}
        output.data({"environment": found.name, "valid": True, "guests": guests})
    else:
        count = len(found.guests)
        said = f"{found.source}: valid, {count} guest{'' if count == 1 else 's'}"
        output.out.print(said, markup=False)


@app.command()
def render(
    spec: Words = None,
    file: File = None,
    record: Annotated[
        bool, typer.Option("--record", help="With the record that virtkit keeps in <metadata>.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the libvirt XML that would be defined."""
    found, guests = spec_of(spec, file)
    documents = api.render_xml(found, guests, with_record=record, say=output.say)
    if json:
        output.data({"environment": found.name, "documents": documents})
    else:
        sys.stdout.write("\n".join(documents))


@app.command()
def schema(json: Json = False, debug: Debug = False) -> None:
    """Print the spec's JSON Schema, for editors."""
    output.data(api.schema())


@app.command()
def init(
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the one that is there.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Write a commented starter spec into this folder."""
    path = Path(aliases.DEFAULT)
    if path.exists() and not force:
        raise RequestError(f"there is a {path} already", cure="edit it, or use --force")
    path.write_text(api.starter())
    output.out.print(f"wrote {path}; next: virtkit up", markup=False)


# --- plan, up, down -------------------------------------------------------------------------


@app.command()
def plan(
    spec: Words = None,
    file: File = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 where there are changes.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Show what up --restart would change.")
    ] = False,
    down: Annotated[bool, typer.Option("--down", help="Show what down would remove.")] = False,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="With --down: what down --volumes would remove.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what up would change, and how disruptive each change is."""
    if (restart and down) or (volumes and not down):
        raise RequestError(
            "--restart is about up, and --volumes about down", cure="see virtkit plan --help"
        )
    found, guests = spec_of(spec, file)
    if down:
        made = api.down_plan(found, guests, volumes=volumes)
        refused = api.needs_consent_to_go(found, made, volumes=volumes)
    else:
        made = api.plan(found, guests, restart=restart, say=output.say)
        refused = api.needs_consent(made)
    if json:
        output.data(made.as_dict() | {"refused": refused.as_dict() if refused else None})
    else:
        output.plan(made)
    if exit_code and made.changes:
        raise typer.Exit(3)


@app.command()
def up(
    spec: Words = None,
    file: File = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Recreate and delete what the plan says.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Wait only for what others are after.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Restart guests that lack what only a restart brings.")
    ] = False,
    vault: Vault = None,
    parallel: Parallel = None,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make it so: create, change, start, run playbooks, and wait until ready."""
    found, guests = spec_of(spec, file)
    made = api.plan(found, guests, restart=restart, say=output.say)
    if not json:
        output.plan(made)
    confirmed = bool(made.asks) and not yes and not json and _agreed()
    if not made.changes and not json:
        return
    with progress.shown(output.err, f"{made.environment}: up") as tell:
        report = api.apply(
            found,
            made,
            consent=yes,
            confirmed=confirmed,
            wait=not no_wait,
            restart=restart,
            vault=_vault(vault),
            parallel=parallel,
            lock_timeout=lock_timeout,
            tell=tell,
            say=output.say,
        )
    _reported(report, "up", json)


@app.command()
def provision(
    spec: Words = None,
    file: File = None,
    vault: Vault = None,
    parallel: Parallel = None,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the guests' playbooks again."""
    found, guests = spec_of(spec, file)
    password = _vault(vault)
    with progress.shown(output.err, f"{found.name}: provision") as tell:
        report = api.provision(
            found,
            guests,
            vault=password,
            parallel=parallel,
            lock_timeout=lock_timeout,
            tell=tell,
            say=output.say,
        )
    _reported(report, "provisioned", json)


def _vault(path: str | None) -> str:
    """The file with the vaults' password, from any folder; empty where none is named."""
    if path is None:
        return ""
    if not Path(path).expanduser().is_file():
        raise RequestError(
            f"there is no vault password file {path}", cure="correct --vault-password-file"
        )
    return str(Path(path).expanduser().absolute())


def _agreed() -> bool:
    """Whether somebody at a terminal agrees to the plan that was shown."""
    return _at_terminal() and typer.confirm("Do it?", err=True)


def _at_terminal() -> bool:
    return sys.stderr.isatty() and sys.stdin.isatty()


@app.command()
def down(
    spec: Words = None,
    file: File = None,
    volumes: Annotated[bool, typer.Option("--volumes", help="Remove kept disks too.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Remove what was made from another spec, too.")
    ] = False,
    parallel: Parallel = None,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove the guests and all that is theirs; kept disks and images stay."""
    found, guests = spec_of(spec, file)
    confirmed = None
    if not yes and not json and _at_terminal():
        going = api.down_plan(found, guests, volumes=volumes)
        if going.asks:
            output.plan(going)
            confirmed = going if _agreed() else None
    with progress.shown(output.err, f"{found.name}: down") as tell:
        report = api.down(
            found,
            guests,
            volumes=volumes,
            consent=yes,
            confirmed=confirmed,
            parallel=parallel,
            lock_timeout=lock_timeout,
            tell=tell,
            say=output.say,
        )
    _reported(report, "down", json)


def _reported(report: api.Report, done: str, json: bool) -> None:
    if json:
        output.data(report.as_dict())
    else:
        output.report(report, done)
    if report.interrupted:
        raise typer.Exit(130)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def status(spec: Words = None, file: File = None, json: Json = False, debug: Debug = False) -> None:
    """Show the guests: type, state, addresses, readiness; without a spec, all of virtkit's."""
    everything = not spec and file is None
    found, guests = (None, []) if everything else spec_of(spec, file)
    answer = api.status(found, guests, say=output.say)
    if json:
        name = found.name if found else None
        output.data({"environment": name, "guests": [each.as_dict() for each in answer]})
    else:
        output.status(answer, environments=found is None)


def _change_state(
    verb: api.Verb,
    done: str,
    given: list[str] | None,
    file: str | None,
    json: bool,
    lock_timeout: float,
    timeout: float = api.STOP_TIMEOUT,
    wait: bool = True,
) -> None:
    found, guests = spec_of(given, file)
    with progress.shown(output.err, f"{found.name}: {verb}") as tell:
        report = api.change_state(
            found,
            verb,
            guests,
            timeout=timeout,
            wait=wait,
            lock_timeout=lock_timeout,
            tell=tell,
            say=output.say,
        )
    _reported(report, done, json)


NoWait = Annotated[bool, typer.Option("--no-wait", help="Don't wait until guests are ready.")]


@app.command()
def start(
    spec: Words = None,
    file: File = None,
    no_wait: NoWait = False,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Start guests that are stopped."""
    _change_state("start", "started", spec, file, json, lock_timeout, wait=not no_wait)


@app.command()
def stop(
    spec: Words = None,
    file: File = None,
    timeout: Timeout = api.STOP_TIMEOUT,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask guests to shut down; force them off after the timeout."""
    _change_state("stop", "stopped", spec, file, json, lock_timeout, timeout)


@app.command()
def restart(
    spec: Words = None,
    file: File = None,
    timeout: Timeout = api.STOP_TIMEOUT,
    no_wait: NoWait = False,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Shut guests down and start them; press reset after the timeout."""
    _change_state("restart", "restarted", spec, file, json, lock_timeout, timeout, not no_wait)


@app.command()
def pause(
    spec: Words = None,
    file: File = None,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Freeze running guests."""
    _change_state("pause", "paused", spec, file, json, lock_timeout)


@app.command()
def resume(
    spec: Words = None,
    file: File = None,
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Let paused guests go on."""
    _change_state("resume", "resumed", spec, file, json, lock_timeout)


# --- into guests ----------------------------------------------------------------------------


@app.command(context_settings=_COMMAND)
def ssh(spec: OneGuest = None, file: File = None, debug: Debug = False) -> None:
    """Open a shell in a guest, or run a command there: virtkit ssh SPEC GUEST -- COMMAND."""
    found, rest = spec_of(spec, file)
    guest, command = aliases.one_guest(rest, "virtkit ssh SPEC GUEST [-- COMMAND]")
    _enter(found, guest, api.ssh(found, guest, command))


def _enter(spec: api.Spec, guest: str, command: list[str], given: Given | None = None) -> NoReturn:
    """Runs ssh with our streams, and tells why a guest did not let the caller in."""
    code = _run(command, given)
    problem = api.refused(spec, guest) if code == 255 else None
    if problem is not None:
        output.error(problem, as_json=False)
        if given is not None and given.silent:
            output.say("ssh was tried as standard input is open; with `</dev/null` other ways are")
    raise typer.Exit(code)


@app.command("exec", context_settings=_COMMAND)
def execute(spec: OneGuest = None, file: File = None, debug: Debug = False) -> None:
    """Run a command as root in a guest, through its hypervisor where it can, else by ssh. It reads
    standard input where that is no terminal."""
    found, rest = spec_of(spec, file)
    usage = "virtkit exec SPEC GUEST -- COMMAND"
    guest, command = aliases.one_guest(rest, usage)
    if not command:
        raise RequestError("no command is given", cure=usage)
    given = Given()
    way = api.execute(found, guest, command, given, output.say)
    if way.command is not None and way.command[0] == "ssh":
        _enter(found, guest, way.command, given)
    if way.command is not None:
        _become(way.command)
    if way.ran is not None:
        sys.stdout.buffer.write(way.ran.out)
        sys.stderr.buffer.write(way.ran.err)
        if way.ran.cut:
            raise VirtkitError(
                "the command printed more than this",
                why=f"the guest agent keeps the first {api.format_size(len(way.ran.out))}; the "
                f"command's exit code is {way.ran.code}",
                cure="use `virtkit ssh`, or print into a file there and fetch it: virtkit cp",
            )
        raise typer.Exit(way.ran.code)


@app.command()
def console(
    spec: OneGuest = None,
    file: File = None,
    vnc: Annotated[bool, typer.Option("--vnc", help="Tell the display's address.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Attach this terminal to a guest's console; ctrl-] leaves it."""
    found, rest = spec_of(spec, file)
    guest, _ = aliases.one_guest(rest, "virtkit console SPEC GUEST")
    if not vnc:
        _become(api.console(found, guest))
        return
    display = api.vnc(found, guest)
    shown = display.password if sys.stdout.isatty() else None
    if json:
        output.data({"address": display.address, "port": display.port, "password": shown})
    else:
        output.out.print(f"vnc://{display.address}:{display.port}")
        output.out.print(f"password: {shown or 'told on a terminal only'}")


@app.command()
def logs(
    spec: Words = None,
    file: File = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as they print.")] = False,
    playbooks: Annotated[
        bool, typer.Option("--playbooks", help="What Ansible printed when it last ran theirs.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what guests printed so far: consoles, and containers' journals."""
    found, guests = spec_of(spec, file)
    if follow and playbooks:
        raise RequestError(
            "--playbooks can't be followed", cure="up and provision show the tasks as they run"
        )
    if follow:
        _follow(found, guests)
        return
    answer = (api.playbook_logs if playbooks else api.logs)(found, guests)
    if json:
        output.data({"environment": found.name, "logs": answer})
        return
    for name, text in answer.items():
        for line in text.splitlines():
            sys.stdout.write(f"{name} | {line}\n" if len(answer) > 1 else f"{line}\n")


def _follow(spec: api.Spec, guests: list[str]) -> None:
    names = list(api.log_names(spec, guests))

    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def show(name: str) -> None:
        try:
            for line in api.follow(spec, name, say=output.say):
                sys.stdout.write(f"{name} | {line}\n" if len(names) > 1 else f"{line}\n")
                sys.stdout.flush()
        except Exception as error:  # noqa: BLE001 - the main thread tells it
            ended.put(error)
        else:
            ended.put(None)

    for name in names:
        threading.Thread(target=show, args=[name], daemon=True).start()
    failed = False
    for _ in names:
        error = ended.get()
        if isinstance(error, VirtkitError):  # the other guests are followed on
            output.error(error, as_json=False)
            failed = True
        elif error is not None:
            raise error
    if failed:
        raise typer.Exit(1)


@app.command()
def cp(
    source: Annotated[list[str], typer.Argument(metavar="SPEC|SRC|DST")],
    file: File = None,
    debug: Debug = False,
) -> None:
    """Copy files or folders between here and a guest: GUEST:PATH is a path there."""
    found, rest = spec_of(source, file)
    if len(rest) != 2:
        raise RequestError("cp takes a source and a target", cure="virtkit cp SPEC SRC DST")
    _become(api.copy(found, rest[0], rest[1]))


def _run(command: list[str], given: Given | None = None) -> int:
    """Runs a program with our streams; its exit code. What we are told to do, it does."""
    sys.stdout.flush()
    line = commands.leashed(commands.line(*command), "HUP")  # as if its terminal had gone
    begun = given is not None and bool(given.begun)
    program = subprocess.Popen(
        line, env=commands.environment(), stdin=subprocess.PIPE if begun else None
    )
    if given is not None and begun:
        given.go_on(program)
    own = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN)
    }  # the terminal tells it, too
    for number in (signal.SIGTERM, signal.SIGHUP):
        own[number] = signal.signal(number, lambda number, _: program.send_signal(number))
    code = program.wait()
    for number, handler in own.items():
        signal.signal(number, handler)
    return 128 - code if code < 0 else code


def _become(command: list[str]) -> None:
    """Runs a program in our place, with our streams and its exit code."""
    line = commands.line(*command)
    sys.stdout.flush()
    api.close()
    os.execve(line[0], line, commands.environment())


# --- for other programs ----------------------------------------------------------------------


@app.command()
def inventory(
    spec: SpecOnly = None,
    file: File = None,
    everything: Annotated[bool, typer.Option("--list", help="Ansible's script protocol.")] = False,
    host: Annotated[str | None, typer.Option("--host", help="One guest's variables.")] = None,
    hypervisor: Annotated[
        bool, typer.Option("--hypervisor", help="Not by ssh where the hypervisor has a way in.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Print an Ansible inventory: a file for ansible -i as it is."""
    found = api.inventory(only_spec(spec, file), hypervisor=hypervisor, say=output.say)
    if host is not None:
        output.data(found.variables(host))
    elif everything or json:
        output.data(found.script())
    else:
        sys.stdout.write(found.static())
        for group, name in found.renamed.items():
            output.say(f"group {group} is {name} here: Ansible takes no - in a group's name")


@app.command("ssh-config")
def ssh_config(
    spec: Words = None, file: File = None, json: Json = False, debug: Debug = False
) -> None:
    """Print a file for ssh, editors and rsync, to be included at the top of ~/.ssh/config:

    virtkit ssh-config SPEC >~/.ssh/virtkit-lab, then `Include ~/.ssh/virtkit-lab` there."""
    found, guests = spec_of(spec, file)
    text = api.ssh_config(found, guests)
    if json:
        output.data({"environment": found.name, "ssh_config": text})
    else:
        sys.stdout.write(text)


@app.command()
def doctor(
    spec: SpecOnly = None,
    file: File = None,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Show what belongs to no spec; deletes nothing.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what this machine can run, what is missing, and the command that mends it."""
    found = only_spec(spec, file) if spec or file else None
    if orphans:
        left = api.orphans(found)
        if json:
            output.data({"orphans": [each.as_dict() for each in left]})
        else:
            output.orphans(left)
        return
    checks = api.doctor(found, say=output.say)
    if json:
        output.data({"checks": [each.as_dict() for each in checks]})
    else:
        output.checks(checks)
    if any(each.ok is False and each.needed for each in checks):
        raise typer.Exit(2)
