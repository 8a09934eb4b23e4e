"""How much room a host has for guests."""

from __future__ import annotations

from collections.abc import Collection

import libvirt

from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.facts import Room
from virtkit.host.connection import Connections
from virtkit.host.errors import libvirt_errors, skip_unreadable

_KIB, _MIB = 1024, 1024**2


def room(connections: Connections, schemes: Collection[str]) -> Room:
    """The host's memory and CPUs, and what its running guests leave of them.

    A container takes what it uses, whatever it may use; a virtual machine may take all that it has.

    Raises:
        VirtkitError: libvirt does not answer.
    """
    reserving = {each.scheme for each in DRIVERS.values() if each.reserves_memory}
    reserving -= {each.scheme for each in DRIVERS.values() if not each.reserves_memory}
    reserved = used = guests = 0
    for scheme in schemes:
        try:
            opened = connections.get(scheme)
        except VirtkitError:
            continue
        with libvirt_errors("read", f"the domains of {scheme}", where=connections.host):
            for domain in opened.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                with skip_unreadable():
                    _, most, _, cpus, _ = domain.info()
                    used, guests = used + int(cpus), guests + 1
                    reserved += int(most) * _KIB if scheme in reserving else 0
    with libvirt_errors("read", "the host", where=connections.host):
        opened = connections.any()
        info = opened.getInfo()
        memory, available = _memory(opened, int(info[1]) * _MIB)
    return Room(memory, max(0, min(available, memory - reserved)), int(info[2]), used, guests)


def _memory(opened: libvirt.virConnect, total: int) -> tuple[int, int]:
    """Bytes of memory in all, and those that nothing but caches use."""
    try:
        stats = opened.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
    except libvirt.libvirtError:  # not every driver counts caches, or at all
        return total, int(opened.getFreeMemory()) or total
    parts = (stats.get(each, 0) for each in ("free", "buffers", "cached"))
    return int(stats.get("total", total // _KIB)) * _KIB, sum(map(int, parts)) * _KIB
