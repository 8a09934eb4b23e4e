"""Commands in a container's namespaces: never in the host's. (What they do: test_containers.)"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from virtkit.host.programs import nsenter


@pytest.mark.parametrize("kinds", [(), ("ipc", "cgroup"), ("mnt", "pid", "user"), nsenter._KINDS])
def test_where_a_containers_namespaces_are_not_found_nothing_is_entered(
    kinds: tuple[str, ...],
) -> None:
    """Here it is given the host's own, or less."""
    here = Path("/proc/self/ns")
    before = {each.name: each.readlink() for each in here.iterdir()}
    opened = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in kinds]
    try:
        with pytest.raises(OSError, match="namespace of its own"):
            nsenter._join_namespaces(opened)
    finally:
        for each in opened:
            os.close(each)
    assert {each.name: each.readlink() for each in here.iterdir()} == before


@contextmanager
def command(
    script: str, *, over_ssh: bool = False
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command that was started as in a container, in a process group of its own; its pid."""
    call = f"nsenter._run({['sh', '-c', script]}, -1, False, over_ssh={over_ssh})"
    line = f"import sys; from virtkit.host.programs import nsenter; sys.exit({call})"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", line],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        process_group=0,
    ) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_command_ends_with_what_entered(number: signal.Signals) -> None:
    """Else each look at a guest that takes too long leaves a process in it."""
    with command("echo $$; exec sleep 60") as (process, pid):
        descriptor = os.pidfd_open(pid)
        process.send_signal(number)
        ended, _, _ = select.select([descriptor], [], [], 10)
        os.close(descriptor)
        os.killpg(process.pid, signal.SIGKILL)
    assert ended


def test_ctrl_c_is_the_commands() -> None:
    with command("trap 'echo heard; exit 7' INT; echo $$; while :; do sleep .1; done") as (ran, _):
        os.killpg(ran.pid, signal.SIGINT)
        assert ran.communicate(timeout=10) == (b"heard\n", b"")
    assert ran.returncode == 7


def ended(pid: int, seconds: float) -> bool:
    """Whether a process, which need not be a child of ours, ends in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(FileNotFoundError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                time.sleep(0.1)
                continue
        return True
    return False


#: Prints the pids of a shell and of what it started. $(…) would be another's parent.
FAMILY = "trap 'exit 0' HUP; sleep 60 & echo $!; wait"
STUBBORN = "trap '' HUP; sleep 60 & echo $!; wait"


@pytest.mark.parametrize("script", [FAMILY, STUBBORN])
def test_over_ssh_it_ends_with_all_that_it_started_once_nobody_reads(script: str) -> None:
    """sshd closes the pipes of a command whose caller is gone, and does no more."""
    with command(script, over_ssh=True) as (process, started):
        process.stdout.close()  # type: ignore[union-attr]
        assert not ended(started, 2.5), "as of `| head`: its caller is still there"
        process.stdin.close()  # type: ignore[union-attr]
        assert ended(started, 10)
        assert process.wait(10) == 128 + signal.SIGHUP


def test_over_ssh_what_has_a_session_of_its_own_goes_on() -> None:
    script = "setsid sleep 60 >/dev/null 2>&1 & echo $!; wait"
    with command(script, over_ssh=True) as (process, started):
        time.sleep(0.5)  # it may not have left yet
        process.stdout.close()  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]
        try:
            assert process.wait(15) == 128 + signal.SIGHUP
            assert not ended(started, 0.5)
        finally:
            os.kill(started, signal.SIGKILL)


def test_over_ssh_a_quiet_command_is_left_in_peace() -> None:
    with command("echo $$; sleep 3; echo done; exit 7", over_ssh=True) as (process, _):
        assert process.communicate(timeout=10) == (b"done\n", b"")
    assert process.returncode == 7
