"""What libvirt has of a guest's XML, against what virtkit renders: drift, upgrades, what waits.

A difference is named by the guest's field where there is one, else by its place in the XML.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lxml import etree

from virtkit import compare, render
from virtkit.compare import Difference
from virtkit.observed import ObservedGuest
from virtkit.plan.changes import Cause
from virtkit.record import GuestRecord
from virtkit.resources import Guest

#: Places in a domain's XML, and the field that stands there; the first that fits.
_FIELDS = (
    ("currentMemory", "memory"),
    ("memory", "max"),
    ("vcpu/@current", "cpus"),
    ("vcpu", "max"),
    ("cputune", "cpus"),
    ("os/kernel", "kernel"),
    ("os/initrd", "kernel"),
    ("os/cmdline", "kernel"),
    ("os/@firmware", "firmware"),
    ("os/firmware", "firmware"),
    ("os/loader", "firmware"),
    ("devices/graphics", "graphics"),
    ("devices/video", "graphics"),
)


@dataclass(frozen=True)
class Place:
    """A difference in the XML. ``field`` names it for people; ``live``: the running guest has
    it too."""

    field: str
    difference: Difference
    cause: Cause
    live: bool


class Documents:
    """The XML of one guest that exists: as it should be, as it was rendered, and libvirt's."""

    def __init__(self, guest: Guest, there: ObservedGuest, wanted: str) -> None:
        self._guest = guest
        self._record = there.record
        self._wanted = render.parse(wanted, f"the XML of {guest.name}")
        self._before = _parsed(there.record.rendered)
        self._inactive = _parsed(there.inactive)
        self._live = _parsed(there.live)

    def next_boot(self) -> list[Place]:
        """What the next boot would lack."""
        if self._inactive is None:
            return []
        drifted = {each.path for each in self._differences(self._before, self._inactive)}
        live = {each.path for each in self._now()}
        return [
            Place(
                self._field(each.path),
                each,
                "drift" if each.path in drifted or self._before is None else "upgrade",
                each.path in live,
            )
            for each in [
                *self._differences(self._wanted, self._inactive),
                *self._removed(self._inactive),
            ]
        ]

    def now(self) -> list[Place]:
        """What the running guest lacks, or still has from before."""
        return [Place(self._field(each.path), each, "drift", True) for each in self._now()]

    def beyond(self, field: str, after: int) -> bool:
        """Whether a running guest would have to grow further than it can."""
        place = {"cpus": "vcpu", "memory": "memory"}.get(field)
        if place is None or self._live is None:
            return False
        return int(compare.value(self._live, place) or 0) < after

    def _now(self) -> list[Difference]:
        if self._live is None:
            return []
        left = (compare.at(self._live, path) for path in self._record.leaving)
        return [
            *(d for d in self._differences(self._wanted, self._live) if not self._swollen(d)),
            *self._removed(self._live),
            *(
                Difference(path, None, "yes")
                for path, element in zip(self._record.leaving, left, strict=True)
                if element is not None and compare.at(self._wanted, path) is None
            ),
        ]

    def _swollen(self, each: Difference) -> bool:
        """A guest that has all its memory still: its balloon isn't there yet, or has no driver."""
        assert self._live is not None
        return each.path == "currentMemory" and each.found == compare.value(self._live, "memory")

    def _differences(
        self, wanted: etree._Element | None, found: etree._Element
    ) -> Iterable[Difference]:
        if wanted is None:
            return []
        rewritten = self._record.rewritten
        return [each for each in compare.differences(wanted, found) if each.path not in rewritten]

    def _removed(self, found: etree._Element) -> list[Difference]:
        if self._before is None:
            return []
        return compare.removed(self._before, self._wanted, found)

    def _field(self, path: str) -> str:
        return self._device(path) or next(
            (field for start, field in _FIELDS if path == start or path.startswith(f"{start}/")),
            next((f for start, f in _FIELDS if path.startswith(f"{start}[")), path),
        )

    def _device(self, path: str) -> str:
        """The disk or network card that a place belongs to; empty where it is none of ours."""
        place = "/".join(path.split("/")[:2])
        for card in self._guest.interfaces:
            if place == f"devices/interface[{card.mac}]":
                return f"networks.{card.network}"
        if place.startswith("devices/disk["):
            for document in (self._wanted, self._before):
                found = compare.at(document, place) if document is not None else None
                name = found.findtext("serial") if found is not None else None
                if name is not None:
                    return "disk" if name == "root" else f"disks.{name}"
        return ""


def _parsed(xml: str) -> etree._Element | None:
    return render.parse(xml, "a domain") if xml else None


def leaving(record: GuestRecord, wanted: str, live: str) -> tuple[str, ...]:
    """Places of what a running guest has of ours and is no longer to have."""
    root = _parsed(live)
    if root is None:
        return ()
    before = _parsed(record.rendered)
    new = render.parse(wanted, "a domain")
    gone = [each.path for each in compare.removed(before, new, root)] if before is not None else []
    still = [each for each in record.leaving if compare.at(root, each) is not None]
    return tuple(dict.fromkeys([*gone, *still]))
