"""What is asked of a User-Mode Linux kernel's management console. (A real one: test_contract.)"""

from __future__ import annotations

import runpy
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtkit.host import mconsole

INIT = Path(__file__).parents[2] / "templates/uml_init.py"
HEAD = struct.Struct("=III")


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as kernel:
        kernel.bind(str(tmp_path / "mconsole"))
        kernel.settimeout(5)
        yield kernel


def asked(kernel: socket.socket, error: int, words: str) -> tuple[bytes, tuple[int, str]]:
    """What reached the kernel, and what became of its answer."""
    heard: list[bytes] = []

    def answer() -> None:
        request, sender = kernel.recvfrom(4096)
        heard.append(request)
        text = words.encode()
        kernel.sendto(HEAD.pack(error, 0, len(text)) + text.ljust(512, b"\0"), sender)

    thread = threading.Thread(target=answer)
    thread.start()
    found = mconsole.ask("cad", 5, kernel.getsockname())
    thread.join()
    return heard[0], found


def test_the_request_is_what_the_kernel_reads(kernel: socket.socket) -> None:
    request, found = asked(kernel, 0, "OK")
    assert len(request) == 524
    assert HEAD.unpack_from(request) == (0xCAFEBABE, 2, 3)
    assert request[12:].rstrip(b"\0") == b"cad"
    assert found == (0, "OK")


def test_the_containers_first_process_asks_the_same(kernel: socket.socket, tmp_path: Path) -> None:
    turn_off = runpy.run_path(str(INIT))["turn_off"]
    turn_off(kernel.getsockname())
    assert kernel.recv(4096) == asked(kernel, 0, "OK")[0]
    turn_off(str(tmp_path / "nobody"))  # before the kernel listens, nothing happens


def test_its_refusal_is_told(kernel: socket.socket) -> None:
    assert asked(kernel, 1, "no such command")[1] == (1, "no such command")


def test_silence_has_an_end(kernel: socket.socket, tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        mconsole.ask("cad", 0.1, kernel.getsockname())
    with pytest.raises(FileNotFoundError):
        mconsole.ask("cad", 0.1, str(tmp_path / "nobody"))
