"""Carries out a plan: steps in their order, in parallel, with events on the way and a report."""

from typing import TYPE_CHECKING

from virtkit._lazy import load_when_used

if TYPE_CHECKING:
    from virtkit.apply.context import Context, StepOptions
    from virtkit.apply.engine import Event, Report, Result, Step, run
    from virtkit.apply.shutdown import stop_guest
    from virtkit.apply.steps import steps_of

load_when_used(
    __name__,
    {
        "virtkit.apply.context": "Context StepOptions",
        "virtkit.apply.engine": "Event Report Result Step run",
        "virtkit.apply.shutdown": "stop_guest",
        "virtkit.apply.steps": "steps_of",
    },
)

__all__ = [
    "Context",
    "Event",
    "Report",
    "Result",
    "Step",
    "StepOptions",
    "run",
    "steps_of",
    "stop_guest",
]
