"""The door: what it names is there, sorted and complete, and importing it is all one needs."""

from __future__ import annotations

import ast
from pathlib import Path

from virtkit import api


def kind_and_name(name: str) -> tuple[int, str]:
    """Constants, classes, functions: the order that ruff (RUF022) keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_sorted() -> None:
    assert api.__all__ == sorted(api.__all__, key=kind_and_name)
    assert len(set(api.__all__)) == len(api.__all__)


def test_complete() -> None:
    tree = ast.parse(Path(str(api.__file__)).read_text())
    seen = {
        each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("virtkit.")
        for each in node.names
    }
    loaded = set(vars(api)["_sources"])
    assert seen - {"load_when_used"} == loaded == set(api.__all__)


def test_described() -> None:
    lacking = [
        name
        for name in api.__all__
        if callable(getattr(api, name))
        and getattr(api, name).__module__.startswith("virtkit")
        and not getattr(api, name).__doc__
    ]
    assert lacking == []


def test_faces_come_in_by_the_door() -> None:
    """The command line takes what it does from the door, not from the rooms behind it."""
    allowed = tuple(
        f"virtkit.{each}" for each in ("api", "cli", "drivers", "errors", "spec", "plan", "system")
    )
    folder = Path(api.__file__).parent.parent / "cli"
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("virtkit."):
                assert node.module is not None
                assert node.module.startswith(allowed), f"{path.name}: {node.module}"
