"""Progress of a run: a live tree on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from virtkit import api
from virtkit.cli import output
from virtkit.cli.output import escape, label

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

_MARKS = {"done": "[green]ok[/]", "failed": "[red]failed[/]", "skipped": "[yellow]skipped[/]"}

#: Columns that a tree needs to tell anything; lines are wrapped, and a tree's cut.
_WIDE = 60


@contextmanager
def shown(console: Console, title: str) -> Iterator[api.Tell]:
    """What to tell a run's events to. Forced colours make no terminal of a pipe."""
    if output.can_overwrite(console) and console.width >= _WIDE:
        from rich.live import Live

        tree = _Tree(title)
        with Live(tree, console=console, refresh_per_second=8, transient=False):
            yield tree.tell
    else:
        yield _Lines(console).tell


class _Lines:
    """A line per step that ended, and one where a step says what it waits for."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, str] = {}

    def tell(self, event: api.Event) -> None:
        if event.kind == "planned" or (event.kind == "started" and event.step != "ready"):
            return
        if event.kind == "interrupted":
            self._console.print(escape(f"interrupted: {event.message}"), soft_wrap=True)
            return
        name = label(event.object, event.host)
        text = f": {event.message}" if event.message else ""
        if event.kind == "progress":
            words = event.message.rstrip("0123456789 %MiB/s,.of")  # a moving number is no news
            if not words or self._said.get(name) == words:
                return
            self._said[name] = words
        word = "" if event.kind in ("progress", "started") else f" {event.kind}"
        line = f"{event.elapsed:7.1f} s  {name} {event.step}{word}{text}"
        self._console.print(escape(output.plain(line)), soft_wrap=True)


class _Tree:
    """Objects and what each is doing, with elapsed times."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._interrupted = ""
        self._began = time.monotonic()
        self._steps: dict[str, dict[str, api.Event]] = {}
        self._since: dict[tuple[str, str], float] = {}

    def tell(self, event: api.Event) -> None:
        if event.kind == "interrupted":
            self._interrupted = f"interrupted: {event.message}"
            return
        name = label(event.object, event.host)
        steps = self._steps.setdefault(name, {})
        if event.kind == "started":
            self._since[name, event.step] = time.monotonic()
        steps[event.step] = event

    def __rich__(self) -> Tree:
        from rich.tree import Tree

        elapsed = time.monotonic() - self._began
        tree = Tree(f"[bold]{escape(self._title)}[/] [dim]{elapsed:.0f} s[/]")
        for name, steps in list(self._steps.items()):
            tree.add(f"{escape(name):24} {self._line(name, list(steps.values()))}")
        if self._interrupted:
            tree.add(f"[yellow]{escape(self._interrupted)}[/]")
        return tree

    def _line(self, name: str, steps: list[api.Event]) -> str:
        bad = next((each for each in steps if each.kind in ("failed", "skipped")), None)
        if bad is not None:
            return f"{bad.step} {_MARKS[bad.kind]} [dim]{escape(output.plain(bad.message))}[/]"
        now = [each for each in steps if each.kind in ("started", "progress")]
        if now:
            event = now[-1]
            since = time.monotonic() - self._since.get((name, event.step), time.monotonic())
            what = f": {event.message}" if event.message else ""
            return f"[cyan]{event.step}[/] [dim]{since:.0f} s{escape(output.plain(what[:100]))}[/]"
        if all(each.kind == "done" for each in steps):
            return f"{_MARKS['done']} [dim]{sum(each.elapsed for each in steps):.1f} s[/]"
        return "[dim]waiting[/]"
