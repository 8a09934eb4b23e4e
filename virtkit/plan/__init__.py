"""Desired against observed: what has to change, why, and what each change costs.

Pure. Records are compared with records; libvirt's XML only by what we rendered (compare.py).
"""

from virtkit.drivers.effects import Effect
from virtkit.plan.changes import Action, Change, Plan, Reason
from virtkit.plan.documents import leaving, run_of, uses, waiting
from virtkit.plan.removal import down, needs_consent, needs_consent_to_go
from virtkit.plan.select import select, with_after
from virtkit.plan.whole import diff, joined
from virtkit.plan.whose import command
from virtkit.record import Cause

__all__ = [
    "Action",
    "Cause",
    "Change",
    "Effect",
    "Plan",
    "Reason",
    "command",
    "diff",
    "down",
    "joined",
    "leaving",
    "needs_consent",
    "needs_consent_to_go",
    "run_of",
    "select",
    "uses",
    "waiting",
    "with_after",
]
