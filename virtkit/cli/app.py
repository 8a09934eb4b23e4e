"""The program: streams, signals, errors and exit codes."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress
from types import ModuleType
from typing import NoReturn

from virtkit.cli import signals, streams
from virtkit.errors import VirtkitError, from_os_error


def main() -> None:
    """The program ``virtkit``. Exit codes: see ``virtkit --help``."""
    # most of what a short run makes are modules, which stay: they need not be searched for garbage
    # every time, nor at the end
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    _go_without_plugins()
    streams.open_all()
    with signals.handled() as interrupted:
        try:
            code = _run()
        except KeyboardInterrupt:
            interrupted.set()
            code = signals.INTERRUPTED
        if code == signals.INTERRUPTED and interrupted.is_set():
            _exit_now()
        _close()
    sys.exit(code)


def _go_without_plugins() -> None:
    """Answers pydantic, which asks for plugins of its own before it first checks a value: none.

    It would look through all installed packages, and load what can: 8 % of `validate`.
    """
    loader = ModuleType("pydantic.plugin._loader")
    loader.__dict__["get_plugins"] = tuple
    sys.modules[loader.__name__] = loader


def _close() -> None:
    """Ends the connections to libvirt, where there can be any."""
    if "virtkit.host.connection" in sys.modules:
        from virtkit import api

        api.close()


def _exit_now() -> NoReturn:
    """Ends the process without waiting for threads that only looked at something."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, signals.LAST_LINE)):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.write(text)
            stream.flush()
    os._exit(signals.INTERRUPTED)


def _run() -> int:
    """Runs the verb that is typed, and returns its exit code."""
    from virtkit.cli.parser import WrongUsage

    try:
        code = _run_verb(sys.argv[1:])
        sys.stdout.flush()  # what can't be written is found here, and not at the very end
        return code
    except VirtkitError as problem:
        if "--debug" in _own_arguments() and not isinstance(problem, WrongUsage):
            raise
        _print_error(problem)
        return problem.exit_code
    except OSError as refusal:
        if "--debug" in _own_arguments():
            raise
        failure = from_os_error("virtkit can't continue", refusal)
        _print_error(failure)
        return failure.exit_code
    except Exception as fault:
        if "--debug" in _own_arguments():
            raise
        _print_error(_internal_error(fault))
        return 1


def _run_verb(arguments: list[str]) -> int:
    """Runs a verb, and returns its exit code."""
    from virtkit.cli import commands

    try:
        commands.run(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _print_error(problem: VirtkitError) -> None:
    """Prints an error: as JSON where that is asked for and standard output takes it."""
    from virtkit.cli import output

    if "--json" in _own_arguments():
        with suppress(OSError):
            output.error(problem, as_json=True)
            sys.stdout.flush()
            return
    _flush_or_drop()
    output.error(problem, as_json=False)


def _flush_or_drop() -> None:
    """Writes out what was printed on standard output; it goes nowhere where that takes nothing."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _internal_error(fault: Exception) -> VirtkitError:
    """A fault of virtkit's own, as an error for its user."""
    return VirtkitError(
        "virtkit itself failed",
        why=f"{type(fault).__name__}: {fault}",
        cure="run again; if it fails again, report what it prints with --debug",
    )


def _own_arguments() -> list[str]:
    """The arguments that are for virtkit itself."""
    from virtkit.cli import commands

    return commands.own_arguments(sys.argv[1:])
