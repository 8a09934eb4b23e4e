"""The step graph: order, how many at once, what a failure or ctrl-c leaves."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from virtkit.apply import Event, Report, Step, run
from virtkit.apply.engine import Say
from virtkit.errors import VirtkitError

Work = Callable[[Say], None]
LONG = 10.0  # nothing here takes that long unless it is broken


def step(object: str, name: str = "do", *after: str, run: Work, waits: bool = False) -> Step:
    keys = tuple((each.partition(".")[0], each.partition(".")[2] or "do") for each in after)
    return Step(object, name, "local", run, keys, waits)


def nothing(_say: Say) -> None:
    """Does nothing."""


def fails(_say: Say) -> None:
    raise VirtkitError("it broke", cure="mend it")


def outcomes(report: Report) -> dict[str, str]:
    return {each.object: each.outcome for each in report.results}


def test_nothing_to_do() -> None:
    report = run("lab", [], parallel=4)
    assert report.ok
    assert report.as_dict()["steps"] == []


def test_this_machines_own_refusal_fails_one_step() -> None:
    def full(_say: Say) -> None:
        Path("/dev/full").write_text("x")

    report = run("lab", [step("a", run=full), step("b", run=nothing)], parallel=4)
    assert outcomes(report) == {"a": "failed", "b": "done"}
    (error,) = [each.error for each in report.results if each.error]
    assert error.what == "a: do failed"
    assert error.why.startswith("on this machine, ")
    assert "No space left" in error.why
    assert "free some space" in error.cure
    assert error.where == "local a"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", "local guest/web"),
        ("local", "local guest/web"),
        ("local network/front", "local network/front"),
        ("lab.yaml:3:7 guests.web", "lab.yaml:3:7 guests.web"),
    ],
)
def test_what_failed_says_whose_it_is(where: str, expected: str) -> None:
    def fails_there(_say: Say) -> None:
        raise VirtkitError("define domain lab-web failed", cure="mend it", where=where)

    report = run("lab", [step("guest/web", "define", run=fails_there)], parallel=1)
    (error,) = [each.error for each in report.results if each.error]
    assert error.where == expected


def test_order() -> None:
    done: list[str] = []

    def note(name: str) -> Work:
        return lambda _: done.append(name)

    steps = [
        step("c", "do", "a", "b", "unknown.step", run=note("c")),
        step("b", "do", "a", run=note("b")),
        step("a", run=note("a")),
    ]
    report = run("lab", steps, parallel=8)
    assert report.ok
    assert done == ["a", "b", "c"]
    assert [each.object for each in report.results] == done


def test_on_several_hosts() -> None:
    done: list[str] = []

    def on(host: str, object: str, name: str, **after: Any) -> Step:
        return Step(object, name, host, lambda _: done.append(f"{host} {object} {name}"), **after)

    steps = [
        on(
            "b",
            "guest/a",
            "start",
            after=(("pool", "ensure"),),
            after_on_any_host=(("guest/a", "stop"),),
        ),
        on("b", "pool", "ensure"),
        on("a", "guest/a", "stop", after=(("pool", "ensure"), ("image/x", "make"))),
        on("a", "pool", "ensure"),
        Step("image/x", "make", "b", fails),
    ]
    report = run("lab", steps, parallel=4)
    assert {each.host for each in report.results if each.outcome == "failed"} == {"b"}
    assert sorted(done[:2]) == ["a pool ensure", "b pool ensure"]
    assert done[2:] == ["a guest/a stop", "b guest/a start"], "b's image is nothing to a"


@pytest.mark.parametrize("parallel", [1, 3])
def test_no_more_at_once_than_allowed(parallel: int) -> None:
    lock = threading.Lock()
    now = most = 0

    def work(_say: Say) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    report = run("lab", [step(f"s{i}", run=work) for i in range(9)], parallel=parallel)
    assert report.ok
    assert most == parallel


def test_those_who_wait_do_not_count() -> None:
    """Three wait at a time with `parallel=1`, and work goes on meanwhile: else it would hang."""
    together = threading.Barrier(4)
    meet: Work = lambda _: together.wait(LONG) and None  # noqa: E731
    steps = [step(f"w{i}", run=meet, waits=True) for i in range(3)]
    report = run("lab", [*steps, step("work", run=meet)], parallel=1)
    assert report.ok


def test_what_hangs_on_a_failure_is_skipped_and_the_rest_goes_on() -> None:
    steps = [
        step("bad", run=fails),
        step("child", "do", "bad", run=nothing),
        step("grandchild", "do", "child", run=nothing),
        step("good", run=nothing),
        step("other", "do", "good", run=nothing),
    ]
    events: list[Event] = []
    report = run("lab", steps, parallel=2, tell=events.append)
    assert outcomes(report) == {
        "bad": "failed",
        "child": "skipped",
        "grandchild": "skipped",
        "good": "done",
        "other": "done",
    }
    assert not report.ok
    assert not report.interrupted
    why = {each.object: each.message for each in events if each.kind == "skipped"}
    assert why == {"child": "bad: do failed", "grandchild": "child: do failed"}
    (failed,) = [each for each in report.as_dict()["steps"] if each["outcome"] == "failed"]
    assert failed["error"]["what"] == "it broke"
    assert failed["error"]["cure"] == "mend it"


def test_events() -> None:
    events: list[Event] = []

    def work(say: Say) -> None:
        say("half")

    run(
        "lab",
        [step("a", run=work), step("b", "do", "a", run=nothing)],
        parallel=1,
        tell=events.append,
    )
    messages = [(each.kind, each.object, each.message) for each in events]
    assert messages == [
        ("planned", "a", ""),
        ("planned", "b", ""),
        ("started", "a", ""),
        ("progress", "a", "half"),
        ("done", "a", ""),
        ("started", "b", ""),
        ("done", "b", ""),
    ]


def test_events_come_one_at_a_time() -> None:
    running_one = threading.Lock()

    def tell(_event: Event) -> None:
        assert running_one.acquire(blocking=False)
        time.sleep(0.001)
        running_one.release()

    def work(say: Say) -> None:
        for _ in range(5):
            say("on")

    assert run("lab", [step(f"s{i}", run=work) for i in range(8)], parallel=8, tell=tell).ok


def test_a_fault_of_ours_is_not_swallowed() -> None:
    def broken(_say: Say) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run("lab", [step("a", run=broken)], parallel=1)


def test_a_circle_is_a_fault() -> None:
    steps = [step("a", "do", "b", run=nothing), step("b", "do", "a", run=nothing)]
    with pytest.raises(ValueError, match="cycle"):
        run("lab", steps, parallel=1)


def test_interrupted() -> None:
    """Ctrl-c: nothing new starts, who waits gives up, what is under way is brought to its end."""
    under_way = threading.Event()
    interrupted = threading.Event()
    finished: list[str] = []

    def wait(say: Say) -> None:
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            say("not yet")
            time.sleep(0.01)

    def work(_say: Say) -> None:
        under_way.set()
        assert interrupted.wait(LONG)
        time.sleep(0.05)
        finished.append("work")

    def press(_say: Say) -> None:
        assert under_way.wait(LONG)
        os.kill(os.getpid(), signal.SIGINT)
        interrupted.set()

    steps = [
        step("wait", run=wait, waits=True),
        step("work", run=work),
        step("press", run=press),
        step("next", "do", "work", run=lambda _: finished.append("next")),
    ]
    began = time.monotonic()
    events: list[Event] = []
    report = run("lab", steps, parallel=4, tell=events.append)
    assert time.monotonic() - began < LONG / 2
    assert report.interrupted
    assert not report.ok
    assert finished == ["work"]
    (heard,) = [each for each in events if each.kind == "interrupted"]
    assert heard.message.endswith("work do; interrupt again to end at once")
    assert events.index(heard) < next(
        at for at, each in enumerate(events) if (each.object, each.kind) == ("work", "done")
    )
    by_step = outcomes(report)
    assert (by_step["work"], by_step["wait"]) == ("done", "skipped")
    assert by_step["next"] == "skipped"
    assert report.not_done == {"wait": ["do"], "next": ["do"]}
    assert report.as_dict()["interrupted"]


def press(_say: Say) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_interrupted_in_a_call_that_nothing_ends() -> None:
    """One that only waits is left where it stands."""
    released = threading.Event()
    steps = [
        step("hangs", run=lambda _: released.wait(LONG) and None, waits=True),
        step("press", run=press),
        step("after", "do", "hangs", run=nothing),
    ]
    began = time.monotonic()
    report = run("lab", steps, parallel=1)
    assert time.monotonic() - began < LONG / 2
    assert outcomes(report) == {"press": "done", "hangs": "skipped", "after": "skipped"}
    released.set()


def test_interrupted_while_it_works_and_tells() -> None:
    """An upload tells what it has sent, and hears at that that it should end."""

    def uploads(say: Say) -> None:
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            say("on")
            time.sleep(0.01)

    began = time.monotonic()
    report = run("lab", [step("upload", run=uploads), step("press", run=press)], parallel=2)
    assert time.monotonic() - began < LONG / 2
    assert report.not_done == {"upload": ["do"]}


def test_a_second_one_waits_for_nothing() -> None:
    released = threading.Event()

    def press_twice(_say: Say) -> None:
        press(_say)
        time.sleep(0.5)
        press(_say)

    steps = [
        step("hangs", run=lambda _: released.wait(LONG) and None),
        step("press", run=press_twice),
    ]
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run("lab", steps, parallel=2)
    assert time.monotonic() - began < LONG / 2
    released.set()


def test_steps_that_wait_for_one_host_hold_up_no_other() -> None:
    reached = threading.Event()

    def hangs(_say: Say) -> None:
        assert reached.wait(LONG), "the other host's step never ran"

    steps = [replace(step(f"a{n}", run=hangs), host="a") for n in range(3)]
    steps.append(replace(step("b", run=lambda _: reached.set()), host="b"))
    assert run("lab", steps, parallel={"a": 2, "b": 1}).ok
