"""What stands on the hosts of an environment, looked at side by side: a slow or silent host holds
up none of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from virtkit.errors import VirtkitError
from virtkit.host import Host
from virtkit.state.observed import Observed

T = TypeVar("T")

#: How many hosts are asked at once.
MAX_HOSTS_AT_ONCE = 32
#: Seconds between two looks whether ctrl-c came, while hosts are waited for.
_POLL_INTERVAL = 0.2


@dataclass(frozen=True)
class HostState:
    """A host of an environment, and what stands there."""

    host: Host
    observed: Observed


@dataclass(frozen=True)
class Observation:
    """What stands on an environment's hosts.

    Attributes:
        unanswered: why hosts do not answer, by their names.
    """

    host_states: list[HostState]
    unanswered: Mapping[str, VirtkitError]

    @property
    def hosts(self) -> list[Host]:
        """The hosts that answer."""
        return [each.host for each in self.host_states]

    def with_unanswered(self, unanswered: Mapping[str, VirtkitError]) -> Observation:
        """The same, and other hosts that do not answer."""
        return Observation(self.host_states, {**unanswered, **self.unanswered})


def observe_all(hosts: Sequence[Host], *, pool: bool = False) -> list[HostState]:
    """What stands on each host.

    Args:
        pool: look into the pools, too.

    Raises:
        VirtkitError: one of them does not answer.
    """
    observation = observe(hosts, pool=pool)
    for error in observation.unanswered.values():
        raise error
    return observation.host_states


def observe(hosts: Sequence[Host], *, pool: bool = False) -> Observation:
    """What stands on those hosts that answer; all are looked at side by side.

    Args:
        pool: look into the pools, too.

    Raises:
        VirtkitError: none of them answers.
    """

    def observe_host(host: Host) -> HostState:
        if pool:
            host.storage.refresh()  # files that came behind libvirt's back may have our names
        return HostState(host, host.observe(pool=pool))

    return observe_each(hosts, observe_host)


def observe_each(hosts: Sequence[Host], observe_host: Callable[[Host], HostState]) -> Observation:
    """What ``observe_host`` finds on each host that answers; several are asked at once.

    Raises:
        VirtkitError: none of them answers.
    """
    answers = ask_each(hosts, observe_host)
    host_states = [each for each in answers if isinstance(each, HostState)]
    unanswered = {
        host.name: answer
        for host, answer in zip(hosts, answers, strict=True)
        if isinstance(answer, VirtkitError)
    }
    if unanswered and not host_states:
        raise next(iter(unanswered.values()))
    return Observation(host_states, unanswered)


def ask_each(hosts: Sequence[Host], ask: Callable[[Host], T]) -> list[T | VirtkitError]:
    """What each host answers, or the error that it raises; several are asked at once."""

    def once(host: Host) -> T:
        try:
            return ask(host)
        finally:
            host.connections.release()

    return side_by_side([partial(once, host) for host in hosts])


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T | VirtkitError]:
    """What each call returns, or the VirtkitError that it raises; several run at once.

    Its threads don't keep the program from ending: a call may wait for a host that says nothing.
    """
    if len(calls) == 1:
        return [_result_or_error(calls[0])]
    todo: SimpleQueue[int] = SimpleQueue()
    ended: SimpleQueue[tuple[int, T | VirtkitError | BaseException]] = SimpleQueue()

    def work() -> None:
        with suppress(Empty):
            while True:
                number = todo.get_nowait()
                try:
                    ended.put((number, _result_or_error(calls[number])))
                except BaseException as error:  # noqa: BLE001 - raised again by who waits
                    ended.put((number, error))

    for number in range(len(calls)):
        todo.put(number)
    for _ in range(min(len(calls), MAX_HOSTS_AT_ONCE)):
        Thread(target=work, daemon=True).start()
    answers: dict[int, T | VirtkitError] = {}
    while len(answers) < len(calls):
        try:  # not without end: Python may note a ctrl-c just before it blocks, and act on it after
            number, answer = ended.get(timeout=_POLL_INTERVAL)
        except Empty:
            continue
        if isinstance(answer, BaseException) and not isinstance(answer, VirtkitError):
            raise answer
        answers[number] = answer
    return [answers[number] for number in range(len(calls))]


def _result_or_error(call: Callable[[], T]) -> T | VirtkitError:
    try:
        return call()
    except VirtkitError as error:
        return error
