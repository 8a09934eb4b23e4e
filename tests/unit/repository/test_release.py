"""The version stands in one place, and the changelog has a heading for each."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

from packaging.version import Version

REPO = Path(__file__).parents[3]
VERSION = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]


def headings() -> list[str]:
    """The changelog's headings, without the word for what is not released."""
    first, *released = re.findall(r"^## (.+)$", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first == "Unreleased"
    return released


def test_the_changelog_has_each_version_with_its_day() -> None:
    found = [re.fullmatch(r"(\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)", each) for each in headings()]
    assert found
    assert all(found), headings()
    cut = [(Version(each[1]), date.fromisoformat(each[2])) for each in found if each]
    assert cut == sorted(cut, reverse=True), "the newest comes first"


def test_what_is_not_released_is_newer_than_what_is() -> None:
    newest = Version(headings()[0].split()[0])
    assert Version(VERSION) == newest or (
        Version(VERSION) > newest and Version(VERSION).is_devrelease
    )


def test_the_program_says_it() -> None:
    line = [sys.executable, "-m", "virtkit", "--version"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout == f"virtkit {VERSION}\n"


def test_it_stands_nowhere_else() -> None:
    line = ["git", "grep", "-l", "--fixed-strings", VERSION]
    done = subprocess.run(line, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["pyproject.toml"], done
