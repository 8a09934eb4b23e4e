"""Ctrl-c, and SIGTERM as if it were one: the first asks for an end, the second is the end.

Where the main thread can't hear the first, as in a call of libvirt's that does not return, that
is the end too. Running again continues where a killed run stopped, so ending at once loses nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from virtkit.errors import Interrupted

#: The exit code of a run that somebody interrupted, and its last line.
INTERRUPTED = Interrupted.exit_code
LAST_LINE = "interrupted; run again: it continues where it stopped\n"

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Seconds that the main thread gets to hear the first one.
_HEARING_TIMEOUT = 1.0
#: Seconds within which two are one: timeout(1) and sudo signal a process and then its group.
_SAME_SIGNAL_SECONDS = 0.25


@contextmanager
def handled() -> Iterator[threading.Event]:
    """Makes the first one a KeyboardInterrupt, and ends the process at the second one.

    Yields what is set once there was one.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    interrupted = threading.Event()

    def interrupt(*_: Any) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    # one that is ignored (nohup, a shell's background) stays so
    wanted = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, interrupt) for each in wanted}
    # the kernel's signal is written there at once, whatever the main thread is at
    old = signal.set_wakeup_fd(writer)
    threading.Thread(target=_watch, args=(reader, interrupted), daemon=True).start()
    try:
        yield interrupted
    finally:
        signal.set_wakeup_fd(old)
        for each, handler in before.items():
            signal.signal(each, handler)
        os.close(writer)


def _watch(reader: int, interrupted: threading.Event) -> None:
    first: float | None = None
    while numbers := os.read(reader, 64):
        if not any(each in numbers for each in _SIGNALS):
            continue
        now = time.monotonic()
        if first is None:
            first = now
            if not interrupted.wait(_HEARING_TIMEOUT):
                _end()
        elif now - first > _SAME_SIGNAL_SECONDS:
            _end()
    os.close(reader)


def _end() -> NoReturn:
    """Ends the process, whatever its threads are at."""
    with suppress(OSError):  # nobody reads it any more
        if sys.stderr.isatty():
            os.write(2, b"\x1b[?25h\n")  # the cursor, which the live tree hides
        os.write(2, LAST_LINE.encode())
    os._exit(INTERRUPTED)
