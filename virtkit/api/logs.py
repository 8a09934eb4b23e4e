"""What guests printed so far, what they print now, and what their playbooks printed."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial
from typing import TypeVar

from virtkit import access
from virtkit._dataclass import dataclass
from virtkit.api._hosts import (
    GuestOnHost,
    Say,
    existing_guests,
    find_one,
    guests_named,
    hosts_of,
    ordered,
    quiet,
    unanswered_of,
)
from virtkit.api._observation import Answer, observe
from virtkit.api.access import execute
from virtkit.drivers import DRIVERS
from virtkit.errors import Interrupted, RequestError, VirtkitError
from virtkit.host import Host, LibvirtUnavailable
from virtkit.progress import Progress
from virtkit.spec import Spec
from virtkit.system import commands

T = TypeVar("T")

#: What prints a container's journal, and goes on.
_JOURNAL = ("journalctl", "--no-pager", "-b", "-n", "100", "-f")
#: Seconds that a daemon of libvirt's gets to come back.
_LIBVIRT_TIMEOUT = 60.0
#: Seconds between the end of a journal and that of its guest, which shuts down.
_SHUTDOWN_TIMEOUT = 15.0
#: Seconds between two looks.
_POLL_INTERVAL = 0.5


@dataclass(frozen=True)
class Logs(Answer[dict[str, str]]):
    """What guests printed so far, by their names.

    Attributes:
        unread: why the logs of other guests can't be read, by their names.
    """

    unread: Mapping[str, VirtkitError] = field(default_factory=dict)


def logs(spec: Spec, guests: Sequence[str] = ()) -> Logs:
    """What each guest on the hosts that answer printed so far.

    Raises:
        VirtkitError: none of these logs can be read.
    """
    chosen = _chosen(spec, guests)
    texts: dict[str, str] = {}
    unread: dict[str, VirtkitError] = {}
    for name, each in chosen.value.items():
        try:
            _check_log(spec, each)
            texts[name] = access.log(each.host, each.observed.record, spec.folder)
        except VirtkitError as error:
            unread[name] = error
    if unread and not texts and not chosen.unanswered:
        raise _none_read(list(unread.values()))
    return Logs(texts, chosen.unanswered, unread)


def _none_read(errors: Sequence[VirtkitError]) -> VirtkitError:
    """The error for logs of which none can be read."""
    causes = dict.fromkeys(f"{each.what}: {each.why}" if each.why else each.what for each in errors)
    if len(causes) == 1:
        return errors[0]
    where = ", ".join(dict.fromkeys(each.where for each in errors))
    return VirtkitError(
        "none of the logs can be read", why="\n".join(causes), cure=errors[0].cure, where=where
    )


def log_names(spec: Spec, guests: Sequence[str] = ()) -> Answer[list[str]]:
    """The guests on the hosts that answer whose logs ``guests`` name."""
    chosen = _chosen(spec, guests)
    return Answer(list(chosen.value), chosen.unanswered)


def _chosen(spec: Spec, guests: Sequence[str]) -> Answer[dict[str, GuestOnHost]]:
    """The guests on the hosts that answer which ``guests`` name; without these all."""
    observation = observe(hosts_of(spec))
    existing = existing_guests(spec, observation.host_states)
    names = guests_named(spec, existing, guests) if guests else set(existing)
    chosen = {name: existing[name] for name in ordered(spec, names & existing.keys())}
    return Answer(chosen, unanswered_of(spec, observation, names - existing.keys(), guests))


def playbook_logs(spec: Spec, guests: Sequence[str] = ()) -> dict[str, str]:
    """What Ansible printed when it last ran each guest's playbooks from here, by the guest's name.

    Raises:
        RequestError: the caller never ran them here.
    """
    names = ordered(spec, guests_named(spec, {}, guests)) if guests else list(spec.guests)
    kept_here = access.has_folder(spec.name)
    files = {name: access.playbook_log(spec.name, name) for name in names} if kept_here else {}
    texts = {
        name: file.read_text(errors="replace") for name, file in files.items() if file.is_file()
    }
    missing = [name for name in names if name not in texts]
    if not texts or (guests and missing):
        raise RequestError(
            f"you have not run the playbooks of {', '.join(missing) or spec.name} on this machine",
            why="what playbooks print is kept by the user who runs them",
            cure="run them: " + spec.command("provision", *(missing if guests else ())),
        )
    return texts


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
    host_state, observed = find_one(spec, guest)
    host, driver = host_state.host, DRIVERS[observed.record.type]
    _check_log(spec, GuestOnHost(host, observed))

    def printed(offset: int) -> bytes:
        return _retry_unavailable(
            host, partial(host.console_output, driver, observed.domain, offset), say, stop
        )

    def ended() -> bool:
        return _retry_unavailable(
            host, partial(host.domains.ended, driver, observed.domain), say, stop
        )

    if driver.log != "journal":
        yield from console_lines(printed, ended, stop)
        return
    line = execute(spec, guest, _JOURNAL).command
    assert line is not None  # containers have no agent that would answer for it
    code = yield from journal_lines(line, stop)
    if code and not stop.is_set() and not _wait_until(ended, _SHUTDOWN_TIMEOUT):
        raise VirtkitError(
            f"the journal of guest {guest} can't be followed any more",
            why=f"{_JOURNAL[0]} in it ended with {code}",
            cure=f"see what the guest does ({spec.command('status', guest)}), then follow it again",
            where=f"{host.name} guest/{guest}",
        )


def journal_lines(
    command: Sequence[str], stop: threading.Event | None = None
) -> Generator[str, None, int]:
    """The lines that a program prints; returns its exit code. It ends with whoever reads them, and
    once ``stop`` is set."""
    with subprocess.Popen(
        commands.die_with_parent(command, "TERM"),
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


def console_lines(
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
            progress.sleep(_POLL_INTERVAL)
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")


def _wait_until(is_done: Callable[[], bool], seconds: float) -> bool:
    """Waits until something is true, and returns whether it was within so many seconds."""
    end = time.monotonic() + seconds
    while not (met := is_done()) and time.monotonic() < end:
        time.sleep(_POLL_INTERVAL)
    return met


def _retry_unavailable(host: Host, ask: Callable[[], T], say: Say, stop: threading.Event) -> T:
    """What ``ask`` returns; a libvirt that restarts meanwhile, and a host that is out of reach, is
    waited for.

    Raises:
        VirtkitError: it did not come back.
        Interrupted: ``stop`` is set.
    """
    end: float | None = None
    while True:
        try:
            return ask()
        except LibvirtUnavailable as error:
            if end is None:
                say(f"{error.why or error.what}: waiting at most {_LIBVIRT_TIMEOUT:.0f} s for it")
                end = time.monotonic() + _LIBVIRT_TIMEOUT
            elif time.monotonic() >= end:
                raise
        Progress(stop=stop).sleep(1.0)
        host.connections.forget_refusals()


def _check_log(spec: Spec, guest: GuestOnHost) -> None:
    """Refuses to look for a log in a pool in which nothing is seen."""
    if DRIVERS[guest.observed.record.type].log != "file":
        return
    pool = guest.host.storage.describe()
    if not pool.active:
        virsh = guest.host.connections.virsh_command()
        raise VirtkitError(
            f"pool {pool.name} is not active, and the guests' logs are in it",
            cure=f"{spec.command('up')} activates it, or: {virsh} pool-start " + pool.name,
            where=guest.host.name,
        )
