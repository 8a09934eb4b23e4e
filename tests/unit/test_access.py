"""Who is not let in by libvirt is told what they themselves have to do."""

from __future__ import annotations

import libvirt
import pytest

from virtkit.host.access import refused, words


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (libvirt.VIR_ERR_AUTH_FAILED, "authentication failed", True),
        (libvirt.VIR_ERR_AUTH_CANCELLED, "authentication cancelled", True),
        (libvirt.VIR_ERR_AUTH_UNAVAILABLE, "no polkit agent available to authenticate", True),
        (
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
            True,
        ),
        (
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Connection refused",
            False,
        ),
        (libvirt.VIR_ERR_NO_CONNECT, "no connection driver available for xen:///system", False),
    ],
)
def test_who_is_refused(code: int, message: str, expected: bool) -> None:
    assert refused(code, message) is expected


def test_what_they_have_to_do() -> None:
    new = words("alice", "libvirt", session=False, listed=False)
    assert new.startswith("sudo usermod -aG libvirt alice, then log in again")
    assert "sg libvirt -c" in new
    older = words("alice", "libvirt", session=False, listed=True)
    assert older.startswith("log in again")
    assert "usermod" not in older
    assert "sg libvirt -c" in older
    there = words("alice", "libvirt", session=True, listed=True)
    assert "usermod" not in there
    assert "polkit" in there
    assert "usermod -aG kvm 'o b'" in words("o b", "kvm", session=False, listed=False)
