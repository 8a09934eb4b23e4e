"""What a verb takes, from its parameters to argparse and back.

A parameter declares an option by its annotation: ``Annotated[bool, flag("--yes", …)]``. One that is
annotated with ``Positionals`` gets the arguments that are no options. One whose type is a class
stands for that class's own parameters, for options that belong together.
"""

from __future__ import annotations

import argparse
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from virtkit.errors import RequestError


class WrongUsage(RequestError):
    """There is no such verb or option, or an option takes no such value."""


class Option:
    """An option, as argparse's ``add_argument`` takes it."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self.names = names
        self.settings = settings


def flag(*names: str, help: str) -> Option:
    """An option without a value."""
    return Option(*names, action="store_true", help=help)


def at_least(least: int, kind: type[int] | type[float]) -> Callable[[str], float]:
    """Reads a number that is not below ``least``."""

    def read(text: str) -> float:
        with suppress(ValueError):
            number = kind(text)
            if number >= least:
                return number
        whole = "whole " if kind is int else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not a {whole}number of at least {least}")

    return read


class Positionals:
    """The positional arguments: those that are no options.

    Args:
        usage: what the usage line calls them.
        command: they end in a command, whose options are its own.
    """

    def __init__(self, usage: str, *, command: bool = False) -> None:
        self.usage = usage
        self.command = command


DEBUG = flag("--debug", help="Show tracebacks.")


class CommandParser(argparse.ArgumentParser):
    """argparse with virtkit's errors. Options may stand among the positionals."""

    def __init__(self, prog: str, usage: str, text: str | None, epilog: str | None = None) -> None:
        usage = f"{prog} [OPTIONS] {usage}".rstrip()
        super().__init__(
            prog=prog, usage=usage, description=text, epilog=epilog, allow_abbrev=False
        )
        self._names = ["--help"]
        self._with_value: set[str] = set()

    def add(self, name: str, option: Option, default: object) -> None:
        """Adds an option, whose value gets that name."""
        self.add_argument(*option.names, dest=name, default=default, **option.settings)
        self._names += option.names
        if option.settings.get("action") in (None, "append"):
            self._with_value.update(option.names)

    def list_verbs(self, verbs: Mapping[str, str]) -> None:
        """Lists verbs in the help; to argparse they are positionals that may be missing."""
        listed = self.add_argument_group("verbs")
        for name, text in verbs.items():
            listed.add_argument(name, nargs="?", help=text)

    def read(self, arguments: Sequence[str], *, command: bool) -> tuple[dict[str, Any], list[str]]:
        """The values of all options, and the positional arguments.

        Args:
            command: what follows the first positional is no option.

        Raises:
            WrongUsage: there is no such option, or its value is wrong.
        """
        options, after = self.split(arguments, command=command)
        if "-h" in options or "--help" in options:  # whatever else is wrong
            self.print_help()
            raise SystemExit(0)
        for each in options:  # not all versions of argparse take that
            if _is_option(each) and each.partition("=")[2] == "--":
                self.error(f"{each.partition('=')[0]} can't be --")
        values, rest = self.parse_known_args(options)
        for each in rest:
            if _is_option(each):
                name = each.partition("=")[0]
                meant = nearest(name, self._names)
                cure = f"did you mean {meant}?" if meant else f"see {self.prog} --help"
                raise WrongUsage(f"{self.prog} has no option {name}", cure=cure)
        return vars(values), [*rest, *after]

    def split(self, arguments: Sequence[str], *, command: bool) -> tuple[list[str], list[str]]:
        """The arguments among which options are, and those after them.

        Values are joined to their options: argparse takes none that begins with a dash.
        """
        before, rest = [], list(arguments)
        while rest:
            if command and not _is_option(rest[0]):
                break
            argument = rest.pop(0)
            if argument == "--":
                break
            if rest and argument in self._with_value:
                argument = f"{argument}={rest.pop(0)}"
            before.append(argument)
        return before, rest

    def error(self, message: str) -> NoReturn:
        raise WrongUsage(message, cure=f"see {self.prog} --help")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that was perhaps meant."""
    from difflib import get_close_matches  # for errors only

    return next(iter(get_close_matches(name, list(names), n=1)), None)


def _is_option(argument: str) -> bool:
    return argument.startswith("-") and argument != "-"


def run(verb: Callable[..., None], prog: str, arguments: Sequence[str]) -> None:
    """Runs a verb with its arguments of the command line."""
    parser, positionals = _parser_of(verb, prog)
    values, rest = parser.read(arguments, command=positionals.command)
    if rest and not positionals.usage:
        parser.error(f"{rest[0]!r} is one argument too many")
    values |= {n: rest for n, each, _ in _declarations(verb) if isinstance(each, Positionals)}
    _call(verb, values)


def own_arguments(verb: Callable[..., None], arguments: Sequence[str]) -> list[str]:
    """Those of a verb's arguments among which its options are; no command's, that a guest runs."""
    parser, positionals = _parser_of(verb, "")
    return parser.split(arguments, command=positionals.command)[0]


def _parser_of(verb: Callable[..., None], prog: str) -> tuple[CommandParser, Positionals]:
    declared = list(_declarations(verb))
    positionals = next(
        (each for _, each, _ in declared if isinstance(each, Positionals)), Positionals("")
    )
    parser = CommandParser(prog, positionals.usage, verb.__doc__)
    for name, each, default in declared:
        if isinstance(each, Option):
            parser.add(name, each, default)
    parser.add("debug", DEBUG, default=False)  # read where errors are printed
    return parser, positionals


@functools.cache
def _parameters(source: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(source, eval_str=True).parameters.values())


def _declarations(source: Callable[..., Any]) -> Iterator[tuple[str, Option | Positionals, object]]:
    """The name, the declaration and the default of each that a verb or a class takes."""
    for each in _parameters(source):
        if isinstance(each.annotation, type):
            yield from _declarations(each.annotation)
        else:
            yield each.name, each.annotation.__metadata__[0], each.default


def _call(source: Callable[..., Any], values: dict[str, Any]) -> Any:
    """Calls a verb or a class with those of the values that it takes."""
    given = {}
    for each in _parameters(source):
        group = isinstance(each.annotation, type)
        given[each.name] = _call(each.annotation, values) if group else values[each.name]
    return source(**given)
