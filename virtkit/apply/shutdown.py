"""Stops a guest: asks it in the ways that its driver names, then forces it off."""

from __future__ import annotations

import time

from virtkit.drivers import Driver, Stop
from virtkit.errors import VirtkitError
from virtkit.host import Host, HypervisorUnresponsive, Unreachable, guest_exec
from virtkit.progress import Progress

#: Seconds that asking itself may take; libvirt waits for a stopped process without end.
_ASK_TIMEOUT = 10.0
#: Seconds after which a guest is asked again: one that still boots hears nothing.
_ASK_INTERVAL = 5.0


def stop(
    host: Host,
    driver: Driver,
    name: str,
    timeout: float,
    progress: Progress,
    *,
    reset: bool = False,
) -> bool:
    """Whether the guest stopped by itself within ``timeout`` seconds.

    A paused one goes on, so that it can be asked. One that did not stop is forced off, or starts
    over where ``reset`` asks for that; one that can't be reset is forced off, and the answer is
    that it stopped. What is done to a guest that was to be asked is told, never silent.
    Each way gets its share of the time: libvirt's success only says that it was asked.
    Interrupted, it forces nothing.
    """
    try:
        why = _why_not(host, driver, name, timeout, progress)
        if reset and host.domains.state(driver, name) == "running":
            if timeout > 0:
                progress.note(f"{why}: it was reset")
            host.domains.reset(driver, name)
            return False
    except (
        HypervisorUnresponsive
    ) as silent:  # nothing but force reaches a hypervisor process that is stopped
        why = silent.why
    if host.domains.state(driver, name) == "stopped":
        return True
    if timeout > 0:
        progress.note(f"{why}: it was forced off")
    host.domains.destroy(driver, name)
    return reset


def _why_not(host: Host, driver: Driver, name: str, timeout: float, progress: Progress) -> str:
    """Asks the guest to stop; why it did not; empty where it did, or was not to be asked."""
    state = host.domains.state(driver, name)
    if timeout <= 0 or state == "stopped":
        return ""
    if state == "paused":
        why = _resumed(host, driver, name, min(timeout, _ASK_TIMEOUT), progress)
        if why:
            return why
    share = timeout / max(len(driver.stop), 1)
    why = "it could not be asked to shut down"
    for way in driver.stop:
        if _ask(host, driver, name, way, min(share, _ASK_TIMEOUT)):
            if _stopped(host, driver, name, way, share, progress):
                return ""
            why = f"it did not shut down in {timeout:.0f} s"
    return why


def _stopped(
    host: Host, driver: Driver, name: str, way: Stop, share: float, progress: Progress
) -> bool:
    """Whether a guest that was asked stops within ``share`` seconds. It is asked again and again:
    it may not have been able to hear it yet."""
    end = time.monotonic() + share
    while (remaining := end - time.monotonic()) > 0:
        if host.domains.wait_stopped(driver, name, min(remaining, _ASK_INTERVAL), progress.sleep):
            return True
        if remaining > _ASK_INTERVAL:
            _ask(host, driver, name, way, min(remaining, _ASK_TIMEOUT))
    return False


def _resumed(host: Host, driver: Driver, name: str, timeout: float, progress: Progress) -> str:
    """Lets a paused guest go on; why it can't, where it can't."""
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
    try:
        if way == "poweroff":
            command = ["systemctl", "poweroff", "--no-block"]
            return (
                guest_exec.by_namespaces(host.connections, driver, name, command, _ASK_TIMEOUT).code
                == 0
            )
        else:
            host.domains.ask_to_stop(driver, name, way, timeout)
    except HypervisorUnresponsive:
        raise
    except (VirtkitError, Unreachable):  # this way is closed; the next one, or force
        return False
    return True
