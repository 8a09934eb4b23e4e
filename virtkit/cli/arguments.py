"""What several verbs take: SPEC (first, or by -f), GUEST…, --json and their like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from virtkit import api
from virtkit._dataclass import dataclass
from virtkit.cli.parser import Option, Positionals, at_least, flag
from virtkit.errors import RequestError

#: The spec that is taken where none is named.
DEFAULT_SPEC = "virtkit.yaml"

Files = Annotated[
    list[str] | None,
    Option(
        "-f",
        "--file",
        action="append",
        metavar="SPEC",
        help="The spec; of several, the later lie over the earlier.",
    ),
]
Settings = Annotated[
    list[str] | None,
    Option(
        "--set",
        action="append",
        metavar="PATH=VALUE",
        help="Set a value of the spec for this run, as in guests.web.memory=2GiB.",
    ),
]
Json = Annotated[bool, flag("--json", help="Answer with one JSON document.")]
Parallel = Annotated[
    int | None,
    Option(
        "--parallel",
        type=at_least(1, int),
        metavar="N",
        help="Steps to run at a time: one or more.",
    ),
]
Timeout = Annotated[
    float,
    Option(
        "--timeout",
        type=at_least(0, float),
        metavar="SECONDS",
        help="How long to wait until a guest is forced off (default: %(default)g).",
    ),
]
Vault = Annotated[
    str | None,
    Option(
        "--vault-password-file",
        metavar="FILE",
        help="The password of Ansible's vaults, for playbooks; else as Ansible finds it.",
    ),
]
LockTimeout = Annotated[
    float,
    Option(
        "--lock-timeout",
        type=at_least(0, float),
        metavar="SECONDS",
        help="Wait that long for another run on this environment (default: %(default)g); then "
        "exit with 2.",
    ),
]


def is_spec(argument: str) -> bool:
    """Whether an argument names a spec rather than a guest."""
    return argument == "-" or argument.endswith((".yaml", ".yml"))


@dataclass(frozen=True, kw_only=True)
class SpecOptions:
    """Which spec, as far as options say it, and what is set in it."""

    files: Files = None
    settings: Settings = None

    @property
    def given(self) -> bool:
        """Whether a spec is named, or something is set in the one that is here."""
        return bool(self.files or self.settings)

    def names_spec(self, positionals: Sequence[str]) -> bool:
        """Whether a spec is named, by an option or as the first of the arguments."""
        return self.given or bool(positionals and is_spec(positionals[0]))

    def split(self, positionals: Sequence[str]) -> tuple[list[str], list[str]]:
        """The paths of the spec's files, and the arguments after it.

        Raises:
            RequestError: no spec is named and there is none in this folder.
        """
        if self.files:
            return list(self.files), list(positionals)
        if positionals and is_spec(positionals[0]):
            return [positionals[0]], list(positionals[1:])
        if not Path(DEFAULT_SPEC).exists():
            raise RequestError(
                f"no spec is named, and there is no {DEFAULT_SPEC} here",
                cure="name one that ends in .yaml, or write one with `virtkit init`",
            )
        return [DEFAULT_SPEC], list(positionals)

    def read(self, positionals: Sequence[str]) -> tuple[api.Spec, list[str]]:
        """The spec that is named, or that is here, and the arguments after it."""
        paths, rest = self.split(positionals)
        return api.read(*paths, settings=self.settings or ()), rest


def one_guest(positionals: Sequence[str], usage: str) -> tuple[str, list[str]]:
    """The guest and the arguments after it, a separating ``--`` left out."""
    if not positionals or positionals[0] == "--":
        raise RequestError("no guest is named", cure=usage)
    rest = list(positionals[1:])
    return positionals[0], rest[1:] if rest[:1] == ["--"] else rest


@dataclass(frozen=True, kw_only=True)
class SpecAndGuests:
    """SPEC, then guests."""

    positionals: Annotated[Sequence[str], Positionals("[SPEC] [GUEST]...")] = ()
    options: SpecOptions

    @property
    def given(self) -> bool:
        """Whether anything is named."""
        return bool(self.positionals) or self.options.given

    def read(self) -> tuple[api.Spec, list[str]]:
        """The spec, and the arguments after it."""
        return self.options.read(self.positionals)


@dataclass(frozen=True, kw_only=True)
class SpecAndGuest(SpecAndGuests):
    """SPEC, then one guest."""

    positionals: Annotated[Sequence[str], Positionals("[SPEC] GUEST")] = ()


@dataclass(frozen=True, kw_only=True)
class SpecGuestAndCommand(SpecAndGuests):
    """SPEC, then one guest, then perhaps a command."""

    positionals: Annotated[
        Sequence[str], Positionals("[SPEC] GUEST [-- COMMAND]", command=True)
    ] = ()


@dataclass(frozen=True, kw_only=True)
class OnlySpec:
    """SPEC and nothing else."""

    positionals: Annotated[Sequence[str], Positionals("[SPEC]")] = ()
    options: SpecOptions

    @property
    def given(self) -> bool:
        """Whether a spec is named."""
        return bool(self.positionals) or self.options.given

    def read(self) -> api.Spec:
        """The spec.

        Raises:
            RequestError: there are more arguments.
        """
        spec, rest = self.options.read(self.positionals)
        if rest:
            cure = "this verb takes SPEC only"
            raise RequestError(f"{rest[0]!r} is one argument too many", cure=cure)
        return spec


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a run goes, as far as its options say."""

    parallel: Parallel = None
    lock_timeout: LockTimeout = api.LOCK_TIMEOUT
