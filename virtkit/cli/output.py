"""What people and programs read: answers on stdout, all else on stderr. Nothing by colour alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from virtkit.api import GuestStatus, Plan, Report
from virtkit.errors import VirtkitError
from virtkit.plan import Change
from virtkit.spec import LOCAL, format_size, shown

#: Where nobody looks, lines are as long as they are.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_SIGNS = {"create": "+", "update": "~", "replace": "!", "start": ">", "stop": ".", "delete": "-"}
_STYLES = {"create": "green", "update": "yellow", "replace": "red", "delete": "red"}
_SIZES = {"memory", "disk", "size"}


def data(document: Mapping[str, Any] | list[Any]) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def error(problem: VirtkitError, *, as_json: bool) -> None:
    """An error with where, why and cure, or all of them as JSON."""
    every = [each.as_dict() for each in problem.every()]
    if as_json:
        data({"error": every[0], "errors": every})
        return
    for each in every:
        err.print(f"[bold red]error:[/] {escape(_plain(str(each['what'])))}")
        for word in ("where", "why", "cure"):
            if each[word]:
                text = _plain(str(each[word])).replace("\n", "\n  ")
                err.print(f"  [bold]{word}:[/] {escape(text)}")


def _plain(text: str) -> str:
    """Text without what a terminal acts on: guests and libvirt have a say in it."""
    return "\n".join(shown(line) for line in text.split("\n"))


def say(line: str) -> None:
    """A line of progress."""
    err.print(f"[dim]{escape(_plain(line))}[/]")


def label(object: str, host: str) -> str:
    """An object, and its host where that isn't this machine."""
    return object if host == LOCAL else f"{object} on {host}"


def plan(found: Plan) -> None:
    """A plan, a line per change and one per reason."""
    count = len(found.changes)
    what = "nothing to change" if not count else f"{count} change{'s' if count > 1 else ''}"
    out.print(f"[bold]{found.environment}[/]: {what}")
    for change in found.changes:
        out.print(_change(change))
        _reasons(change)
        if change.lost:
            out.print(f"      [red]lost: {escape(change.lost)}[/]")
    for change in found.pending:
        cure = "virtkit up --restart" if change.effect == "restart" else "its next boot"
        name = label(change.object, change.host)
        out.print(f"  [cyan]…[/] {name:24} pending  until {cure}")
        _reasons(change)
    for note in found.notes:
        out.print(f"  [dim]{escape(_plain(note))}[/]")


def _reasons(change: Change) -> None:
    for reason in change.reasons:
        before, after = (_value(reason.field, each) for each in (reason.before, reason.after))
        words: list[str] = [] if reason.cause == "spec" else [reason.cause]
        if reason.effect not in ("none", change.effect):
            words.append(reason.effect)
        why = f" ({', '.join(words)})" if words else ""
        said = _plain(f"{reason.field}: {before} -> {after}")
        out.print(f"      {escape(said)}{why}")


def _change(change: Change) -> str:
    style = _STYLES.get(change.action, "none")
    effect = "" if change.effect == "none" else f"  {change.effect}"
    sign = _SIGNS[change.action]
    name = label(change.object, change.host)
    return f"  [{style}]{sign}[/] {name:24} {change.action}{effect}"


def _value(field: str, value: Any) -> str:
    """A value in few words: sizes as they are written, of a map what it says."""
    if value is None or value == {}:
        return "none"
    if isinstance(value, Mapping):
        said = {key: each for key, each in value.items() if each and key != "name"}
        return ", ".join(f"{key} {_value(key, each)}" for key, each in said.items()) or "yes"
    if field.rpartition(".")[2] in _SIZES and isinstance(value, int):
        return format_size(value)
    return value if isinstance(value, str) else json.dumps(value)


def report(found: Report, done: str) -> None:
    """How a run ended: its failures, what is left, then one line."""
    for each in found.results:
        if each.error is not None:
            err.print(f"[bold red]failed:[/] {label(each.object, each.host)} {each.step}")
            error(each.error, as_json=False)
        if each.note:
            where = label(each.object, each.host)
            err.print(f"[yellow]note:[/] {escape(_plain(f'{where} {each.step}: {each.note}'))}")
    skipped = sorted({label(e.object, e.host) for e in found.results if e.outcome == "skipped"})
    if found.interrupted:
        for object, steps in found.left.items():
            err.print(f"[yellow]left:[/] {object}: {', '.join(steps)}")
    elif skipped:
        err.print(f"[yellow]skipped:[/] {', '.join(skipped)}")
    end = done if found.ok else "interrupted" if found.interrupted else "failed"
    out.print(f"[bold]{found.environment}[/]: {end} ({found.elapsed:.1f} s)")


def status(guests: Iterable[GuestStatus], *, environments: bool) -> None:
    """The status table, and why guests are not as they should be."""
    told: list[GuestStatus] = []
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ["guest", "type", "state", "ready", "address", "user", "virtualization"]
    guests = list(guests)
    if any(each.host != LOCAL for each in guests):
        columns.insert(2, "host")
    if any(each.pending for each in guests):
        columns.append("pending")
    for column in [*(["environment"] if environments else []), *columns]:
        table.add_column(column, no_wrap=column != "virtualization")
    for each in guests:
        row = [
            each.name,
            each.type,
            *([each.host] if "host" in columns else []),
            each.state,
            "yes" if each.ready else "no",
            ", ".join(each.addresses) or "-",
            each.user,
            each.model,
            *([", ".join(each.pending) or "-"] if "pending" in columns else []),
        ]
        cells = [*([each.environment] if environments else []), *row]
        table.add_row(*(escape(_plain(cell)) for cell in cells))
        if each.why:
            told.append(each)
    out.print(table)
    for each in told:
        out.print(f"{escape(each.name)}: {escape(_plain(each.why))}")


def table(columns: list[str], rows: Iterable[Iterable[str]]) -> None:
    """A plain table."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column)
    for row in rows:
        made.add_row(*(escape(cell) for cell in row))
    out.print(made)
