"""A spec that tests edit while its guests run, what the plan says of it, and what was touched."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from integration.lab import Lab, Ran, domains, laboratory, virsh
from lxml import etree


@dataclass
class Edits:
    """A lab whose spec is data. ``first`` is the spec that each test starts and ends with."""

    lab: Lab
    first: dict[str, Any]
    spec: dict[str, Any] = field(default_factory=dict)

    def reset(self) -> None:
        self.spec = copy.deepcopy(self.first)
        self.write()

    def write(self) -> None:
        self.lab.write(json.dumps(self.spec, indent=1))  # JSON is YAML

    def guest(self, name: str, **fields: Any) -> None:
        """Sets a guest's fields; one that is None is taken out."""
        guest = self.spec["guests"].setdefault(name, {})
        guest.update(fields)
        for each in [each for each, value in guest.items() if value is None]:
            del guest[each]
        self.write()

    def gone(self, name: str) -> None:
        del self.spec["guests"][name]
        self.write()

    # --- plan and up ------------------------------------------------------------------------

    def plan(self, *words: str) -> dict[str, Any]:
        """What ``up`` would change, by object."""
        return self._planned("changes", *words)

    def pending(self) -> dict[str, Any]:
        """What waits for a restart, by object."""
        return self._planned("pending")

    def _planned(self, part: str, *words: str) -> dict[str, Any]:
        return {each["object"]: each for each in self.lab.json("plan", *words)[part]}

    def up(self, *words: str) -> Ran:
        """``up``, which ends well and leaves nothing to change (but what waits)."""
        ran = self.lab.virtkit("up", "--json", *words)
        assert ran.data["ok"], str(ran)
        self.settled()
        return ran

    def settled(self) -> None:
        """Nothing is to change, whatever waits for a restart."""
        ran = self.lab.virtkit("plan", "--json", "--exit-code", code=None)
        assert ran.code == 0, str(ran)

    def refused(self, *lost: str) -> None:
        """Without consent ``up`` does nothing, and names what would be lost."""
        before = everything(self.lab.name)
        text = "\n".join(self.lab.errors("up"))
        for each in lost:
            assert each in text, text
        assert everything(self.lab.name) == before


@contextmanager
def editing(folder: Path, spec: dict[str, Any], **settings: str) -> Iterator[Edits]:
    """A lab whose guests are up; in the end they are gone."""
    with laboratory(folder, spec["name"], json.dumps(spec), **settings) as lab:
        edits = Edits(lab, copy.deepcopy(spec))
        edits.reset()
        edits.up()
        yield edits


def early(request: pytest.FixtureRequest, spec: dict[str, Any], *late: str) -> dict[str, Any]:
    """A spec; without the guests that only long tests are about, each of which boots for a minute,
    where these tests are left out."""
    own = (each for each in request.session.items if each.path == request.path)
    if any(each.get_closest_marker("long") for each in own):
        return spec
    return {**spec, "guests": {k: v for k, v in spec["guests"].items() if k not in late}}


def again(edits: Edits, also: Callable[[], None] = lambda: None) -> Iterator[Edits]:
    """For a fixture: a test's edits, and then all as it was."""
    yield edits
    also()
    edits.reset()
    edits.up("--yes", "--restart")


def why(change: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """A change's reasons: cause and effect by field."""
    return {each["field"]: (each["cause"], each["effect"]) for each in change["reasons"]}


def lives(domain: str) -> tuple[str, str]:
    """What tells one run of a domain from the next: its id and its UUID."""
    uri = domains()[domain]
    return virsh("domid", domain, uri=uri), virsh("domuuid", domain, uri=uri)


def document(domain: str, *flags: str) -> etree._Element:
    """A domain's XML without its metadata."""
    root = etree.fromstring(virsh("dumpxml", domain, *flags, uri=domains()[domain]))
    for each in root.findall("metadata"):
        root.remove(each)
    return root


def digest(domain: str) -> str:
    """A digest of a domain's XML, live and of the next boot, without metadata."""
    texts = [etree.tostring(document(domain, *flags)) for flags in ((), ("--inactive",))]
    return hashlib.sha256(b"".join(texts)).hexdigest()


def everything(environment: str) -> Any:
    """All that libvirt has of an environment, records included."""
    mine = {name: uri for name, uri in domains().items() if name.startswith(f"{environment}-")}
    return (
        {name: virsh("dumpxml", name, uri=uri) for name, uri in mine.items()},
        {name: virsh("dumpxml", name, "--inactive", uri=uri) for name, uri in mine.items()},
        sorted(virsh("vol-list", "default").split()),
    )
