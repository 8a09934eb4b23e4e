"""`logs --follow`: logs that grow, are rotated and end, and a libvirt that is waited for. Real
files, programs and sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from virtkit.api.logs import _retry_unavailable, console_lines, journal_lines
from virtkit.errors import Interrupted
from virtkit.host import Host, Remote, connection


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


# --- a libvirt that is waited for ---------------------------------------------------------------


def asked_again(host: Host, listener: socket.socket, prepare: Callable[[], object]) -> str:
    """What is said while a guest of a host is followed that asks ``listener`` a second time.

    Args:
        prepare: called after the first time.
    """
    said: list[str] = []
    again, stop = threading.Event(), threading.Event()

    def accept() -> None:
        with suppress(TimeoutError):
            listener.accept()[0].close()
            again.set()
        stop.set()

    def say(text: str) -> None:
        said.append(text)
        prepare()
        threading.Thread(target=accept).start()

    host.connections.get("lxc")  # libvirt has answered until now
    listener.settimeout(10)
    with pytest.raises(Interrupted):
        _retry_unavailable(host, lambda: host.connections.get("qemu"), say, stop)
    assert again.is_set()
    (text,) = said
    return text


def test_a_daemon_that_hung_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "OPEN_TIMEOUT", 0.5)
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        uris = {"qemu": f"qemu+unix:///system?socket={path}", "lxc": "test:///default"}
        host = Host("local", "default", uris)
        assert "did not answer for" in asked_again(host, silent, silent.accept)


def test_a_host_that_was_out_of_reach_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))  # nobody listens there yet
        remote = Remote("rack1", "root@127.0.0.1", server.getsockname()[1])
        host = Host("rack1", "default", {"lxc": "test:///default"}, remote)
        assert "refused" in asked_again(host, server, server.listen)
