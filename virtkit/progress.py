"""A step's link to its run: progress goes out, cancellation comes in.

All waiting goes through here, so that Ctrl-C takes effect within a second. Knows nothing of guests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from virtkit.errors import Interrupted

T = TypeVar("T")

#: Seconds between two looks whether the work should end.
_POLL_INTERVAL = 0.2
#: Seconds between two lines of a `Meter`, and until it knows how fast a transfer is.
_TELL_INTERVAL, _SPEED_KNOWN_AFTER = 0.2, 1.0
_MIB = 1024 * 1024


class Progress:
    """Tells lines, and raises Interrupted once ``stop`` is set.

    Args:
        say: takes lines of progress.
        stop: set by whoever wants the work to end; left out, nobody does.
    """

    def __init__(
        self, say: Callable[[str], None] = lambda _: None, stop: threading.Event | None = None
    ) -> None:
        self._say = say
        self._stop = stop or threading.Event()
        #: What the report says of the work, beside its outcome.
        self.notes: list[str] = []

    def __call__(self, line: str) -> None:
        self.check_cancelled()
        self._say(line)

    def note(self, line: str) -> None:
        """Tells a line that the report is to have, too: something was done that nobody asked for.
        It never interrupts."""
        self.notes.append(line)
        self._say(line)

    @property
    def cancelled(self) -> bool:
        """Whether the work should end; for what can't be interrupted by an exception."""
        return self._stop.is_set()

    def check_cancelled(self) -> None:
        """Raises Interrupted where the work should end."""
        if self._stop.is_set():
            raise Interrupted

    def sleep(self, seconds: float) -> None:
        """Waits, in place of ``time.sleep``.

        Raises:
            Interrupted: the work should end.
        """
        if self._stop.wait(seconds):
            raise Interrupted

    def run_interruptible(self, work: Callable[[], T]) -> T:
        """Runs ``work`` in a thread, and returns what it returns.

        Where the run should end, the thread is left behind: for work that changes nothing and may
        hang in a call that nothing interrupts.

        Raises:
            Interrupted: the run should end.
        """
        from concurrent.futures import Future, wait  # not for commands that wait for nothing

        future: Future[T] = Future()

        def do() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                future.set_exception(error)

        threading.Thread(target=do, daemon=True).start()
        while not wait([future], _POLL_INTERVAL).done:
            self.check_cancelled()
        return future.result()

    @contextmanager
    def on_cancel(self, end: Callable[[], object]) -> Iterator[None]:
        """Calls ``end`` from another thread where the block should end, as to kill a program."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.is_set():
                if self._stop.wait(_POLL_INTERVAL) and not ended.is_set():
                    end()
                    return

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            ended.set()


class Meter:
    """Tells how much of a transfer is done and how fast it goes, a few times a second.

    Args:
        what: a word for it, as ``uploading``.
    """

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._what = what
        self._due = 0.0
        self._began: tuple[float, int] | None = None

    def __call__(self, done: int, total: int = 0) -> None:
        """Takes how many bytes are done, of how many in all: 0 where nobody knows.

        Raises:
            Interrupted: the work should end.
        """
        self._progress.check_cancelled()
        now = time.monotonic()
        self._began = self._began or (now, done)
        if now >= self._due or done == total:
            self._due = now + _TELL_INTERVAL
            self._progress(", ".join([self._what, *self._parts(now, done, total)]))

    def _parts(self, now: float, done: int, total: int) -> Iterator[str]:
        if total:
            yield f"{done / _MIB:.0f} of {total / _MIB:.0f} MiB"
            yield f"{100 * done // total} %"
        else:
            yield f"{done / _MIB:.0f} MiB"
        assert self._began is not None
        elapsed, moved = now - self._began[0], done - self._began[1]
        if elapsed >= _SPEED_KNOWN_AFTER:
            speed = moved / _MIB / elapsed
            yield f"{speed:.{0 if speed >= 10 else 1}f} MiB/s"
