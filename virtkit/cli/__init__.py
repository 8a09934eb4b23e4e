"""The command line: one small function per verb, that calls the door and shows its answer."""

from __future__ import annotations

import os
import sys

from virtkit.errors import VirtkitError


def main() -> None:
    """The program ``virtkit``. Exit codes: see ``virtkit --help``."""
    from virtkit.cli import output
    from virtkit.cli.verbs import app

    try:
        app(prog_name="virtkit")
    except VirtkitError as problem:
        if "--debug" in sys.argv:
            raise
        output.error(problem, as_json="--json" in _own_arguments())
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        output.err.print("interrupted: running again goes on from here")
        sys.exit(130)
    except BrokenPipeError:  # whoever read our answer has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as fault:
        if "--debug" in sys.argv:
            raise
        output.error(_own_fault(fault), as_json="--json" in _own_arguments())
        sys.exit(1)


def _own_fault(fault: Exception) -> VirtkitError:
    """A fault of virtkit's, as an error for its user."""
    return VirtkitError(
        "virtkit itself failed",
        why=f"{type(fault).__name__}: {fault}",
        cure="run again; where it fails again, report what it prints with --debug",
    )


def _own_arguments() -> list[str]:
    """The arguments before ``--``: what follows is a guest's."""
    arguments = sys.argv[1:]
    return arguments[: arguments.index("--")] if "--" in arguments else arguments
