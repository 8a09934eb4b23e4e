"""Names that said nothing to who knows libvirt, Ansible or containerlab do not come back
(docs/architecture.md has the words)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "virtkit"
#: Names that rooms, functions, parameters and fields had, without underscores.
GONE = {
    *("anew", "asked", "card", "cards", "claim", "claims", "compare", "contents", "doomed"),
    *("enter", "found", "hands", "inside", "lack", "lacks", "leaving", "light", "link", "links"),
    *("making", "one", "one_start", "patience", "patiently", "plugging", "plugs", "prepared"),
    *("site", "sites", "there", "told", "voice", "whole", "wish", "wishes", "word"),
    *("words", "world"),
    *("after_all", "any_lost", "compared", "dropping", "find_machine", "on_each"),
    *("unprepared",),
}
#: Those of them that are no part of a longer name either.
GONE_PARTS = {"anew", "doomed", "hands", "patience", "plugging", "told", "voice", "wishes"}
#: And that no variable has.
GONE_VARIABLES = {"anew", "asked", "doomed", "found", "hands", "leaving", "there", "told", "voice"}


def variables(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and name of each variable that is set."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and name of each class, function, parameter and field."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        if isinstance(node, ast.arg):
            yield node.lineno, node.arg
        if isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                    yield each.lineno, each.target.id


def forbidden(path: Path, text: str) -> list[str]:
    """The names in a file that are gone."""
    tree = ast.parse(text)
    every = [(1, path.stem), *names(tree)]
    hits = [(line, name) for line, name in every if _is_gone(name.strip("_").lower())]
    hits += [(line, name) for line, name in variables(tree) if name in GONE_VARIABLES]
    return [f"{path}:{line} {name}" for line, name in sorted({*hits})]


def _is_gone(name: str) -> bool:
    return name in GONE or bool(GONE_PARTS & {*name.split("_")})


def test_they_stay_gone() -> None:
    paths = sorted(PACKAGE.rglob("*.py"))
    assert len(paths) > 150
    assert [each for path in paths for each in forbidden(path, path.read_text())] == []


def test_each_kind_of_name_is_seen() -> None:
    text = "class Site:\n    found: int\n\n    def _told(self, word): ...\n\n"
    text += "def f(hands_files):\n    found = 1\n"
    assert forbidden(Path("voice.py"), text) == [
        "voice.py:1 Site",
        "voice.py:1 voice",
        "voice.py:2 found",
        "voice.py:4 _told",
        "voice.py:4 word",
        "voice.py:6 hands_files",
        "voice.py:7 found",
    ]
