"""The networks that virtkit makes, as they should be against as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from virtkit import compare, render
from virtkit.compare import Difference
from virtkit.drivers.effects import Effect, worst
from virtkit.errors import RequestError
from virtkit.observed import ObservedNetwork
from virtkit.plan.changes import Change, Reason
from virtkit.record import Cause
from virtkit.resources import Network

#: Places that libvirt can change while a network is active.
_HOSTS = ("/dhcp/host[", "dns/host[")


@dataclass
class ComparedNetwork:
    """What came of comparing one network."""

    change: Change | None = None
    pending: Change | None = None
    notes: list[str] = field(default_factory=list)


def compared_network(network: Network, there: ObservedNetwork | None) -> ComparedNetwork:
    """The change that makes ``there`` into ``network``.

    Raises:
        RequestError: what differs can't change while guests hold the network.
    """
    base = Change(f"network/{network.name}", network.host, "create", desired=network)
    if there is None:
        return ComparedNetwork(base)
    base = replace(base, observed=there)
    wished = [
        Reason(name, there.record.asked.get(name), network.asked.get(name), effect="recreate")
        for name in sorted({*there.record.asked, *network.asked})
        if there.record.asked.get(name) != network.asked.get(name)
    ]
    if wished and there.users:
        raise _held(network, there, wished)
    if wished:
        return ComparedNetwork(
            replace(base, action="replace", effect="recreate", reasons=tuple(wished))
        )
    return _drifted(base, network, there)


def _held(network: Network, there: ObservedNetwork, wished: Sequence[Reason]) -> RequestError:
    return RequestError(
        f"network {network.name}: {', '.join(each.field for each in wished)} can't change "
        "while guests hold it",
        why=f"{', '.join(there.users)} would lose their link",
        cure="take these guests down first (virtkit down SPEC GUEST…), then up again",
        where=f"{network.host} network/{network.name}",
    )


def _drifted(base: Change, network: Network, there: ObservedNetwork) -> ComparedNetwork:
    reasons: list[Reason] = []
    waiting: list[Reason] = []
    old, new = ([asdict(each) for each in of.reservations] for of in (there.record, network))
    if old != new:
        reasons.append(Reason("reservations", len(old), len(new), effect="live"))
    wanted = render.network(network)
    config = _places(wanted, there, there.inactive)
    live = _places(wanted, there, there.live)
    drifted = _places(there.record.rendered, there, there.inactive)
    for path, place in {**live, **config}.items():
        if old != new and _is_host(place):
            continue
        cause: Cause = "upgrade" if path in config and path not in drifted else "drift"
        effect: Effect = "none"
        if path in live:
            effect = "restart" if there.users and not _is_host(place) else "live"
        later = effect == "restart" and path not in config
        reason = Reason(path, place.found, place.wanted, cause, effect)
        (waiting if later else reasons).append(reason)
    answer = ComparedNetwork()
    if reasons:
        effect = worst(each.effect for each in reasons)
        answer.change = replace(base, action="update", effect=effect, reasons=tuple(reasons))
    elif not there.active or not there.autostart:
        reason = Reason("active", there.active, True, "drift", "live")
        answer.change = replace(base, action="start", effect="live", reasons=(reason,))
    if waiting:
        answer.pending = replace(base, action="update", effect="restart", reasons=tuple(waiting))
        answer.notes.append(
            f"network/{network.name} gets {', '.join(each.field for each in waiting)} when it "
            f"starts again; {', '.join(there.users)} hold it"
        )
    return answer


def _places(wanted: str, there: ObservedNetwork, xml: str) -> dict[str, Difference]:
    """What of ``wanted`` isn't in ``xml``, by its place."""
    if not wanted or not xml:
        return {}
    every = compare.differences(*(render.parse(each, there.name) for each in (wanted, xml)))
    return {each.path: each for each in every if each.path not in there.record.rewritten}


def _is_host(place: Difference) -> bool:
    return any(each in f"/{place.path}" for each in _HOSTS)
