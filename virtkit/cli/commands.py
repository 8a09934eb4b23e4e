"""The program's verbs by name. A verb's module is imported when somebody types the verb."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from virtkit.cli import aliases, parser

#: Each verb's function in this package, and the first sentence of its help.
VERBS: dict[str, tuple[str, str]] = {
    "validate": ("info.validate", "Read and check the spec; touches nothing."),
    "render": ("info.render", "Print the libvirt XML that would be defined."),
    "schema": ("info.schema", "Print the spec's JSON Schema, for editors."),
    "init": (
        "info.init",
        "Write a commented starter spec into this folder, or one that describes a libvirt domain.",
    ),
    "plan": ("lifecycle.plan", "Show what up would change, and how disruptive each change is."),
    "up": (
        "lifecycle.up",
        "Make it so: create, change, start, run playbooks, and wait until ready.",
    ),
    "provision": ("lifecycle.provision", "Run the guests' playbooks again."),
    "down": (
        "lifecycle.down",
        "Remove the guests and everything that belongs to them; kept disks and images stay.",
    ),
    "status": (
        "info.status",
        "Show the guests: type, state, addresses, readiness; without a spec, all of virtkit's.",
    ),
    "start": ("lifecycle.start", "Start guests that are stopped."),
    "stop": ("lifecycle.stop", "Ask guests to shut down; force them off after the timeout."),
    "restart": (
        "lifecycle.restart",
        "Shut guests down and start them; reset them after the timeout.",
    ),
    "pause": ("lifecycle.pause", "Pause running guests."),
    "resume": ("lifecycle.resume", "Resume paused guests."),
    "ssh": (
        "access.ssh",
        "Open a shell in a guest, or run a command there: virtkit ssh SPEC GUEST -- COMMAND.",
    ),
    "exec": (
        "access.execute",
        "Run a command as root in a guest, through its hypervisor where it can, else by ssh.",
    ),
    "console": ("access.console", "Attach this terminal to a guest's console; ctrl-] leaves it."),
    "logs": ("access.logs", "Show what guests printed so far: consoles, and containers' journals."),
    "cp": (
        "access.cp",
        "Copy files or folders between here and a guest: GUEST:PATH is a path there.",
    ),
    "inventory": ("info.inventory", "Print an Ansible inventory: a file for ansible -i as it is."),
    "ssh-config": (
        "info.ssh_config",
        "Print a file for ssh, editors and rsync, to be included at the top of ~/.ssh/config.",
    ),
    "doctor": (
        "info.doctor",
        "Show what this machine can run, what is missing, and the command that fixes it.",
    ),
    "image list": (
        "image.image_list",
        "List the images in this machine's pool, or on a spec's hosts, and what uses them.",
    ),
    "image import": (
        "image.image_import",
        "Keep a disk under a name that every spec knows.",
    ),
    "image build": (
        "image.image_build",
        "Build an image into the cache; up puts it into the pool.",
    ),
    "image pull": (
        "image.image_pull",
        "Download and verify an image into the cache; up puts it into the pool.",
    ),
    "image rm": (
        "image.image_rm",
        "Remove an image, by name or content hash, where no guest uses it.",
    ),
    "host list": (
        "host.host_list",
        "List a spec's hosts, or this machine: what they can run, how much room they have.",
    ),
    "host check": ("host.host_check", "Look at hosts as doctor does, each on its own."),
    "host prepare": ("host.host_prepare", "Make a machine a libvirt host, by Ansible."),
    "host trust": (
        "host.host_trust",
        "Make a host's ssh key known: show its fingerprints, ask, and add it.",
    ),
}
#: The first words of verbs that have two.
GROUPS = {"image": "The image store.", "host": "The machines that guests run on."}
_ABOUT = "Real guests from one spec: virtual machines and containers, through libvirt."
_EPILOG = (
    "SPEC ends in .yaml or .yml (- is standard input) and defaults to virtkit.yaml. GUEST is a "
    "name, a glob or @GROUP. Exit codes: 0 done, 1 failed on the way, 2 wrong request (nothing was "
    "touched), 3 plan --exit-code found changes, 130 interrupted."
)
_VERSION = parser.flag("--version", help="Show the version.")


def run(arguments: Sequence[str]) -> None:
    """Runs the verb that the arguments begin with.

    Raises:
        WrongUsage: there is no such verb or option.
        SystemExit: the verb ended with an exit code.
    """
    first = {name: text for name, (_, text) in VERBS.items() if " " not in name} | GROUPS
    program = parser.CommandParser("virtkit", "VERB [ARGS]...", _ABOUT, _EPILOG)
    program.add("version", _VERSION, default=False)
    name, rest = _pick_verb(program, first, arguments)
    if name in GROUPS:
        below = {
            verb.removeprefix(f"{name} "): text
            for verb, (_, text) in VERBS.items()
            if verb.startswith(f"{name} ")
        }
        group = parser.CommandParser(f"virtkit {name}", "VERB [ARGS]...", GROUPS[name])
        verb, rest = _pick_verb(group, below, rest)
        name = f"{name} {verb}"
    parser.run(function(name), f"virtkit {name}", rest)


def own_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments that are for virtkit: no command's, that a guest runs."""
    if arguments and arguments[0] in VERBS:
        return parser.own_arguments(function(arguments[0]), arguments[1:])
    return [*arguments[: arguments.index("--")]] if "--" in arguments else [*arguments]


def function(name: str) -> Callable[..., None]:
    """The function of a verb."""
    module, _, attribute = VERBS[name][0].partition(".")
    verb: Callable[..., None] = getattr(import_module(f"virtkit.cli.{module}"), attribute)
    return verb


def _pick_verb(
    program: parser.CommandParser, verbs: Mapping[str, str], arguments: Sequence[str]
) -> tuple[str, list[str]]:
    """The verb that the arguments begin with, and those after it."""
    program.list_verbs(verbs)
    values, rest = program.read(arguments, command=True)
    if values.get("version"):
        _print_version()
    if not rest:
        program.print_help(sys.stderr)
        raise SystemExit(2)
    if rest[0] not in verbs:
        meant = aliases.ALIASES.get(rest[0])
        if meant not in verbs:
            meant = parser.nearest(rest[0], verbs)
        cure = f"did you mean {program.prog} {meant}?" if meant else f"see {program.prog} --help"
        raise parser.WrongUsage(f"{program.prog} has no verb {rest[0]!r}", cure=cure)
    return rest[0], rest[1:]


def _print_version() -> None:
    from importlib.metadata import version

    sys.stdout.write(f"virtkit {version('virtkit')}\n")
    raise SystemExit
