"""What stands on the hosts of an environment, looked at side by side: a slow or silent host holds
up none of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from virtkit._dataclass import dataclass
from virtkit.drivers import AUTO, DRIVERS
from virtkit.errors import RequestError, SpecErrors, VirtkitError
from virtkit.host import Host, LibvirtUnavailable
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
        unanswered: why hosts do not answer, by their names; and drivers of those that do, as
            `place_of` calls them.
    """

    host_states: list[HostState]
    unanswered: Mapping[str, VirtkitError]

    @property
    def hosts(self) -> list[Host]:
        """The hosts that answer."""
        return [each.host for each in self.host_states]

    def without(self, silent: Mapping[str, VirtkitError]) -> Observation:
        """The same, where more hosts turned out not to answer.

        Raises:
            VirtkitError: none is left.
        """
        host_states = [each for each in self.host_states if each.host.name not in silent]
        if not host_states:
            raise next(iter(silent.values()))
        return Observation(host_states, {**self.unanswered, **silent})

    def with_unanswered(self, unanswered: Mapping[str, VirtkitError]) -> Observation:
        """The same, and other hosts that do not answer."""
        seen = {each.name for each in self.hosts}
        others = {p: e for p, e in unanswered.items() if split_place(p)[0] not in seen}
        return self.with_places({**others, **self.unanswered})

    def with_places(self, unanswered: Mapping[str, VirtkitError]) -> Observation:
        """The same, and what else does not answer: other hosts, drivers of these."""
        return Observation(self.host_states, {**self.unanswered, **unanswered})

    def complete(self) -> Observation:
        """The same without the hosts that did not answer in all."""
        host_states = [each for each in self.host_states if not each.observed.silent]
        return Observation(host_states, self.unanswered)


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What is known of what was asked for.

    Attributes:
        value: what the hosts that answer know.
        unanswered: why other hosts do not answer that may have some of it, by their names, and
            drivers of hosts, as ``HOST (DRIVER)``. Where there is one, the value may not be all.
    """

    value: T
    unanswered: Mapping[str, VirtkitError] = field(default_factory=dict)


def is_silence(error: VirtkitError) -> bool:
    """Whether a host does not answer; else what was asked for is wrong."""
    return isinstance(error, LibvirtUnavailable) or not isinstance(error, RequestError)


def check_request(answers: Iterable[object]) -> None:
    """Looks whether hosts answered that what was asked for is wrong.

    Raises:
        RequestError: it is; all that is wrong.
    """
    wrong = [e for e in answers if isinstance(e, RequestError) and not is_silence(e)]
    if wrong:
        raise SpecErrors(wrong) if len(wrong) > 1 else wrong[0]


def place_of(host: str, scheme: str) -> str:
    """What a driver of a host is called among what does not answer."""
    return f"{host} ({scheme})"


def split_place(place: str) -> tuple[str, str]:
    """The host, and the scheme of its driver; empty where the host itself is meant."""
    host, _, rest = place.partition(" (")
    return host, rest.rstrip(")")


def may_have(place: str, host: str | None, type: str) -> bool:
    """Whether a guest of a type may be where nobody answers.

    Args:
        host: its host, as far as that is known.
    """
    where, scheme = split_place(place)
    return host in (None, where) and (not scheme or scheme in schemes_of(type))


def schemes_of(type: str) -> set[str]:
    """The drivers that may have a guest of a type."""
    return {DRIVERS[each].scheme for each in (AUTO if type == "auto" else (type,))}


def silence(place: str) -> str:
    """That a host, or a driver of it, does not answer."""
    host, scheme = split_place(place)
    what = f"libvirt's {scheme} driver on host {host}" if scheme else f"host {host}"
    return f"{what} does not answer"


def unanswered_line(place: str, error: VirtkitError) -> str:
    """That a host, or a driver of it, does not answer, and why."""
    return f"{silence(place)}: {error.why or error.what}"


def unanswered_error(what: str, unanswered: Mapping[str, VirtkitError]) -> VirtkitError:
    """The error for what no host that answers has, and others may have."""
    return VirtkitError(
        what,
        why="; ".join(unanswered_line(*each) for each in unanswered.items()),
        cure=next(iter(unanswered.values())).cure,
        where=", ".join(unanswered),
    )


def observe(hosts: Sequence[Host], *, pool: bool = False) -> Observation:
    """What stands on those hosts that answer; all are looked at side by side.

    Args:
        pool: look into the pools, too.

    Raises:
        RequestError: what was asked for is wrong.
        VirtkitError: none of them answers.
    """
    return observe_each(hosts, partial(_observe_host, pool=pool))


def _observe_host(host: Host, *, pool: bool) -> HostState:
    if pool:
        host.storage.refresh()  # files that came behind libvirt's back may have our names
    return HostState(host, host.observe(pool=pool))


def try_observe(hosts: Sequence[Host]) -> Observation:
    """The same, also where none of them answers."""
    return _try_each(hosts, partial(_observe_host, pool=False))


def observe_each(hosts: Sequence[Host], observe_host: Callable[[Host], HostState]) -> Observation:
    """What ``observe_host`` finds on each host that answers; several are asked at once.

    Raises:
        RequestError: what was asked for is wrong.
        VirtkitError: none of them answers.
    """
    observation = _try_each(hosts, observe_host)
    if observation.unanswered and not observation.host_states:
        raise next(iter(observation.unanswered.values()))
    return observation


def _try_each(hosts: Sequence[Host], observe_host: Callable[[Host], HostState]) -> Observation:
    answers = ask_each(hosts, observe_host)
    check_request(answers)
    host_states = [each for each in answers if isinstance(each, HostState)]
    unanswered = {
        host.name: answer
        for host, answer in zip(hosts, answers, strict=True)
        if isinstance(answer, VirtkitError)
    }
    drivers = {
        place_of(each.host.name, scheme): error
        for each in host_states
        for scheme, error in each.observed.silent.items()
    }
    return Observation(host_states, {**unanswered, **drivers})


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
