"""What every door function needs: the spec's host, what stands there, and guests by word."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from virtkit import plan as planning
from virtkit import reach
from virtkit.apply import Event
from virtkit.errors import RequestError
from virtkit.host import Host, Remote, lock
from virtkit.observed import Observed, ObservedGuest
from virtkit.spec import Spec

#: Seconds that a run waits for another one on the same environment.
LOCK_TIMEOUT = lock.TIMEOUT

Tell = Callable[[Event], None]
Say = Callable[[str], None]


def quiet(_: Any) -> None:
    """Tells nobody."""


def host_of(spec: Spec | None) -> Host:
    """The host of a spec's guests, or this machine."""
    if spec is None:
        return Host()
    found = spec.hosts[spec.host]
    if found.address is None:
        return Host(spec.host, found.pool)
    key, known_hosts = (
        str(spec.folder / Path(each).expanduser()) if each else ""
        for each in (found.ssh.key, found.ssh.known_hosts)
    )
    remote = Remote(spec.host, found.address, found.ssh.port or 0, key, known_hosts)
    return Host(spec.host, found.pool, remote=remote)


def path_of(spec: Spec) -> str:
    """The spec's absolute path, as records keep it."""
    return spec.source if spec.source.startswith("<") else str(Path(spec.source).resolve())


def parallel(host: Host) -> int:
    """How many steps run at once: starting guests is work for the CPUs (4 threads are 2.4 times
    as fast as one on two cores, 8 are 2.8 times)."""
    return max(4, min(16, 2 * host.cpus()))


def known_hosts(environment: str, observed: Observed) -> Path:
    """The environment's known_hosts, brought up to date."""
    guests = observed.guests_of(environment).values()
    return reach.write_known_hosts(environment, [each.record for each in guests])


def ordered(spec: Spec, mine: Collection[str]) -> list[str]:
    """Guests in the spec's order, then those that left it."""
    return [n for n in spec.guests if n in mine] + sorted(n for n in mine if n not in spec.guests)


def observed_names(spec: Spec, observed: Observed, words: Sequence[str]) -> set[str]:
    """The guests that ``words`` name, those included that left the spec but are there."""
    mine = observed.guests_of(spec.name)
    groups = {name: each.record.asked.get("groups", ()) for name, each in mine.items()}
    bases = {name: name for name in mine}
    groups |= {name: guest.groups for name, guest in spec.guests.items()}
    bases |= {name: guest.base for name, guest in spec.guests.items()}
    return planning.select(words, groups, bases)


def one(spec: Spec, word: str) -> tuple[Host, Observed, ObservedGuest]:
    """The one guest that ``word`` names.

    Raises:
        RequestError: there is none, or it isn't made.
        VirtkitError: it isn't running.
    """
    host = host_of(spec)
    observed = host.observe(pool=False)
    names = observed_names(spec, observed, [word])
    if len(names) > 1:
        raise RequestError(
            f"{word} names {len(names)} guests: {', '.join(sorted(names))}", cure="name one of them"
        )
    there = observed.guests_of(spec.name).get(names.pop())
    if there is None:
        raise RequestError(f"guest {word} does not exist yet", cure=f"make it: virtkit up {word}")
    return host, observed, there


def must_run(there: ObservedGuest) -> None:
    if there.state != "running":
        raise RequestError(
            f"guest {there.record.guest} is {there.state}",
            cure=f"virtkit {'resume' if there.state == 'paused' else 'start'} it first",
        )
