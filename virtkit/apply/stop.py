"""Stops a guest: asks it in the ways that its driver names, then pulls the plug."""

from __future__ import annotations

from virtkit.drivers import Driver, Stop
from virtkit.errors import VirtkitError
from virtkit.host import Host, Unreachable, inside
from virtkit.voice import Voice


def stop(
    host: Host, driver: Driver, name: str, timeout: float, say: Voice, *, reset: bool = False
) -> bool:
    """Whether the guest stopped by itself within ``timeout`` seconds.

    One that did not is stopped the hard way, or starts over where ``reset`` asks for that.
    Each way gets its share of the time: libvirt's success only says that it was asked.
    Interrupted, it pulls no plug.
    """
    ways = driver.stop if timeout > 0 and host.domains.state(driver, name) == "running" else ()
    for way in ways:
        if _asked(host, driver, name, way) and host.domains.wait_stopped(
            driver, name, timeout / len(ways), say.rest
        ):
            return True
    if reset:
        host.domains.reset(driver, name)
    else:
        host.domains.destroy(driver, name)
    return False


def _asked(host: Host, driver: Driver, name: str, way: Stop) -> bool:
    try:
        if way == "poweroff":
            command = ["systemctl", "poweroff", "--no-block"]
            inside.by_namespaces(host.connections, driver, name, command, 10)
        else:
            host.domains.ask_to_stop(driver, name, way)
    except (VirtkitError, Unreachable):  # this way is closed; the next one, or the plug
        return False
    return True
