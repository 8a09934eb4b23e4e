"""Compares all objects that a spec asks for on a host with what is there: the plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from virtkit.drivers.fields import row_of
from virtkit.errors import RequestError, SpecErrors
from virtkit.facts import HostFacts
from virtkit.plan import (
    disk_conflicts,
    duplicates,
    host_abilities,
    host_conflicts,
    interfaces,
    name_conflicts,
    shared,
)
from virtkit.plan.changes import Change, FieldChange, Plan, path_change
from virtkit.plan.guests import compare_guest
from virtkit.plan.networks import compare_network, with_kept_reservations
from virtkit.plan.removal import foreign_users, lost_with
from virtkit.state.desired import Desired, Guest
from virtkit.state.observed import Observed, ObservedGuest, ObservedNetwork
from virtkit.state.record import Cause
from virtkit.xml import container_mounts, render


def diff(
    desired: Desired,
    observed: Observed,
    *,
    spec_path: str,
    only: Collection[str] | None = None,
    templates: Mapping[str, str] | None = None,
    restart: bool = False,
    facts: HostFacts | None = None,
) -> Plan:
    """What makes ``observed`` into ``desired``.

    Args:
        spec_path: the spec's path; a record may have another.
        only: guests to look at; nothing is deleted then.
        templates: the texts of users' own templates, by guest.
        restart: what waits for a restart becomes a change.
        facts: the host, to see whether it has what the spec names there.

    Raises:
        SpecErrors: something of others is in the way, or a guest can't run here.
    """
    planner = _Planner(desired, observed, spec_path, only, templates or {}, restart, facts)
    return planner.plan()


class _Planner:
    def __init__(
        self,
        desired: Desired,
        observed: Observed,
        spec_path: str,
        only: Collection[str] | None,
        templates: Mapping[str, str],
        restart: bool,
        facts: HostFacts | None,
    ) -> None:
        self._desired = desired
        self._observed = observed
        self._spec_path = spec_path
        self._only = only
        self._templates = templates
        self._restart = restart
        self._facts = facts
        #: All guests of the environment, with and without a domain.
        self._current_guests = {
            **observed.undefined_of(desired.environment),
            **observed.guests_of(desired.environment),
        }
        self._errors: list[RequestError] = []
        self._pending: list[Change] = []
        self._notes: list[str] = []

    def plan(self) -> Plan:
        desired = self._desired.guests
        selected = [each for each in desired if self._only is None or each.name in self._only]
        refused = self._desired.refused
        self._errors += [refused[each.name] for each in selected if each.name in refused]
        guests = [change for each in selected for change in self._guest(each)]
        guests += self._deletions()
        self._errors += duplicates.errors(desired, self._templates)
        networks = list(self._networks(selected))
        if self._facts is not None:
            self._errors += host_conflicts.errors(
                [*networks, *guests],
                self._desired,
                self._facts,
                self._observed,
                spec_path=self._spec_path,
                templates=self._templates,
            )
            self._errors += disk_conflicts.errors(guests, self._facts, self._observed)
            self._errors += shared.errors(guests, self._facts, self._desired.guests)
            self._notes += shared.notes(guests, self._facts)
            self._errors += host_abilities.errors(guests, self._facts)
        self._notes += host_abilities.notes(guests)
        if self._errors:
            raise SpecErrors(self._errors)
        return Plan(
            environment=self._desired.environment,
            changes=(*_images(guests), *networks, *guests),
            pending=tuple(self._pending),
            notes=(
                *_choice_notes(guests),
                *_kept_size_notes(guests),
                *_left_files_notes(guests),
                *_other_spec_notes([*networks, *guests], self._spec_path),
                *self._notes,
            ),
            desired=self._desired,
        )

    # --- guests -----------------------------------------------------------------------------

    def _guest(self, guest: Guest) -> Iterable[Change]:
        current = self._current_guests.get(guest.name)
        self._errors += name_conflicts.errors(guest, self._observed, self._facts, self._spec_path)
        if current is None:
            new = Change(f"guest/{guest.name}", guest.host, "create", desired=guest)
            if guest.playbooks:
                reason = FieldChange("playbooks", None, list(guest.playbooks.names))
                new = replace(new, reasons=(reason,))
            yield new
            return
        try:
            xml = render.domain_xml(guest, self._templates.get(guest.name, ""))
        except RequestError as error:
            self._errors.append(error)
            return
        comparison = compare_guest(
            guest, current, self._observed, spec_path=self._spec_path, wanted=xml
        )
        self._errors += comparison.errors
        change, pending = comparison.change, comparison.pending
        if current.undefined:
            change = _defined_again(guest, current, change)
            if change.action == "create" and not _never_made(current):
                self._notes.append(_again_note(current, self._observed))
        if pending is not None and self._restart and pending.effect == "restart":
            reasons = (*(change.reasons if change else ()), *pending.reasons)
            change = replace(change or pending, action="update", effect="restart", reasons=reasons)
            pending = None
        if pending is not None:
            self._pending.append(pending)
        if change is not None:
            yield change

    def _deletions(self) -> Iterable[Change]:
        """The guests that left the spec, or the host."""
        names = {each.name for each in self._desired.guests}
        for name, each in self._current_guests.items():
            host = self._desired.elsewhere.get(name)
            if host is not None or (self._only is None and name not in names):
                yield _deletion(each, self._observed.host, self._spec_path, host)

    # --- networks ---------------------------------------------------------------------------

    def _networks(self, guests: Collection[Guest]) -> Iterable[Change]:
        current_networks = self._observed.networks_of(self._desired.environment)
        needed = {each.network for guest in guests for each in guest.interfaces}
        taken = {*self._observed.foreign_networks, *self._observed.networks}
        for network in self._desired.networks:
            if network.name not in needed:
                continue
            current = current_networks.get(network.name)
            if current is None and network.libvirt_name in taken:
                where = f"{network.host} network/{network.name}"
                what = f"network {network.libvirt_name}"
                self._errors.append(
                    name_conflicts.not_ours(what, "it belongs to somebody else", where)
                )
                continue
            if current is not None:
                network = with_kept_reservations(network, current, self._left_alone(current))
            try:
                comparison = compare_network(
                    network, current, self._observed, spec_path=self._spec_path
                )
            except RequestError as error:
                self._errors.append(error)
                continue
            if current is not None and self._restarts(current):
                comparison = comparison.restarted()
            self._pending += [comparison.pending] if comparison.pending else []
            self._notes += comparison.notes
            if comparison.change is not None:
                yield comparison.change
        if self._only is None:
            names = {network.name for network in self._desired.networks}
            for name, old in current_networks.items():
                if name not in names and not foreign_users(
                    old, self._observed, self._desired.environment
                ):
                    moves = path_change(old, self._spec_path)
                    yield Change(
                        f"network/{name}",
                        self._observed.host,
                        "delete",
                        reasons=moves,
                        lost=f"network {old.name}" if moves else "",
                        observed=old,
                    )

    def _restarts(self, network: ObservedNetwork) -> bool:
        """Whether what waits for a network's restart is done now: only its own guests are put
        back on it, and guests that nobody named keep their link."""
        environment = self._desired.environment
        named = {f"{environment}-{name}" for name in self._only or ()}
        spared = self._only is not None and not named.issuperset(network.users)
        foreign = foreign_users(network, self._observed, environment)
        return self._restart and not spared and not foreign

    def _left_alone(self, network: ObservedNetwork) -> set[str]:
        """The guests, beside the desired ones, that keep what the network reserves for them: nobody
        knows whether they are there, or a plan of others alone does not touch them."""
        names = {each.guest for each in self._observed.hidden_of(self._desired.environment)}
        current = self._current_guests.keys()
        if self._observed.silent:
            names |= {each.name for each in network.record.reservations} - current
        if self._only is not None:
            names |= current - {each.name for each in self._desired.guests}
        return names


def joined(plans: Sequence[Plan]) -> Plan:
    """The plans of an environment's hosts as one. A guest that one host loses and another gets is
    recreated there, and the plan says so."""
    changes = [change for each in plans for change in each.changes]
    deletions = {each.object: each for each in changes if each.action == "delete"}
    return replace(
        plans[0],
        changes=tuple(_arrived(each, deletions.get(each.object)) for each in changes),
        pending=tuple(change for each in plans for change in each.pending),
        notes=tuple(note for each in plans for note in each.notes),
    )


def _arrived(change: Change, deletion: Change | None) -> Change:
    """What makes a guest, where it comes from another host."""
    if (
        change.action != "create"
        or deletion is None
        or not isinstance(deletion.observed, ObservedGuest)
    ):
        return change
    fields = [("host", deletion.host, change.host)]
    if isinstance(change.desired, Guest):
        fields.append(("type", deletion.observed.record.type, change.desired.driver.type))
    reasons = tuple(FieldChange(*each, effect="recreate") for each in fields if each[1] != each[2])
    return replace(change, effect="recreate", reasons=reasons)


def _deletion(current: ObservedGuest, host: str, spec_path: str, new_host: str | None) -> Change:
    """A guest that left the spec, or the host for another one."""
    reason = (
        FieldChange("host", host, new_host)
        if new_host
        else FieldChange("guest", current.record.guest, None)
    )
    moves = path_change(current, spec_path)
    return Change(
        f"guest/{current.record.guest}",
        host,
        "delete",
        reasons=(reason, *moves),
        lost=lost_with(current) if moves or not _nothing_left(current) else "",
        observed=current,
    )


def _nothing_left(current: ObservedGuest) -> bool:
    """Whether a guest without a domain has no volume either."""
    return current.undefined and not any(each.state == "made" for each in current.record.volumes)


def _never_made(current: ObservedGuest) -> bool:
    """Whether a run listed a guest, and was interrupted or failed before anything of it was
    made."""
    return _nothing_left(current) and not (current.record.finished or current.record.booted)


def _defined_again(guest: Guest, current: ObservedGuest, change: Change | None) -> Change:
    """What defines a guest without a domain again, over those of its volumes that there are.

    Args:
        change: what else differs, as if it had its domain. Its state, and what an interrupted run
            left, are left out.
    """
    new = change or Change(f"guest/{guest.name}", guest.host, "create")
    reasons = [each for each in new.reasons if each.field not in ("state", "finished")]
    cause: Cause = "unfinished" if _never_made(current) else "drift"
    return replace(
        new,
        action="replace" if new.action == "replace" else "create",
        effect="recreate" if new.action == "replace" else "none",
        reasons=(FieldChange("domain", None, current.domain, cause), *reasons),
        desired=new.desired or guest,
        observed=current,
    )


def _again_note(current: ObservedGuest, observed: Observed) -> str:
    disks = [each for each in current.record.volumes if each.role in ("root", "disk")]
    taken = [each.name for each in disks if each.name in observed.volumes]
    name = f"guest/{current.record.guest}"
    if not taken:
        return f"{name}: its domain and its disks are gone: it is recreated"
    recreated = [each.name for each in disks if each.name not in taken]
    are = "is" if len(recreated) == 1 else "are"
    rest = f"; {', '.join(recreated)} {are} recreated" if recreated else ""
    return (
        f"{name}: somebody undefined it: it is defined again with its disks "
        f"({', '.join(taken)}){rest}"
    )


def _images(guests: Iterable[Change]) -> Iterable[Change]:
    """The images that have to be made for the guests that will be."""
    seen: set[str] = set()
    for change in guests:
        guest = change.desired
        if not isinstance(guest, Guest) or guest.image.files or guest.image.is_none:
            continue
        if guest.image.identity in seen:
            continue
        seen.add(guest.image.identity)
        yield Change(f"image/{guest.image.name}", guest.host, "create", desired=guest.image)


def _choice_notes(guests: Iterable[Change]) -> Iterable[str]:
    """Which type ``auto`` took for guests that are new, how those that are made are confined,
    and why, and what they make of folders: each once, for all guests that it is about."""
    about: dict[str, list[str]] = {}
    for each in guests:
        if not isinstance(each.desired, Guest):
            continue
        if each.action == "create" and each.desired.why:
            about.setdefault(each.desired.why, []).append(each.object)
        confinement = each.desired.confinement
        is_made = each.action in ("create", "replace")
        if folders_note := _folders_note(each):
            about.setdefault(folders_note, []).append(each.object)
        for interface_note in (
            interfaces.mtu_note(each.desired),
            interfaces.reach_note(each.desired),
        ):
            if is_made and interface_note:
                about.setdefault(interface_note, []).append(each.object)
        if is_made and confinement.mode == "hardened" and confinement.why:
            note = (
                f"{confinement.mode}, not unprivileged: {confinement.why} "
                "(`virtkit doctor` says how to fix it)"
            )
            about.setdefault(note, []).append(each.object)
    for note, objects in about.items():
        yield f"{', '.join(objects)}: {note}"


def _folders_note(change: Change) -> str:
    """What to know of the host's folders that a guest is given by this change."""
    guest = change.desired
    fields = {reason.field for reason in change.reasons}
    gets_folders = change.action in ("create", "replace") or "devices" in fields
    if not isinstance(guest, Guest) or not gets_folders:
        return ""
    return container_mounts.owner_note(guest, render.raw_devices(guest))


def _other_spec_notes(changes: Iterable[Change], spec_path: str) -> Iterable[str]:
    """What changes and was made from another spec: it may be somebody else's."""
    objects_by_spec: dict[str, list[str]] = {}
    for each in changes:
        current = each.observed
        explained = any(reason.field == "spec" for reason in each.reasons)
        if current is not None and current.record.spec != spec_path and not explained:
            objects_by_spec.setdefault(current.record.spec, []).append(each.object)
    for path, objects in objects_by_spec.items():
        yield f"{', '.join(objects)}: made from {path}, not from {spec_path}"


def _kept_size_notes(guests: Iterable[Change]) -> Iterable[str]:
    """The containers whose disks grow, and whose file systems nobody grows: that is the hook's."""
    for each in guests:
        guest = each.desired
        if each.action != "update" or not isinstance(guest, Guest):
            continue
        why = guest.next_confinement.why
        if not why:
            continue
        # what grows is a disk
        grown = [r.field for r in each.reasons if row_of(r.field).action == "grow"]
        if grown:
            yield (
                f"{each.object}: {', '.join(grown)}: the file system keeps its size, since "
                f"libvirt's hook does not grow it at the next start: {why} "
                "(`virtkit doctor` says how to fix it)"
            )


def _left_files_notes(guests: Iterable[Change]) -> Iterable[str]:
    """The files that leave a guest's list: nobody removes them."""
    for each in guests:
        gone = [r.field.partition(".")[2] for r in each.reasons if r.after is None]
        paths = [path for path in gone if path.startswith("/")]
        if paths and each.action == "update":
            yield f"{each.object}: {', '.join(paths)}: no longer in `files`, and stays in the guest"
