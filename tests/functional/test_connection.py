"""A connection to a daemon that says nothing; tests/integration has one that ends or freezes."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from virtkit.errors import VirtkitError
from virtkit.host import Host, connection


def test_a_daemon_that_takes_connections_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "OPENING", 0.5)
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        host = Host("local", "default", {"qemu": f"qemu+unix:///system?socket={path}"})
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(VirtkitError, match="open qemu") as caught:
                host.connections.get("qemu")
        assert time.monotonic() - began < 1.4, "it is waited for once in a run"
    assert "said nothing" in caught.value.why
    assert "libvirtd runs" in caught.value.cure
