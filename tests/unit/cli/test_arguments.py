"""A group of options is one parameter of a verb, and single options on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from virtkit.cli.arguments import File, Json, SpecAndGuests, grouped

Size = Annotated[int, typer.Option("--size")]


@dataclass(frozen=True, kw_only=True)
class Shape:
    size: Size = 3
    file: File = None


TAKEN: list[tuple[SpecAndGuests, str, Shape, bool]] = []
app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@grouped
def cut(
    *,
    chosen: SpecAndGuests,
    color: Annotated[str, typer.Option("--color")] = "red",
    json: Json = False,
) -> None:
    """Cut it."""
    TAKEN.append((chosen, color, Shape(), json))


@app.command()
@grouped
def draw(*, shape: Shape, json: Json = False) -> None:
    """Draw it."""
    TAKEN.append((SpecAndGuests(), "", shape, json))


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ("cut", (SpecAndGuests(), "red", Shape(), False)),
        (
            "cut lab.yaml web -f b.yaml --color blue --json --debug",
            (SpecAndGuests(spec=["lab.yaml", "web"], file="b.yaml"), "blue", Shape(), True),
        ),
        ("draw", (SpecAndGuests(), "", Shape(size=3), False)),
        ("draw --size 4 --debug", (SpecAndGuests(), "", Shape(size=4), False)),
    ],
)
def test_what_a_verb_gets(words: str, taken: tuple[SpecAndGuests, str, Shape, bool]) -> None:
    TAKEN.clear()
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.output
    assert [taken] == TAKEN


def test_options_are_listed_in_the_order_of_parameters_and_fields() -> None:
    group = typer.main.get_command(app)
    names = [each.name for each in group.commands["cut"].params]  # type: ignore[attr-defined]  # a group has them
    assert names == ["spec", "file", "color", "json", "debug"]
    assert group.commands["draw"].help == "Draw it."  # type: ignore[attr-defined]
