"""Where a guest is to be: hosts, labels and other guests that its spec names must be there."""

from __future__ import annotations

from collections.abc import Collection

from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.model import LOCAL
from virtkit.spec.problem import Problem, quote, suggestion


def check(draft: Draft, problems: Problems) -> None:
    """Errors of guests' ``host`` and ``place`` go to ``problems``."""
    names = {each.base for each in draft.entries} | {each.name for _, each in draft.guests()}
    labels = {label for each in draft.hosts.models.values() for label in each.labels} | {"host"}
    for entry in draft.entries:
        _host(entry, draft, problems)
        _place(entry, names, labels, problems)


def _host(entry: Entry, draft: Draft, problems: Problems) -> None:
    """A host that there is."""
    host_name, hosts = entry.fields.host, [*draft.hosts.nodes] or [LOCAL]
    if host_name is not None and host_name not in hosts:
        cure = (
            f"add `{LOCAL}: {{}}` to `hosts:`"
            if host_name == LOCAL
            else suggestion(host_name, hosts)
        )
        problem = Problem(f"there is no host {quote(host_name)}", cure=cure)
        problems.at(entry.node, ("host",), problem)


def _place(
    entry: Entry, names: Collection[str], labels: Collection[str], problems: Problems
) -> None:
    """Guests and labels that there are.

    Args:
        names: of all guests, and of their entries.
        labels: of all hosts.
    """
    place = entry.fields.place
    if place is None:
        return
    for key, others in (("apart", place.apart), ("with", place.beside)):
        for other in others:
            if other not in names:
                problem = Problem(
                    f"there is no guest {quote(other)}", cure=suggestion(other, names)
                )
                problems.at(entry.node, ("place", key), problem)
    if place.spread is not None and place.spread not in labels:
        problem = Problem(
            f"no host has the label {quote(place.spread)}",
            cure=f"give hosts `labels: {{{place.spread}: …}}`, or use {', '.join(sorted(labels))}",
        )
        problems.at(entry.node, ("place", "spread"), problem)
