"""What is known of a domain without asking libvirt."""

from __future__ import annotations

import socket
from pathlib import Path

from virtkit.host.power import unconnected

SOCKETS = Path("/proc/net/unix")


def test_who_is_connected_to_a_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "a b.sock")
    assert not unconnected(SOCKETS.read_text(), path), "it is not known"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        assert unconnected(SOCKETS.read_text(), path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            taken, _ = listening.accept()
            assert not unconnected(SOCKETS.read_text(), path)
        taken.close()
        assert unconnected(SOCKETS.read_text(), path)
    assert not unconnected(SOCKETS.read_text(), path)
