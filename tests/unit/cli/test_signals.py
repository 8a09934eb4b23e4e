"""Ctrl-c and SIGTERM, in processes of their own: heard once, the end at the second one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import sys, threading, time
from virtkit.cli import signals
def hangs():
    threading.Event().wait()
try:
    with signals.handled():
        print("ready", flush=True)
        try:
            BODY
        except KeyboardInterrupt:
            print("heard", flush=True)
            if "stubborn" in sys.argv:
                threading.Thread(target=hangs).start()
                hangs()
            sys.exit(7)
finally:
    print("through", flush=True)
"""
#: In a call that no signal ends, as one of libvirt's on a daemon that hangs.
DEAF = (
    "import ctypes, signal; signal.pthread_sigmask(signal.SIG_BLOCK, {2, 15}); "
    "ctypes.CDLL(None).sleep(60)"
)
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def started(body: str, *words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", PROGRAM.replace("BODY", body), *words]
    pipe = subprocess.PIPE
    process = subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    return process


@BOTH
def test_it_is_heard_again_after_a_program_that_heard_it(number: signal.Signals) -> None:
    """`virtkit ssh` leaves ctrl-c to ssh, and then may look for seconds why that was refused."""
    ran = "from virtkit.cli import access; access._run(['true']); print('ran', flush=True)"
    process = started(f"{ran}; time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "ran\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=5)
    assert out == "heard\nthrough\n"
    assert process.returncode == 7


@BOTH
def test_the_first_is_heard(number: signal.Signals) -> None:
    process = started("time.sleep(60)")
    process.send_signal(number)
    out, _ = process.communicate(timeout=5)
    assert out == "heard\nthrough\n"
    assert process.returncode == 7


@BOTH
def test_the_second_is_the_end(number: signal.Signals) -> None:
    process = started("time.sleep(60)", "stubborn")
    process.send_signal(number)
    assert process.stdout is not None
    assert process.stdout.readline() == "heard\n"
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(number)
    began = time.monotonic()
    out, err = process.communicate(timeout=5)
    assert time.monotonic() - began < 1
    assert process.returncode == 130
    assert out == ""
    assert err == "interrupted; run again: it continues where it stopped\n"


def test_two_at_once_are_one() -> None:
    """timeout(1) signals the process, and then the process's group."""
    process = started("time.sleep(60)", "stubborn")
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    process.kill()
    process.communicate()


def test_where_nothing_hears_the_first_is_the_end() -> None:
    process = started(DEAF)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=5)
    assert time.monotonic() - began < 2
    assert process.returncode == 130
    assert out == ""
    assert err == "interrupted; run again: it continues where it stopped\n"


def test_what_is_ignored_stays_ignored() -> None:
    line = [sys.executable, "-c", PROGRAM.replace("BODY", "time.sleep(1); print('slept')")]
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *line], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=5)
    assert out == "slept\nthrough\n"
    assert process.returncode == 0
