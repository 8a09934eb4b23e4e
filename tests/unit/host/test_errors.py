"""libvirt's errors in virtkit's words: a cure that fits where we know one, an honest one else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import libvirt
import pytest

import virtkit
from virtkit.errors import RequestError as Wrong
from virtkit.errors import SpecErrors, VirtkitError
from virtkit.host import daemon_access
from virtkit.host.connection import Connections
from virtkit.host.definitions import domain_changed
from virtkit.host.errors import (
    FileUnusable,
    LibvirtUnavailable,
    cure,
    daemon_cure,
    libvirt_errors,
    skip_unreadable,
    unreadable_cure,
)
from virtkit.host.machine import preparation
from virtkit.host.ssh import Remote
from virtkit.state.record import GuestRecord


def test_an_unknown_pair_keeps_libvirts_text() -> None:
    with (
        pytest.raises(VirtkitError) as caught,
        libvirt_errors("start", "domain lab-web", where="local"),
    ):
        raise libvirt.libvirtError("the moon is in the way")
    error = caught.value
    assert error.what == "start domain lab-web failed"
    assert error.why == "the moon is in the way"
    assert "doctor" in error.cure
    assert (error.where, error.exit_code) == ("local", 1)


@pytest.mark.parametrize(
    ("operation", "message", "kind"),
    [
        ("start", "-blockdev {}: Could not open backing file", FileUnusable),
        ("attach", "Cannot access storage file '/p/a-root': No such file", FileUnusable),
        ("start", "-blockdev {}: Could not open '/p/a': Permission denied", VirtkitError),
        ("start", "-blockdev {}: Is another process using the image [/p/a]?", VirtkitError),
        ("start", "Cannot check QEMU binary /usr/bin/q: No such file or directory", VirtkitError),
        ("start", "Unable to read from '/sys/fs/cgroup/a/b': No such file or dir…", VirtkitError),
        ("read", "cannot open file '/p/a': No such file or directory", VirtkitError),
    ],
)
def test_a_file_that_can_not_be_used_has_a_type(
    operation: str, message: str, kind: type[VirtkitError]
) -> None:
    with pytest.raises(VirtkitError) as caught, libvirt_errors(operation, "domain lab-web"):
        raise libvirt.libvirtError(message)
    assert type(caught.value) is kind


@pytest.mark.parametrize("code", [libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR])
def test_a_connection_that_is_gone(code: int) -> None:
    """Where libvirtd ended, or its keepalive stayed away."""
    gone = libvirt.libvirtError("")
    gone.err = (code, libvirt.VIR_FROM_RPC, "client socket is closed", 2, "", None, None, 0, 0)
    with pytest.raises(VirtkitError) as caught, libvirt_errors("start", "domain lab-web"):
        raise gone
    assert caught.value.why == "libvirt stopped answering: client socket is closed"
    assert isinstance(caught.value, LibvirtUnavailable)
    assert "libvirt's daemon runs" in caught.value.cure
    assert "run again: it continues where it stopped" in caught.value.cure


def test_what_is_not_libvirts_passes() -> None:
    with pytest.raises(ZeroDivisionError), libvirt_errors("start", "x"):
        raise ZeroDivisionError


def test_what_can_not_be_read_is_passed_over_and_silence_is_not() -> None:
    with skip_unreadable():
        raise VirtkitError("a domain can't be read", cure="none")
    with pytest.raises(LibvirtUnavailable), skip_unreadable():
        raise LibvirtUnavailable("libvirt stopped answering", cure="restart it")


@pytest.mark.parametrize(
    ("operation", "code", "message", "words"),
    [
        ("open", libvirt.VIR_ERR_SYSTEM_ERROR, "", "libvirt's daemon runs"),
        ("read", 0, "cannot open directory '/p': Permission denied", "no_root_squash"),
        ("create", 38, "cannot create file '/nfs/a': Permission denied", "no_root_squash"),
        ("start", 38, "can't mount /run/virtkit/lxc/x: No such file or directory", "hook"),
        ("attach", 0, "Could not open '/p/b': Permission denied", "libvirt-qemu"),
        ("start", 0, "-blockdev {}: Could not open '/p/a': No such file or directory", "mounted"),
        ("create", libvirt.VIR_ERR_STORAGE_VOL_EXIST, "", "virsh -c qemu:///system vol-delete"),
        ("connect", 0, "Network is already in use by interface virbr0", "`cidr:`"),
        (
            "connect",
            1,
            "iptables: No chain/target/match by that name.",
            preparation.restart_command("network"),
        ),
        (
            "connect",
            1,
            "iptables v1.8.11: Chain 'LIBVIRT_INP' does not exist",
            preparation.restart_command("network"),
        ),
        ("upload", 0, "cannot write: No space left on device", "free some space"),
        ("define", 0, "cannot write '/etc/libvirt/qemu/a.xml.new': No space left", "half made"),
        ("start", 0, "Unable to open file: /p/a-console: Read-only file system", "writable"),
        ("read", 0, "cannot open directory '/p': No such file or directory", "mount"),
        ("start", 0, "network 'lab-front' is not active", "virtkit up"),
        ("start", 0, "storage pool 'default' is not active", "virtkit up"),
        ("start", 0, "-blockdev {}: Could not open backing file: Image is corrupt", "image rm"),
        ("start", 0, "-blockdev {}: Could not open '/p/a': Permission denied", "namei"),
        ("start", 0, "-blockdev {}: Is another process using the image [/p/a]?", "stop that"),
        ("start", 38, "Cannot access storage file '/p/a-root': No such file", "mounted"),
        ("stop", 0, "Failed to terminate process 1 with SIGKILL", "kernel log"),
        ("start", 38, "Cannot check QEMU binary /usr/bin/q: No such file or directory", "package"),
        ("start", 1, "Could not access KVM kernel module: No such file or directory", "modprobe"),
        ("start", 1, "Could not access KVM kernel module: Permission denied", "group kvm"),
        (
            "record",
            68,
            "cannot acquire state change lock (held by x)",
            "stop SPEC GUEST --timeout 0",
        ),
        ("start", 0, "can't create /sys/fs/cgroup/unified/x", "mount namespace"),
        ("nothing", 12345, "", "doctor"),
    ],
)
def test_cures(operation: str, code: int, message: str, words: str) -> None:
    assert words in cure(operation, code, message)


def test_a_command_is_for_the_host_that_the_error_is_of() -> None:
    gone = "iptables: No chain/target/match by that name."
    command = "on host rack: sudo systemctl restart libvirtd"
    assert cure("connect", 1, gone, "rack").startswith(f"{command} (")
    restart = preparation.restart_command("network")
    assert cure("connect", 1, gone, "local").startswith(f"{restart} (")
    assert f"{command};" in daemon_cure("rack")
    connections = Connections("rack", remote=Remote("rack", "root@rack"))
    record = GuestRecord("lab", "web", "xen-pv", "/specs/lab.yaml", {}, "", None)
    assert (
        "virsh -c xen+ssh://root@rack/system dumpxml lab-web"
        in domain_changed(record, connections).cure
    )


@pytest.mark.parametrize(
    "code",
    [
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_AUTH_CANCELLED,
        libvirt.VIR_ERR_AUTH_UNAVAILABLE,
    ],
)
def test_the_daemon_lets_nobody_in(code: int) -> None:
    """The operation decides first: the same words about a disk mean a disk."""
    assert "libvirt" in cure("open", code, "no polkit agent available")
    assert "namei" not in cure("open", code, "Permission denied")
    socket = "Failed to connect socket to '/run/libvirt/libvirt-sock': Permission denied"
    assert cure("open", libvirt.VIR_ERR_SYSTEM_ERROR, socket) == daemon_access.cure()


def test_apparmor_is_named_where_it_is(tmp_path: Path) -> None:
    enabled = tmp_path / "enabled"
    assert "AppArmor" not in unreadable_cure("Permission denied", enabled)
    enabled.write_text("N\n")
    assert "AppArmor" not in unreadable_cure("Permission denied", enabled)
    assert "journalctl -k -g apparmor=" in unreadable_cure("denied by apparmor=", enabled)
    enabled.write_text("Y\n")
    assert "local/abstractions/libvirt-qemu" in unreadable_cure("Permission denied", enabled)


def test_no_text_has_a_bare_virsh() -> None:
    """It asks qemu:///session where its user isn't root, and finds nothing there."""
    texts = [
        (path.name, node.value)
        for path in sorted(Path(virtkit.__file__).parent.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    commands = "start|edit|define|undefine|destroy|console|list|domrename|[a-z]+-[a-z-]+|dumpxml"
    assert [each for each in texts if re.search(rf"virsh ({commands})\b", each[1])] == []
    assert [each for each in texts if "virsh -c " in each[1]], "there are some to look at"


def test_errors_stand_for_themselves_or_for_many() -> None:
    first, other = Wrong("a", cure="b", why="c", where="d"), Wrong("e", cure="f")
    assert first.as_dict() == {"what": "a", "cure": "b", "why": "c", "where": "d", "code": 2}
    assert list(first.every()) == [first]
    many = SpecErrors([first, other])
    assert (many.what, many.cure, many.exit_code) == ("a", "b", 2)
    assert list(many.every()) == [first, other]
