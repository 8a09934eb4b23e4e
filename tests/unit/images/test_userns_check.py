"""Why a user gets no namespaces to build in: read from the system's files, with its cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtkit.images import userns_check
from virtkit.images.userns_check import User

ALICE = User("alice", 1000)
PASSWD = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    for name, text in {"passwd": PASSWD, "subuid": "", "subgid": ""}.items():
        (tmp_path / "etc").mkdir(exist_ok=True)
        (tmp_path / "etc" / name).write_text(text)
    for name in ("kernel", "user"):
        (tmp_path / "proc/sys" / name).mkdir(parents=True)
    return tmp_path


def give(machine: Path, text: str, *names: str) -> None:
    for name in names or ("subuid", "subgid"):
        (machine / "etc" / name).write_text(text)


@pytest.mark.parametrize("line", ["alice:100000:65536\n", "1000:100000:65536\n", "\nalice:7:70000"])
def test_enough(machine: Path, line: str) -> None:
    give(machine, line)
    assert userns_check.missing_ids(ALICE, machine) is None


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", 100000),
        ("bob:100000:65536\n", 165536),
        ("bob:100000:65536\ncarol:165536:65536\n", 231072),
        # libvirt's containers have theirs far above, and root's says nothing of users
        ("bob:100000:65536\nroot:2013265920:65536\n", 165536),
        ("garbage\nbob:x:y\n", 100000),
    ],
)
def test_no_line(machine: Path, text: str, start: int) -> None:
    give(machine, text)
    error = userns_check.missing_ids(ALICE, machine)
    assert error is not None
    assert error.exit_code == 2
    assert "/etc/subuid has no line for alice" in error.why
    assert "/etc/subgid has no line for alice" in error.why
    span = f"{start}-{start + 65535}"
    assert error.cure == f"as root: usermod --add-subuids {span} --add-subgids {span} alice"


def test_one_file_only(machine: Path) -> None:
    give(machine, "alice:100000:65536\n", "subuid")
    error = userns_check.missing_ids(ALICE, machine)
    assert error is not None
    assert error.why == "/etc/subgid has no line for alice"
    assert error.cure == "as root: usermod --add-subgids 165536-231071 alice"


def test_no_files(tmp_path: Path) -> None:
    error = userns_check.missing_ids(ALICE, tmp_path)
    assert error is not None
    assert "alice:100000:65536" in error.cure


def test_of_a_directory_service(machine: Path) -> None:
    """usermod does not know such a user."""
    error = userns_check.missing_ids(User("dora", 20001), machine)
    assert error is not None
    assert error.cure == "as root: echo dora:100000:65536 | tee -a /etc/subuid /etc/subgid"


def test_too_few(machine: Path) -> None:
    """The first line counts: another one would change nothing."""
    give(machine, "alice:100000:1000\n")
    error = userns_check.missing_ids(ALICE, machine)
    assert error is not None
    assert "gives alice 1000 ids, 65536 are needed" in error.why
    assert "write alice:101000:65536 into /etc/subuid" in error.cure


@pytest.mark.parametrize(
    ("setting", "value", "good"),
    [
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=65536"),
    ],
)
def test_the_kernel_is_told_not_to(machine: Path, setting: str, value: str, good: str) -> None:
    (machine / "proc/sys" / setting).write_text(f"{value}\n")
    error = userns_check.no_namespaces(
        "unshare: unshare failed: Operation not permitted", ALICE, machine
    )
    assert setting.replace("/", ".") in error.why
    assert "unshare failed" in error.why
    assert f"echo {good} >" in error.cure
    assert "sysctl -p" in error.cure


def test_after_sg(machine: Path) -> None:
    error = userns_check.no_namespaces("newgidmap: …", User("alice", 1000, "alice"), machine)
    assert "sg alice -c" in error.cure


def test_newuidmap_without_its_right(machine: Path) -> None:
    said = "newuidmap: write to uid_map failed: Operation not permitted"
    assert "reinstall uidmap" in userns_check.no_namespaces(said, ALICE, machine).cure


def test_a_container_that_forbids_it(machine: Path) -> None:
    error = userns_check.no_namespaces(
        "unshare: unshare failed: Operation not permitted", ALICE, machine
    )
    assert "seccomp" in error.cure
