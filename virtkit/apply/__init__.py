"""Carries out a plan: steps in their order, in parallel, with events on the way and a report."""

from virtkit.apply.engine import Event, Report, Result, Step, run
from virtkit.apply.hands import Hands, Options
from virtkit.apply.steps import steps_of
from virtkit.apply.stop import stop

__all__ = ["Event", "Hands", "Options", "Report", "Result", "Step", "run", "steps_of", "stop"]
