"""Finds what users' own templates give to two guests though only one can have it.

Pure. A spec's ``devices`` are checked when it is read; a template must be rendered first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from virtkit.errors import RequestError
from virtkit.spec import raw_xml
from virtkit.state.desired import Guest


def errors(guests: Iterable[Guest], templates: Mapping[str, str]) -> list[RequestError]:
    """The errors of guests whose template gives them what another one has, or one thing twice.

    Args:
        templates: the texts of users' own templates, by guest.
    """
    answer: dict[tuple[str, str, str], RequestError] = {}
    owners: dict[tuple[str, str], str] = {}
    for guest in sorted(guests, key=lambda each: each.name in templates):
        for resource in _exclusive_resources(guest, templates.get(guest.name, "")):
            place = (resource.kind, resource.value)
            if place in owners and guest.name in templates:
                problem = raw_xml.conflict(owners[place], guest.name, resource)
                error = RequestError(
                    problem.what, why=problem.why, cure=problem.cure, where=guest.where("template")
                )
                answer.setdefault((*place, guest.spec.base), error)
            owners.setdefault(place, guest.name)
    return list(answer.values())


def _exclusive_resources(guest: Guest, template: str) -> Iterator[raw_xml.ExclusiveResource]:
    if not template:
        yield from (
            raw_xml.ExclusiveResource("MAC address", each.mac, "<mac>") for each in guest.interfaces
        )
    for xml in (template, *guest.spec.devices):
        yield from raw_xml.exclusive_resources(xml) if xml else ()
