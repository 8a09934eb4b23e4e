"""The command line: one small function per verb, that calls the door and shows its answer."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from virtkit.errors import RequestError, VirtkitError, of_system


def main() -> None:
    """The program ``virtkit``. Exit codes: see ``virtkit --help``."""
    from typer import Abort

    from virtkit.cli import output
    from virtkit.cli.verbs import app

    try:
        code = app(prog_name="virtkit", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except VirtkitError as problem:
        if "--debug" in _own_arguments():
            raise
        output.error(problem, as_json="--json" in _own_arguments())
        sys.exit(problem.exit_code)
    except (KeyboardInterrupt, Abort):
        output.err.print("interrupted: running again goes on from here")
        sys.exit(130)
    except BrokenPipeError:  # whoever read our answer has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as refusal:
        if "--debug" in _own_arguments():
            raise
        told = of_system("virtkit can't go on", refusal)
        output.error(told, as_json="--json" in _own_arguments())
        sys.exit(told.exit_code)
    except Exception as fault:
        if hasattr(fault, "format_message"):  # the command-line library's own errors
            _wrong_usage(fault)
        if "--debug" in _own_arguments():
            raise
        output.error(_own_fault(fault), as_json="--json" in _own_arguments())
        sys.exit(1)


def _wrong_usage(fault: Any) -> NoReturn:
    """Ends virtkit for words that no verb takes, in the form of all other errors."""
    from virtkit.cli import output

    if type(fault).__name__ == "NoArgsIsHelpError":
        fault.show()
        sys.exit(2)
    verb = fault.ctx.command_path if fault.ctx else "virtkit"
    problem = RequestError(fault.format_message().rstrip("."), cure=f"see {verb} --help")
    output.error(problem, as_json="--json" in _own_arguments())
    sys.exit(problem.exit_code)


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
