"""The command line: one small function per verb, that calls the door and shows its answer."""

from virtkit.cli.app import main

__all__ = ["main"]
