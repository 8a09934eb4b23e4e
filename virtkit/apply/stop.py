"""Stops a guest: asks it in the ways that its driver names, then pulls the plug."""

from __future__ import annotations

from virtkit.drivers import Driver, Stop
from virtkit.errors import VirtkitError
from virtkit.host import Host, Silent, Unreachable, inside
from virtkit.voice import Voice

#: Seconds that asking itself may take; libvirt waits for a stopped process without end.
_ASKING = 10.0


def stop(
    host: Host, driver: Driver, name: str, timeout: float, say: Voice, *, reset: bool = False
) -> bool:
    """Whether the guest stopped by itself within ``timeout`` seconds.

    One that did not is stopped the hard way, or starts over where ``reset`` asks for that; one
    that can't be reset is stopped, and the answer is that it stopped.
    Each way gets its share of the time: libvirt's success only says that it was asked.
    Interrupted, it pulls no plug.
    """
    ways = driver.stop if timeout > 0 and host.domains.state(driver, name) == "running" else ()
    share = timeout / max(len(ways), 1)
    try:
        for way in ways:
            asked = _asked(host, driver, name, way, min(share, _ASKING))
            if asked and host.domains.wait_stopped(driver, name, share, say.rest):
                return True
        if reset:
            host.domains.reset(driver, name)
            return False
    except Silent:  # nothing but the plug reaches a hypervisor process that is stopped
        host.domains.destroy(driver, name)
        return reset
    host.domains.destroy(driver, name)
    return False


def _asked(host: Host, driver: Driver, name: str, way: Stop, timeout: float) -> bool:
    try:
        if way == "mconsole":
            inside.by_mconsole(host.connections, driver, name, "cad", timeout)
        elif way == "poweroff":
            command = ["systemctl", "poweroff", "--no-block"]
            return inside.by_namespaces(host.connections, driver, name, command, _ASKING).code == 0
        else:
            host.domains.ask_to_stop(driver, name, way, timeout)
    except Silent:
        raise
    except (VirtkitError, Unreachable):  # this way is closed; the next one, or the plug
        return False
    return True
