"""Verbs that lead into guests: ssh, exec, console, cp, logs."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from typing import Annotated, Any, NoReturn

from virtkit import api
from virtkit.cli import output, streams
from virtkit.cli.arguments import (
    Json,
    SpecAndGuest,
    SpecAndGuests,
    SpecGuestAndCommand,
    SpecOptions,
    one_guest,
)
from virtkit.cli.parser import Positionals, flag
from virtkit.cli.stdin import Stdin
from virtkit.errors import RequestError, VirtkitError
from virtkit.system import commands


def ssh(*, chosen: SpecGuestAndCommand) -> None:
    """Open a shell in a guest, or run a command there: virtkit ssh SPEC GUEST -- COMMAND."""
    spec, rest = chosen.read()
    guest, command = one_guest(rest, "virtkit ssh SPEC GUEST [-- COMMAND]")
    _run_ssh(spec, guest, api.ssh(spec, guest, command))


def _run_ssh(
    spec: api.Spec, guest: str, command: list[str], stdin: Stdin | None = None
) -> NoReturn:
    """Runs ssh with our streams, and tells why a guest did not let the caller in."""
    code = _run(command, stdin)
    problem = api.ssh_refusal(spec, guest) if code == 255 else None
    if problem is not None:
        output.error(problem, as_json=False)
        if stdin is not None and stdin.silent:
            output.say(
                "the command went by ssh because standard input is open; with `</dev/null` a guest "
                "agent can run it, where there is one"
            )
    raise SystemExit(code)


def execute(*, chosen: SpecGuestAndCommand) -> None:
    """Run a command as root in a guest, through its hypervisor where it can, else by ssh. It reads
    standard input where that is no terminal."""
    spec, rest = chosen.read()
    usage = "virtkit exec SPEC GUEST -- COMMAND"
    guest, command = one_guest(rest, usage)
    if not command:
        raise RequestError("no command is given", cure=usage)
    stdin = Stdin()
    # where one stream goes elsewhere, a terminal would mix it with the others
    terminal = all(map(os.isatty, (0, 1, 2)))
    execution = api.execute(spec, guest, command, stdin, output.say, terminal=terminal)
    if execution.command is not None:
        if execution.way == "ssh":
            _run_ssh(spec, guest, execution.command, stdin)
        if execution.way == "host":
            raise SystemExit(_run(execution.command))
        _exec_program(execution.command)
    result = execution.result
    if result is not None:
        sys.stdout.buffer.write(result.out)
        sys.stderr.buffer.write(result.err)
        if result.truncated:
            raise VirtkitError(
                "the command's output was cut off",
                why=f"the guest agent keeps the first {api.format_size(len(result.out))}; the "
                f"command's exit code is {result.code}",
                cure="use `virtkit ssh`, or print into a file there and fetch it: virtkit cp",
            )
        raise SystemExit(result.code)


def console(
    *,
    chosen: SpecAndGuest,
    vnc: Annotated[
        bool,
        flag(
            "--vnc",
            help="Show the address and password of a VNC or SPICE display. One on another host is "
            "forwarded to a port here until ctrl-c.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Attach this terminal to a guest's console; ctrl-] leaves it."""
    spec, rest = chosen.read()
    guest, _ = one_guest(rest, "virtkit console SPEC GUEST")
    if json and not vnc:
        raise RequestError(
            "a console has no JSON document",
            cure="leave out --json, or show the display's address with --vnc",
        )
    if not vnc:
        _exec_program(api.console(spec, guest))
        return
    with (
        api.forwarded_vnc(spec, guest) as display,
        # a way to another host may be ended from when it is shown
        suppress(KeyboardInterrupt) if display.forwarded else nullcontext(),
    ):
        _show(display, json=json)
        if display.forwarded:
            _wait_for_end(f"this leads to the host of guest {guest} until ctrl-c ends it")


def _show(display: api.Vnc, *, json: bool) -> None:
    """Where a display is, and its password where only the caller sees that."""
    shown = display.password if sys.stdout.isatty() else None
    if json:
        output.data(
            {
                "kind": display.kind,
                "address": display.address,
                "port": display.port,
                "password": shown,
            }
        )
    else:
        output.out().print(f"{display.kind}://{display.address}:{display.port}")
        output.out().print(f"password: {shown or 'shown on a terminal only'}")


def _wait_for_end(text: str) -> None:
    """Says what lasts until ctrl-c, and waits for that."""
    sys.stdout.flush()
    output.say(text)
    while True:
        time.sleep(0.2)  # where another thread took the signal, it is heard after this


def logs(
    *,
    chosen: SpecAndGuests,
    follow: Annotated[bool, flag("--follow", help="Keep showing what they print.")] = False,
    playbooks: Annotated[
        bool,
        flag("--playbooks", help="Show what Ansible printed when it last ran their playbooks."),
    ] = False,
    json: Json = False,
) -> None:
    """Show what guests printed so far: consoles, and containers' journals."""
    spec, guests = chosen.read()
    if follow and playbooks:
        raise RequestError(
            "--playbooks can't be followed", cure="up and provision show the tasks as they run"
        )
    if follow and json:
        raise RequestError(
            "--follow has no end, so there is no JSON document of it",
            cure="leave out one of the two",
        )
    if follow:
        _follow(spec, guests)
        return
    answer = api.Logs(api.playbook_logs(spec, guests)) if playbooks else api.logs(spec, guests)
    texts, errors = answer.value, _distinct(answer.unread.values())
    if json:
        document: dict[str, Any] = {"environment": spec.name, "logs": texts}
        if errors:
            every = [each.as_dict() for each in errors]
            document |= {"error": every[0], "errors": every}
        output.answer(document, answer.unanswered)
    else:
        several = len(texts) + len(answer.unread) > 1
        for name, text in texts.items():
            for line in text.splitlines():
                sys.stdout.write(f"{name} | {line}\n" if several else f"{line}\n")
        for each in errors:
            output.error(each, as_json=False)
    output.end(answer.unanswered)
    if errors:
        raise SystemExit(1)


def _distinct(errors: Iterable[VirtkitError]) -> list[VirtkitError]:
    """The errors, each once: a pool's is that of all its guests."""
    return list({(each.what, each.where): each for each in errors}.values())


def _follow(spec: api.Spec, guests: list[str]) -> None:
    answer = api.log_names(spec, guests)
    names = answer.value
    output.unanswered(answer.unanswered)

    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def show(name: str) -> None:
        try:
            for line in api.follow(spec, name, say=output.say):
                sys.stdout.write(f"{name} | {line}\n" if len(names) > 1 else f"{line}\n")
                streams.flush()
        except Exception as error:  # noqa: BLE001 - the main thread tells it
            ended.put(error)
        else:
            ended.put(None)

    for name in names:
        threading.Thread(target=show, args=[name], daemon=True).start()
    failed = bool(answer.unanswered)
    for _ in names:
        error = ended.get()
        if isinstance(error, streams.Unread):  # whoever read it has read enough
            break
        if isinstance(error, VirtkitError):  # the other guests are followed on
            output.error(error, as_json=False)
            failed = True
        elif error is not None:
            raise error
    if failed:
        raise SystemExit(1)


def cp(
    *, positionals: Annotated[list[str], Positionals("[SPEC] SRC DST")], options: SpecOptions
) -> None:
    """Copy files or folders between here and a guest: GUEST:PATH is a path there."""
    spec, rest = options.read(positionals)
    if len(rest) != 2:
        raise RequestError("cp takes a source and a target", cure="virtkit cp SPEC SRC DST")
    _exec_program(api.copy(spec, rest[0], rest[1]))


def _run(command: list[str], stdin: Stdin | None = None) -> int:
    """Runs a program with our streams, and returns its exit code.

    Signals that we get go on to it. ssh's 255 then does not mean that the guest was not reached.
    """
    sys.stdout.flush()
    # as if its terminal had gone
    line = commands.die_with_parent(commands.command_line(*command), "HUP")
    piped = stdin is not None and bool(stdin.read_so_far)
    program = subprocess.Popen(
        line, env=commands.environment(), stdin=subprocess.PIPE if piped else None
    )
    if stdin is not None and piped:
        stdin.copy_to(program)
    received: list[int] = []

    def forward(number: int, _frame: object) -> None:
        received.append(number)
        if number != signal.SIGINT:  # the terminal sends it that one, too
            program.send_signal(number)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    wakeup = signal.set_wakeup_fd(-1)  # none of them is to end us
    own = {number: signal.signal(number, forward) for number in signals}
    code = program.wait()
    for number, handler in own.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(wakeup)
    if code == 255 and received:
        return 128 + received[-1]
    return 128 - code if code < 0 else code


def _exec_program(command: list[str]) -> None:
    """Replaces this process by a program."""
    line = commands.command_line(*command)
    sys.stdout.flush()
    api.close()
    os.execve(line[0], line, commands.environment())
