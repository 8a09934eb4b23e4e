"""Where a guest is to be: hosts, labels and other guests that its spec names must be there."""

from __future__ import annotations

from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.model import LOCAL
from virtkit.spec.problem import Problem, quote, suggestion


def check(entry: Entry, draft: Draft, problems: Problems) -> None:
    """Errors of a guest's ``host`` and ``place`` go to ``problems``."""
    _host(entry, draft, problems)
    _place(entry, draft, problems)


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


def _place(entry: Entry, draft: Draft, problems: Problems) -> None:
    """Guests and labels that there are."""
    place = entry.fields.place
    if place is None:
        return
    names = {each.base for each in draft.entries} | {each.name for _, each in draft.guests()}
    for key, others in (("apart", place.apart), ("with", place.beside)):
        for other in others:
            if other not in names:
                problem = Problem(
                    f"there is no guest {quote(other)}", cure=suggestion(other, names)
                )
                problems.at(entry.node, ("place", key), problem)
    labels = {label for each in draft.hosts.models.values() for label in each.labels} | {"host"}
    if place.spread is not None and place.spread not in labels:
        problem = Problem(
            f"no host has the label {quote(place.spread)}",
            cure=f"give hosts `labels: {{{place.spread}: …}}`, or use {', '.join(sorted(labels))}",
        )
        problems.at(entry.node, ("place", "spread"), problem)
