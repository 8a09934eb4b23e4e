"""`logs --follow`: logs that grow, are rotated and end. Real files and programs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from virtkit.api.logs import console_lines, journal_lines


def read(log: Path) -> Callable[[int], bytes]:
    def printed(offset: int) -> bytes:
        with log.open("rb") as file:
            file.seek(offset)
            return file.read()

    return printed


def test_a_log_to_its_end(tmp_path: Path) -> None:
    """What a guest prints last comes after it was seen running, and may lack its newline."""
    log = tmp_path / "log"
    log.write_bytes(b"one\r\ntw")
    looks = 0

    def ended() -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            with log.open("ab") as file:
                file.write(b"o\nthree \xff")
        return looks > 1

    assert list(console_lines(read(log), ended)) == ["one", "two", "three \ufffd"]


def test_a_log_that_is_rotated(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a long first line\n")
    lines = console_lines(read(log), lambda: log.read_text().endswith("end\n"))
    assert next(lines) == "a long first line"
    log.rename(tmp_path / "log.0")
    log.write_text("anew\nend\n")
    assert list(lines) == ["anew", "end"]


def test_an_empty_log_of_a_guest_that_ended(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert list(console_lines(read(tmp_path / "log"), lambda: True)) == []


def test_a_journal_ends_with_its_reader(tmp_path: Path) -> None:
    """Whoever stops reading, as `head` does, does not wait for the next line."""
    script = f"echo $$ >{tmp_path}/pid; printf 'odd \\377\\n'; exec sleep 60"
    lines = journal_lines(["sh", "-c", script])
    assert next(lines) == "odd \ufffd"
    pid, began = int((tmp_path / "pid").read_text()), time.monotonic()
    lines.close()
    assert time.monotonic() - began < 30
    assert not Path(f"/proc/{pid}").exists()


def test_how_a_journal_ended() -> None:
    lines = journal_lines(["sh", "-c", "echo last; exit 7"])
    assert next(lines) == "last"
    with pytest.raises(StopIteration) as end:
        next(lines)
    assert end.value.value == 7
