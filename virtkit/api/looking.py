"""Guests as they are: status, and what they printed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from virtkit import plan as planning
from virtkit import reach
from virtkit.api.entering import execute
from virtkit.api.world import host_of, observed_names, one, ordered, path_of
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.host import Host
from virtkit.observed import ObservedGuest
from virtkit.spec import Spec


@dataclass(frozen=True)
class GuestStatus:
    """One guest as it is.

    Attributes:
        model: its kind of virtualization in the article's words.
        pending: fields whose change waits until it is restarted.
        why: how it got into its state, where libvirt knows and it isn't as it should be.
    """

    environment: str
    name: str
    type: str
    model: str
    host: str
    state: str
    ready: bool
    addresses: tuple[str, ...]
    user: str
    groups: tuple[str, ...]
    spec: str
    pending: tuple[str, ...] = ()
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "environment": self.environment,
            "name": self.name,
            "type": self.type,
            "model": self.model,
            "host": self.host,
            "state": self.state,
            "ready": self.ready,
            "addresses": list(self.addresses),
            "user": self.user,
            "groups": list(self.groups),
            "spec": self.spec,
            "pending": list(self.pending),
            "why": self.why,
        }


def status(spec: Spec | None = None, guests: Sequence[str] = ()) -> list[GuestStatus]:
    """The guests of an environment, or all that virtkit owns on this machine."""
    host = host_of(spec)
    observed = host.observe(pool=False)
    if spec is None:
        there = list(observed.guests.values())
    else:
        mine = observed.guests_of(spec.name)
        only = observed_names(spec, observed, guests) if guests else {*spec.guests, *mine}
        there = [mine[name] for name in ordered(spec, mine) if name in only]
    with ThreadPoolExecutor(max_workers=16) as pool:
        found = list(pool.map(lambda each: _status(host, each), there))
    if spec is not None:
        names = {each.name for each in found}
        found += [_missing(spec, n) for n in spec.guests if n in only and n not in names]
    return found


def _status(host: Host, there: ObservedGuest) -> GuestStatus:
    found: list[str] = []
    ready = False
    why = ""
    if there.state == "running":
        try:
            found, _ = reach.addresses(host, there.record)
            ready = reach.is_ready(host, there.record, found)
        except VirtkitError:  # it went away while we looked
            found, ready = [], False
    if not ready and there.record.finished:  # else it may only be on its way up
        with suppress(VirtkitError):
            why = host.domains.condition(DRIVERS[there.record.type], there.domain).why
    return GuestStatus(
        environment=there.record.environment,
        name=there.record.guest,
        type=there.record.type,
        model=DRIVERS[there.record.type].model,
        host=host.name,
        state=there.state,
        ready=ready,
        addresses=tuple(found),
        user=there.record.asked["user"],
        groups=tuple(there.record.asked["groups"]),
        spec=there.record.spec,
        pending=planning.waiting(there),
        why=why,
    )


def _missing(spec: Spec, name: str) -> GuestStatus:
    guest = spec.guests[name]
    model = DRIVERS[guest.type].model if guest.type in DRIVERS else ""
    return GuestStatus(
        spec.name,
        name,
        guest.type,
        model,
        spec.host,
        "missing",
        False,
        (),
        guest.user,
        guest.groups,
        path_of(spec),
    )


def logs(spec: Spec, guests: Sequence[str] = ()) -> dict[str, str]:
    """What each guest printed so far, by its name."""
    host = host_of(spec)
    observed = host.observe(pool=False)
    mine = observed.guests_of(spec.name)
    names = observed_names(spec, observed, guests) if guests else set(mine)
    pool = host.storage.describe()
    if not pool.active and any(DRIVERS[mine[name].record.type].log == "file" for name in names):
        raise VirtkitError(
            f"pool {pool.name} is not active, and the guests' logs are in it",
            cure=f"virtkit up activates it, or: virsh pool-start {pool.name}",
            where=host.name,
        )
    return {
        name: reach.log(host, mine[name].record, spec.folder)
        for name in ordered(spec, mine)
        if name in names
    }


def log_names(spec: Spec, guests: Sequence[str] = ()) -> list[str]:
    """The guests whose logs ``guests`` name."""
    observed = host_of(spec).observe(pool=False)
    mine = observed.guests_of(spec.name)
    names = observed_names(spec, observed, guests) if guests else set(mine)
    return [name for name in ordered(spec, mine) if name in names]


def follow(spec: Spec, guest: str) -> Iterator[str]:
    """The lines that a guest printed and prints; ends when the guest does."""
    host, _, there = one(spec, guest)
    driver = DRIVERS[there.record.type]
    if driver.log == "journal":
        line = ["journalctl", "--no-pager", "-b", "-n", "100", "-f"]
        command = execute(spec, guest, line).command
        assert command is not None
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as journal:
            assert journal.stdout is not None
            yield from (each.rstrip("\n") for each in journal.stdout)
        return
    offset, rest = 0, b""
    while True:
        new = host.printed(driver, there.domain, offset)
        offset += len(new)
        *lines, rest = (rest + new).split(b"\n")
        yield from (each.decode("utf-8", "replace").rstrip("\r") for each in lines)
        if not new:
            if host.domains.state(driver, there.domain) == "stopped":
                return
            time.sleep(0.5)
