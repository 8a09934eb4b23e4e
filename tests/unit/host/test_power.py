"""What is known of a domain without asking libvirt, and when a start is tried again."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from virtkit.drivers.xen import XEN_PV
from virtkit.host.power import create, is_transient, unconnected

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


def test_a_start_that_failed_late_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hypervisor has a time limit of its own; where it has none, an error is one."""
    domain = libvirt.open("test:///default").lookupByName("test")
    monkeypatch.setattr(time, "sleep", lambda _: domain.destroy())  # it is free meanwhile
    with pytest.raises(libvirt.libvirtError, match="already running"):
        create(domain, replace(XEN_PV, start_limit=0.0), str)
    create(domain, replace(XEN_PV, start_limit=1e-9), str)
    assert domain.isActive()
    with pytest.raises(libvirt.libvirtError, match="already running"):
        create(domain, replace(XEN_PV, start_limit=60.0), str)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(libvirt.libvirtError, match="already running"):
        create(domain, replace(XEN_PV, start_limit=1e-9), str)
