"""The recipes of CONTRIBUTING.md, carried out in a copy of the repository.

A recipe's edits are its blocks of `diff`: a file's name, then pieces with `@@` before each. A piece
is found by its lines, as a reader finds it, and must be in the file once. It has no numbers: what
changes elsewhere in a file is none of its business.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PAGE = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """A recipe, as it stands in CONTRIBUTING.md."""
    found = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"CONTRIBUTING.md has {len(found)} recipes called {title!r}"
    return str(found[0])


def copied(folder: Path, *more: str) -> Path:
    """A copy of the program and its templates, and of what else is named, in ``folder``."""
    for name in ("virtkit", "templates", *more):
        source, target = REPO / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def follow(recipe: str, folder: Path) -> set[str]:
    """Does all of a recipe's edits in the copy; answers with the files that it edited or made."""
    edited = set()
    for block in re.findall(r"^ *```diff\n(.*?)^ *```$", recipe, re.MULTILINE | re.DOTALL):
        lines = _without_indent(block.splitlines())
        name = lines[0].removeprefix("--- ")
        assert lines[0] == f"--- {name}", f"a block begins with its file: {lines[0]!r}"
        file = folder / name
        for piece in "\n".join(lines[1:]).split("@@\n"):
            if piece.strip():
                _edit(file, piece.rstrip("\n").split("\n"))
        edited.add(name)
    assert edited, "the recipe has no edits"
    return edited


def _without_indent(lines: Sequence[str]) -> list[str]:
    """A block's lines without what indents all of the block, in a list's item."""
    indent = len(lines[0]) - len(lines[0].lstrip())
    return [each[indent:] for each in lines]


def _edit(file: Path, piece: Sequence[str]) -> None:
    before = "".join(f"{each[1:]}\n" for each in piece if each[:1] in ("", " ", "-"))
    after = "".join(f"{each[1:]}\n" for each in piece if each[:1] in ("", " ", "+"))
    if not before:
        assert not file.exists(), f"{file} is there already"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(after, encoding="utf-8")
        return
    text = file.read_text(encoding="utf-8")
    places = f"\n{text}".count(f"\n{before}")
    assert places == 1, f"{file} has {places} places of these lines:\n{before}"
    at = f"\n{text}".index(f"\n{before}")
    file.write_text(text[:at] + after + text[at + len(before) :], encoding="utf-8")


def run(folder: Path, *line: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in the copy, with the copy's virtkit."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{folder}:{REPO / 'tests'}",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_DATA_HOME": str(folder / "data"),
        "HOME": str(folder),
    }
    return subprocess.run(
        [sys.executable, *line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
