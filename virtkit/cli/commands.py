"""The program's verbs by name. A verb's module is imported when somebody types the verb."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import CommandInfo

from virtkit.cli import aliases
from virtkit.errors import RequestError

#: Each verb's module in this package, and the first sentence of its help.
VERBS = {
    "validate": ("info", "Read and check the spec; touches nothing."),
    "render": ("info", "Print the libvirt XML that would be defined."),
    "schema": ("info", "Print the spec's JSON Schema, for editors."),
    "init": ("info", "Write a commented starter spec into this folder."),
    "plan": ("lifecycle", "Show what up would change, and how disruptive each change is."),
    "up": ("lifecycle", "Make it so: create, change, start, run playbooks, and wait until ready."),
    "provision": ("lifecycle", "Run the guests' playbooks again."),
    "down": ("lifecycle", "Remove the guests and all that is theirs; kept disks and images stay."),
    "status": (
        "info",
        "Show the guests: type, state, addresses, readiness; without a spec, all of virtkit's.",
    ),
    "start": ("lifecycle", "Start guests that are stopped."),
    "stop": ("lifecycle", "Ask guests to shut down; force them off after the timeout."),
    "restart": ("lifecycle", "Shut guests down and start them; press reset after the timeout."),
    "pause": ("lifecycle", "Pause running guests."),
    "resume": ("lifecycle", "Resume paused guests."),
    "ssh": (
        "access",
        "Open a shell in a guest, or run a command there: virtkit ssh SPEC GUEST -- COMMAND.",
    ),
    "exec": (
        "access",
        "Run a command as root in a guest, through its hypervisor where it can, else by ssh.",
    ),
    "console": ("access", "Attach this terminal to a guest's console; ctrl-] leaves it."),
    "logs": ("access", "Show what guests printed so far: consoles, and containers' journals."),
    "cp": (
        "access",
        "Copy files or folders between here and a guest: GUEST:PATH is a path there.",
    ),
    "inventory": ("info", "Print an Ansible inventory: a file for ansible -i as it is."),
    "ssh-config": (
        "info",
        "Print a file for ssh, editors and rsync, to be included at the top of ~/.ssh/config.",
    ),
    "doctor": (
        "info",
        "Show what this machine can run, what is missing, and the command that fixes it.",
    ),
    "image": ("image", "The image store."),
    "host": ("host", "The machines that guests run on."),
}
#: Those that have verbs of their own.
GROUPS = ("image", "host")


def command(name: str) -> Any:
    """A verb as the command-line library runs it, or a group of verbs."""
    module, _ = VERBS[name]
    written: typer.Typer = import_module(f"virtkit.cli.{module}").app
    if name in GROUPS:
        return typer.main.get_command(written)
    # alone: what the library makes of the options of all of a module's verbs takes its time
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.registered_commands = [
        each for each in written.registered_commands if _name(each) == name
    ]
    return typer.main.get_command(alone)


def _name(written: CommandInfo) -> str:
    return str(written.name or getattr(written.callback, "__name__", ""))


class _Verbs(TyperGroup):
    """Loads the verb that is typed, and answers the words of other tools with ours."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # for the list in the program's help, which must not load them all
        self.commands = {
            name: TyperCommand(name, help=text, rich_markup_mode=None)
            for name, (_, text) in VERBS.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and name not in VERBS:
            near = difflib.get_close_matches(name, VERBS, n=1)
            meant = aliases.ALIASES.get(name) or (near[0] if near else None)
            cure = f"did you mean virtkit {meant}?" if meant else "see virtkit --help"
            raise RequestError(f"there is no verb {name!r}", cure=cure)
        known, _, rest = super().resolve_command(ctx, args)
        return known, command(str(known)), rest


#: Help is printed without rich, which takes longer to load than to read.
app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Real guests from one spec: virtual machines and containers, through libvirt.",
    epilog="SPEC ends in .yaml or .yml (- is standard input) and defaults to virtkit.yaml. GUEST "
    "is a name, a glob or @GROUP. Exit codes: 0 done, 1 failed on the way, 2 wrong request "
    "(nothing was touched), 3 plan --exit-code found changes, 130 interrupted.",
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"virtkit {version('virtkit')}\n")
        raise typer.Exit


@app.callback()
def _virtkit(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass  # its help is the program's own
