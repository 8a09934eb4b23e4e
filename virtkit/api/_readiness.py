"""Guests that were ready once and are not now: told beside a plan's changes, and none of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from virtkit import access
from virtkit.api._hosts import GuestOnHost, existing_guests, ordered
from virtkit.api._observation import HostState
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.plan import Plan
from virtkit.spec import LOCAL, Spec

#: Looks at a time. Each is one connection, and takes a second where nobody answers.
_PARALLEL = 64


def unready_notes(
    spec: Spec,
    host_states: Sequence[HostState],
    plan: Plan,
    only: Collection[str] | None,
    *,
    restart: bool,
) -> list[str]:
    """A note for each guest that runs on under a plan and does not answer now.

    Args:
        only: the guests that the plan is about; None for all.
        restart: guests with changes that take a restart are restarted.
    """
    busy = {
        each.object
        for each in plan.changes
        if each.action != "update" or (restart and each.effect == "restart")
    }
    existing = existing_guests(spec, host_states)
    looked_at = [
        existing[name]
        for name in ordered(spec, existing)
        if name in spec.guests and (only is None or name in only) and f"guest/{name}" not in busy
        if existing[name].observed.state == "running" and existing[name].observed.record.finished
    ]
    if not looked_at:
        return []
    with ThreadPoolExecutor(max_workers=min(_PARALLEL, len(looked_at))) as pool:
        return [
            note
            for notes in pool.map(lambda each: [*_note(spec, each)], looked_at)
            for note in notes
        ]


def _note(spec: Spec, guest: GuestOnHost) -> Iterator[str]:
    host, observed = guest.host, guest.observed
    name = observed.record.guest
    try:
        addresses, _ = access.addresses(host, observed.record)
        why = access.unready_reason(host, observed.record, addresses)
        if not why:
            return
        driver = DRIVERS[observed.record.type]
        state_reason = host.domains.state_reason(driver, observed.domain).why
        reason = state_reason or host.no_address_reason(driver, observed.domain).why
        why = f"{why}; {reason}" if reason else why
    except VirtkitError as error:
        why = error.why or error.what
    where = "" if host.name == LOCAL else f" on {host.name}"
    yield (
        f"guest/{name}{where} is running but not ready: {why}; see "
        f"`{spec.command('logs', name)}`; "
        f"`{spec.command('restart', name)}` starts it again"
    )
