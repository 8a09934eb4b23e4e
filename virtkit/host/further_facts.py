"""Facts of a host that only some specs ask for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from virtkit.facts import HostFacts
from virtkit.host import disk_sources, machine_facts, shared
from virtkit.host.connection import Connections


def with_disk_sources(
    facts: HostFacts, connections: Connections, names: Collection[str], others: Iterable[str]
) -> HostFacts:
    """The same facts with the disks that specs name.

    Args:
        names: each a path or ``POOL/VOLUME``; where there are none, nobody is asked.
        others: paths that these may be, too.

    Raises:
        VirtkitError: the host was not reached.
    """
    if not names:
        return facts
    disks = disk_sources.find(connections, names)
    paths = [*others, *(each.path for each in disks.values() if each.path.startswith("/"))]
    real = disk_sources.real_paths(connections, paths)
    return replace(facts, disk_sources=disks, real_paths=real)


def with_shared(
    facts: HostFacts, connections: Connections, folders: Iterable[str], devices: Iterable[str]
) -> HostFacts:
    """The same facts with what is known of folders and devices of the host.

    Raises:
        VirtkitError: ssh does not get there.
    """
    return replace(facts, shared=shared.shared(connections, folders, devices))


def with_abilities(facts: HostFacts, connections: Connections) -> HostFacts:
    """The same facts with what the host's virtual machines can have, which CPUs are online, and
    the free pages of its memory; as far as libvirt tells."""
    return replace(
        facts,
        machines=machine_facts.machines(connections, facts),
        cpu_numbers=machine_facts.cpu_numbers(connections, facts),
        numa_nodes=machine_facts.numa_nodes(connections),
    )
