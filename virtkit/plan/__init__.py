"""Desired against observed: what has to change, why, and what each change costs.

Pure. Records are compared with records; libvirt's XML only by what we rendered (xml/diff.py).
"""

from typing import TYPE_CHECKING

from virtkit._lazy import load_when_used

if TYPE_CHECKING:
    from virtkit.drivers.effects import Effect
    from virtkit.plan.changes import Action, Change, FieldChange, Plan, UnknownGuest
    from virtkit.plan.drift import detaching_paths, has_volume, pending_fields, run_id
    from virtkit.plan.environment import diff, joined
    from virtkit.plan.removal import apply_refusal, down, down_refusal
    from virtkit.plan.select import select, with_after
    from virtkit.state.record import Cause

load_when_used(
    __name__,
    {
        "virtkit.drivers.effects": "Effect",
        "virtkit.plan.changes": "Action Change FieldChange Plan UnknownGuest",
        "virtkit.plan.drift": "detaching_paths has_volume pending_fields run_id",
        "virtkit.plan.environment": "diff joined",
        "virtkit.plan.removal": "apply_refusal down down_refusal",
        "virtkit.plan.select": "select with_after",
        "virtkit.state.record": "Cause",
    },
)

__all__ = [
    "Action",
    "Cause",
    "Change",
    "Effect",
    "FieldChange",
    "Plan",
    "UnknownGuest",
    "apply_refusal",
    "detaching_paths",
    "diff",
    "down",
    "down_refusal",
    "has_volume",
    "joined",
    "pending_fields",
    "run_id",
    "select",
    "with_after",
]
