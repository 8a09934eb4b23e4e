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
UPLOAD = """
import time
from virtkit.apply import Event
from virtkit.cli import output, progress
with progress.shown(output.err(), "lab: up") as tell:
    tell(Event("started", "image/disk", "rack1", "make", 0.0))
    for done in (0, 120, 240):
        words = f"uploading, {done} of 400 MiB, {done // 4} %, 85 MiB/s"
        tell(Event("progress", "image/disk", "rack1", "make", 1.0, words))
        time.sleep(0.3)
"""
TABLE = """
from virtkit.cli import output
output.table(["image", "content", "guests"], [["debian-12", "0123456789ab", "lab-web, lab-db"]])
"""
#: A run whose progress and answer nobody reads any more after the first line.
RUN = """
import sys
from pathlib import Path
from virtkit.apply import Event
from virtkit.cli import output, progress, streams
streams.open_all()
with progress.shown(output.err(), "lab: up") as tell:
    for step in ("define", "start", "finish"):
        tell(Event("done", "guest/web", "local", step, 1.0))
        output.out().print(step)
        sys.stdin.readline()
sys.stdout.flush()
Path(sys.argv[1]).write_text("all of it was done")
sys.exit(3)
"""
#: Prints until nobody reads it.
ENDLESS = """
import sys
from virtkit.cli import streams
streams.open_all()
try:
    while True:
        print("line")
        streams.flush()
except streams.Unread:
    sys.exit(7)
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
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {"TERM": "xterm", **settings}
    kept = {
        key: value for key, value in os.environ.items() if "COLOR" not in key and key != "COLUMNS"
    }
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=kept | environment,
    ) as program:
        os.close(terminal)
        os.write(controller, typed.encode())
        said = b""
        while True:
            try:
                piece = os.read(controller, 4096)
            except OSError:  # its end, on a terminal
                break
            if not piece:
                break
            said += piece
        program.wait()
    os.close(controller)
    assert program.returncode == 0, said.decode()
    return said.decode()


def test_a_terminal_shows_how_far_an_upload_is() -> None:
    said = at_terminal(100, UPLOAD, {})
    for words in ("0 of 400 MiB, 0 %, 85 MiB/s", "240 of 400 MiB, 60 %, 85 MiB/s"):
        assert words in said


def test_elsewhere_an_upload_is_a_line() -> None:
    """Its moving numbers are none."""
    line = [sys.executable, "-c", UPLOAD]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stderr.count("uploading, 0 of 400 MiB") == 1
    assert "240 of" not in done.stderr


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
    argument = "" if verb in ("schema", "--help") else '"$2"'
    nowhere = closed.replace("2>&-", "2>/dev/null").replace(">&-", ">/dev/null")
    right = shell(f'"$1" {verb} {argument} {nowhere.replace("<&-", "</dev/null")}', spec)
    done = shell(f'"$1" {verb} {argument} {closed}', spec)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (done.returncode, done.stdout) == (right.returncode, right.stdout)


@pytest.mark.parametrize("verb", ["validate", "schema"])
def test_an_output_that_is_full(verb: str, spec: Path) -> None:
    argument = "" if verb == "schema" else '"$2"'
    done = shell(f'"$1" {verb} {argument} >/dev/full', spec)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "cure:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("words", "streams", "code"),
    [
        ('validate "$3"', "2>&1", 2),
        ('validate "$3"', "2>&1 >/dev/null", 2),
        ('validate "$3" --json', "", 2),
        ('validate "$2"', "2>&1", 0),
        ("", "2>&1", 2),
        ("nosuch", "2>&1", 2),
        ("schema", "", 0),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_the_exit_code_is_the_commands_own_whoever_reads(
    words: str, streams: str, code: int, unbuffered: str, spec: Path
) -> None:
    wrong = spec.with_name("wrong.yaml")
    wrong.write_text(SPEC.replace("qemu", "qemux"))
    gone = f'{{ sleep 0.2; "$1" {words} {streams}; echo "code $?" >&3; }} 3>&2 | :'
    done = subprocess.run(
        ["sh", "-c", gone, "sh", str(VIRTKIT), str(spec), str(wrong)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    assert (done.stdout, done.stderr) == ("", f"code {code}\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_run_goes_on_when_its_reader_leaves(stream: str, tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    line = [sys.executable, "-c", RUN, str(tmp_path / "done")]
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as program:
        read = getattr(program, stream)
        assert read.readline()
        read.close()
        assert program.stdin is not None
        program.stdin.write("\n" * 3)
        program.stdin.close()
        other = program.stderr if stream == "stdout" else program.stdout
        assert other is not None
        assert len(other.read().splitlines()) == 3, "the other stream has all of it"
    assert program.returncode == 3
    assert (tmp_path / "done").read_text() == "all of it was done"


def test_what_has_no_end_ends_with_its_reader() -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"line\n"
        program.stdout.close()
        assert program.wait(10) == 7


@pytest.mark.parametrize(
    ("words", "full", "code"),
    [("", "2>/dev/full", 2), ("--json", ">/dev/full", 2), ("--json", ">/dev/full 2>&1", 2)],
)
def test_an_error_that_can_not_be_told_keeps_its_exit_code(
    words: str, full: str, code: int, spec: Path
) -> None:
    spec.write_text(SPEC.replace("qemu", "qemux"))
    done = shell(f'"$1" validate "$2" {words} {full}', spec)
    assert done.returncode == code
    assert ("there is no guest type" in done.stderr) == (full == ">/dev/full")
    assert "Traceback" not in done.stderr


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
    ("typed", "agreed", "questions"),
    [
        *(("y\n", True, 1), ("YES\n", True, 1), ("n\n", False, 1), ("No\n", False, 1)),
        *(("\n", False, 1), ("\x04", False, 1), ("maybe\ny\n", True, 2)),
    ],
)
def test_a_question(typed: str, agreed: bool, questions: int) -> None:
    said = at_terminal(
        80, "from virtkit.cli import lifecycle as l; print(l._ask_consent())", {}, typed
    )
    assert said.count("Do it? [y/N]: ") == questions
    assert said.rstrip().endswith(str(agreed))


def test_a_table_is_not_cut() -> None:
    said = at_terminal(34, TABLE, {"NO_COLOR": "1"})
    assert "debian-12  0123456789ab  lab-web," in said
    assert "lab-db" in said
    assert "…" not in said
