"""Calls that a guest's hypervisor process has to answer: for one that is stopped, libvirt itself
waits without end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from virtkit.errors import VirtkitError

Answer = TypeVar("Answer")

#: Seconds that a hypervisor process on a busy host may take for one answer.
PATIENCE = 15.0


class Silent(VirtkitError):
    """A guest's hypervisor process does not answer."""


def answered(
    call: Callable[[], Answer], what: str, where: str, timeout: float = PATIENCE
) -> Answer:
    """What ``call`` returns or raises, within ``timeout`` seconds.

    A call without an answer goes on by itself; it ends when the process goes on or is killed.

    Raises:
        Silent: no answer came.
    """
    ended: queue.SimpleQueue[tuple[Answer | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put((call(), None))
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            ended.put((None, error))

    threading.Thread(target=run, name=what, daemon=True).start()
    try:
        answer, error = ended.get(timeout=timeout)
    except queue.Empty:
        raise Silent(
            f"{what} does not answer",
            why=f"its hypervisor process has said nothing for {timeout:.0f} s: it is stopped "
            "(SIGSTOP), or its host is overloaded",
            cure="look for the process on the host (ps, kill -CONT), or pull the plug: virtkit "
            "stop --timeout 0, then up",
            where=where,
        ) from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]  # it is what call returned
