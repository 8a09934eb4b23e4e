"""Carries out a plan: steps in their order, in parallel, with events on the way and a report."""

from virtkit.apply.context import Context, Options
from virtkit.apply.engine import Event, Report, Result, Step, run
from virtkit.apply.shutdown import stop
from virtkit.apply.steps import steps_of

__all__ = ["Context", "Event", "Options", "Report", "Result", "Step", "run", "steps_of", "stop"]
