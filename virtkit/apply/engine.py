"""The step graph: runs what is ready, in threads, and skips what depends on a failed step.

Knows nothing of guests. It must never start a step whose predecessors are not done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import field
from graphlib import TopologicalSorter
from queue import Empty, SimpleQueue
from typing import Any, Literal

from virtkit._dataclass import dataclass
from virtkit.errors import Interrupted, VirtkitError, from_os_error
from virtkit.progress import Progress

#: An object and the name of one of its steps.
Key = tuple[str, str]
#: What tells a run's steps apart: a host, an object and a step of it.
StepId = tuple[str, str, str]
Say = Callable[[str], None]
Outcome = Literal["done", "failed", "skipped"]

#: Seconds after which the main thread looks up from waiting.
_POLL_INTERVAL = 0.2


@dataclass(frozen=True)
class Step:
    """One thing done to one object.

    Attributes:
        run: does it; its argument takes lines of progress and tells when to stop.
        after: steps of its host that must be done before; unknown keys don't count.
        waits: it only waits for others: it does not count against ``parallel``, and is left
            where it stands when the run is to end.
        after_on_any_host: as ``after``, on whichever hosts they are.
    """

    object: str
    name: str
    host: str
    run: Callable[[Progress], None]
    after: tuple[Key, ...] = ()
    waits: bool = False
    after_on_any_host: tuple[Key, ...] = ()

    @property
    def key(self) -> Key:
        return self.object, self.name

    @property
    def id(self) -> StepId:
        return self.host, self.object, self.name


@dataclass(frozen=True)
class Event:
    """Something happened to a step. ``elapsed`` in seconds since the step began.

    An ``interrupted`` one is of the run itself: it heard that it should end.
    """

    kind: Literal["planned", "started", "progress", "done", "failed", "skipped", "interrupted"]
    object: str
    host: str
    step: str
    elapsed: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class Result:
    """How a step ended. ``note``: what it did that nobody asked for."""

    object: str
    host: str
    step: str
    outcome: Outcome
    elapsed: float
    error: VirtkitError | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "object": self.object,
            "host": self.host,
            "step": self.step,
            "outcome": self.outcome,
            "elapsed": round(self.elapsed, 3),
            "error": self.error.as_dict() if self.error else None,
            **({"note": self.note} if self.note else {}),
        }


@dataclass
class Report:
    """How a run ended. ``elapsed`` in seconds; ``notes`` are those of its plan."""

    environment: str
    results: list[Result] = field(default_factory=list)
    elapsed: float = 0.0
    interrupted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.interrupted and all(each.outcome == "done" for each in self.results)

    @property
    def not_done(self) -> dict[str, list[str]]:
        """The steps that are not done, by object."""
        answer: dict[str, list[str]] = {}
        for each in self.results:
            if each.outcome != "done":
                answer.setdefault(each.object, []).append(each.step)
        return answer

    def as_dict(self) -> dict[str, Any]:
        """The document of ``up --json``."""
        return {
            "environment": self.environment,
            "ok": self.ok,
            "elapsed": round(self.elapsed, 3),
            "interrupted": self.interrupted,
            "steps": [each.as_dict() for each in self.results],
            "notes": list(self.notes),
        }


def run(
    environment: str,
    steps: Sequence[Step],
    *,
    parallel: int | Mapping[str, int],
    tell: Callable[[Event], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Report:
    """Runs all steps; ``tell`` is called from their threads, one call at a time.

    ``parallel`` bounds how many run at once: in all, or on each host by its name, so that steps
    which wait for a host that hangs hold up none of the others'.

    A step that raises VirtkitError or OSError has failed, what is after it is skipped, the rest
    goes on.
    On KeyboardInterrupt, or once any thread has set ``stop``, no new step starts, those under way
    are told to stop and awaited; all that is not done stands in the report. On a KeyboardInterrupt
    after that, nothing is awaited.
    """
    return _Run(environment, steps, parallel, tell, stop).run()


class _Run:
    def __init__(
        self,
        environment: str,
        steps: Sequence[Step],
        parallel: int | Mapping[str, int],
        tell: Callable[[Event], None],
        stop: threading.Event | None,
    ) -> None:
        self.report = Report(environment)
        self._steps = {step.id: step for step in steps}
        self._after = _predecessors(self._steps)
        self._slots = _slots(parallel, {step.host for step in steps})
        self._telling = threading.Lock()
        self._tell = tell
        self._failed: set[StepId] = set()
        self._under_way: set[StepId] = set()
        self._caller_stop = stop or threading.Event()  # the caller's: looked at, and never set
        self._stop = threading.Event()
        self._ended: SimpleQueue[tuple[StepId, BaseException | None]] = SimpleQueue()

    def run(self) -> Report:
        began = time.monotonic()
        graph = TopologicalSorter(self._after)
        graph.prepare()
        # a thread each: what bounds the work is the semaphore, not the pool
        pool = ThreadPoolExecutor(max_workers=max(len(self._steps), 1))
        try:
            for step in self._steps.values():
                self._event("planned", step)
            self._drain(graph, pool)
        except (KeyboardInterrupt, Interrupted):
            self.report.interrupted = True
            self._stop.set()
            self._tell_interrupted(time.monotonic() - began)
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)
        self._skip_the_rest()
        self.report.elapsed = time.monotonic() - began
        return self.report

    def _tell_interrupted(self, elapsed: float) -> None:
        """Says that it was heard, and which steps are awaited."""
        awaited = [f"{step_id[1]} {step_id[2]}" for step_id in sorted(self._under_way)]
        if awaited:
            text = f"ending {', '.join(awaited)}; interrupt again to end at once"
            with self._telling:
                self._tell(Event("interrupted", "", "", "", elapsed, text))

    def _drain(self, graph: TopologicalSorter[StepId], pool: ThreadPoolExecutor) -> None:
        while graph.is_active():
            if self._caller_stop.is_set():
                raise Interrupted
            for step_id in graph.get_ready():
                pool.submit(self._run_step, self._steps[step_id])
            # not without end: Python may note a ctrl-c just before it blocks, and act on it after
            with suppress(Empty):
                step_id, fault = self._ended.get(timeout=_POLL_INTERVAL)
                if fault is not None:  # ours, not the step's: it ends the run
                    raise fault
                graph.done(step_id)

    def _run_step(self, step: Step) -> None:
        fault: BaseException | None = None
        try:
            with nullcontext() if step.waits else self._slots[step.host]:
                self._carry_out_unless_blocked(step)
        except BaseException as error:  # noqa: BLE001 - raised again by the main thread
            fault = error
        self._ended.put((step.id, fault))

    def _skip_the_rest(self) -> None:
        """What an interrupted run never came to."""
        ended = {(each.host, each.object, each.step) for each in self.report.results}
        for step in self._steps.values():
            if step.id not in ended:
                self._end(step, "skipped", 0.0, None, "interrupted")

    def _carry_out_unless_blocked(self, step: Step) -> None:
        blocker = next((each for each in self._after[step.id] if each in self._failed), None)
        if self._stop.is_set():
            self._end(step, "skipped", 0.0, None, "interrupted")
        elif blocker is not None:
            self._end(step, "skipped", 0.0, None, f"{blocker[1]}: {blocker[2]} failed")
        else:
            self._carry_out(step)

    def _carry_out(self, step: Step) -> None:
        began = time.monotonic()
        progress = Progress(
            lambda line: self._event("progress", step, time.monotonic() - began, line), self._stop
        )
        self._event("started", step)
        self._under_way.add(step.id)
        try:
            if step.waits:
                progress.run_interruptible(lambda: step.run(progress))
            else:
                step.run(progress)
        except Interrupted as error:  # nothing is wrong with it
            self._end(step, "skipped", time.monotonic() - began, None, error.what)
        except VirtkitError as error:
            if error.where in ("", step.host):  # libvirt's own, which knows the host only
                error.where = f"{step.host} {step.object}"
            self._end(step, "failed", time.monotonic() - began, error, error.what)
        except OSError as refusal:  # a full disk here fails this step, and no other
            failure = from_os_error(
                f"{step.object}: {step.name} failed", refusal, where=f"{step.host} {step.object}"
            )
            self._end(step, "failed", time.monotonic() - began, failure, failure.what)
        else:
            note = "; ".join(progress.notes)
            self._end(step, "done", time.monotonic() - began, None, "", note)
        finally:
            self._under_way.discard(step.id)

    def _end(
        self,
        step: Step,
        outcome: Outcome,
        elapsed: float,
        error: VirtkitError | None,
        why: str,
        note: str = "",
    ) -> None:
        if outcome != "done":
            self._failed.add(step.id)
        self.report.results.append(
            Result(step.object, step.host, step.name, outcome, elapsed, error, note)
        )
        self._event(outcome, step, elapsed, why)

    def _event(self, kind: Any, step: Step, elapsed: float = 0.0, message: str = "") -> None:
        with self._telling:
            self._tell(Event(kind, step.object, step.host, step.name, elapsed, message))


def _slots(
    parallel: int | Mapping[str, int], hosts: Iterable[str]
) -> Mapping[str, threading.Semaphore]:
    """What bounds the steps that run on each host at once."""
    if isinstance(parallel, int):
        shared = threading.Semaphore(max(parallel, 1))
        return dict.fromkeys(hosts, shared)
    return {host: threading.Semaphore(max(parallel.get(host, 1), 1)) for host in hosts}


def _predecessors(steps: Mapping[StepId, Step]) -> dict[StepId, list[StepId]]:
    """The steps that each one is after."""
    by_key: dict[Key, list[StepId]] = {}
    for step in steps.values():
        by_key.setdefault(step.key, []).append(step.id)

    def before(step: Step) -> Iterable[StepId]:
        own = ((step.host, *key) for key in step.after)
        yield from (each for each in own if each in steps)
        for key in step.after_on_any_host:
            yield from by_key.get(key, ())

    return {step.id: list(dict.fromkeys(before(step))) for step in steps.values()}
