"""What several verbs take: SPEC, GUEST…, -f, --json and their like; and the spec that is named."""

from __future__ import annotations

from typing import Annotated

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


def only_spec(given: list[str] | None, file: str | None) -> api.Spec:
    """The same for a verb that takes nothing else."""
    spec, rest = spec_of(given, file)
    if rest:
        raise RequestError(
            f"{rest[0]!r} is one argument too many", cure="this verb takes SPEC only"
        )
    return spec
