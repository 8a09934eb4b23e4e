"""What is known of a domain without asking libvirt."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from virtkit.host.power import is_transient, unconnected

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


SCOPE = "/sys/fs/cgroup/machine.slice/machine-lxc\\x2d1351\\x2dlab\\x2dweb.scope"

TIMED_OUT = "Timed out during operation: cannot acquire state change lock"


@pytest.mark.parametrize(
    ("message", "again"),
    [  # libvirt's own words, but for the last but two
        (f"Unable to read from '{SCOPE}/cgroup.controllers': No such file or directory", True),
        (f"Unable to write to '{SCOPE}/libvirt/pids.max': No such file or directory", True),
        ("Unable to attach /p/web-root to loop device: Device or resource busy", True),
        (f"Unable to read from '{SCOPE}/cgroup.controllers': No such device", True),
        (f"{TIMED_OUT} (held by monitor=remoteDispatchDomainReset)", False),
        (f"{TIMED_OUT} (held by monitor=shutdown-event-1)", True),
        (f"Unable to write to '{SCOPE}/memory.max': Invalid argument", False),
        ("Failed to access '/srv/data': No such file or directory", False),
    ],
)
def test_which_failed_starts_may_be_tried_again(message: str, again: bool) -> None:
    assert is_transient(message) is again
