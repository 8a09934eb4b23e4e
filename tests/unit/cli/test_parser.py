"""What a verb declares by its parameters, and gets from a command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from virtkit.cli.arguments import Files, Json, SpecAndGuests
from virtkit.cli.parser import Option, Positionals, WrongUsage, at_least, flag, run


@dataclass(frozen=True, kw_only=True)
class Shape:
    size: Annotated[int, Option("--size", type=at_least(1, int))] = 3
    files: Files = None


TAKEN: list[tuple[Any, ...]] = []


def cut(
    *,
    chosen: SpecAndGuests,
    color: Annotated[str, Option("-c", "--color", help="Of what is cut.")] = "red",
    yes: Annotated[bool, flag("-y", "--yes", help="Do it.")] = False,
    json: Json = False,
) -> None:
    """Cut it."""
    TAKEN.append((list(chosen.positionals), chosen.options.files, color, yes, json))


def draw(*, shape: Shape, json: Json = False) -> None:
    """Draw it."""
    TAKEN.append((shape, json))


def call(
    *, positionals: Annotated[Sequence[str], Positionals("GUEST [-- COMMAND]", command=True)]
) -> None:
    """Call it."""
    TAKEN.append((list(positionals),))


VERBS = {"cut": cut, "draw": draw, "call": call}


def taken(line: str) -> tuple[Any, ...]:
    """What a verb gets from a line; ``_`` is an empty argument."""
    TAKEN.clear()
    verb, *words = ["" if each == "_" else each for each in line.split(" ")]
    run(VERBS[verb], f"virtkit {verb}", words)
    (only,) = TAKEN
    return only


@pytest.mark.parametrize(
    ("line", "gets"),
    [
        ("cut", ([], None, "red", False, False)),
        ("cut a.yaml web -f b.yaml --color blue --json --debug",
         (["a.yaml", "web"], ["b.yaml"], "blue", False, True)),
        ("cut --yes a.yaml web --json", (["a.yaml", "web"], None, "red", True, True)),
        ("cut a.yaml --yes web --color=x db", (["a.yaml", "web", "db"], None, "x", True, False)),
        ("cut -yf b.yaml -cblue", ([], ["b.yaml"], "blue", True, False)),
        ("cut -f a -f b --file=c", ([], ["a", "b", "c"], "red", False, False)),
        ("cut -c red -c blue -", (["-"], None, "blue", False, False)),
        ("cut -f -x.yaml --color --json", ([], ["-x.yaml"], "--json", False, False)),
        ("cut a=-- --color=x=y -f _ _", (["a=--", ""], [""], "x=y", False, False)),
        ("cut a -- --yes -- b", (["a", "--yes", "--", "b"], None, "red", False, False)),
        ("draw", (Shape(size=3), False)),
        ("draw --size 4 --debug", (Shape(size=4), False)),
        ("call", ([],)),
        ("call web ls -l --debug", (["web", "ls", "-l", "--debug"],)),
        ("call web -- ls --help", (["web", "--", "ls", "--help"],)),
        ("call --debug -- web -- ls", (["web", "--", "ls"],)),
    ],
)  # fmt: skip
def test_what_a_verb_gets(line: str, gets: tuple[Any, ...]) -> None:
    assert taken(line) == gets


@pytest.mark.parametrize(
    ("line", "what", "cure"),
    [
        ("cut --nope", "virtkit cut has no option --nope", "see virtkit cut --help"),
        ("cut --nope=1 --json", "virtkit cut has no option --nope", "see virtkit cut --help"),
        ("cut --yess", "virtkit cut has no option --yess", "did you mean --yes?"),
        ("cut --ye", "virtkit cut has no option --ye", "did you mean --yes?"),
        ("cut -1", "virtkit cut has no option -1", "see virtkit cut --help"),
        ("cut --color", "argument -c/--color: expected one argument", "see virtkit cut --help"),
        ("cut --color=--", "--color can't be --", "see virtkit cut --help"),
        ("cut --file --", "--file can't be --", "see virtkit cut --help"),
        ("draw a", "'a' is one argument too many", "see virtkit draw --help"),
        ("draw -- --json", "'--json' is one argument too many", "see virtkit draw --help"),
        *((f"draw --size {each}", f"argument --size: '{each}' is not a whole number of at least 1",
           "see virtkit draw --help") for each in ("0", "-1", "1.5", "x")),
    ],
)  # fmt: skip
def test_words_that_a_verb_does_not_take(line: str, what: str, cure: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        taken(line)
    assert (caught.value.what, caught.value.cure) == (what, cure)


@pytest.mark.parametrize("text", ["-1", "nan", "soon", ""])
def test_seconds_are_numbers(text: str) -> None:
    assert at_least(0, float)("0.5") == 0.5
    assert at_least(0, float)("inf") == float("inf")
    with pytest.raises(Exception, match="is not a number of at least 0"):
        at_least(0, float)(text)


def test_help_lists_options_in_the_order_of_parameters_and_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(cut, "virtkit cut", ["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert text.startswith("usage: virtkit cut [OPTIONS] [SPEC] [GUEST]...\n\nCut it.\n")
    names = ("--help", "--file SPEC", "--color COLOR", "--yes", "--json", "--debug")
    assert sorted(names, key=text.index) == list(names)


def test_help_is_there_whatever_else_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(draw, "virtkit draw", ["--size", "x", "a", "--nope", "-h"])
    assert ended.value.code == 0
    assert "Draw it." in capsys.readouterr().out
