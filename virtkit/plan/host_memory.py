"""What guests ask of their host's memory, against what that has: NUMA nodes, huge pages.

``host_abilities`` says which guests are looked at. What nobody could ask the host is let through.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from virtkit._dataclass import dataclass
from virtkit.errors import RequestError
from virtkit.facts import HostFacts
from virtkit.plan.changes import Change
from virtkit.spec.model import GuestSpec, number_ranges
from virtkit.spec.sizes import KIB, MIB, format_size
from virtkit.state.desired import Guest
from virtkit.state.observed import ObservedGuest
from virtkit.xml import diff, tree


@dataclass(frozen=True)
class _Demand:
    """Huge pages that a guest needs: how many, of how many bytes each. ``nodes`` are those of the
    host's NUMA nodes that they must be on; empty for any."""

    size: int
    count: int
    nodes: frozenset[int] = frozenset()


def asks(guest: GuestSpec) -> bool:
    """Whether a guest asks for memory that not every host has."""
    return bool(guest.hugepages) or any(each.host_nodes for each in guest.cpu.numa or ())


def node_errors(guest: Guest, facts: HostFacts) -> Iterator[RequestError]:
    """The host's NUMA nodes that a guest's memory is to come from, and that the host lacks."""
    known = facts.numa_nodes
    nodes = {node for cell in guest.spec.cpu.numa or () for node in cell.host_nodes or ()}
    missing = nodes - known.keys()
    if known and missing:
        yield RequestError(
            f"guest {guest.name}: host {guest.host} has no NUMA node "
            f"{number_ranges(missing).replace(',', ', ')}",
            why=f"its nodes are {number_ranges(known).replace(',', ', ')}",
            cure="name others in `host_nodes:`, or remove it",
            where=guest.where("cpu"),
        )


def page_errors(
    changes: Sequence[Change], starting: Collection[str], facts: HostFacts
) -> Iterator[RequestError]:
    """Huge pages that guests need as they start, and that the host has not free for all of them.

    Args:
        changes: all changes of a plan: what ends or starts again gives its pages back.
        starting: the objects of those that start a guest.
    """
    free = {node: {**pages} for node, pages in facts.numa_nodes.items()}
    known = {size for pages in free.values() for size in pages}
    returned: dict[int, int] = {}
    for change in changes:
        if change.object in starting or change.action in ("delete", "replace"):
            for each in _held(change):
                returned[each.size] = returned.get(each.size, 0) + each.count
    for change in changes:
        guest = change.desired
        demands = _demands(guest) if isinstance(guest, Guest) else []
        if not known or not demands or change.object not in starting or not _runs(change):
            continue
        assert isinstance(guest, Guest)
        if demands[0].size not in known:
            yield _unknown_size(guest, known)
            continue
        for each in demands:
            available = sum(free[node].get(each.size, 0) for node in each.nodes or free)
            available += returned.get(each.size, 0)
            if each.count > available:
                yield _too_few(guest, each, available)
                break
            _take(each, free, returned)


def _runs(change: Change) -> bool:
    """Whether its guest is to run: one with `start: false` is made, and needs no memory yet."""
    current = change.observed
    running = isinstance(current, ObservedGuest) and current.state != "stopped"
    return running or (isinstance(change.desired, Guest) and change.desired.spec.start)


def _demands(guest: Guest) -> list[_Demand]:
    """What a guest needs: of each cell, or of all its memory."""
    size = guest.spec.hugepages
    if not size:
        return []
    cells = guest.spec.cpu.numa or ()
    return [
        _Demand(
            size,
            each.memory // size,
            frozenset(each.host_nodes or () if each.policy in (None, "strict") else ()),
        )
        for each in cells
    ] or [_Demand(size, guest.spec.max_memory // size)]


def _held(change: Change) -> Iterator[_Demand]:
    """The huge pages that a running guest has now."""
    current = change.observed
    if not isinstance(current, ObservedGuest) or not current.live:
        return
    root = tree.parse(current.live, "a domain")
    page = diff.element_at(root, "memoryBacking/hugepages/page")
    if page is not None:
        size = int(page.get("size", "0")) * KIB  # libvirt itself writes KiB
        yield _Demand(size, int(diff.value_at(root, "memory") or 0) // size)


def _take(demand: _Demand, free: dict[int, dict[int, int]], returned: dict[int, int]) -> None:
    """Counts pages as taken: those that are given back first."""
    needed, size = demand.count, demand.size
    for place in (returned, *(free[node] for node in sorted(demand.nodes or free))):
        taken = min(needed, place.get(size, 0))
        place[size] = place.get(size, 0) - taken
        needed -= taken


def _unknown_size(guest: Guest, known: Collection[int]) -> RequestError:
    """The error about pages of a size that the host does not have at all."""
    huge = sorted(known)[1:]
    others = f"use one of: {', '.join(map(format_size, huge))}; or " if huge else ""
    return RequestError(
        f"guest {guest.name}: host {guest.host} has no pages of "
        f"{format_size(guest.spec.hugepages or 0)}",
        why="its processor and kernel have none of that size",
        cure=f"{others}remove `hugepages:`",
        where=guest.where("hugepages"),
    )


def _too_few(guest: Guest, demand: _Demand, available: int) -> RequestError:
    """The error about pages of which too few are free."""
    on_nodes = f" on its NUMA node {number_ranges(demand.nodes)}" if demand.nodes else ""
    size, missing = demand.size, demand.count - available
    if size == 2 * MIB and not demand.nodes:
        more = f"sudo sysctl vm.nr_hugepages=$(($(sysctl -n vm.nr_hugepages) + {missing}))"
    else:
        node = f"devices/system/node/node{min(demand.nodes)}" if demand.nodes else "kernel/mm"
        path = f"/sys/{node}/hugepages/hugepages-{size // KIB}kB/nr_hugepages"
        more = f"echo $(($(cat {path}) + {missing})) | sudo tee {path}"
    return RequestError(
        f"guest {guest.name}: host {guest.host} has too few free huge pages of "
        f"{format_size(size)}{on_nodes}",
        why=f"it needs {demand.count}, and {available} are left for it",
        cure=f"on the host: {more}; or remove `hugepages:`",
        where=guest.where("hugepages"),
    )
