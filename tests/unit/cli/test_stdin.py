"""Standard input for a command in a guest: real pipes and files, in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

READ = """
import json, sys
from virtkit.cli.stdin import Stdin
stdin, said = Stdin(), []
soon = stdin.read_if_short(8)
later = None if soon is not None else stdin.read_all(int(sys.argv[1]), said.append)
texts = [None if each is None else each.decode() for each in (soon, later)]
print(json.dumps([*texts, stdin.read_so_far.decode(), stdin.silent, said]))
"""
DRIPS = """
import json
from virtkit.cli.stdin import Stdin
stdin = Stdin()
assert stdin.read_if_short(10**9) is None
print(json.dumps(stdin.read_so_far.decode()))
"""
COPY = """
import subprocess, sys
from virtkit.cli.stdin import Stdin
stdin = Stdin()
stdin.read_if_short(8)
program = subprocess.Popen(["sha256sum"], stdin=subprocess.PIPE)
stdin.copy_to(program)
program.wait()
"""


def read_of(stdin: Any, limit: int = 8) -> list[Any]:
    line = [sys.executable, "-c", READ, str(limit)]
    done = subprocess.run(line, stdin=stdin, capture_output=True, check=True, timeout=60)
    result: list[Any] = json.loads(done.stdout)
    return result


def pipe(script: str) -> Any:
    return subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)


@pytest.mark.parametrize(
    ("script", "soon", "later", "begun"),
    [
        ("", "", None, ""),
        ("printf abc", "abc", None, "abc"),
        ("printf a; sleep .1; printf b", "ab", None, "ab"),
        ("printf 12345678", "12345678", None, "12345678"),
        ("printf 123456789", None, None, "123456789"),
        ("printf a; sleep 1; printf b", None, "ab", "ab"),
        ("sleep 1; printf abc", None, "abc", "abc"),
    ],
)
def test_a_pipe(script: str, soon: str | None, later: str | None, begun: str) -> None:
    with pipe(script) as source:
        assert read_of(source.stdout) == [soon, later, begun, False, []]


def test_waiting_for_the_end_of_a_silent_pipe_is_told() -> None:
    with pipe("sleep 4") as source:
        soon, later, begun, silent, said = read_of(source.stdout)
    assert (soon, later, begun, silent) == (None, "", "", False)
    assert len(said) == 1
    assert "</dev/null" in said[0]


def test_files(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("abc")
    (tmp_path / "long").write_text("123456789")
    for name, soon, begun in (("short", "abc", "abc"), ("long", None, "123456789")):
        with (tmp_path / name).open() as file:
            assert read_of(file) == [soon, None, begun, False, []]
    with (tmp_path / "short").open() as file:
        os.lseek(file.fileno(), 2, os.SEEK_SET)
        assert read_of(file)[0] == "c", "from where it stands"
    assert read_of(subprocess.DEVNULL)[0] == ""


def test_a_terminal_is_not_read() -> None:
    controller, terminal = pty.openpty()
    try:
        os.write(controller, b"typed\n")
        began = time.monotonic()
        assert read_of(terminal) == ["", None, "", False, []]
        assert time.monotonic() - began < 20
    finally:
        os.close(controller)
        os.close(terminal)


def test_nor_is_one_that_is_closed() -> None:
    line = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", READ, "8"]
    done = subprocess.run(line, capture_output=True, check=True)
    assert json.loads(done.stdout) == ["", None, "", False, []]


def test_all_of_it_goes_on_to_a_program() -> None:
    data = os.urandom(300_000) + b"\0\n"
    line = [sys.executable, "-c", COPY]
    done = subprocess.run(line, input=data, capture_output=True, check=True)
    right = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True)
    assert done.stdout == right.stdout


def test_an_input_that_drips_is_not_short() -> None:
    """Each piece comes soon, and the end does not: it goes by a way that needs none."""
    with subprocess.Popen(
        ["sh", "-c", "while echo x; do :; done"], stdout=subprocess.PIPE
    ) as drips:
        line = [sys.executable, "-c", DRIPS]
        done = subprocess.run(line, stdin=drips.stdout, capture_output=True, check=True, timeout=60)
        assert drips.stdout is not None
        drips.stdout.close()
    begun = json.loads(done.stdout)
    assert begun.startswith("x\n"), "what was read goes on to a program"
