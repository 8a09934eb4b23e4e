"""Calls that may never be answered, and why a guest is in its state."""

from __future__ import annotations

import threading
import time

import libvirt
import pytest

from virtkit.access.readiness import boots
from virtkit.host.state_reason import _REASONS, reason_of
from virtkit.host.timeouts import HypervisorUnresponsive, call_with_timeout


def find() -> libvirt.virDomain:
    """A domain of libvirt's test driver; it runs."""
    return libvirt.open("test:///default").lookupByName("test")


def test_an_answer() -> None:
    assert call_with_timeout(find, lambda _: 3, "local") == 3


def test_an_error_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        call_with_timeout(find, lambda _: 1 // 0, "local")


def test_silence() -> None:
    """The call goes on by itself; nobody waits for it."""
    end = threading.Event()
    began = time.monotonic()
    with pytest.raises(HypervisorUnresponsive) as caught:
        call_with_timeout(find, lambda _: end.wait(), "local", 0.1)
    end.set()
    assert time.monotonic() - began < 5
    assert caught.value.what == "domain test does not answer"
    assert "SIGSTOP" in caught.value.why
    assert "virtkit stop SPEC GUEST --timeout 0" in caught.value.cure
    assert caught.value.where == "local"


def test_every_fault_has_a_cure() -> None:
    """What is nobody's wish needs one; a pause or a shutdown does not."""
    wished = {each.why for each in _REASONS.values() if not each.cure}
    assert wished == {"somebody paused it", "it ended by itself", "somebody forced it off"}


def test_conditions() -> None:
    domain = find()  # held: the driver forgets all with its last connection
    assert reason_of(find, "local").why == ""
    domain.suspend()
    assert reason_of(find, "local").why == "somebody paused it"
    domain.resume()
    domain.destroy()
    assert reason_of(find, "local").why == "somebody forced it off"


@pytest.mark.parametrize(
    ("console", "count"),
    [
        ("", 0),
        ("\r\n\r\n", 0),
        ("tiny: up\r\ntiny: tick\r\ntiny: tick\r\n", 1),
        ("loop: up\r\n" * 7, 7),
        ("Linux version 6\nlogin:\n\nLinux version 6\nlogin:\n", 2),
    ],
)
def test_boots(console: str, count: int) -> None:
    assert boots(console) == count
