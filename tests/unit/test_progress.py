"""What waiting work hears: that it should stop, wherever it waits."""

from __future__ import annotations

import subprocess
import threading
import time
from itertools import count

import pytest

from virtkit import progress as module
from virtkit.errors import Interrupted
from virtkit.progress import Meter, Progress

LONG = 10.0  # nothing here takes that long unless it is broken


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


def test_it_tells() -> None:
    said: list[str] = []
    progress = Progress(said.append)
    progress("a")
    progress.check_cancelled()
    progress.sleep(0)
    assert said == ["a"]


def test_it_says_nothing_once_stopped(stop: threading.Event) -> None:
    said: list[str] = []
    progress = Progress(said.append, stop)
    stop.set()
    with pytest.raises(Interrupted):
        progress("a")
    with pytest.raises(Interrupted):
        progress.check_cancelled()
    assert said == []


def test_sleep_ends_at_once(stop: threading.Event) -> None:
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        Progress(stop=stop).sleep(LONG)
    assert time.monotonic() - began < LONG / 2


def test_run_interruptible() -> None:
    assert Progress().run_interruptible(lambda: 5) == 5
    with pytest.raises(TimeoutError):  # as a socket's, and not its own
        Progress().run_interruptible(lambda: (_ for _ in ()).throw(TimeoutError()))


def test_what_hangs_is_left_behind(stop: threading.Event) -> None:
    released = threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        Progress(stop=stop).run_interruptible(lambda: released.wait(LONG))
    assert time.monotonic() - began < LONG / 2
    released.set()


def test_a_program_is_ended(stop: threading.Event) -> None:
    with subprocess.Popen(["sleep", str(LONG)]) as process:
        threading.Timer(0.1, stop.set).start()
        began = time.monotonic()
        with Progress(stop=stop).on_cancel(process.kill):
            process.wait()
        assert time.monotonic() - began < LONG / 2


def test_one_that_is_through_is_not_ended(stop: threading.Event) -> None:
    ended = threading.Event()
    with Progress(stop=stop).on_cancel(ended.set):
        pass
    stop.set()
    assert not ended.wait(0.5)


def test_a_transfer_is_told_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its speed once that is known, and at its end in any case."""
    said: list[str] = []
    clock = count(0, 0.05)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    meter = Meter(Progress(said.append), "uploading")
    for done in range(31):
        meter(done * 1024 * 1024, 30 * 1024 * 1024)
    assert said[0] == "uploading, 0 of 30 MiB, 0 %"
    assert said[-1] == "uploading, 30 of 30 MiB, 100 %, 20 MiB/s"
    assert 8 <= len(said) <= 10


def test_a_transfer_of_nobody_knows_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    clock = count(0, 2.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    meter = Meter(Progress(said.append), "downloading")
    meter(1024 * 1024)
    meter(3 * 1024 * 1024)
    assert said == ["downloading, 1 MiB", "downloading, 3 MiB, 1.0 MiB/s"]


def test_a_transfer_hears_that_it_should_end(stop: threading.Event) -> None:
    """Also where it has nothing to say yet."""
    meter = Meter(Progress(stop=stop), "uploading")
    meter(1, 9)
    stop.set()
    with pytest.raises(Interrupted):
        meter(2, 9)
