"""Disks that a host has already, as a guest is to have them, and where they are named. Pure."""

from __future__ import annotations

from virtkit.facts import DiskSource, HostFacts
from virtkit.spec import model
from virtkit.state.desired import DecidedGuest


def sources(
    guest: model.GuestSpec, facts: HostFacts, decided_guest: DecidedGuest | None
) -> dict[str, DiskSource]:
    """The disks that its host has already; one that is gone is what it was, or what its name says:
    whether it is needed, others tell."""
    kept = decided_guest.sources if decided_guest else {}
    answer = {}
    for name in guest.existing:
        now = facts.disk_sources.get(name)
        if now is not None and now.kind:
            answer[name] = now
        elif name in kept:
            answer[name] = kept[name]
        elif not name.startswith("/"):
            answer[name] = DiskSource("volume", name)
        else:
            answer[name] = DiskSource("block" if name.startswith("/dev/") else "file", name)
    return answer


def positions(spec: model.Spec, name: str) -> dict[str, str]:
    """Where in the spec a guest names disks that exist, by what it says."""
    guest, answer = spec.guests[name], {}
    for index, disk in enumerate(guest.disks):
        if disk.existing is not None:
            answer[disk.existing] = spec.where(("guests", name, "disks", index, "existing"))
    if guest.disk.existing is not None:
        answer[guest.disk.existing] = spec.where(("guests", name, "disk", "existing"))
    return answer
