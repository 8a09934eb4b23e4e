"""Commands in a container's namespaces: never in the host's. (What they do: test_containers.)"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
            nsenter._enter(opened)
    finally:
        for each in opened:
            os.close(each)
    assert {each.name: each.readlink() for each in here.iterdir()} == before


@contextmanager
def command(script: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command that was started as in a container, in a process group of its own; its pid."""
    call = f"nsenter._run({['sh', '-c', script]}, -1, False)"
    line = f"import sys; from virtkit.host.programs import nsenter; sys.exit({call})"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", line], stdout=pipe, stderr=pipe, process_group=0
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
