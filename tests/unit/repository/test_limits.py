"""How long files, functions and classes of virtkit may be, and how many parameters they take."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtkit

PACKAGE = Path(virtkit.__file__).parent
LINES_OF_A_FILE, LINES_OF_A_FUNCTION, LINES_OF_A_CLASS, PARAMETERS = 450, 60, 250, 7
#: Longer than a file may be, and why.
LONG_FILES = {
    "virtkit/host/programs/lxc_hook.py": "hosts get it as one file that imports nothing of ours",
}


def lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """How many lines a function or class has, its docstring included, its decorators not."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many parameters a function takes, ``self`` and ``cls`` not counted."""
    each = node.args
    named = [one.arg for one in (*each.posonlyargs, *each.args)]
    own = named[:1] in (["self"], ["cls"])
    return len(named) - own + len(each.kwonlyargs) + bool(each.vararg) + bool(each.kwarg)


def beyond(source: str, *, long: bool = False) -> Iterator[str]:
    """What of a file's text is beyond the limits; its own length may be where ``long``."""
    if not long and (length := len(source.splitlines())) > LINES_OF_A_FILE:
        yield f"it has {length} lines of {LINES_OF_A_FILE}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and lines(node) > LINES_OF_A_CLASS:
            yield f"class {node.name} has {lines(node)} lines of {LINES_OF_A_CLASS}"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if lines(node) > LINES_OF_A_FUNCTION:
                yield f"{node.name} has {lines(node)} lines of {LINES_OF_A_FUNCTION}"
            if parameters(node) > PARAMETERS:
                yield f"{node.name} takes {parameters(node)} parameters of {PARAMETERS}"


def files() -> dict[str, str]:
    """The text of all of virtkit's Python files, by their path in the repository."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {each.relative_to(PACKAGE.parent).as_posix(): each.read_text() for each in paths}


@pytest.mark.parametrize("name", sorted(files()))
def test_it_keeps_to_the_limits(name: str) -> None:
    assert list(beyond(files()[name], long=name in LONG_FILES)) == []


def test_what_is_excepted_needs_it() -> None:
    known = files()
    assert [name for name in LONG_FILES if not list(beyond(known.get(name, "")))] == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("\n" * 451, "it has 451 lines"),
        ("def f():\n" + "  x = 1\n" * 60, "f has 61 lines"),
        ("class C:\n" + "  x = 1\n" * 250, "class C has 251 lines"),
        ("def f(a, b, c, d, e, f, *, g, h): ...", "f takes 8 parameters"),
        ("class C:\n  def f(self, a, b, c, d, e, f, g, *h): ...", "f takes 8 parameters"),
    ],
)
def test_what_is_too_long_is_seen(source: str, said: str) -> None:
    assert said in "; ".join(beyond(source))


@pytest.mark.parametrize(
    "source",
    [
        "\n" * 450,
        "def f():\n" + "  x = 1\n" * 59,
        "class C:\n  def f(self, a, b, c, d, e, f, *, g): ...",
    ],
)
def test_what_is_within_the_limits_passes(source: str) -> None:
    assert list(beyond(source)) == []
