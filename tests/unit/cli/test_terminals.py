"""Terminals of all kinds, pipes, and standard streams that nobody opened or that take nothing."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

import pytest

VIRTKIT = Path(sys.executable).with_name("virtkit")
SPEC = "name: lab\nguests: {web: {type: qemu}}\n"
PROGRESS = """
import time
from virtkit.apply import Event
from virtkit.cli import output, progress
with progress.shown(output.err(), "lab: up") as tell:
    for kind, step, message in (
        ("started", "ready", ""),
        ("progress", "ready", "it took the connection and says nothing"),
        ("done", "ready", ""),
    ):
        tell(Event(kind, "guest/web", "local", step, 1.0, message))
"""
TABLE = """
from virtkit.cli import output
output.table(["image", "content", "guests"], [["debian-12", "0123456789ab", "lab-web, lab-db"]])
"""
#: Whatever moves the cursor.
MOVES = ("\x1b[1A", "\x1b[2K", "\x1b[?25l", "\r\x1b")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "lab.yaml"
    path.write_text(SPEC)
    return path


def shell(script: str, spec: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    line = ["sh", "-c", script, "sh", str(VIRTKIT), str(spec)]
    environment = os.environ | settings
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


def at_terminal(columns: int, code: str, settings: Mapping[str, str], typed: str = "") -> str:
    """What a program writes on a terminal of that width, where that is typed."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {"TERM": "xterm", **settings}
    kept = {
        key: value for key, value in os.environ.items() if "COLOR" not in key and key != "COLUMNS"
    }
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=there,
        stdout=there,
        stderr=there,
        env=kept | environment,
    ) as program:
        os.close(there)
        os.write(here, typed.encode())
        said = b""
        while True:
            try:
                piece = os.read(here, 4096)
            except OSError:  # its end, on a terminal
                break
            if not piece:
                break
            said += piece
        program.wait()
    os.close(here)
    assert program.returncode == 0, said.decode()
    return said.decode()


# --- streams that are closed, or take nothing -------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "closed"),
    [
        *(("validate", each) for each in (">&-", "2>&-", "<&-", ">&- 2>&- <&-")),
        ("render", ">&-"),
        ("plan", ">&- 2>&-"),
        ("schema", ">&-"),
        ("--help", ">&-"),
    ],
)
def test_a_closed_stream_is_as_one_that_leads_nowhere(verb: str, closed: str, spec: Path) -> None:
    """The exit code is the same, and nobody sees a traceback."""
    word = "" if verb in ("schema", "--help") else '"$2"'
    nowhere = closed.replace("2>&-", "2>/dev/null").replace(">&-", ">/dev/null")
    right = shell(f'"$1" {verb} {word} {nowhere.replace("<&-", "</dev/null")}', spec)
    done = shell(f'"$1" {verb} {word} {closed}', spec)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (done.returncode, done.stdout) == (right.returncode, right.stdout)


@pytest.mark.parametrize("verb", ["validate", "schema"])
def test_an_output_that_is_full(verb: str, spec: Path) -> None:
    word = "" if verb == "schema" else '"$2"'
    done = shell(f'"$1" {verb} {word} >/dev/full', spec)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "cure:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_reader_that_has_read_enough(spec: Path) -> None:
    done = shell('{ "$1" schema; echo "code $?" >&2; } | head -c 1', spec)
    assert (done.stdout, done.stderr) == ("{", "code 0\n")


# --- terminals --------------------------------------------------------------------------------


def test_a_terminal_shows_a_tree() -> None:
    said = at_terminal(80, PROGRESS, {})
    assert "\x1b[?25l" in said
    assert "└── guest/web" in said


@pytest.mark.parametrize(
    ("columns", "settings"),
    [(80, {"TERM": "dumb"}), (40, {}), (40, {"TERM": "dumb", "NO_COLOR": "1"})],
)
def test_what_can_not_show_a_tree_shows_lines_as_they_come(
    columns: int, settings: dict[str, str]
) -> None:
    said = at_terminal(columns, PROGRESS, settings)
    assert not any(each in said for each in MOVES), repr(said)
    _, first, second = said.splitlines()
    assert first.endswith("guest/web ready: it took the connection and says nothing")
    assert second.endswith("guest/web ready done")


@pytest.mark.parametrize("setting", ["FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "NO_COLOR"])
def test_forced_colours_make_no_terminal_of_a_pipe(setting: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRESS],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {setting: "1"},
    )
    assert not any(each in done.stderr for each in MOVES), repr(done.stderr)
    assert len(done.stderr.splitlines()) == 3


@pytest.mark.parametrize(
    ("typed", "agreed", "asked"),
    [
        *(("y\n", True, 1), ("YES\n", True, 1), ("n\n", False, 1), ("No\n", False, 1)),
        *(("\n", False, 1), ("\x04", False, 1), ("maybe\ny\n", True, 2)),
    ],
)
def test_a_question(typed: str, agreed: bool, asked: int) -> None:
    said = at_terminal(80, "from virtkit.cli import lifecycle as l; print(l._agreed())", {}, typed)
    assert said.count("Do it? [y/N]: ") == asked
    assert said.rstrip().endswith(str(agreed))


def test_a_table_is_not_cut() -> None:
    said = at_terminal(34, TABLE, {"NO_COLOR": "1"})
    assert "debian-12  0123456789ab  lab-web," in said
    assert "lab-db" in said
    assert "…" not in said
