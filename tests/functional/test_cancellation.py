"""A long run is ended from any thread, by an event: against libvirt's test driver."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from virtkit import api
from virtkit.api.logs import console_lines, journal_lines
from virtkit.apply import Event, Report
from virtkit.errors import Interrupted
from virtkit.host import Host
from virtkit.spec import Spec


def test_guests_that_are_waited_for(spec: Spec) -> None:
    stop = threading.Event()
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        if (event.step, event.kind) == ("ready", "started"):
            threading.Timer(0.5, stop.set).start()

    began = time.monotonic()
    report = api.change_state(spec, "start", run=api.RunOptions(tell=tell, stop=stop))
    assert time.monotonic() - began < 30
    assert report.interrupted
    assert [(each.step, each.outcome) for each in report.results] == [
        ("start", "done"),
        ("ready", "skipped"),
    ]
    assert any(each.kind == "interrupted" for each in events)
    (guest,) = api.status(spec)
    assert guest.state == "running", "what was done stays done"


@pytest.mark.parametrize("verb", ["up", "down", "restart"])
def test_another_run_that_is_waited_for(verb: str, spec: Spec) -> None:
    """Nothing is touched, and the caller's event is as it was."""
    stop = threading.Event()

    def say(line: str) -> None:
        if "waiting at most" in line:
            stop.set()

    run = api.RunOptions(say=say, stop=stop)
    runs: dict[str, Callable[[], Report]] = {
        "up": lambda: api.apply(spec, plan, consent=True, run=run),
        "down": lambda: api.down(spec, consent=True, run=run),
        "restart": lambda: api.change_state(spec, "restart", run=run),
    }
    plan = api.plan(spec)
    assert plan.changes, "it is to be started"
    with Host("local", "default").lock(spec.name).acquire(), pytest.raises(Interrupted):
        runs[verb]()
    (guest,) = api.status(spec)
    assert guest.state == "stopped"


def test_a_run_that_is_not_ended_leaves_the_event_alone(spec: Spec) -> None:
    stop = threading.Event()
    report = api.change_state(spec, "start", wait=False, run=api.RunOptions(stop=stop))
    assert report.ok
    assert not stop.is_set()


@pytest.mark.usefixtures("streams")
def test_the_example_of_the_docs(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs/api.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("lab.yaml").write_text("name: ending\nguests: {web: {type: qemu}}\n")
    exec(compile(example, "docs/api.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["network/default create none", "guest/web start none"]
    assert len(said) == 3
    assert said[2].startswith("web running")


def test_lines_that_are_followed() -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    lines = console_lines(lambda offset: b"one\n"[offset:], lambda: False, stop)
    assert next(lines) == "one"
    with pytest.raises(Interrupted):
        next(lines)
    stop.clear()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    assert list(journal_lines(["sh", "-c", "echo one; exec sleep 60"], stop)) == ["one"]
    assert time.monotonic() - began < 30
