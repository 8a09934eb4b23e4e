"""What guests print, as they print it."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from virtkit.api._hosts import GuestOnHost, Say, find_one, quiet
from virtkit.api.access import execute
from virtkit.api.status import check_log
from virtkit.drivers import DRIVERS
from virtkit.errors import Interrupted, VirtkitError
from virtkit.host import LibvirtUnavailable
from virtkit.progress import Progress
from virtkit.spec import Spec
from virtkit.system import commands

Answer = TypeVar("Answer")

#: What prints a container's journal, and goes on.
_JOURNAL = ("journalctl", "--no-pager", "-b", "-n", "100", "-f")
#: Seconds that a daemon of libvirt's gets to come back.
_RETURN = 60.0
#: Seconds between the end of a journal and that of its guest, which shuts down.
_SHUTDOWN = 15.0
#: Seconds between two looks.
_PAUSE = 0.5


def follow(
    spec: Spec, guest: str, *, say: Say = quiet, stop: threading.Event | None = None
) -> Iterator[str]:
    """The lines that a guest printed and prints; ends when the guest does.

    Args:
        say: told where libvirt has to be waited for.
        stop: set from any thread, it ends the lines.

    Raises:
        VirtkitError: the lines end before the guest does.
    """
    with suppress(Interrupted):
        yield from _lines(spec, guest, say, stop or threading.Event())


def _lines(spec: Spec, guest: str, say: Say, stop: threading.Event) -> Iterator[str]:
    site, observed = find_one(spec, guest)
    host, driver = site.host, DRIVERS[observed.record.type]
    check_log(GuestOnHost(host, observed))

    def printed(offset: int) -> bytes:
        return _retry_unavailable(
            partial(host.console_output, driver, observed.domain, offset), say, stop
        )

    def ended() -> bool:
        return _retry_unavailable(partial(host.domains.ended, driver, observed.domain), say, stop)

    if driver.log != "journal":
        yield from console(printed, ended, stop)
        return
    command = execute(spec, guest, _JOURNAL).command
    assert command is not None  # containers have no agent that would answer for it
    code = yield from journal(command, stop)
    if code and not stop.is_set() and not _soon(ended, _SHUTDOWN):
        raise VirtkitError(
            f"the journal of guest {guest} can't be followed any more",
            why=f"{_JOURNAL[0]} in it ended with {code}",
            cure="see what the guest does (`virtkit status`), then follow it again",
            where=f"{host.name} guest/{guest}",
        )


def journal(
    command: Sequence[str], stop: threading.Event | None = None
) -> Generator[str, None, int]:
    """The lines that a program prints; returns its exit code. It ends with whoever reads them, and
    once ``stop`` is set."""
    with subprocess.Popen(
        commands.leashed(command, "TERM"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=commands.environment(),
    ) as program:
        assert program.stdout is not None
        try:
            with Progress(stop=stop).on_cancel(program.terminate):
                yield from (each.rstrip("\n") for each in program.stdout)
        except GeneratorExit:  # else the next line would be waited for
            program.terminate()
            raise
    return program.returncode


def console(
    printed: Callable[[int], bytes],
    ended: Callable[[], bool],
    stop: threading.Event | None = None,
) -> Iterator[str]:
    """The lines of a console's log until its guest ended and all is read.

    Args:
        printed: what stands in the log from an offset on.

    Raises:
        Interrupted: ``stop`` is set.
    """
    progress = Progress(stop=stop)
    offset, rest = 0, b""
    while True:
        guest_ended = ended()  # asked first: what it printed until then is read
        # the last byte again: where it is gone, the log was rotated and begins again
        new = printed(max(offset - 1, 0))
        if offset and not new:
            offset = 0
            continue
        new = new[1:] if offset else new
        offset += len(new)
        *lines, rest = (rest + new).split(b"\n")
        yield from map(_text, lines)
        if guest_ended and not new:
            break
        progress.check_cancelled()
        if not new:
            progress.sleep(_PAUSE)
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")


def _soon(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether something comes true within so many seconds."""
    end = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < end:
        time.sleep(_PAUSE)
    return answer


def _retry_unavailable(look: Callable[[], Answer], say: Say, stop: threading.Event) -> Answer:
    """What ``look`` finds; a libvirt that restarts meanwhile is waited for.

    Raises:
        VirtkitError: it did not come back.
        Interrupted: ``stop`` is set.
    """
    end: float | None = None
    while True:
        try:
            return look()
        except LibvirtUnavailable as error:
            if end is None:
                say(f"{error.why or error.what}: waiting at most {_RETURN:.0f} s for it")
                end = time.monotonic() + _RETURN
            elif time.monotonic() >= end:
                raise
        Progress(stop=stop).sleep(1.0)
