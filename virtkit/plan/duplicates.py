"""What users' own templates give to two guests, and one alone can have.

A spec's ``devices`` are looked at when it is read; what a template says, only its guests tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from virtkit.errors import RequestError
from virtkit.spec import raw_xml
from virtkit.state.desired import Guest


def twice(guests: Iterable[Guest], templates: Mapping[str, str]) -> list[RequestError]:
    """The errors of guests whose template gives them what another one has, or one thing twice.

    Args:
        templates: the texts of users' own templates, by guest.
    """
    answer: dict[tuple[str, str, str], RequestError] = {}
    owners: dict[tuple[str, str], str] = {}
    for guest in sorted(guests, key=lambda each: each.name in templates):
        for sole in _soles(guest, templates.get(guest.name, "")):
            place = (sole.kind, sole.value)
            if place in owners and guest.name in templates:
                wrong = raw_xml.shared(owners[place], guest.name, sole)
                error = RequestError(
                    wrong.what, why=wrong.why, cure=wrong.cure, where=guest.where("template")
                )
                answer.setdefault((*place, guest.spec.base), error)
            owners.setdefault(place, guest.name)
    return list(answer.values())


def _soles(guest: Guest, template: str) -> Iterator[raw_xml.Sole]:
    if not template:
        yield from (raw_xml.Sole("MAC address", each.mac, "<mac>") for each in guest.interfaces)
    for xml in (template, *guest.spec.devices):
        yield from raw_xml.soles(xml) if xml else ()
