"""Stops a guest: asks it in the ways that its driver names, then forces it off."""

from __future__ import annotations

import math
import time
from contextlib import suppress

from virtkit.drivers import Driver, Stop
from virtkit.errors import VirtkitError
from virtkit.host import Host, HypervisorUnresponsive, Unreachable, guest_exec
from virtkit.progress import Progress

#: Seconds that asking itself may take; libvirt waits for a stopped process without end.
_ASK_TIMEOUT = 10.0
#: Seconds after which a guest is asked again: one that still boots hears nothing.
_ASK_INTERVAL = 5.0


def stop_guest(
    host: Host,
    driver: Driver,
    name: str,
    timeout: float,
    progress: Progress,
    *,
    reset: bool = False,
) -> bool:
    """Asks a guest to stop, then forces it off. What force did is noted, never silent.

    A paused guest is resumed, so that it can be asked. Each way gets its share of the time:
    libvirt's success only says that the guest was asked. Interrupted, it forces nothing.

    Args:
        timeout: seconds that the guest gets; 0 forces it off at once.
        reset: a guest that did not stop is reset, where that works, and not forced off.

    Returns:
        whether it stopped by itself; with ``reset`` also where it was forced off, since it then
        needs to be started.
    """
    try:
        why = _ask_each_way(host, driver, name, timeout, progress)
        if reset and host.domains.state(driver, name) == "running":
            if timeout > 0:
                progress.note(f"{why}: it was reset")
            host.domains.reset(driver, name)
            return False
    except HypervisorUnresponsive as silent:  # only force reaches a process that is stopped
        why = silent.why
    if host.domains.state(driver, name) == "stopped":
        return True
    if timeout > 0:
        progress.note(f"{why}: it was forced off")
    host.domains.destroy(driver, name)
    return reset


def _ask_each_way(host: Host, driver: Driver, name: str, timeout: float, progress: Progress) -> str:
    """Asks the guest to stop, in each of its driver's ways.

    Returns:
        why it did not stop; empty where it did, or was not to be asked.
    """
    state = host.domains.state(driver, name)
    if timeout <= 0 or state == "stopped":
        return ""
    if state == "paused":
        why = _resume(host, driver, name, min(timeout, _ASK_TIMEOUT), progress)
        if why:
            return why
    share = timeout / max(len(driver.stop), 1)
    why = "it could not be asked to shut down"
    for way in driver.stop:
        if _ask(host, driver, name, way, min(share, _ASK_TIMEOUT)):
            if _wait_stopped(host, driver, name, way, share, progress):
                return ""
            why = f"it did not shut down in {timeout:.0f} s"
    return why


def _wait_stopped(
    host: Host, driver: Driver, name: str, way: Stop, share: float, progress: Progress
) -> bool:
    """Whether a guest that was asked stops within ``share`` seconds. It is asked again and again:
    it may not have been able to hear it yet. Its hypervisor process took the first question, so
    where it does not take another one, it or its host is busy with the shutdown."""
    end = time.monotonic() + share
    while (remaining := end - time.monotonic()) > 0:
        if host.domains.wait_stopped(driver, name, min(remaining, _ASK_INTERVAL), progress.sleep):
            return True
        if remaining > _ASK_INTERVAL:
            with suppress(HypervisorUnresponsive):
                _ask(host, driver, name, way, min(remaining, _ASK_TIMEOUT))
    return False


def _resume(host: Host, driver: Driver, name: str, timeout: float, progress: Progress) -> str:
    """Resumes a paused guest.

    Returns:
        why it could not be resumed; empty where it was.
    """
    reason = host.domains.state_reason(driver, name)
    if reason.cure:  # its disk, its kernel: it would hear nothing
        return f"it could not be asked: {reason.why}"
    progress("it was paused: resuming it, so that it can shut down")
    try:
        host.domains.resume(driver, name, timeout)
    except HypervisorUnresponsive:
        raise
    except VirtkitError as error:
        return f"it was paused and could not be resumed ({error.why or error.what})"
    return ""


def _ask(host: Host, driver: Driver, name: str, way: Stop, timeout: float) -> bool:
    """Whether the guest was asked in this way, in ``timeout`` seconds, or whole ones."""
    try:
        if way == "poweroff":
            command = ["systemctl", "poweroff", "--no-block"]
            seconds = math.ceil(timeout)
            result = guest_exec.by_namespaces(host.connections, driver, name, command, seconds)
            return result.code == 0
        host.domains.ask_to_stop(driver, name, way, timeout)
    except HypervisorUnresponsive:
        raise
    except (VirtkitError, Unreachable):  # this way is closed; the next one, or force
        return False
    return True
