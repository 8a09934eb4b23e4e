"""The networks that virtkit makes, as they should be against as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

from virtkit.drivers import DRIVERS
from virtkit.drivers.effects import Effect, worst
from virtkit.drivers.network_fields import network_effect, network_field_at
from virtkit.errors import RequestError
from virtkit.plan.changes import Change, FieldChange, path_change
from virtkit.plan.ownership import split_by_spec, with_owners
from virtkit.spec.command import virtkit_command
from virtkit.state.desired import Network
from virtkit.state.observed import Observed, ObservedNetwork
from virtkit.state.record import Cause
from virtkit.xml import diff, render, tree
from virtkit.xml.diff import Difference

#: Paths of what libvirt can change while a network is active.
_HOST_PATHS = ("/dhcp/host[", "dns/host[")


@dataclass
class ComparedNetwork:
    """What came of comparing one network."""

    change: Change | None = None
    pending: Change | None = None
    notes: list[str] = field(default_factory=list)

    def restarted(self) -> ComparedNetwork:
        """The same with what waits for a restart as a part of the change."""
        if self.pending is None:
            return self
        base = self.change or self.pending
        reasons = (*(self.change.reasons if self.change else ()), *self.pending.reasons)
        return ComparedNetwork(replace(base, action="update", effect="restart", reasons=reasons))


def compare_network(
    network: Network, current: ObservedNetwork | None, observed: Observed, *, spec_path: str
) -> ComparedNetwork:
    """The change that makes ``current`` into ``network``.

    Args:
        spec_path: the path of the spec at hand.

    Raises:
        RequestError: what differs can't change while guests hold the network.
    """
    base = Change(f"network/{network.name}", network.host, "create", desired=network)
    if current is None:
        return ComparedNetwork(base)
    base = replace(base, observed=current)
    before, after = current.record.requested, network.requested
    changes = [
        FieldChange(name, before.get(name), after.get(name), effect=network_effect(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    recreating = [each for each in changes if each.effect == "recreate"]
    if recreating and current.users:
        raise _in_use(network, current, recreating, observed, spec_path)
    if recreating:
        changes = [replace(each, effect="recreate") for each in changes]
        change = replace(base, action="replace", effect="recreate")
        moves = path_change(current, spec_path)
        lost = f"the network as another spec has it: {current.name}" if moves else ""
        return ComparedNetwork(replace(change, reasons=(*changes, *moves), lost=lost))
    if not current.users or not current.active:  # then it is started again, or it is off
        changes = [replace(each, effect="live") for each in changes]
    return _with_differences(base, network, current, changes)


def with_kept_reservations(
    network: Network, current: ObservedNetwork, names: Collection[str]
) -> Network:
    """The network with what it reserves for guests that a run leaves alone.

    Args:
        names: of these guests.
    """
    old = current.record.reservations
    places = [(each.mac, each.ip, each.name) for each in network.reservations]
    own = {value for each in places for value in each if value}
    others = [e for e in old if e.name in names and not own & {e.mac, e.ip, e.name}]
    if not others:
        return network
    order = {each: index for index, each in enumerate(old)}
    both = sorted((*network.reservations, *others), key=lambda e: order.get(e, len(order)))
    return replace(network, reservations=tuple(both))


def _in_use(
    network: Network,
    current: ObservedNetwork,
    changes: Sequence[FieldChange],
    observed: Observed,
    spec_path: str,
) -> RequestError:
    own, moved_here = split_by_spec(current.users, observed, network.environment, spec_path)
    holders = with_owners(current.users, observed, network.environment, spec_path)
    if cures := _unseen_cures(current, observed):
        cure = "; ".join(cures)
    elif len(own) == len(holders):
        line = virtkit_command("down", spec_path, *own)
        cure = f"take these guests down first ({line}), then up again"
    else:
        cure = (
            "give your network another name; or have these guests taken down by whoever made them"
        )
    if moved_here:
        line = virtkit_command("down", spec_path, *own, *moved_here, "--yes")
        cure += f"; if the spec's file was only moved: {line}"
    return RequestError(
        f"network {network.name}: {', '.join(each.field for each in changes)} can't change "
        "while guests use it",
        why=f"{', '.join(holders)} would lose their network connection",
        cure=cure,
        where=f"{network.host} network/{network.name}",
    )


def _unseen_cures(current: ObservedNetwork, observed: Observed) -> list[str]:
    """What makes the drivers answer that may have guests on a network."""
    hidden = [observed.hidden[each] for each in current.users if each in observed.hidden]
    schemes = {*observed.silent, *(DRIVERS[each.type].scheme for each in hidden)}
    errors = {**observed.absent, **observed.silent}
    return [errors[each].cure for each in sorted(schemes)]


def _with_differences(
    base: Change, network: Network, current: ObservedNetwork, changes: Sequence[FieldChange]
) -> ComparedNetwork:
    """What comes of the spec's ``changes`` that leave it the same network, and of its XML."""
    reasons = list(changes)
    pending: list[FieldChange] = []
    changing = {each.field for each in changes}
    old, new = ([asdict(each) for each in side.reservations] for side in (current.record, network))
    if old != new:
        reasons.append(FieldChange("reservations", len(old), len(new), effect="live"))
    wanted = render.network_xml(network)
    config = _by_path(wanted, current, current.inactive)
    live = _by_path(wanted, current, current.live)
    drifted = _by_path(current.record.rendered, current, current.inactive)
    for path, difference in {**live, **config}.items():
        field_name = network_field_at(path)
        if field_name in changing or (_is_reservation(difference) and old != new):
            continue
        cause: Cause = "upgrade" if path in config and path not in drifted else "drift"
        if field_name and path not in config and not _is_reservation(difference):
            cause = "spec"  # nobody else changes that of an active network: it waits
        effect: Effect = "none"
        if path in live:
            effect = "restart" if current.users and not _is_reservation(difference) else "live"
        later = effect == "restart" and path not in config
        shown = field_name if field_name and later else path
        reason = FieldChange(shown, difference.current, difference.wanted, cause, effect)
        (pending if later else reasons).append(reason)
    known = {*changing, *(each.field for each in pending)}
    (pending if current.users else reasons).extend(_outdated(current, wanted, known))
    answer = ComparedNetwork()
    if reasons:
        effect = worst(each.effect for each in reasons)
        answer.change = replace(base, action="update", effect=effect, reasons=tuple(reasons))
    elif not current.active or not current.autostart:
        reason = FieldChange("active", current.active, True, "drift", "live")
        answer.change = replace(base, action="start", effect="live", reasons=(reason,))
    if pending:
        answer.pending = replace(base, action="update", effect="restart", reasons=tuple(pending))
        answer.notes.append(
            f"network/{network.name} gets {', '.join(each.field for each in pending)} when it "
            f"starts again; in use by {', '.join(current.users)}"
        )
    return answer


def _outdated(
    current: ObservedNetwork, wanted: str, explained: Collection[str]
) -> Iterator[FieldChange]:
    """What the active network still has, and its definition has no more.

    Args:
        explained: fields that there is a reason for already.
    """
    outdated = current.record.outdated
    if not outdated or not current.live:
        return
    roots = (tree.parse(each, current.name) for each in (wanted, current.live))
    effect: Effect = "restart" if current.users else "live"
    places = diff.remaining(outdated, *roots)
    for name in dict.fromkeys(network_field_at(each) or each for each in places):
        if name not in explained:
            yield FieldChange(name, "yes", None, "spec", effect)


def _by_path(wanted: str, current: ObservedNetwork, xml: str) -> dict[str, Difference]:
    """What of ``wanted`` isn't in ``xml``, by its path."""
    if not wanted or not xml:
        return {}
    differences = diff.differences(*(tree.parse(each, current.name) for each in (wanted, xml)))
    return {each.path: each for each in differences if each.path not in current.record.rewritten}


def _is_reservation(difference: Difference) -> bool:
    return any(each in f"/{difference.path}" for each in _HOST_PATHS)
