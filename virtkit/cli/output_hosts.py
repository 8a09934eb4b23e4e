"""Hosts as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from virtkit import api
from virtkit.cli import output

_GIB = 1024**3


def table(hosts: Sequence[api.HostStatus]) -> None:
    """The table of hosts, and why some do not answer."""
    columns = ["host", "address", "libvirt", "cpus used", "memory free", "load", "guests"]
    if any(each.types is not None for each in hosts):
        columns.append("types")
    columns.append("labels")
    output.table(columns, [[_cells(each)[column] for column in columns] for each in hosts])
    for each in hosts:
        if each.error is not None:
            output.line(output.plain(f"{each.name}: {each.error.why or each.error.what}"))
            output.line(output.plain(f"  cure: {each.error.cure}"))


def _cells(host: api.HostStatus) -> dict[str, str]:
    room = host.room
    labels = (f"{key}={value}" for key, value in host.labels.items())
    used = f"{room.used} of {room.cpus}" if room else "-"
    free = f"{room.free / _GIB:.1f} of {room.memory / _GIB:.1f} GiB" if room else "-"
    return {
        "host": host.name,
        "address": host.address or "-",
        "libvirt": host.libvirt if host.reachable else "no answer",
        "cpus used": used,
        "memory free": free,
        "load": "-" if host.load is None else f"{host.load:.2f}",
        "guests": f"{host.guests} of {host.domains}" if host.reachable else "-",
        "types": ", ".join(host.types or ()) or "-",
        "labels": ", ".join(labels) or "-",
    }


def checks(hosts: Sequence[api.HostChecks]) -> None:
    """What was looked at on each host, below its name."""
    for each in hosts:
        address = f" ({each.address})" if each.address not in ("", each.name) else ""
        output.line(output.plain(f"{each.name}{address}:"))
        output.checks(each.checks)
