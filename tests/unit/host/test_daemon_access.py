"""Who is not let in by libvirt is told what they themselves have to do."""

from __future__ import annotations

from pathlib import Path

import libvirt
import pytest

from virtkit.host.daemon_access import cure_for, denied


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
    assert denied(code, message) is expected


def test_what_they_have_to_do(tmp_path: Path) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_text("alice:x:1000:1000::/home/alice:/bin/sh\no b:x:1001:1001::/:/bin/sh\n")
    new = cure_for("alice", "libvirt", session=False, listed=False, passwd=passwd)
    assert new.startswith("sudo usermod -aG libvirt alice, then log in again")
    assert "sg libvirt -c" in new
    older = cure_for("alice", "libvirt", session=False, listed=True)
    assert older.startswith("log in again")
    assert "usermod" not in older
    assert "sg libvirt -c" in older
    in_group = cure_for("alice", "libvirt", session=True, listed=True)
    assert "usermod" not in in_group
    assert "polkit" in in_group
    odd = cure_for("o b", "kvm", session=False, listed=False, passwd=passwd)
    assert "usermod -aG kvm 'o b'" in odd
    ldap = cure_for("ali", "libvirt", session=False, listed=False, passwd=passwd)
    assert ldap.startswith("sudo gpasswd -a ali libvirt, then"), "usermod does not know them"
