"""Calls to libvirt that end, though a guest's hypervisor process does not answer.

libvirt itself waits for ever for a process that is stopped.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

import libvirt

from virtkit.errors import VirtkitError

Answer = TypeVar("Answer")

#: Seconds that a hypervisor process on a busy host may take for one answer.
ANSWER_TIMEOUT = 15.0
#: Seconds after which a call that waits already is one that nobody answers.
_OCCUPIED = 1.5


class HypervisorUnresponsive(VirtkitError):
    """A guest's hypervisor process does not answer."""


def call_with_timeout(
    find: Callable[[], libvirt.virDomain],
    call: Callable[[libvirt.virDomain], Answer],
    where: str,
    timeout: float = ANSWER_TIMEOUT,
) -> Answer:
    """What ``call`` returns or raises, within ``timeout`` seconds.

    A call without an answer goes on by itself; it ends when the process goes on or is killed.
    Where one waits already, no other is put behind it: libvirt would keep it there for half a
    minute after the process has gone.

    Args:
        find: gives the domain by the calling thread's own connection. A call that waits may
            keep all others of its connection waiting.

    Raises:
        HypervisorUnresponsive: no answer came.
    """
    domain = find()
    waiting = _waiting(domain)
    if waiting >= _OCCUPIED:
        raise _unresponsive(domain.name(), where, waiting)
    results: queue.SimpleQueue[tuple[Answer | None, Exception | None]] = queue.SimpleQueue()

    def own_domain() -> libvirt.virDomain:
        try:
            return find()
        except (VirtkitError, libvirt.libvirtError):
            return domain  # a driver without a daemon may keep its domains in one connection

    def run() -> None:
        try:
            results.put((call(own_domain()), None))
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            results.put((None, error))

    threading.Thread(target=run, name=domain.name(), daemon=True).start()
    try:
        answer, error = results.get(timeout=timeout)
    except queue.Empty:
        raise _unresponsive(domain.name(), where, timeout) from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]  # it is what call returned


def _waiting(domain: libvirt.virDomain) -> float:
    """Seconds that a call of anybody's has been waiting for the hypervisor process."""
    try:
        state, _, since = domain.controlInfo()
    except libvirt.libvirtError:  # not running, or a driver that has no such process
        return 0.0
    return since / 1000 if state == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED else 0.0


def _unresponsive(name: str, where: str, seconds: float) -> HypervisorUnresponsive:
    return HypervisorUnresponsive(
        f"domain {name} does not answer",
        why=f"its hypervisor process has said nothing for {seconds:.0f} s: it is stopped "
        "(SIGSTOP), or its host is overloaded",
        cure="resume its process, on the host: sudo sh -c 'kill -CONT $(cat "
        f"/run/libvirt/*/{name}.pid)'; or force the guest off: "
        "virtkit stop SPEC GUEST --timeout 0, then virtkit up SPEC GUEST",
        where=where,
    )
