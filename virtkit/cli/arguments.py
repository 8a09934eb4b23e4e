"""What several verbs take: SPEC, GUEST…, -f, --json and their like; and the spec that is named.

A verb takes options that belong together as one dataclass: see ``grouped``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from typing import Annotated, Any, get_type_hints

import typer

from virtkit import api
from virtkit.cli import aliases
from virtkit.errors import RequestError

Words = Annotated[
    list[str] | None, typer.Argument(metavar="SPEC|GUEST", help="The spec, then guests.")
]
OneGuest = Annotated[list[str] | None, typer.Argument(metavar="SPEC|GUEST|COMMAND")]
SpecOnly = Annotated[list[str] | None, typer.Argument(metavar="SPEC")]
File = Annotated[str | None, typer.Option("-f", "--file", metavar="SPEC", help="The spec.")]
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Parallel = Annotated[
    int | None, typer.Option("--parallel", min=1, metavar="N", help="Steps to run at a time.")
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", min=0, metavar="SECONDS", help="How long to wait until a guest is forced off."
    ),
]
Vault = Annotated[
    str | None,
    typer.Option(
        "--vault-password-file",
        metavar="FILE",
        help="The password of Ansible's vaults, for playbooks; else as Ansible finds it.",
    ),
]
LockTimeout = Annotated[
    float,
    typer.Option(
        "--lock-timeout",
        min=0,
        metavar="SECONDS",
        help="Wait that long for another run on this environment; then exit with 2.",
    ),
]


def spec_of(given: list[str] | None, file: str | None) -> tuple[api.Spec, list[str]]:
    """The spec that a verb's words name, or that is here, and the words after it."""
    path, rest = aliases.split(given or [], file)
    return api.read(path), rest


@dataclass(frozen=True, kw_only=True)
class SpecAndGuests:
    """SPEC, then guests."""

    spec: Words = None
    file: File = None

    @property
    def given(self) -> bool:
        """Whether anything is named."""
        return bool(self.spec) or self.file is not None

    def read(self) -> tuple[api.Spec, list[str]]:
        """The spec, and the words after it."""
        return spec_of(self.spec, self.file)


@dataclass(frozen=True, kw_only=True)
class SpecAndGuest(SpecAndGuests):
    """SPEC, then one guest, then perhaps a command."""

    spec: OneGuest = None


@dataclass(frozen=True, kw_only=True)
class OnlySpec:
    """SPEC and nothing else."""

    spec: SpecOnly = None
    file: File = None

    @property
    def given(self) -> bool:
        """Whether a spec is named."""
        return bool(self.spec or self.file)

    def read(self) -> api.Spec:
        """The spec.

        Raises:
            RequestError: there are words after it.
        """
        spec, rest = spec_of(self.spec, self.file)
        if rest:
            cure = "this verb takes SPEC only"
            raise RequestError(f"{rest[0]!r} is one argument too many", cure=cure)
        return spec


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a run goes, as far as its options say."""

    parallel: Parallel = None
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb as the command-line library reads it. A parameter that is a dataclass becomes options,
    one a field; ``--debug``, which no verb reads itself, comes last."""
    groups: dict[str, Any] = {}
    options: list[Parameter] = []
    for each in inspect.signature(verb, eval_str=True).parameters.values():
        if is_dataclass(each.annotation):
            groups[each.name] = each.annotation
            options += _options(each.annotation)
        else:
            options.append(each.replace(kind=Parameter.KEYWORD_ONLY))
    options.append(_option("debug", Debug, default=False))

    @wraps(verb)
    def call(*, debug: bool, **given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{each.name: given.pop(each.name) for each in fields(group)})
        verb(**given)

    call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # typer reads it
    call.__annotations__ = {each.name: each.annotation for each in options}
    return call


def _options(group: Any) -> list[Parameter]:
    """A dataclass's fields as parameters."""
    hints = get_type_hints(group, include_extras=True)
    return [_option(each.name, hints[each.name], each.default) for each in fields(group)]


def _option(name: str, annotation: Any, default: object) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
