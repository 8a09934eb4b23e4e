"""A domain's start and its forced end, with what libvirt gets wrong in them."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

import libvirt

from virtkit.drivers import Driver
from virtkit.xml import tree

#: How often a container's start, or its end, is tried; seconds between two tries to end it.
_ATTEMPTS, _AGAIN = 20, 0.25
#: How often a start is tried that fails by the hypervisor's own time limit.
_SLOW_ATTEMPTS = 3
#: What libvirt says where a guest does not start and another try works. A container's loop device
#: that it found free is taken, or the cgroup that it made is gone; both were seen on busy machines,
#: the second where libvirt wrote to the cgroup and where it read from it. The kernel says "No such
#: device" of a file that was opened before its cgroup went. And libxl may still clean up after the
#: guest's last run, for minutes on an emulated machine; libvirt waits half a minute each time.
_PASSING = re.compile(
    "to loop device|'/sys/fs/cgroup/.*: No such (file|device)|held by monitor=shutdown-event"
)
#: What libvirt says of a domain that has just stopped; one without a definition is gone then.
_ENDED = (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN)
#: A socket's state in /proc/net/unix; one that listens has another.
_CONNECTED = "03"


def force_off(domain: libvirt.virDomain) -> None:
    """Forces a domain off, where it is on.

    With cgroup v2 libvirt kills a container's processes group by group, and gives up where a group
    goes while it looks into it: then it is asked again.
    """
    for attempt in range(_ATTEMPTS):
        try:
            if domain.isActive():
                domain.destroy()
            return
        except libvirt.libvirtError as error:
            if error.get_error_code() in _ENDED:
                return  # it stopped by itself in between
            cgroup_gone = "/sys/fs/cgroup/" in (error.get_error_message() or "")
            if not cgroup_gone or attempt == _ATTEMPTS - 1:
                raise
        time.sleep(_AGAIN)


def create(domain: libvirt.virDomain, driver: Driver, sockets: Callable[[], str]) -> None:
    """Starts a domain.

    libvirt finds a free loop device for a container and then takes it, in two steps: where two
    containers start at once, one finds it taken and has to look again. A container that libvirt
    would not see end starts again, too, and one whose cgroup went while it was made. And libxl
    gives up on its own scripts where a busy host takes longer for them than it grants: what they
    began is removed, and the next try finds the host less busy, or another guest's start over.

    Args:
        sockets: reads the host's /proc/net/unix.
    """
    for attempt in range(_ATTEMPTS):
        last = attempt == _ATTEMPTS - 1
        began = time.monotonic()
        try:
            domain.create()
        except libvirt.libvirtError as error:
            slow = 0 < driver.start_limit <= time.monotonic() - began
            again = slow and attempt < _SLOW_ATTEMPTS - 1
            if last or not (again or is_transient(error.get_error_message() or "")):
                raise
            time.sleep(random.uniform(0.02, 0.2))  # noqa: S311 - so that they don't meet again
        else:
            if last or not driver.controller_socket or not _disconnected(domain, driver, sockets()):
                return
            domain.destroy()


def is_transient(message: str) -> bool:
    """Whether a guest that libvirt did not start, with ``message``, may start at once again."""
    return bool(_PASSING.search(message))


def _disconnected(domain: libvirt.virDomain, driver: Driver, sockets: str) -> bool:
    """Whether libvirtd has lost its connection to a container's process already.

    Seen with libvirt 9.0 on a busy machine, once in some seventy starts: such a container counts
    as running for ever, whatever becomes of it.
    """
    return unconnected(sockets, driver.controller_socket.format(name=domain.name()))


def unconnected(sockets: str, path: str) -> bool:
    """Whether somebody listens at a path and nobody is connected, by /proc/net/unix (proc(5)).

    Of a path that is not in it, as in a network namespace of our own, nothing is known.
    """
    lines = (line.split() for line in sockets.splitlines() if line.endswith(f" {path}"))
    states = {fields[5] for fields in lines}
    return bool(states) and _CONNECTED not in states


def limit_memory(domain: libvirt.virDomain, driver: Driver) -> None:
    """Gives a guest the memory that it has, where libvirt starts it with all that it may have."""
    if not driver.starts_with_max_memory:
        return
    root = tree.parse(domain.XMLDesc(0), "a domain")
    current, maximum = (int(root.findtext(each, "0")) for each in ("currentMemory", "memory"))
    if current < maximum:
        domain.setMemoryFlags(current, libvirt.VIR_DOMAIN_AFFECT_LIVE)
