"""Whether a guest is ready, in the way that its spec asks for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from virtkit.access.exec import log, run
from virtkit.access.login import addresses, login
from virtkit.access.ssh import (
    ATTEMPT_TIMEOUT,
    OtherHostKey,
    denied_reason,
    has_host_key,
    lets_in,
    other_key_cure,
    port_status,
)
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.host import Host, OutcomeUnknown, StateReason, Unreachable
from virtkit.progress import Progress
from virtkit.spec import escaped
from virtkit.spec.command import virtkit_command
from virtkit.state.record import GuestRecord

#: Kinds of readiness that go by the guest's address.
_BY_ADDRESS = ("ssh", "address", "port")

#: Starts in one console log that look like a loop.
MIN_LOOP_BOOTS = 5

#: Seconds between two looks: on this host, on another (each is work for that host, too), at most.
PAUSE, PAUSE_FAR, MAX_PAUSE = 0.25, 2.0, 10.0

#: Seconds for a quick look at a port; one that answers takes milliseconds.
QUICK_TIMEOUT = 1.0

#: Seconds until a guest that isn't ready has failed, times its driver's timeout_factor.
TIMEOUT = 300.0


def wait_ready(
    host: Host,
    record: GuestRecord,
    spec_folder: Path,
    progress: Progress,
    *,
    keys_follow: bool = False,
) -> None:
    """Waits until the guest is ready in the way that its spec asks for.

    Args:
        spec_folder: where the spec is, for the ssh keys that it names.
        progress: told why the guest is not ready, at each look.
        keys_follow: the keys that it lets in are brought up to date later, so it is enough that ssh
            answers.

    Raises:
        VirtkitError: it isn't ready within its time, or it stopped.
    """
    driver = DRIVERS[record.type]
    timeout = record.requested["ready"].get("timeout") or TIMEOUT * driver.timeout_factor
    end = time.monotonic() + timeout
    while True:
        attempt_began = time.monotonic()
        unready = _unready(host, record, spec_folder, keys_follow)
        if not unready.why:
            return
        status = unready.why
        state = host.domains.state(driver, record.domain)
        if state == "stopped" or time.monotonic() >= end:
            timed_out = replace(unready, why=f"after {timeout:.0f} s: {status}")
            raise _not_ready(host, record, spec_folder, timed_out)
        if state == "paused":
            reason = host.domains.state_reason(driver, record.domain)
            if reason.cure:  # it does not go on by itself
                raise _not_ready(host, record, spec_folder, StateReason())
            status = f"it is paused: {reason.why}"
        progress(status)
        now = time.monotonic()
        # the last attempt is at the end
        progress.sleep(min(_pause(host, now - attempt_began), max(end - now, 0)))


def _pause(host: Host, attempt: float) -> float:
    """Seconds until the next attempt, after one that took ``attempt`` seconds.

    An attempt is work for guest and host: slow ones take a quarter of the time at most.
    """
    return max(PAUSE if host.remote is None else PAUSE_FAR, min(3 * attempt, MAX_PAUSE))


def unready_reason(host: Host, record: GuestRecord, guest_addresses: Sequence[str]) -> str:
    """Why a running guest with ``guest_addresses`` is not ready now; empty where it is.

    A quick look at a port: no command runs in the guest, and nobody logs in.
    """
    ready = record.requested["ready"]
    kind = ready["kind"]
    if kind in ("none", "command"):
        return "" if record.finished else "it was never ready"
    if not guest_addresses:
        return "it has no address"
    if kind == "address":
        return ""
    return port_status(host, guest_addresses[0], int(ready.get("port") or 22), QUICK_TIMEOUT)


def _unready(host: Host, record: GuestRecord, spec_folder: Path, keys_follow: bool) -> StateReason:
    """Why a guest is not ready, with the cure where that is known; empty where it is."""
    ready = record.requested["ready"]
    kind = ready["kind"]
    if kind == "none":
        return StateReason()
    if kind == "command":
        return _command_status(host, record, spec_folder, ready["command"])
    guest_addresses, looked = addresses(host, record)
    if not guest_addresses:
        return StateReason(f"no address yet ({', '.join(looked)})")
    if kind == "port":
        return StateReason(port_status(host, guest_addresses[0], ready["port"], ATTEMPT_TIMEOUT))
    if kind == "address":
        return StateReason()
    guest_login = login(host, record, guest_addresses[0], spec_folder)
    try:
        let_in = (has_host_key if keys_follow else lets_in)(guest_login, record.host_key)
    except Unreachable as error:
        cure = _cure(record, error)
        return StateReason(escaped(str(error)), cure)
    return StateReason() if let_in else StateReason(escaped(denied_reason(guest_login)))


def _command_status(
    host: Host, record: GuestRecord, spec_folder: Path, command: str
) -> StateReason:
    try:
        ran = run(host, record, spec_folder, ["sh", "-c", command], 3 * ATTEMPT_TIMEOUT)
    except OutcomeUnknown as error:
        return StateReason(f"it is not known how `{command}` ended: {error}")
    except Unreachable as error:
        cure = _cure(record, error)
        return StateReason(f"no command can run in it yet: {error}", cure)
    return StateReason() if ran.code == 0 else StateReason(f"`{command}` exits with {ran.code}")


def _cure(record: GuestRecord, error: Unreachable) -> str:
    """What to do where a guest's address is somebody else's; else empty."""
    if isinstance(error, OtherHostKey):
        return other_key_cure(record.spec, record.guest)
    return ""


def _not_ready(
    host: Host, record: GuestRecord, spec_folder: Path, unready: StateReason
) -> VirtkitError:
    """What was looked at, what libvirt knows of the guest, and what it printed last."""
    driver = DRIVERS[record.type]
    state = host.domains.state(driver, record.domain)
    reason = host.domains.state_reason(driver, record.domain)
    why = [unready.why if state == "running" else f"it is {state}"]
    interface_reason = StateReason()
    if state == "running" and not reason.cure and record.requested["ready"]["kind"] in _BY_ADDRESS:
        interface_reason = host.no_address_reason(driver, record.domain)
    why += [each.why for each in (reason, interface_reason) if each.why]
    why += _last_words(host, record, spec_folder)
    cure = (
        f"see `{virtkit_command('logs', record.spec, record.guest)}` and "
        f"`{virtkit_command('console', record.spec, record.guest)}`, "
        f"`{virtkit_command('doctor', record.spec)}` for what is missing on its host; a longer "
        "`ready: {timeout: …}` helps if it is only slow"
    )
    return VirtkitError(
        f"guest {record.guest} is not ready",
        why="\n".join(why),
        cure=unready.cure or reason.cure or interface_reason.cure or cure,
        where=f"{host.name} guest/{record.guest}",
    )


def _last_words(host: Host, record: GuestRecord, spec_folder: Path) -> Iterable[str]:
    """What a guest printed last, or why nobody knows."""
    log_kind = "journal" if DRIVERS[record.type].log == "journal" else "console"
    try:
        text = log(host, record, spec_folder)
    except VirtkitError as unread:  # the pool may be what is broken
        yield f"what its {log_kind} has can't be read: {unread.why or unread.what}"
        return
    starts = boots(text)
    if starts >= MIN_LOOP_BOOTS:
        yield f"its {log_kind} shows {starts} boots so far: it may be rebooting in a loop"
    last = [line.rstrip() for line in text.splitlines() if line.strip()][-8:]
    tail = "\n".join(f"  | {line[:160]}" for line in last)
    yield f"the last lines of its {log_kind}:\n{tail}" if tail else f"its {log_kind} is empty"


def boots(console: str) -> int:
    """How often a guest booted, by its console: its first line is printed once a boot."""
    lines = [line.strip() for line in console.splitlines() if line.strip()]
    return lines.count(lines[0]) if lines else 0
