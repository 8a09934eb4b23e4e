"""One guest as it should be against the guest as it is: what changes, what waits, what is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from virtkit.drivers.effects import Effect, worst
from virtkit.drivers.fields import row_of
from virtkit.errors import RequestError
from virtkit.plan.accounts import RAW, explained, is_covered_by_parts, is_seen_with
from virtkit.plan.changes import Change, FieldChange, path_change
from virtkit.plan.drift import DriftCheck, FieldDifference, has_volume, staged_causes
from virtkit.plan.requested import requested_changes, requested_value
from virtkit.spec import writable_size
from virtkit.spec.defaults import completed
from virtkit.spec.model import drive_number
from virtkit.state import public_keys
from virtkit.state.desired import Guest, Volume
from virtkit.state.observed import Observed, ObservedGuest
from virtkit.state.record import Cause, VolumeRecord


@dataclass
class ComparedGuest:
    """What came of comparing one guest."""

    change: Change | None = None
    pending: Change | None = None
    errors: list[RequestError] = field(default_factory=list)


def compare_guest(
    guest: Guest, current: ObservedGuest, observed: Observed, *, spec_path: str, wanted: str
) -> ComparedGuest:
    """The change that makes ``current`` into ``guest``, and what waits for a restart.

    Args:
        spec_path: the path of the spec at hand.
        wanted: the guest's XML as virtkit renders it now.
    """
    return _Comparison(guest, current, observed, spec_path, wanted).run()


class _Comparison:
    def __init__(
        self, guest: Guest, current: ObservedGuest, observed: Observed, spec_path: str, wanted: str
    ) -> None:
        self._guest = guest
        self._current = current
        self._observed = observed
        self._spec_path = spec_path
        self._drift_check = DriftCheck(guest, current, wanted)
        self._made_volumes = {v.name: v for v in current.record.volumes if v.state == "made"}
        self._starts = guest.spec.start and current.state != "running"
        self._lost: list[str] = []
        self._errors: list[RequestError] = []

    def run(self) -> ComparedGuest:
        base = Change(
            f"guest/{self._guest.name}",
            self._guest.host,
            "update",
            desired=self._guest,
            observed=self._current,
        )
        spec_changes = list(self._spec_changes())
        changes = [*spec_changes, *self._volumes(spec_changes)]
        if any(each.effect == "recreate" for each in changes):
            return ComparedGuest(self._replaced(base, changes), errors=self._errors)
        reasons = _unique([*changes, *self._drift(spec_changes)])
        reasons += self._now(reasons)
        pending = self._pending(reasons)
        answer = ComparedGuest(errors=self._errors)
        if not self._current.record.finished:
            reasons += _unfinished(self._current, self._starts)
        staged = {
            each.field: each.cause
            for each in [*reasons, *pending]
            if each.effect in ("next-boot", "restart") and each.cause != "unfinished"
        }
        if _only_starts(reasons):
            answer.change = replace(base, action="start", reasons=tuple(reasons), staged=staged)
        elif reasons:
            effect = worst(each.effect for each in reasons)
            lost = ", ".join(self._lost)
            reasons += path_change(self._current, self._spec_path) if lost else ()
            answer.change = replace(
                base, effect=effect, reasons=tuple(reasons), lost=lost, staged=staged
            )
        elif self._starts and not self._current.undefined:
            reason = FieldChange("state", self._current.state, "running", "drift", "live")
            answer.change = replace(base, action="start", reasons=(reason,))
        elif _unlisted(self._current, self._observed):
            reason = FieldChange("listed", False, True, "unfinished", "none")
            answer.change = replace(base, reasons=(reason,))
        if pending:
            effect = worst(each.effect for each in pending)
            answer.pending = replace(base, effect=effect, reasons=tuple(pending))
        return answer

    # --- the spec ---------------------------------------------------------------------------

    def _spec_changes(self) -> Iterable[FieldChange]:
        """What the spec requests differently than before."""
        record, guest = self._current.record, self._guest
        for name, old, new in requested_changes(record.requested, guest.requested):
            if name == "image" or (name == "type" and record.type == guest.driver.type):
                continue
            yield FieldChange(name, old, new, effect=self._effect(name, old, new))
            self._lost += _lost_disks(name, old, new, guest, self._made_volumes)
            if name.startswith("disks.") and name.endswith(".mount") and old is None:
                self._errors.append(_blank(guest, name.split(".")[1]))
        if record.image_identity != guest.image.identity:
            after = guest.requested.get("image") or guest.image.name
            yield FieldChange("image", record.requested.get("image"), after, effect="recreate")
        if record.requested.get("ssh_keys") == guest.requested.get("ssh_keys"):
            yield from self._keys()
        yield from self._playbooks()

    def _keys(self) -> Iterable[FieldChange]:
        """Keys that were changed under the same names, or that the guest did not follow yet."""
        recorded, wanted = self._current.record.keys, self._guest.keys
        if recorded is None or wanted is None or public_keys.same(recorded, wanted):
            return
        before, after = (public_keys.names(each) for each in (recorded, wanted))
        cause: Cause = "spec" if self._current.record.finished else "unfinished"
        yield FieldChange("ssh_keys", before, after, cause, self._effect("ssh_keys", before, after))

    def _playbooks(self) -> Iterable[FieldChange]:
        """Playbooks that the guest was not given, or not as they are now, or that did not end well.
        That it has more than its spec asks for by now is no change: nobody takes it back."""
        wanted, provisioned = self._guest.playbooks, self._current.record.provisioned
        left_off = not self._guest.spec.start and self._current.state == "stopped"
        if wanted is None or left_off or (provisioned is not None and provisioned.has(wanted)):
            return
        before = list(provisioned.playbooks) if provisioned else None
        again = provisioned is not None and provisioned.is_of(wanted)
        cause: Cause = "unfinished" if again or not self._current.record.finished else "spec"
        effect = self._effect("playbooks", before, None)
        yield FieldChange("playbooks", before, list(wanted.names), cause, effect)

    def _effect(self, name: str, old: Any, new: Any) -> Effect:
        """What it costs this guest, in the state that it is in."""
        numbers = isinstance(old, int) and isinstance(new, int)
        effect = self._guest.driver.effect(name, less=numbers and new < old)
        check = self._drift_check
        too_much = numbers and check.exceeds_max(name, new)
        needs_start = check.needs_start(name) or _needs_cold_plug(name, self._guest, check)
        if effect == "live" and (too_much or needs_start):
            effect = "restart"
        off = self._current.state == "stopped" and name != "autostart"
        return "next-boot" if off and effect in ("live", "restart") else effect

    def _replaced(self, base: Change, changes: Sequence[FieldChange]) -> Change:
        lost = ", ".join(
            dict.fromkeys([*_replaced_disks(self._guest, self._made_volumes), *self._lost])
        )
        reasons = (*changes, *path_change(self._current, self._spec_path))
        if not lost and path_change(self._current, self._spec_path):
            lost = f"guest {self._guest.name} itself"
        return replace(
            base,
            desired=self._guest.recreated(),
            action="replace",
            effect="recreate",
            reasons=reasons,
            lost=lost,
        )

    # --- volumes ----------------------------------------------------------------------------

    def _volumes(self, spec_changes: Sequence[FieldChange]) -> Iterable[FieldChange]:
        """Disks that are too small, gone behind our back, or left until a restart."""
        for old in self._current.record.volumes:
            if old.state == "deleting" and not has_volume(self._current.live, old.name):
                yield FieldChange(f"volume {old.name}", "left over", None, "unfinished", "none")
        recreated = any(each.effect == "recreate" for each in spec_changes)
        for volume in self._guest.volumes:
            if volume.name not in self._made_volumes or volume.role == "console":
                continue
            if recreated and volume.role != "disk":
                continue
            if self._observed.pool_active and volume.name not in self._observed.volumes:
                yield self._missing_volume(volume)
            elif volume.name in self._observed.disk_sizes:
                yield from self._size(volume, spec_changes)

    def _missing_volume(self, volume: Volume) -> FieldChange:
        if volume.role == "root":
            return FieldChange("disk", "made", "missing", "drift", "recreate")
        own = volume.name.removeprefix(f"{self._guest.domain}-")
        if volume.role == "cdrom":
            name = f"cdroms.{drive_number(own)}.disc"
            return FieldChange(name, "made", "missing", "drift", self._effect(name, None, None))
        name = f"disks.{own}"
        running = self._current.state != "stopped"
        effect: Effect = "restart" if running and volume.role == "disk" else "next-boot"
        if volume.role == "disk":
            self._lost.append(f"disk {volume.name} is gone: an empty one would take its place")
        return FieldChange(name, "made", "missing", "drift", effect)

    def _size(self, volume: Volume, spec_changes: Sequence[FieldChange]) -> Iterable[FieldChange]:
        name = _field(volume) if volume.role == "root" else f"{_field(volume)}.size"
        now = self._observed.disk_sizes[volume.name]
        requested = any(each.field == name and each.after is not None for each in spec_changes)
        if volume.size < now and requested:
            self._errors.append(_no_shrinking(self._guest, name, volume, now))
        if volume.size > now and not requested:
            yield FieldChange(name, now, volume.size, "drift", self._effect(name, now, volume.size))

    # --- what libvirt has -------------------------------------------------------------------

    def _drift(self, spec_changes: Sequence[FieldChange]) -> Iterable[FieldChange]:
        """What somebody changed in libvirt, or a newer version renders differently."""
        current, guest = self._current, self._guest
        if current.record_missing:
            yield FieldChange("record", None, "written", "drift", "none")
        if not current.persistent:
            yield FieldChange("domain", "transient", "persistent", "drift", "none")
        requested = completed(current.record.requested)["autostart"]
        if current.autostart != guest.spec.autostart == requested and current.record.finished:
            yield FieldChange("autostart", current.autostart, guest.spec.autostart, "drift", "live")
        fields = {each.field for each in spec_changes}
        for difference in self._drift_check.next_boot():
            if not explained(difference.field, fields):
                yield replace(_reason(difference), effect=self._cost(difference))

    def _cost(self, difference: FieldDifference) -> Effect:
        if difference.cause == "upgrade":
            return "next-boot"
        if self._current.state != "stopped" and not difference.live:
            return "none"  # only the definition differs, the guest itself doesn't lack it
        return self._live_effect(difference)

    def _live_effect(self, difference: FieldDifference) -> Effect:
        effect = self._effect(difference.field, *_values(difference))
        return "restart" if effect == "live" and not difference.live_fix else effect

    def _now(self, reasons: Sequence[FieldChange]) -> list[FieldChange]:
        """What the running guest lacks and can be given at once."""
        return [each for each in self._live(reasons) if each.effect == "live"]

    def _pending(self, reasons: Sequence[FieldChange]) -> list[FieldChange]:
        """What the running guest lacks until it is restarted."""
        return [each for each in self._live(reasons) if each.effect != "live"]

    def _live(self, reasons: Sequence[FieldChange]) -> list[FieldChange]:
        fields = {each.field for each in reasons}
        staged = staged_causes(self._current)
        answer: list[FieldChange] = []
        for difference in self._drift_check.running():
            # what waits under its own name is not what raw devices bring now
            by = fields - RAW if difference.field in staged else fields
            if explained(difference.field, by):
                continue
            reason = replace(_reason(difference), effect=self._live_effect(difference))
            answer += [reason] if reason.effect == "live" else self._waiting(reason)
        every = _unique([*answer, *self._traceless(fields)])
        names = [each.field for each in every]
        return [
            each
            for each in every
            if not is_covered_by_parts(each.field, names)
            and (each.field in staged or not is_seen_with(each.field, names))
        ]

    def _traceless(self, fields: set[str]) -> Iterable[FieldChange]:
        """What was staged and can't be seen in the running guest's XML."""
        for name, cause in staged_causes(self._current).items():
            if row_of(name).traceless and name not in fields:
                requested = requested_value(self._guest.requested, name)
                yield FieldChange(name, None, requested, cause, _late(cause))

    def _waiting(self, reason: FieldChange) -> Iterable[FieldChange]:
        """What a running guest lacks until it is restarted, named as it was staged: its place in
        the XML may be another field's. Raw devices are told by their place."""
        staged = staged_causes(self._current)
        names = [each for each in staged if explained(reason.field, {each})]
        named = [each for each in names if each not in RAW]
        if "/" in reason.field or not named:
            why: Cause = next((staged[each] for each in names), "drift")
            yield replace(reason, cause=why, effect=_late(why))
            return
        for each in named:
            own = f"{reason.field}.".startswith(f"{each}.")  # what was staged, or a part of it
            if own or not row_of(each).traceless:
                name, cause = reason.field if own else each, staged[each]
                yield replace(reason, field=name, cause=cause, effect=_late(cause))


def _replaced_disks(guest: Guest, made: Mapping[str, VolumeRecord]) -> Iterable[str]:
    """What goes with a guest's root: nothing of one that the host had already, and nothing where an
    interrupted run left none."""
    if any(each.role == "root" for each in made.values()):
        yield f"all on the root disk of {guest.name}"
    stays = {each.name for each in guest.volumes if each.role == "disk"}
    for each in made.values():
        if each.role == "disk" and each.name not in stays and not each.keep:
            yield f"disk {each.name}"


def _late(cause: Cause) -> Effect:
    """What it costs a running guest that it lacks something; nobody asked for an upgrade."""
    return "next-boot" if cause == "upgrade" else "restart"


def _lost_disks(
    name: str, old: Any, new: Any, guest: Guest, made: Mapping[str, VolumeRecord]
) -> Iterable[str]:
    """The disks that go with a change of the field ``name``; one that is kept stays in the pool.

    Args:
        made: the guest's volumes, by name.
    """
    root = f"{guest.domain}-root"
    if name == "disk" and root in made and not guest.volume("root"):
        yield f"disk {root}"
    kind, _, disk = name.partition(".")
    if kind == "disks" and "." not in disk and new is None and not old.get("keep"):
        volume = f"{guest.domain}-{disk}"
    elif kind == "disks" and disk.endswith(".existing") and old is None:
        volume = f"{guest.domain}-{disk.partition('.')[0]}"
    else:
        return
    # of one that the host had already, there is no volume
    if volume in made and not made[volume].keep:
        yield f"disk {volume}"


def _unlisted(current: ObservedGuest, observed: Observed) -> bool:
    """Whether an interrupted run did not come to write the guest, as it is, into the pool's
    record. One that an older version made is listed by the next run that changes anything."""
    listed = observed.pool.guests.get(current.domain)
    return (
        listed is not None and not current.undefined and listed != current.record.for_pool_record()
    )


def _unfinished(current: ObservedGuest, to_be_started: bool) -> Iterable[FieldChange]:
    """What an interrupted run left to do."""
    state = current.state
    effect: Effect = "next-boot" if state == "stopped" else "live"
    if to_be_started:
        yield FieldChange("state", state, "running", "unfinished", "live")
    for each in current.record.volumes:
        if each.state == "wanted" and each.role != "console":
            yield FieldChange(f"volume {each.name}", "missing", "made", "unfinished", effect)
    yield FieldChange("finished", False, True, "unfinished", "live")


def _only_starts(reasons: Sequence[FieldChange]) -> bool:
    """Whether nothing is left to do for an unfinished guest but to start it."""
    done = {each.field for each in reasons} == {"state", "finished"}
    return done and all(each.cause == "unfinished" for each in reasons)


def _blank(guest: Guest, disk: str) -> RequestError:
    """The error about a disk that gets a `mount` once it is made."""
    return RequestError(
        f"guest {guest.name}: disk {disk} was made without a file system",
        why="`mount` formats a disk when it is made, and never one that may hold data",
        cure="give it another name, for a new disk; or remove `mount:` and format it in the guest",
        where=f"{guest.host} guest/{guest.name}",
    )


def _field(volume: Volume) -> str:
    return f"disks.{volume.label}" if volume.role == "disk" else "disk"


def _reason(difference: FieldDifference) -> FieldChange:
    before, after = _values(difference)
    return FieldChange(difference.field, before, after, difference.cause)


def _values(difference: FieldDifference) -> tuple[Any, Any]:
    """What stands there and what should; numbers as such."""
    current, wanted = difference.xml.current, difference.xml.wanted
    if row_of(difference.field).number_in_xml:
        return _number(current), _number(wanted)
    return current, wanted


def _number(text: str | None) -> int | str | None:
    return int(text) if text and text.isdigit() else text


def _no_shrinking(guest: Guest, name: str, volume: Volume, now: int) -> RequestError:
    """The error for a disk that has ``now`` bytes and is to have fewer."""
    return RequestError(
        f"guest {guest.name}: {name} can't shrink",
        why=f"{volume.name} has {now} bytes, the spec says {volume.size}",
        cure=f"use {writable_size(now)} or more; for a smaller disk, make one of another name and "
        "copy what you need",
        where=f"{guest.host} guest/{guest.name}",
    )


def _needs_cold_plug(name: str, guest: Guest, drift_check: DriftCheck) -> bool:
    """Whether a disk that comes or goes is on a bus where none does while the guest runs, or comes
    as a partition of one that may be there as a whole, or for a thread that the next start
    brings."""
    kind, _, disk = name.partition(".")
    if kind != "disks" or "." in disk:
        return False
    if drift_check.io_threads() < (guest.spec.cpu.io_threads or 0):
        return True
    if any(each.options.partition for each in guest.disks if each.name == disk):
        return True
    buses = {each.bus for each in guest.disks if each.name == disk}
    buses.add(drift_check.disk_bus(f"{guest.domain}-{disk}"))
    known = guest.driver.buses
    return any(not known[each].hotplug for each in buses if each in known)


def _unique(reasons: Iterable[FieldChange]) -> list[FieldChange]:
    """One reason for each field: the first."""
    answer: dict[str, FieldChange] = {}
    for each in reasons:
        answer.setdefault(each.field, each)
    return list(answer.values())
