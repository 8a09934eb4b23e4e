"""What people and programs read: answers on stdout, all else on stderr. Nothing by colour alone."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from virtkit import api
from virtkit.drivers.fields import FIELDS
from virtkit.errors import VirtkitError
from virtkit.spec.problem import escaped
from virtkit.spec.sizes import format_size

if TYPE_CHECKING:
    from rich.console import Console

    from virtkit.plan import Change


#: How long lines are where nobody looks.
_WIDTH = 240
_SIGNS = {"create": "+", "update": "~", "replace": "!", "start": ">", "stop": ".", "delete": "-"}
_STYLES = {"create": "green", "update": "yellow", "replace": "red", "delete": "red"}
#: The last words of fields that are so many bytes.
_SIZES = {name.rpartition(".")[2] for name, row in FIELDS.items() if row.number == "bytes"}


@functools.cache
def out() -> Console:
    """Standard output. Where nobody looks, lines are as long as they are."""
    from rich.console import Console  # it takes longer to load than most answers to print

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH)


@functools.cache
def err() -> Console:
    """Standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def escape(text: str) -> str:
    """Text in which brackets are no markup."""
    from rich import markup

    return markup.escape(text)


def line(text: str) -> None:
    """A line on standard output, as it is."""
    sys.stdout.write(f"{text}\n")


def _styled() -> bool:
    """Whether standard output takes more than text: rich's own question, asked without rich."""
    wanted = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    return sys.stdout.isatty() or any(each in os.environ for each in wanted)


def can_overwrite(console: Console) -> bool:
    """Whether what was printed there can be printed over."""
    return console.file.isatty() and not console.is_dumb_terminal


def data(document: Mapping[str, Any] | list[Any]) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def answer(document: Mapping[str, Any], unanswered: Mapping[str, VirtkitError]) -> None:
    """One JSON document, with why hosts do not answer, where there are such."""
    errors = {host: error.as_dict() for host, error in unanswered.items()}
    data({**document, "unanswered": errors} if errors else document)


def unanswered(hosts: Mapping[str, VirtkitError]) -> None:
    """Says which hosts do not answer."""
    for host, problem in hosts.items():
        say(f"{api.unanswered_line(host, problem)}; cure: {problem.cure}")


def end(hosts: Mapping[str, VirtkitError]) -> None:
    """The end of an answer; exits with 1 where ``hosts`` do not answer that may have some of it."""
    unanswered(hosts)
    if hosts:
        raise SystemExit(1)


def error(problem: VirtkitError, *, as_json: bool) -> None:
    """An error with where, why and cure, or all of them as JSON."""
    every = [each.as_dict() for each in problem.every()]
    if as_json:
        data({"error": every[0], "errors": every})
        return
    for each in every:
        err().print(f"[bold red]error:[/] {escape(plain(str(each['what'])))}")
        for word in ("where", "why", "cure"):
            if each[word]:
                text = plain(str(each[word])).replace("\n", "\n  ")
                err().print(f"  [bold]{word}:[/] {escape(text)}")


def plain(text: str) -> str:
    """Text without what a terminal acts on: guests and libvirt have a say in it."""
    return "\n".join(escaped(line) for line in text.split("\n"))


def say(line: str) -> None:
    """A line of progress."""
    err().print(f"[dim]{escape(plain(line))}[/]")


def at_terminal() -> bool:
    """Whether there is somebody to be asked."""
    return sys.stderr.isatty() and sys.stdin.isatty()


def ask(question: str) -> bool:
    """Whether somebody at a terminal says yes; the input's end is a no."""
    while at_terminal():
        sys.stderr.write(f"{question} [y/N]: ")
        sys.stderr.flush()
        answer = sys.stdin.readline().strip().lower()
        if answer in ("y", "yes"):
            return True
        if answer in ("", "n", "no"):
            return False
    return False


def label(object: str, host: str) -> str:
    """An object, and its host where that isn't this machine."""
    from virtkit.spec import LOCAL  # with the models, which help texts do without

    return object if host == LOCAL else f"{object} on {host}"


def plan(plan: api.Plan) -> None:
    """A plan, a line per change and one per reason."""
    count = len(plan.changes)
    what = "nothing to change" if not count else f"{count} change{'s' if count > 1 else ''}"
    out().print(f"[bold]{plan.environment}[/]: {what}")
    for change in plan.changes:
        out().print(_change(change))
        _reasons(change, plan.source)
        if change.lost:
            out().print(f"      [red]lost: {escape(change.lost)}[/]")
    for change in plan.pending:
        cure = "virtkit up --restart" if change.effect == "restart" else "its next boot"
        name = label(change.object, change.host)
        out().print(f"  [cyan]…[/] {name:24} pending  until {cure}")
        _reasons(change, plan.source)
    for each in plan.unknown:
        name = label(f"guest/{each.guest}", each.host)
        out().print(f"  [yellow]?[/] {name:24} unknown  {escape(plain(each.why))}")
    for note in plan.notes:
        out().print(f"  [dim]{escape(plain(note))}[/]")
    for problem in plan.unanswered.values() if plan.incomplete else ():
        error(problem, as_json=False)


def _reasons(change: Change, source: str) -> None:
    """The reasons of a change, with the place of those that another file than the spec's first one
    says."""
    for reason in change.reasons:
        before, after = (_value(reason.field, each) for each in (reason.before, reason.after))
        words: list[str] = [] if reason.cause == "spec" else [reason.cause]
        if reason.effect not in ("none", change.effect):
            words.append(reason.effect)
        said = plain(f"{reason.field}: {before} -> {after}")
        if before == after:  # a name stays, and what it names is another one
            said = plain(f"{reason.field}: {after}")
            words = words or ["changed"]
        why = f" ({', '.join(words)})" if words else ""
        elsewhere = reason.where and not reason.where.startswith(f"{source}:")
        place = f"  [dim]{escape(plain(reason.where))}[/]" if elsewhere else ""
        out().print(f"      {escape(said)}{why}{place}")


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


def report(report: api.Report, done: str) -> None:
    """How a run ended: its failures, what is left, then one line."""
    for each in report.results:
        if each.error is not None:
            err().print(f"[bold red]failed:[/] {label(each.object, each.host)} {each.step}")
            error(each.error, as_json=False)
        if each.note:
            where = label(each.object, each.host)
            err().print(f"[yellow]note:[/] {escape(plain(f'{where} {each.step}: {each.note}'))}")
    skipped = sorted({label(e.object, e.host) for e in report.results if e.outcome == "skipped"})
    if report.interrupted:
        for object, steps in report.not_done.items():
            err().print(f"[yellow]left:[/] {object}: {', '.join(steps)}")
    elif skipped:
        err().print(f"[yellow]skipped:[/] {', '.join(skipped)}")
    end = done if report.ok else "interrupted" if report.interrupted else "failed"
    out().print(f"[bold]{report.environment}[/]: {end} ({report.elapsed:.1f} s)")


def status(guests: Iterable[api.GuestStatus], *, environments: bool) -> None:
    """The status table, and why guests are not as they should be.

    Args:
        environments: a table for each spec that guests were made from, below whose it is.
    """
    from virtkit.spec import LOCAL

    guests = list(guests)
    columns = ["guest", "type", "state", "ready", "address", "user", "virtualization"]
    if any(each.host != LOCAL for each in guests):
        columns.insert(2, "host")
    if any(each.pending for each in guests):
        columns.append("pending")
    rows = [_row(each, columns) for each in guests]
    # tables below each other are one to the eye
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    groups: dict[str, list[int]] = {}
    for number, each in enumerate(guests):
        groups.setdefault(_made_from(each) if environments else "", []).append(number)
    for title, members in (groups or {"": []}).items():
        if title:
            _print(plain(title), "bold")
        _table(columns, [rows[number] for number in members], widths, wraps="virtualization")
        for each in (guests[number] for number in members):
            if each.why:
                _print(f"{each.name}: {plain(each.why)}")
        if title and title != list(groups)[-1]:
            _print("")


def _row(guest: api.GuestStatus, columns: Iterable[str]) -> list[str]:
    cells = {
        "guest": guest.name,
        "type": guest.type,
        "host": guest.host,
        "state": guest.state,
        "ready": "yes" if guest.ready else "no",
        "address": ", ".join(guest.addresses) or "-",
        "user": guest.user,
        "virtualization": guest.virtualization,
        "pending": ", ".join(guest.pending) or "-",
    }
    return [plain(cells[column]) for column in columns]


def _made_from(guest: api.GuestStatus) -> str:
    """A guest's environment and spec, and the user whose file that is."""
    owner = f" ({guest.owner})" if guest.owner else ""
    return f"{guest.environment}: {guest.spec}{owner}"


_CHECKED = {True: "[green]ok[/]     ", False: "[red]missing[/]", None: "[dim]note[/]   "}


def checks(checks: Iterable[api.Check]) -> None:
    """What was looked at, and the command that fixes it."""
    for each in checks:
        out().print(f"{_CHECKED[each.ok]} {escape(plain(f'{each.name}: {each.what}'))}")
        if each.cure:
            out().print(f"        cure: {plain(each.cure)}", markup=False)


def orphans(answer: api.Answer[list[api.Orphan]]) -> None:
    """What is left over, and the command that removes it."""
    for each in answer.value:
        mark = "[yellow]orphan[/]" if each.sure else "[dim]maybe[/] "
        said = f"{each.kind} {label(each.name, each.host)}: {each.why}"
        out().print(f"{mark} {escape(plain(said))}")
        out().print(f"        to remove it: {plain(each.cure)}", markup=False)
    if not answer.value:
        where = " on the hosts that answer" if answer.unanswered else ""
        out().print(f"nothing is left over{where}")


def table(columns: list[str], rows: Iterable[Iterable[str]]) -> None:
    """A plain table. On a narrow terminal the last column is wrapped, and nothing is cut."""
    every = [list(row) for row in rows]
    widths = [max(map(len, cells)) for cells in zip(columns, *every, strict=True)]
    _table(columns, every, widths, wraps=columns[-1])


def _print(text: str, style: str = "none") -> None:
    """Prints text, in one style. Where nobody looks it needs no rich."""
    if _styled():
        out().print(f"[{style}]{escape(text)}[/]")
    else:
        line(text)


def _table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int], *, wraps: str
) -> None:
    """A table of which ``wraps`` is the column that may take several lines.

    Where nobody looks it is printed without rich, as rich prints it there.
    """
    every = list(rows)
    fits = sum(widths) + 2 * (len(widths) - 1) <= _WIDTH
    if fits and not _styled() and all(cell.isascii() for row in every for cell in row):
        for row in (columns, *every):
            line("  ".join(map(str.ljust, row, widths)))
        return
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        only = column == wraps
        made.add_column(column, no_wrap=not only, min_width=None if only else width)
    for row in every:
        made.add_row(*map(escape, row))
    out().print(made)
