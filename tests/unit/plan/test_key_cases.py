"""The cases of tests/integration/test_every_key.py: none is forgotten, and `plan` says of each what
they say, before any guest is asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import samples
from integration.key_cases import CASES, ELSEWHERE, FILES, GUESTS, HOST_DISKS, SPEC, Case, changed

from virtkit.drivers import DRIVERS
from virtkit.drivers.effects import Effect
from virtkit.drivers.fields import FIELDS, row_key
from virtkit.facts import HostFacts, NoUserns
from virtkit.plan import Change, Plan, detaching_paths, diff
from virtkit.plan.resolve import resolve
from virtkit.spec import read_text
from virtkit.state.desired import Decided, Desired
from virtkit.state.observed import Observed
from virtkit.state.record import Cause
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
    seen = {each.reason for each in CASES if each.xml or each.inside or each.host}
    unseen = {each.reason for each in CASES} - seen
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


@dataclass(frozen=True)
class World:
    """A spec's folder, the host, and what libvirt has of the guests that are up."""

    folder: Path
    facts: HostFacts

    def desired(self, guests: Mapping[str, Any], observed: Observed | None = None) -> Desired:
        spec = json.dumps({**SPEC, "guests": guests})
        read = read_text(spec, source="lab.yaml", folder=self.folder)
        known = Decided() if observed is None else samples.decided(read, observed)
        return resolve(read, self.facts, known)

    def up(self, desired: Desired) -> Observed:
        templates = {
            each.name: {"template": (self.folder / each.spec.template).read_text()}
            for each in desired.guests
            if each.spec.template
        }
        return samples.up(desired, LAB, {"guests": templates})

    def plan(self, desired: Desired, observed: Observed) -> Plan:
        rendered = {
            each.name: render.from_user_template(
                samples.with_image(each), (self.folder / each.spec.template).read_text()
            )
            for each in desired.guests
            if each.spec.template
        }
        facts = self.facts
        return diff(desired, observed, spec_path=LAB, facts=facts, templates=rendered)


@pytest.fixture
def world(folder: Path, facts: HostFacts, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("EVERYKEY_PASSWORD", "a word")
    return World(folder, facts)


def told(changes: Iterable[Change], guest: str) -> dict[str, tuple[Cause, Effect]]:
    """What a plan says of a guest: cause and effect by the field."""
    own = [each for each in changes if each.object == f"guest/{guest}"]
    return {r.field: (r.cause, r.effect) for each in own for r in each.reasons}


def entries(guest: str, cases: Iterable[Case] = ()) -> dict[str, Any]:
    """The guest after changes, and the one that it may be after."""
    return {"boots": GUESTS["boots"], guest: changed(GUESTS[guest], cases)}


@pytest.mark.parametrize(("guest", "group"), GROUPS)
def test_plan_says_what_each_costs(world: World, guest: str, group: str) -> None:
    cases = [each for each in CASES if (each.guest, each.group) == (guest, group)]
    observed = world.up(world.desired(entries(guest)))
    plan = world.plan(world.desired(entries(guest, cases), observed), observed)
    expected = {e.reason: ("spec", e.effect) for e in cases if e.effect and e.reason != BY_FILES}
    assert told(plan.changes, guest) == expected


WAITING = [each for each in CASES if each.group == "restart"]


@pytest.mark.parametrize("case", WAITING, ids=lambda each: f"{each.guest}-{each.path}")
def test_what_waits_is_told_as_it_was_planned(world: World, case: Case) -> None:
    """And nothing is a change by then, until the guest was restarted."""
    cases = [e for e in WAITING if e is case or (e.guest, e.path) == (case.guest, case.needs)]
    names = {each.reason for each in cases}
    waits(world, entries(case.guest), entries(case.guest, cases), names, case.guest)
    if not case.stays:
        waits(world, entries(case.guest, cases), entries(case.guest), names, case.guest)


def test_a_field_that_waits_keeps_its_name_when_raw_devices_come(world: World) -> None:
    """Each of them might have brought its place in the XML."""
    before = {"type": "qemu", "networks": []}
    shown = {**before, "graphics": "vnc"}
    first = world.up(world.desired({"web": before}))
    staged = staged_as(world, world.desired({"web": shown}, first), first)
    more = world.desired({"web": {**shown, "devices": ["<hub type='usb'/>"]}}, staged)
    (change,) = [e for e in world.plan(more, staged).changes if e.object == "guest/web"]
    assert dict(change.staged) == {"devices": "spec", "graphics": "spec"}
    pending = world.plan(more, staged_as(world, more, staged)).pending
    assert told(pending, "web").keys() == {"graphics", "devices/hub"}


def test_a_folder_that_leaves_a_container_without_ids_of_its_own(world: World) -> None:
    no_userns = NoUserns("the hook is missing", "install it")
    hardened = replace(world, facts=replace(world.facts, no_userns=no_userns))
    cases = [each for each in WAITING if (each.guest, each.path) == ("box", "folders")]
    waits(hardened, entries("box", cases), entries("box"), {"folders"}, "box")


@pytest.mark.parametrize(
    ("key", "value"), [("existing", f"{HOST_DISKS}/elsewhere"), ("readonly", True)]
)
def test_a_disk_without_a_serial_is_told_by_its_target(world: World, key: str, value: Any) -> None:
    """Xen's have none."""
    answers = {"connections": {"xen": ""}, "machines": {"xen": ["xenpv"]}}
    xen = samples.facts_of(answers)
    facts = replace(world.facts, connections=xen.connections)
    disk = {"name": "there", "existing": f"{HOST_DISKS}/there"}
    before, after = (
        {"type": "xen-pv", "networks": [], "disks": [each]} for each in (disk, {**disk, key: value})
    )
    on_xen = replace(world, facts=facts)
    waits(on_xen, {"web": before}, {"web": after}, {f"disks.there.{key}"}, "web")


@pytest.mark.parametrize("data", [None, "64MiB"])
def test_a_root_that_the_host_had_is_not_lost(world: World, data: str | None) -> None:
    """Its guest is recreated over it; what goes is what virtkit made."""
    root = {"disk": {"existing": f"{HOST_DISKS}/there"}, "image": "none", "networks": []}
    disks = [{"name": "data", "size": data}] if data else []
    before = {"type": "qemu", **root, "disks": disks}
    with_kvm = replace(world, facts=replace(world.facts, kvm=samples.WITH_KVM.kvm))
    observed = with_kvm.up(with_kvm.desired({"web": before}))
    after = with_kvm.desired({"web": {**root, "type": "kvm"}}, observed)
    (change,) = [e for e in with_kvm.plan(after, observed).changes if e.object == "guest/web"]
    assert change.action == "replace"
    assert change.lost == ("disk everykey-web-data" if data else "")


def test_a_partition_is_told_as_such(world: World) -> None:
    """Another one is another device to the guest, and the same disk."""
    answers = {"connections": {"xen": ""}, "machines": {"xen": ["xenpv"]}}
    facts = replace(world.facts, connections=samples.facts_of(answers).connections)
    on_xen = replace(world, facts=facts)
    swap = {"name": "swap", "existing": f"{HOST_DISKS}/there"}
    data = {"name": "data", "size": "32MiB"}
    guest: dict[str, Any] = {"type": "xen-pv", "networks": []}
    whole = {**guest, "disks": [swap, data]}
    parts = {
        **guest,
        "disk": {"partition": 2},
        "disks": [{**swap, "partition": 1}, {**data, "partition": 3}],
    }
    names = {"disk.partition", "disks.swap.partition", "disks.data.partition"}
    waits(on_xen, {"web": whole}, {"web": parts}, names, "web")
    waits(on_xen, {"web": parts}, {"web": whole}, names, "web")


def waits(
    world: World,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    names: set[str],
    guest: str,
) -> None:
    """Plans a change of a guest that runs, then looks at the plan once `up` has staged it."""
    first = world.up(world.desired(before))
    desired = world.desired(after, first)
    changes = world.plan(desired, first).changes
    of_guest = told(changes, guest)
    assert {name for name, each in of_guest.items() if each == ("spec", "restart")} == names
    assert set(of_guest.values()) <= {("spec", "restart"), ("spec", "live")}
    held = staged_as(world, desired, first)
    plan = world.plan(world.desired(after, held), held)
    assert told(plan.changes, guest) == {}
    pending = told(plan.pending, guest)
    assert {*pending.values()} == {("spec", "restart")}
    # raw devices, which templates may have too, are told by their place
    fields = {each.partition("/")[0] for each in pending}
    assert fields == {"devices" if each == "template" else each for each in names}


def staged_as(world: World, desired: Desired, first: Observed) -> Observed:
    """What is there once `up` has staged all that differs, of guests that run."""
    changes = world.plan(desired, first).changes
    staged = {each.object.partition("/")[2]: each.staged for each in changes}
    second = world.up(desired)
    guests = {}
    for domain, own in second.guests.items():
        old = first.guests[domain]
        record = replace(
            own.record,
            staged=staged.get(own.record.guest, {}),
            staged_in=samples.RUN,
            detaching=detaching_paths(old.record, own.inactive, old.live),
        )
        guests[domain] = replace(own, record=record, live=old.live)
    return replace(second, guests=guests)
