"""Guests of yesterday: over what a version wrote into libvirt, no later one plans a change.

records/VERSION/CASE/
    spec.yaml, facts.json     the spec, and the host (tests/samples.py says how)
    guest-NAME.json           the record of a guest that was brought up
    guest-NAME.xml            its domain's XML, which the record has as `rendered`
    network-NAME.json, .xml   the same of a network

`pytest --regen` writes the folder of a release where there is none yet. What stands
there is never written again: a test that fails says that an upgrade changes people's guests.
"""

from __future__ import annotations

import copy
import functools
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import samples
from lxml import etree
from packaging.version import Version

from virtkit.drivers.fields import FIELDS
from virtkit.facts import HostFacts
from virtkit.plan import Plan, diff
from virtkit.plan.resolve import resolve
from virtkit.spec import Disk, InterfaceSpec, Kernel, Ready, Spec
from virtkit.spec.model import GuestFields, Max
from virtkit.state import record_text
from virtkit.state.desired import Decided
from virtkit.state.observed import Observed, ObservedGuest, ObservedNetwork
from virtkit.state.record_text import NAMESPACE

HERE = Path(__file__).parent
RECORDS = HERE / "records"
SPEC = "/specs/lab.yaml"
#: Those that are written: all types, and most of what a guest can have.
CASES = (
    "cloud-init",
    "container-folders",
    "disk-keep",
    "disks",
    "firmware-kernel-devices",
    "hello",
    "images",
    "kvm-works",
    "lxc-hardened",
    "memory-live",
    "networks",
    "ssh-keys",
    "uml",
    "xen",
)
#: What every version wrote: a record without it is nobody's (state/record_check.py).
ALWAYS = {"after", "groups", "ready", "user"}
#: The defaults of what stands within a field.
WITHIN: dict[str, dict[str, Any]] = {
    "disks": Disk(name="a", size=samples.GIB).model_dump(mode="json", exclude={"name", "size"}),
    "networks": InterfaceSpec(name="a").model_dump(mode="json", exclude={"name"}),
    "kernel": Kernel(path="a").model_dump(mode="json", exclude={"path"}),
    "max": Max().model_dump(mode="json"),
    "ready": Ready().model_dump(mode="json", exclude={"kind"}),
}
DEFAULTS: dict[str, Any] = GuestFields().model_dump(mode="json")


def written() -> None:
    """Writes the records of the version that runs, from cases whose spec is brought up."""
    for name in CASES:
        folder = RECORDS / version("virtkit") / name
        folder.mkdir(parents=True)
        for file in ("spec.yaml", "facts.json"):
            if (HERE / name / file).exists():
                shutil.copy(HERE / name / file, folder)
        current = samples.up(resolve(*read(folder), Decided()), SPEC)
        things: list[ObservedGuest | ObservedNetwork] = [
            *current.guests.values(),
            *current.networks.values(),
        ]
        for each in things:
            kind = "guest" if isinstance(each, ObservedGuest) else "network"
            data = asdict(each.record)
            (folder / f"{kind}-{data[kind]}.xml").write_text(data.pop("rendered"))
            text = json.dumps(data, indent=1, sort_keys=True) + "\n"
            (folder / f"{kind}-{data[kind]}.json").write_text(text)


@functools.cache
def read(folder: Path) -> tuple[Spec, HostFacts]:
    facts = folder / "facts.json"
    data = json.loads(facts.read_text()) if facts.exists() else {}
    return samples.spec_of((folder / "spec.yaml").read_text()), samples.facts_of(data)


@functools.cache
def brought_up(folder: Path) -> Observed:
    """What this version would have made of the spec: pool and volumes are as there."""
    return samples.up(resolve(*read(folder), Decided()), SPEC)


def records(folder: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The records of a kind, by name, with the XML that was defined."""
    every = {path: json.loads(path.read_text()) for path in sorted(folder.glob(f"{kind}-*.json"))}
    return {
        data[kind]: {**data, "rendered": path.with_suffix(".xml").read_text()}
        for path, data in every.items()
    }


def carrying(kind: str, data: dict[str, Any]) -> etree._Element:
    """libvirt's XML with the record in it."""
    root = etree.fromstring(data["rendered"])
    metadata = etree.SubElement(root, "metadata")
    etree.SubElement(metadata, f"{{{NAMESPACE}}}{kind}").text = json.dumps(data)
    return root


def observed(folder: Path, guests: dict[str, dict[str, Any]]) -> Observed:
    """What libvirt has: the objects with their records, and the volumes that these list."""
    current = brought_up(folder)
    own, networks = dict(current.guests), dict(current.networks)
    for data in guests.values():
        root = carrying("guest", data)
        found = record_text.read_guest(root)
        assert found is not None, "what an older version wrote is read"
        xml = etree.tostring(root, encoding="unicode")
        live = xml.replace("<domain ", f'<domain id="{samples.RUN}" ', 1)
        was = own[found.domain]
        own[found.domain] = replace(
            was, record=found, uuid=root.findtext("uuid") or "", inactive=xml, live=live
        )
    for data in records(folder, "network").values():
        root = carrying("network", data)
        network = record_text.read_network(root)
        assert network is not None, "what an older version wrote is read"
        xml = etree.tostring(root, encoding="unicode")
        name = f"{network.environment}-{network.network}"
        networks[name] = replace(networks[name], record=network, inactive=xml, live=xml)
    return replace(current, guests=own, networks=networks)


def planned(folder: Path, guests: dict[str, dict[str, Any]]) -> Plan:
    spec, facts = read(folder)
    current = observed(folder, guests)
    desired = resolve(spec, facts, samples.decided(spec, current))
    return diff(desired, current, spec_path=SPEC, facts=facts)


def plan_reasons(plan: Plan) -> list[str]:
    """All reasons of a plan's changes, waiting or not."""
    return [
        f"{change.object} {reason.field}: {reason.before} -> {reason.after}"
        for change in (*plan.changes, *plan.pending)
        for reason in change.reasons
    ]


def lacking(requested: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was requested, without each key that says what the model says anyway, in turn."""
    for key in requested.keys() & DEFAULTS.keys() - ALWAYS:
        if requested[key] == DEFAULTS[key]:
            yield key, {name: each for name, each in requested.items() if name != key}
    for key in requested.keys() & WITHIN.keys():
        for name, default in WITHIN[key].items():
            less = copy.deepcopy(requested)
            parts = less[key] if isinstance(less[key], list) else [less[key]]
            gone = [e.pop(name) for e in parts if e and name in e and e[name] == default]
            if gone:
                yield f"{key}.{name}", less


def requested_in(data: dict[str, Any]) -> str:
    """The name of what was requested, in a record's JSON: 0.1.0 called it otherwise."""
    return "requested" if "requested" in data else "asked"


def folders() -> list[str]:
    return sorted(str(each.parent.relative_to(RECORDS)) for each in RECORDS.glob("*/*/spec.yaml"))


def test_the_newest_releases_are_there(regen: bool) -> None:
    """A version that is not released writes none: its guests are nobody's yet."""
    this = Version(version("virtkit"))
    if not this.is_devrelease:
        if regen and not (RECORDS / str(this)).exists():
            written()
        cure = "a new version: `pytest --regen tests/cases/test_records.py` writes these"
        assert (RECORDS / str(this)).exists(), cure
    newest = max(RECORDS.iterdir(), key=lambda each: Version(each.name))
    assert {each.name for each in newest.iterdir()} == set(CASES)
    types = {each["type"] for name in CASES for each in records(newest / name, "guest").values()}
    assert types == {"kvm", "qemu", "lxc", "uml", "xen-pv", "xen-pvh", "xen-hvm"}


@pytest.mark.parametrize("name", folders())
def test_an_upgrade_changes_nothing(name: str) -> None:
    folder = RECORDS / name
    guests = records(folder, "guest")
    assert guests
    assert plan_reasons(planned(folder, guests)) == []


@pytest.mark.parametrize("name", folders())
def test_what_a_record_lacks_is_as_the_model_says(name: str) -> None:
    """A key that came after the record was written must not change the guest."""
    folder = RECORDS / name
    guests = records(folder, "guest")
    less = {guest: dict(lacking(data[requested_in(data)])) for guest, data in guests.items()}
    tried = sorted({key for each in less.values() for key in each})
    for key in tried:
        without = {
            guest: {**data, requested_in(data): less[guest].get(key, data[requested_in(data)])}
            for guest, data in guests.items()
        }
        assert plan_reasons(planned(folder, without)) == [], f"without {key}"
    assert {"autostart", "firmware", "memory", "max", "ready.timeout"} <= {*tried}


def test_a_key_that_came_later_is_in_no_record_that_does_without_it() -> None:
    """Else each new key changes all records, and every expected file of the cases."""
    data = records(RECORDS / "0.1.0" / "hello", "guest")["db"]
    known = {*data["asked"], "host", "playbooks", "vars"}  # of these the record has no value
    later = DEFAULTS.keys() - known
    assert "description" in later
    assert {name for name in later if not FIELDS[name].sparse} == set()


def test_what_a_record_lacks_and_the_spec_asks_for_is_a_change() -> None:
    folder = RECORDS / folders()[0].partition("/")[0] / "lxc-hardened"
    guests = records(folder, "guest")
    del guests["open"][requested_in(guests["open"])]["privileged"]
    assert plan_reasons(planned(folder, guests)) == ["guest/open privileged: False -> True"]
