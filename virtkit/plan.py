"""Desired against observed: what has to change, why, and what each change costs.

Pure. Records are compared with records, never XML with XML.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from virtkit.errors import RequestError, SpecErrors, VirtkitError
from virtkit.observed import Observed, ObservedGuest, ObservedNetwork
from virtkit.resources import Desired, Guest, ImageRef, Network

Action = Literal["create", "update", "replace", "start", "stop", "delete"]
Effect = Literal["none", "live", "next-boot", "restart", "recreate"]
Cause = Literal["spec", "drift", "unfinished", "upgrade"]

#: Guest fields that can change while it runs, because libvirt or the record alone holds them.
_LIVE = {"groups", "after", "ready", "autostart"}


@dataclass(frozen=True)
class Reason:
    """One field that differs. Sizes are in bytes."""

    field: str
    before: Any
    after: Any
    cause: Cause = "spec"

    def as_dict(self) -> dict[str, Any]:
        return {
            "field": self.field,
            "from": self.before,
            "to": self.after,
            "cause": self.cause,
        }


@dataclass(frozen=True)
class Change:
    """One entry of a plan.

    Attributes:
        object: ``guest/NAME``, ``network/NAME`` or ``image/NAME``.
        lost: what is gone after it; not empty means that it needs consent.
        desired: the object as it should be, for whoever applies the change.
        observed: the object as it stands.
    """

    object: str
    host: str
    action: Action
    effect: Effect = "none"
    reasons: tuple[Reason, ...] = ()
    lost: str = ""
    desired: Guest | Network | ImageRef | None = None
    observed: ObservedGuest | ObservedNetwork | None = None

    @property
    def name(self) -> str:
        return self.object.partition("/")[2]

    def as_dict(self) -> dict[str, Any]:
        """The entry as it stands in the JSON output."""
        return {
            "object": self.object,
            "host": self.host,
            "action": self.action,
            "effect": self.effect,
            "reasons": [reason.as_dict() for reason in self.reasons],
            **({"lost": self.lost} if self.lost else {}),
        }


@dataclass(frozen=True)
class Plan:
    """The difference between a spec and libvirt. ``notes`` are for people."""

    environment: str
    changes: tuple[Change, ...] = ()
    pending: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    desired: Desired | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The document of ``plan --json``."""
        return {
            "environment": self.environment,
            "changes": [change.as_dict() for change in self.changes],
            "pending": [change.as_dict() for change in self.pending],
            "notes": list(self.notes),
        }

    @property
    def asks(self) -> tuple[Change, ...]:
        """The changes that need consent."""
        return tuple(change for change in self.changes if change.lost)


def select(
    words: Collection[str], groups: Mapping[str, Collection[str]], bases: Mapping[str, str]
) -> set[str]:
    """The guests that ``words`` name: a guest, all of a ``count``, a glob or ``@group``.

    Args:
        groups: groups by guest name.
        bases: the key in the spec by guest name.

    Raises:
        RequestError: a word names no guest.
    """
    import difflib
    from fnmatch import fnmatchcase

    chosen: set[str] = set()
    for word in words:
        if word.startswith("@"):
            found = {name for name in bases if word[1:] in groups[name]}
        else:
            found = {n for n, base in bases.items() if base == word or fnmatchcase(n, word)}
        if not found:
            near = difflib.get_close_matches(word, [*bases, *bases.values()], n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(bases) or 'none'}"
            raise RequestError(f"no guest {word!r} in this environment", cure=hint)
        chosen |= found
    return chosen


def with_after(names: Collection[str], after: Mapping[str, Collection[str]]) -> set[str]:
    """``names`` and all that they are ``after``, directly or not."""
    answer: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in answer:
            answer.add(name)
            todo += after.get(name, ())
    return answer


def diff(
    desired: Desired, observed: Observed, *, spec: str, only: Collection[str] | None = None
) -> Plan:
    """What makes ``observed`` into ``desired``.

    Args:
        spec: the spec's path, to tell where a record's own is another.
        only: guests to look at; nothing is deleted then.

    Raises:
        SpecErrors: something of others is in the way, or a guest can't run here.
    """
    errors: list[RequestError] = []
    wanted = [each for each in desired.guests if only is None or each.name in only]
    errors += [desired.refused[each.name] for each in wanted if each.name in desired.refused]
    guests: list[Change] = []
    mine = observed.guests_of(desired.environment)
    for guest in wanted:
        errors += _in_the_way(guest, observed)
        guests += _guest(guest, mine.get(guest.name), spec)
    if only is None:
        names = {each.name for each in desired.guests}
        guests += [
            _gone(each, observed.host, spec) for name, each in mine.items() if name not in names
        ]
    networks = list(_networks(desired, observed, wanted, errors, everything=only is None))
    if errors:
        raise SpecErrors(errors)
    return Plan(
        environment=desired.environment,
        changes=(*_images(guests), *networks, *guests),
        notes=tuple(_notes(guests)),
        desired=desired,
    )


def down(
    observed: Observed, environment: str, *, only: Collection[str] | None, volumes: bool
) -> Plan:
    """What removes an environment, or the guests ``only`` of it.

    A network goes with its last guest; kept disks stay unless ``volumes``.
    """
    mine = observed.guests_of(environment)
    going = [each for name, each in mine.items() if only is None or name in only]
    changes = [
        Change(f"guest/{each.record.guest}", observed.host, "delete", "none", observed=each)
        for each in going
    ]
    if volumes:
        changes += [
            Change(f"disk/{kept.name}", observed.host, "delete", lost=f"disk {kept.name}")
            for kept in observed.pool.kept.values()
            if kept.environment == environment and (only is None or kept.guest in only)
            if not any(kept.name == v.name for g in mine.values() for v in g.record.volumes)
        ]
    domains = {each.domain for each in going}
    notes = []
    for name, network in observed.networks_of(environment).items():
        holders = [user for user in network.users if user not in domains]
        strangers = _strangers(network, observed, environment)
        if strangers:
            notes.append(f"network/{name} stays: {', '.join(strangers)} of others use it")
        elif not holders:
            changes.append(Change(f"network/{name}", observed.host, "delete", observed=network))
    return Plan(environment=environment, changes=tuple(changes), notes=tuple(notes))


def _notes(guests: Iterable[Change]) -> Iterable[str]:
    for each in guests:
        if not isinstance(each.desired, Guest):
            continue
        if each.action == "create" and each.desired.why:
            yield f"{each.object}: {each.desired.why}"
        confinement = each.desired.confinement
        if each.action in ("create", "replace") and confinement.why:
            yield (
                f"{each.object}: {confinement.mode}, not unprivileged: {confinement.why} "
                "(`virtkit doctor` says how to mend it)"
            )


# --- guests -------------------------------------------------------------------------------


def _guest(guest: Guest, there: ObservedGuest | None, spec: str) -> Iterable[Change]:
    change = Change(f"guest/{guest.name}", guest.host, "create", desired=guest, observed=there)
    if there is None:
        yield change
        return
    reasons = tuple(_differences(guest, there))
    heavy = [each for each in reasons if each.field.partition(".")[0] not in _LIVE]
    if heavy:
        disks = {volume.name for volume in guest.volumes if volume.role == "disk"}
        doomed = [
            each.name
            for each in there.record.volumes
            if each.role == "disk" and each.name not in disks and not each.keep
        ]
        lost = ", ".join([f"all on the root disk of {guest.name}", *(f"disk {d}" for d in doomed)])
        if not any(each.state == "made" for each in there.record.volumes):
            lost = ""  # an interrupted run left nothing that could hold data
        reasons += _moved(there, spec)
        change = replace(change, desired=guest.made_anew())
        yield replace(change, action="replace", effect="recreate", reasons=reasons, lost=lost)
        return
    if not there.record.finished:
        reasons += (Reason("finished", False, True, "unfinished"),)
    if reasons:
        yield replace(change, action="update", effect="live", reasons=reasons)
    elif there.state != "running":
        reason = Reason("state", there.state, "running", "drift")
        yield replace(change, action="start", reasons=(reason,))


def _differences(guest: Guest, there: ObservedGuest) -> Iterable[Reason]:
    before, after = there.record.asked, guest.asked
    same_type = there.record.type == guest.driver.word
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old == new or (name == "type" and same_type) or name == "image":
            continue
        yield Reason(name, old, new)
    if there.record.image_identity != guest.image.identity:
        yield Reason("image", before.get("image"), after.get("image") or guest.image.name)
    drifted = there.autostart != guest.spec.autostart and there.record.finished
    if drifted and before.get("autostart") == guest.spec.autostart:
        yield Reason("autostart", there.autostart, guest.spec.autostart, "drift")


def _moved(there: ObservedGuest, spec: str) -> tuple[Reason, ...]:
    """The spec's path, where it is another one than the guest was made from."""
    return (Reason("spec", there.record.spec, spec),) if there.record.spec != spec else ()


def _gone(there: ObservedGuest, host: str, spec: str) -> Change:
    """A guest that left the spec."""
    kept = [each.name for each in there.record.volumes if each.keep]
    disks = [e.name for e in there.record.volumes if e.role in ("root", "disk") and not e.keep]
    stays = f" ({', '.join(kept)} stays)" if kept else ""
    return Change(
        f"guest/{there.record.guest}",
        host,
        "delete",
        reasons=(Reason("guest", there.record.guest, None), *_moved(there, spec)),
        lost=f"{', '.join(disks)}{stays}",
        observed=there,
    )


def _in_the_way(guest: Guest, observed: Observed) -> Iterable[RequestError]:
    """What of others has a name that the guest needs."""
    where = f"{guest.host} guest/{guest.name}"
    there = observed.guests.get(guest.domain)
    if there is not None and (there.record.environment, there.record.guest) != (
        guest.environment,
        guest.name,
    ):
        yield _taken(
            f"domain {guest.domain}",
            f"it is guest {there.record.guest} of environment {there.record.environment}",
            where,
        )
    if (guest.driver.scheme, guest.domain) in observed.domains:
        yield _taken(f"domain {guest.domain}", "it carries no record of virtkit's", where)
    known = {each.name for each in there.record.volumes} if there else set()
    for volume in guest.volumes:
        kept = observed.pool.kept.get(volume.name)
        ours = kept is not None and volume.keep and kept.environment == guest.environment
        if volume.name in observed.volumes and volume.name not in known and not ours:
            why = f"no record of guest {guest.name} lists it"
            yield _taken(f"volume {volume.name}", why, where)


def _taken(what: str, why: str, where: str) -> RequestError:
    return RequestError(
        f"{what} exists and is not this environment's",
        why=why,
        cure="rename or remove it, or give the environment or the guest another name",
        where=where,
    )


# --- images and networks --------------------------------------------------------------------


def _images(guests: Iterable[Change]) -> Iterable[Change]:
    """The images that have to be made for the guests that will be."""
    seen: set[str] = set()
    for change in guests:
        guest = change.desired
        if not isinstance(guest, Guest) or guest.image.files or guest.image.identity in seen:
            continue
        seen.add(guest.image.identity)
        yield Change(f"image/{guest.image.name}", guest.host, "create", desired=guest.image)


def _networks(
    desired: Desired,
    observed: Observed,
    wanted: Collection[Guest],
    errors: list[RequestError],
    *,
    everything: bool,
) -> Iterable[Change]:
    mine = observed.networks_of(desired.environment)
    needed = {each.network for guest in wanted for each in guest.interfaces}
    for network in desired.networks:
        if network.name not in needed:
            continue
        there = mine.get(network.name)
        if there is None and network.libvirt_name in {*observed.strangers, *observed.networks}:
            where = f"{network.host} network/{network.name}"
            errors.append(_taken(f"network {network.libvirt_name}", "it is another's", where))
            continue
        try:
            yield from _network(network, there)
        except RequestError as error:
            errors.append(error)
    if everything:
        names = {network.name for network in desired.networks}
        for name, old in mine.items():
            if name not in names and not _strangers(old, observed, desired.environment):
                yield Change(f"network/{name}", observed.host, "delete", observed=old)


def _strangers(network: ObservedNetwork, observed: Observed, environment: str) -> list[str]:
    """The domains on a network that are not this environment's."""
    ours = {each.domain for each in observed.guests_of(environment).values()}
    return [user for user in network.users if user not in ours]


def _network(network: Network, there: ObservedNetwork | None) -> Iterable[Change]:
    change = Change(f"network/{network.name}", network.host, "create", desired=network)
    if there is None:
        yield change
        return
    change = replace(change, observed=there)
    before, after = there.record.asked, network.asked
    reasons = [
        Reason(name, before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    if reasons and there.users:
        raise RequestError(
            f"network {network.name}: {', '.join(each.field for each in reasons)} can't change "
            "while guests hold it",
            why=f"{', '.join(there.users)} would lose their link",
            cure="take these guests down first (virtkit down SPEC GUEST…), then up again",
            where=f"{network.host} network/{network.name}",
        )
    if reasons:
        yield replace(change, action="replace", effect="recreate", reasons=tuple(reasons))
        return
    old = [asdict(each) for each in there.record.reservations]
    new = [asdict(each) for each in network.reservations]
    if old != new:
        reason = Reason("reservations", len(old), len(new))
        yield replace(change, action="update", effect="live", reasons=(reason,))
    elif not there.active or not there.autostart:
        reason = Reason("active", there.active, True, "drift")
        yield replace(change, action="start", reasons=(reason,))


def needs_consent(plan: Plan) -> VirtkitError | None:
    """The error for a plan that loses something and that nobody agreed to."""
    if not plan.asks:
        return None
    losses = "; ".join(f"{change.object}: {change.lost}" for change in plan.asks)
    return RequestError(
        "this would delete or recreate what holds data, and nobody agreed",
        why=f"lost would be: {losses}",
        cure="look at `virtkit plan`, then run again with --yes",
    )
