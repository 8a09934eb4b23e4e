"""The cases of tests/integration/test_every_key.py: none is forgotten, and `plan` says of each what
they say, before any guest is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import samples
from integration.key_cases import CASES, ELSEWHERE, FILES, GUESTS, HOST_DISKS, SPEC, changed

from virtkit.drivers import DRIVERS
from virtkit.drivers.fields import FIELDS, row_key
from virtkit.facts import HostFacts
from virtkit.plan import Plan, diff
from virtkit.plan.resolve import resolve
from virtkit.spec import read_text
from virtkit.state.desired import Decided, Desired
from virtkit.xml import render

TESTS = Path(__file__).parents[2]
TYPES = ("qemu", "lxc")
GROUPS = sorted({(each.guest, each.group) for each in CASES})
LAB = "/specs/lab.yaml"
#: What the caller's own files add to what a spec asks for; `plan` itself has no files.
BY_FILES = "playbooks"


def rows(guest_type: str) -> set[str]:
    """The rows that have a case for a type."""
    mine = (each for each in CASES if GUESTS[each.guest]["type"] == guest_type)
    return {row_key(each.reason) for each in mine}


def refused(guest_type: str) -> set[str]:
    """The rows that a type can't have at all."""
    unsupported = DRIVERS[guest_type].unsupported
    return {each for each in FIELDS if each in unsupported or each.split(".")[0] in unsupported}


@pytest.mark.parametrize("guest_type", TYPES)
def test_every_row_is_changed_on_a_guest(guest_type: str) -> None:
    elsewhere = {row for each, row in ELSEWHERE if each == guest_type}
    lacking = FIELDS.keys() - rows(guest_type) - refused(guest_type) - elsewhere
    assert lacking == set(), "a new key: give it a case in tests/integration/key_cases.py"


@pytest.mark.parametrize("guest_type", TYPES)
def test_a_row_is_in_one_place_only(guest_type: str) -> None:
    elsewhere = {row for each, row in ELSEWHERE if each == guest_type}
    assert elsewhere - FIELDS.keys() == set(), "a row of no field"
    assert elsewhere & rows(guest_type) == set(), "it has a case by now"
    assert refused(guest_type) & (elsewhere | rows(guest_type)) == set(), "it is refused"


@pytest.mark.parametrize("why", sorted({each for each in ELSEWHERE.values() if "::" in each}))
def test_those_that_are_elsewhere_are_there(why: str) -> None:
    name, _, function = why.partition("::")
    assert f"def {function}(" in (TESTS / name).read_text()


def test_each_is_seen_somewhere() -> None:
    unseen = {each.reason for each in CASES if not (each.xml or each.inside or each.host)}
    noted = {each.reason for each in CASES if each.effect in ("none", None)}
    assert unseen - noted == set()


# --- what `plan` says ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name, content in {**FILES, "id.pub": f"{samples.PUBLIC} id".encode()}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def facts(folder: Path) -> HostFacts:
    folders = [str(folder / each.partition("/")[0]) for each in FILES if "/" in each]
    disks = ("there", "elsewhere", "packed", "read", "common")
    return samples.facts_of(
        {
            "kvm": {"works": False, "why": "KVM is announced but hangs here"},
            "networks": {"portgroups": True},
            "portgroups": {"portgroups": ["one", "two"]},
            "abilities": {"qemu": {"tpm": True, "firmware": ["bios", "uefi"]}},
            "cpu_numbers": [0, 1],
            "disk_sources": {
                f"{HOST_DISKS}/{each}": {"kind": "file", "path": f"{HOST_DISKS}/{each}"}
                for each in disks
            },
            "shared": {
                "folders": {each: {"path": each} for each in folders},
                "devices": {each: {"exists": True} for each in ("/dev/fuse", "/dev/net/tun")},
                "virtiofsd": "/usr/libexec/virtiofsd",
                "hook_interface": 9,
            },
        }
    )


def planned(
    folder: Path, facts: HostFacts, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Plan:
    """What is to change for guests that are up, and are to be otherwise."""
    first, last = (
        read_text(json.dumps({**SPEC, "guests": each}), source="lab.yaml", folder=folder)
        for each in (before, after)
    )
    own = resolve(first, facts, Decided())
    observed = samples.up(own, LAB)
    desired = resolve(last, facts, samples.decided(last, observed))
    return diff(desired, observed, spec_path=LAB, facts=facts, templates=rendered(desired, folder))


def rendered(desired: Desired, folder: Path) -> dict[str, str]:
    guests = [samples.with_image(each) for each in desired.guests if each.spec.template]
    texts = {each.name: (folder / str(each.spec.template)).read_text() for each in guests}
    return {each.name: render.from_user_template(each, texts[each.name]) for each in guests}


@pytest.mark.parametrize(("guest", "group"), GROUPS)
def test_plan_says_what_each_costs(
    folder: Path, facts: HostFacts, guest: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERYKEY_PASSWORD", "a word")
    cases = [each for each in CASES if (each.guest, each.group) == (guest, group)]
    entry = GUESTS[guest]
    plan = planned(folder, facts, GUESTS, {**GUESTS, guest: changed(entry, cases)})
    (change,) = (each for each in plan.changes if each.object == f"guest/{guest}")
    expected = {e.reason: e.effect for e in cases if e.effect and e.reason != BY_FILES}
    assert {each.field: each.effect for each in change.reasons} == expected
