"""What a plan is made of: changes, the reasons for each, and what they cost.

Holds data only. Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from virtkit.drivers.effects import Effect
from virtkit.errors import VirtkitError
from virtkit.state.desired import Desired, Guest, ImageRef, Network
from virtkit.state.observed import ObservedGuest, ObservedNetwork
from virtkit.state.record import Cause

Action = Literal["create", "update", "replace", "start", "stop", "delete"]


@dataclass(frozen=True)
class FieldChange:
    """One field that differs, and what it costs to change it. ``where``: the place in the spec's
    files that says so, as ``FILE:LINE:COL``; empty where none does."""

    field: str
    before: Any
    after: Any
    cause: Cause = "spec"
    effect: Effect = "none"
    where: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "field": self.field,
            "from": self.before,
            "to": self.after,
            "cause": self.cause,
            "effect": self.effect,
            **({"where": self.where} if self.where else {}),
        }


@dataclass(frozen=True)
class Change:
    """One entry of a plan.

    Attributes:
        object: ``guest/NAME``, ``network/NAME`` or ``image/NAME``.
        lost: what is gone after it; not empty means that it needs consent.
        desired: the object as it should be, for whoever applies the change.
        observed: the object as it stands.
        staged: fields that will wait for the guest's next boot, and the cause of each.
    """

    object: str
    host: str
    action: Action
    effect: Effect = "none"
    reasons: tuple[FieldChange, ...] = ()
    lost: str = ""
    desired: Guest | Network | ImageRef | None = None
    observed: ObservedGuest | ObservedNetwork | None = None
    staged: Mapping[str, Cause] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.object.partition("/")[2]

    @property
    def loss_text(self) -> str:
        """What is lost of which object, and from which spec that was made if not from this one."""
        moves = (each for each in self.reasons if each.field == "spec")
        paths = (f" (made from {e.before or 'an unknown spec'}, not from {e.after})" for e in moves)
        return f"{self.object}: {self.lost}{next(paths, '')}"

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


def path_change(
    current: ObservedGuest | ObservedNetwork, spec_path: str
) -> tuple[FieldChange, ...]:
    """The reason that an object was made from another spec; empty where it was from this one."""
    return (
        (FieldChange("spec", current.record.spec, spec_path),)
        if current.record.spec != spec_path
        else ()
    )


@dataclass(frozen=True)
class UnknownGuest:
    """A guest whose state is not known, or that waits for such a guest. ``host`` may have it.

    Attributes:
        place: what does not answer: the host, or a driver of it.
    """

    guest: str
    host: str
    why: str
    place: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"object": f"guest/{self.guest}", "host": self.host, "why": self.why}


@dataclass(frozen=True)
class Plan:
    """The difference between a spec and libvirt. ``notes`` are for people.

    Attributes:
        guests: what it was narrowed to, as the command line names guests; empty for all.
        unanswered: the errors of hosts that do not answer, by name, and of drivers of the others,
            as ``HOST (DRIVER)``; the plan lacks what is there.
        unknown: the guests that are left alone because of that.
        source: the spec's file, the first of several.
    """

    environment: str
    changes: tuple[Change, ...] = ()
    pending: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    desired: Desired | None = field(default=None, repr=False)
    guests: tuple[str, ...] = ()
    unanswered: Mapping[str, VirtkitError] = field(default_factory=dict)
    unknown: tuple[UnknownGuest, ...] = ()
    source: str = ""

    @property
    def incomplete(self) -> bool:
        """Whether hosts that do not answer may have something that the plan is about."""
        return bool(self.unanswered) and (bool(self.unknown) or not self.guests)

    def as_dict(self) -> dict[str, Any]:
        """The document of ``plan --json``."""
        document: dict[str, Any] = {
            "environment": self.environment,
            "changes": [change.as_dict() for change in self.changes],
            "pending": [change.as_dict() for change in self.pending],
            "notes": list(self.notes),
        }
        if self.unanswered:
            document |= {
                "unanswered": {host: error.as_dict() for host, error in self.unanswered.items()},
                "unknown": [each.as_dict() for each in self.unknown],
            }
        return document

    @property
    def needs_consent(self) -> tuple[Change, ...]:
        """The changes that need consent."""
        return tuple(change for change in self.changes if change.lost)
