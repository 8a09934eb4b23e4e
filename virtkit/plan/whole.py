"""A whole environment: desired against observed, and what removes it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from virtkit import render
from virtkit.drivers.effects import key
from virtkit.errors import RequestError, SpecErrors, VirtkitError
from virtkit.observed import Observed, ObservedGuest, ObservedNetwork
from virtkit.plan.changes import Change, Plan, Reason
from virtkit.plan.guests import compared, moved
from virtkit.plan.networks import compared_network
from virtkit.resources import Desired, Guest

#: The fields that say how large a guest's disks are.
_SIZES = {"disk", "disks.size"}


def diff(
    desired: Desired,
    observed: Observed,
    *,
    spec: str,
    only: Collection[str] | None = None,
    elsewhere: Mapping[str, str] | None = None,
    templates: Mapping[str, str] | None = None,
    restart: bool = False,
) -> Plan:
    """What makes ``observed`` into ``desired``.

    Args:
        spec: the spec's path, to tell where a record's own is another.
        only: guests to look at; nothing is deleted then.
        elsewhere: the hosts of guests that are to be on others; those that are here go.
        templates: the texts of users' own templates, by guest.
        restart: what waits for a restart becomes a change.

    Raises:
        SpecErrors: something of others is in the way, or a guest can't run here.
    """
    difference = _Difference(
        desired, observed, spec, only, elsewhere or {}, templates or {}, restart
    )
    return difference.plan()


class _Difference:
    def __init__(
        self,
        desired: Desired,
        observed: Observed,
        spec: str,
        only: Collection[str] | None,
        elsewhere: Mapping[str, str],
        templates: Mapping[str, str],
        restart: bool,
    ) -> None:
        self._desired = desired
        self._observed = observed
        self._spec = spec
        self._only = only
        self._elsewhere = elsewhere
        self._templates = templates
        self._restart = restart
        self._errors: list[RequestError] = []
        self._pending: list[Change] = []
        self._notes: list[str] = []

    def plan(self) -> Plan:
        every = self._desired.guests
        wanted = [each for each in every if self._only is None or each.name in self._only]
        refused = self._desired.refused
        self._errors += [refused[each.name] for each in wanted if each.name in refused]
        guests = [change for each in wanted for change in self._guest(each)]
        guests += self._left()
        networks = list(self._networks(wanted))
        if self._errors:
            raise SpecErrors(self._errors)
        return Plan(
            environment=self._desired.environment,
            changes=(*_images(guests), *networks, *guests),
            pending=tuple(self._pending),
            notes=(*_choices(guests), *_kept_sizes(guests), *self._notes),
            desired=self._desired,
        )

    # --- guests -----------------------------------------------------------------------------

    def _guest(self, guest: Guest) -> Iterable[Change]:
        there = self._observed.guests_of(self._desired.environment).get(guest.name)
        self._errors += _in_the_way(guest, self._observed)
        if there is None:
            yield Change(f"guest/{guest.name}", guest.host, "create", desired=guest)
            return
        try:
            xml = render.guest(guest, self._templates.get(guest.name, ""))
        except RequestError as error:
            self._errors.append(error)
            return
        found = compared(guest, there, self._observed, spec=self._spec, wanted=xml)
        self._errors += found.errors
        change, waiting = found.change, found.pending
        if waiting is not None and self._restart and waiting.effect == "restart":
            reasons = (*(change.reasons if change else ()), *waiting.reasons)
            change, waiting = replace(change or waiting, effect="restart", reasons=reasons), None
        if waiting is not None:
            self._pending.append(waiting)
        if change is not None:
            yield change

    def _left(self) -> Iterable[Change]:
        """The guests that left the spec, or the host."""
        names = {each.name for each in self._desired.guests}
        for name, each in self._observed.guests_of(self._desired.environment).items():
            host = self._elsewhere.get(name)
            if host is not None or (self._only is None and name not in names):
                yield _gone(each, self._observed.host, self._spec, host)

    # --- networks ---------------------------------------------------------------------------

    def _networks(self, wanted: Collection[Guest]) -> Iterable[Change]:
        mine = self._observed.networks_of(self._desired.environment)
        needed = {each.network for guest in wanted for each in guest.interfaces}
        taken = {*self._observed.strangers, *self._observed.networks}
        for network in self._desired.networks:
            if network.name not in needed:
                continue
            there = mine.get(network.name)
            if there is None and network.libvirt_name in taken:
                where = f"{network.host} network/{network.name}"
                what = f"network {network.libvirt_name}"
                self._errors.append(_taken(what, "it is another's", where))
                continue
            try:
                found = compared_network(network, there)
            except RequestError as error:
                self._errors.append(error)
                continue
            self._pending += [found.pending] if found.pending else []
            self._notes += found.notes
            if found.change is not None:
                yield found.change
        if self._only is None:
            names = {network.name for network in self._desired.networks}
            for name, old in mine.items():
                if name not in names and not _strangers(
                    old, self._observed, self._desired.environment
                ):
                    yield Change(f"network/{name}", self._observed.host, "delete", observed=old)


def joined(plans: Sequence[Plan]) -> Plan:
    """The plans of an environment's hosts as one. A guest that one host loses and another gets is
    made anew there, and the plan says so."""
    every = [change for each in plans for change in each.changes]
    left = {each.object: each for each in every if each.action == "delete"}
    return replace(
        plans[0],
        changes=tuple(_arrived(each, left.get(each.object)) for each in every),
        pending=tuple(change for each in plans for change in each.pending),
        notes=tuple(note for each in plans for note in each.notes),
    )


def _arrived(change: Change, left: Change | None) -> Change:
    """What makes a guest, where it comes from another host."""
    if change.action != "create" or left is None or not isinstance(left.observed, ObservedGuest):
        return change
    fields = [("host", left.host, change.host)]
    if isinstance(change.desired, Guest):
        fields.append(("type", left.observed.record.type, change.desired.driver.word))
    reasons = tuple(Reason(*each, effect="recreate") for each in fields if each[1] != each[2])
    return replace(change, effect="recreate", reasons=reasons)


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


def _gone(there: ObservedGuest, host: str, spec: str, to: str | None) -> Change:
    """A guest that left the spec, or the host for another one."""
    left = Reason("host", host, to) if to else Reason("guest", there.record.guest, None)
    kept = [each.name for each in there.record.volumes if each.keep]
    disks = [e.name for e in there.record.volumes if e.role in ("root", "disk") and not e.keep]
    stays = f" ({', '.join(kept)} stays)" if kept else ""
    return Change(
        f"guest/{there.record.guest}",
        host,
        "delete",
        reasons=(left, *moved(there, spec)),
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
        ours = (
            kept is not None
            and volume.keep
            and kept.is_of(guest.environment, guest.name, volume.key)
        )
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


def _images(guests: Iterable[Change]) -> Iterable[Change]:
    """The images that have to be made for the guests that will be."""
    seen: set[str] = set()
    for change in guests:
        guest = change.desired
        if not isinstance(guest, Guest) or guest.image.files or guest.image.identity in seen:
            continue
        seen.add(guest.image.identity)
        yield Change(f"image/{guest.image.name}", guest.host, "create", desired=guest.image)


def _choices(guests: Iterable[Change]) -> Iterable[str]:
    """Which type ``auto`` took for guests that are new, how those that are made are confined,
    and why."""
    for each in guests:
        if not isinstance(each.desired, Guest):
            continue
        if each.action == "create" and each.desired.why:
            yield f"{each.object}: {each.desired.why}"
        confinement = each.desired.confinement
        made = each.action in ("create", "replace")
        if made and confinement.mode == "hardened" and confinement.why:
            yield (
                f"{each.object}: {confinement.mode}, not unprivileged: {confinement.why} "
                "(`virtkit doctor` says how to mend it)"
            )


def _kept_sizes(guests: Iterable[Change]) -> Iterable[str]:
    """The containers whose disks grow, and whose file systems nobody grows: that is the hook's."""
    for each in guests:
        guest = each.desired
        if each.action != "update" or not isinstance(guest, Guest) or not guest.anew.why:
            continue
        fields = [reason.field for reason in each.reasons if key(reason.field) in _SIZES]
        if fields:
            yield (
                f"{each.object}: {', '.join(fields)}: the file system keeps its size, which "
                f"libvirt's hook would give it at a start: {guest.anew.why} "
                "(`virtkit doctor` says how to mend it)"
            )


def _strangers(network: ObservedNetwork, observed: Observed, environment: str) -> list[str]:
    """The domains on a network that are not this environment's."""
    ours = {each.domain for each in observed.guests_of(environment).values()}
    return [user for user in network.users if user not in ours]


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
