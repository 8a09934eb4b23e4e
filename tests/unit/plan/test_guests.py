"""What each change of a guest costs, in the state that the guest is in; drift, upgrades, waits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pytest
import samples
from hypothesis import given, settings
from hypothesis import strategies as st

from virtkit.drivers.effects import ORDER, Effect
from virtkit.errors import SpecErrors
from virtkit.plan import Change, Plan, apply_refusal, detaching_paths, environment
from virtkit.state import addresses
from virtkit.state.desired import Decided, DecidedGuest, digest
from virtkit.state.observed import GuestState, Observed
from virtkit.state.volumes import LAYER_FOLDER
from virtkit.xml import render

SPEC = "/lab.yaml"
DATA = {"name": "data", "size": "1GiB", "mount": "/srv/data"}
#: What the guest has before; each test changes some of it.
BASE: dict[str, Any] = {
    "memory": "1GiB",
    "cpus": 2,
    "max": {"memory": "2GiB", "cpus": 4},
    "networks": ["front"],
    "disks": [DATA],
    "disk": "4GiB",
}
XEN = samples.facts_of(
    {"connections": {"qemu": "", "lxc": "", "xen": ""}, "machines": {"xen": ["xenpv"]}}
)
States = Literal["running", "paused", "stopped"]


def text(keys: Mapping[str, Any]) -> str:
    networks = {"front": {"cidr": "10.20.0.0/24"}, "back": {"cidr": "10.21.0.0/24"}}
    return json.dumps({"name": "lab", "networks": networks, "guests": {"web": keys}})


def keys_of(type: str, **changed: Any) -> dict[str, Any]:
    every = {**BASE, "type": type, **changed}
    return {key: value for key, value in every.items() if value is not None}


def existing(keys: Mapping[str, Any], observed: Mapping[str, Any] | None = None) -> Observed:
    """libvirt, with the guest brought up; ``observed`` is of the guest."""
    found = dict(observed or {})
    sizes = found.pop("sizes", {})
    without = found.pop("without", [])
    change = {"guests": {"web": found}, "sizes": sizes, "without": without}
    return samples.up(samples.desired_of(text(keys)), SPEC, change)


def planned(keys: Mapping[str, Any], observed: Observed, **options: Any) -> Plan:
    spec = text(keys)
    found = samples.decided(samples.spec_of(spec), observed)
    desired = samples.desired_of(spec, decided=found)
    return environment.diff(desired, observed, spec_path=SPEC, **options)


def of_web(plan: Plan) -> Change:
    (change,) = [each for each in plan.changes if each.object == "guest/web"]
    return change


def effects(change: Change) -> dict[str, Effect]:
    return {each.field: each.effect for each in change.reasons}


def causes(changes: tuple[Change, ...]) -> dict[str, tuple[str, Effect]]:
    """Causes and effects by field, of the guest's one change if there is one."""
    every = [each for each in changes if each.object == "guest/web"]
    assert len(every) <= 1
    return {r.field: (r.cause, r.effect) for each in every for r in each.reasons}


# --- by the spec ----------------------------------------------------------------------------

MORE = {"name": "more", "size": "1GiB", "mount": "/srv/more"}
#: What is changed, the reason's field, and its effect on a machine and on a container that run.
CHANGES: list[tuple[dict[str, Any], str, Effect, Effect | None]] = [
    ({"groups": ["a"]}, "groups", "none", "none"),
    ({"ready": "none"}, "ready", "none", "none"),
    ({"allow": ["hostdev"]}, "allow", "none", "none"),
    ({"disks": [{**DATA, "keep": True}]}, "disks.data.keep", "none", "none"),
    ({"autostart": True}, "autostart", "live", "live"),
    ({"ssh_keys": ["me.pub"]}, "ssh_keys", "live", "live"),
    ({"memory": "2GiB"}, "memory", "live", "live"),
    ({"memory": "512MiB"}, "memory", "live", "live"),
    ({"cpus": 4}, "cpus", "live", "restart"),
    ({"cpus": 1}, "cpus", "restart", "restart"),
    ({"max": {"memory": "2GiB", "cpus": 8}}, "max", "restart", "restart"),
    ({"disk": "8GiB"}, "disk", "live", "restart"),
    ({"disks": [DATA, MORE]}, "disks.more", "live", "restart"),
    ({"disks": []}, "disks.data", "live", "restart"),
    ({"disks": [{**DATA, "size": "2GiB"}]}, "disks.data.size", "live", "restart"),
    ({"disks": [{**DATA, "mount": "/data"}]}, "disks.data.mount", "live", "restart"),
    ({"networks": ["front", "back"]}, "networks.back", "live", "live"),
    (
        {"networks": [{"name": "front", "address": "10.20.0.77"}]},
        "networks.front.address",
        "restart",
        "restart",
    ),
    (
        {"networks": [{"name": "front", "mac": "52:54:00:00:00:07"}]},
        "networks.front.mac",
        "live",
        "live",
    ),
    ({"devices": ["<sound model='ac97'/>"]}, "devices", "restart", "restart"),
    ({"graphics": "vnc"}, "graphics", "restart", None),
    ({"firmware": "uefi"}, "firmware", "restart", None),
    ({"kernel": {"path": "vmlinuz"}}, "kernel", "restart", None),
    ({"user": "admin"}, "user", "recreate", "recreate"),
    ({"cloud_init": {"packages": ["nginx"]}}, "cloud_init", "recreate", "recreate"),
    ({"privileged": True}, "privileged", "recreate", "recreate"),
]
CASES = [
    pytest.param(changed, field, type, effect, id=f"{field}-{type}-{index}")
    for index, (changed, field, machine, container) in enumerate(CHANGES)
    for type, effect in (
        ("qemu", "restart" if field == "cpus" else machine),
        ("kvm", machine),
        ("lxc", container),
    )
    if effect is not None and not (field == "privileged" and type != "lxc")
]


@pytest.mark.parametrize("state", ["running", "paused", "stopped"])
@pytest.mark.parametrize(("changed", "field", "type", "effect"), CASES)
def test_a_change_costs_what_the_table_says(
    changed: dict[str, Any], field: str, type: str, effect: Effect, state: GuestState
) -> None:
    observed = existing(keys_of(type), {"state": state})
    found = planned(keys_of(type, **changed), observed)
    change = of_web(found)
    if state == "stopped" and effect in ("live", "restart") and field != "autostart":
        effect = "next-boot"
    assert effects(change) == {field: effect}, "one reason, and nothing beside it"
    assert change.effect == effect
    assert change.action == ("replace" if effect == "recreate" else "update")
    assert [each.cause for each in change.reasons] == ["spec"]
    assert found.pending == ()
    lost = {"recreate": True, "disks.data": changed.get("disks") == []}
    assert bool(change.lost) == (lost.get(effect, False) or lost.get(field, False))


STAGED = [each for each in CASES if each.values[3] == "restart"]


@pytest.mark.parametrize(("changed", "field", "type", "_effect"), STAGED)
def test_what_was_staged_waits_and_is_no_change(
    changed: dict[str, Any], field: str, type: str, _effect: Effect
) -> None:
    """After `up`: the definition is the new one, the guest runs on with the old one."""
    before = existing(keys_of(type)).guests["lab-web"]
    desired = samples.desired_of(text(keys_of(type, **changed)))
    wanted = render.domain_xml(samples.with_image(desired.guests[0]))
    left = detaching_paths(before.record, wanted, before.live)
    record = {"staged": {field: "spec"}, "detaching": left}
    after = existing(keys_of(type, **changed), {"record": record, "live": before.live})
    found = planned(keys_of(type, **changed), after)
    assert causes(found.changes) == {}
    waits = causes(found.pending)
    assert waits, "the plan says that it waits"
    assert set(waits.values()) == {("spec", "restart")}, "and why"
    asked = planned(keys_of(type, **changed), after, restart=True)
    assert of_web(asked).effect == "restart"
    assert asked.pending == ()


@pytest.mark.parametrize(("changed", "field", "type", "_effect"), STAGED)
def test_what_was_staged_is_done_when_the_guest_has_booted(
    changed: dict[str, Any], field: str, type: str, _effect: Effect
) -> None:
    detaching = ("devices/disk[vdx]", "devices/sound")
    record = {"staged": {field: "spec"}, "staged_in": "6", "detaching": detaching}
    after = existing(keys_of(type, **changed), {"record": record})
    found = planned(keys_of(type, **changed), after)
    assert (found.changes, found.pending) == ((), ())


@pytest.mark.parametrize("type", ["qemu", "kvm", "lxc"])
@pytest.mark.parametrize("field", ["memory", "cpus"])
def test_beyond_what_the_guest_was_started_with_it_takes_a_restart(type: str, field: str) -> None:
    less = {"memory": "1GiB", "cpus": 1, "max": None}
    more: dict[str, dict[str, Any]] = {"memory": {"memory": "2GiB"}, "cpus": {"cpus": 2}}
    observed = existing(keys_of(type, **less))
    found = planned(keys_of(type, **{**less, **more[field]}), observed)
    assert effects(of_web(found)) == {field: "restart"}


@pytest.mark.parametrize("type", ["qemu", "lxc"])
def test_memory_that_was_lowered_is_done_once(type: str) -> None:
    """The running guest could still grow to what it had; nobody has to restart it for that."""
    before = existing(keys_of(type, max=None)).guests["lab-web"]
    live = before.live.replace(
        '<currentMemory unit="b">1073741824<', '<currentMemory unit="KiB">524288<'
    )
    after = existing(keys_of(type, max=None, memory="512MiB"), {"live": live})
    found = planned(keys_of(type, max=None, memory="512MiB"), after)
    assert (found.changes, found.pending) == ((), ())


def test_a_change_of_type_only_is_none_where_auto_took_it() -> None:
    observed = existing(keys_of("auto"))
    assert planned(keys_of("kvm"), observed).changes == ()
    assert effects(of_web(planned(keys_of("qemu"), observed))) == {"type": "recreate"}


@pytest.mark.parametrize(("before", "after"), [("lxc", "qemu"), ("qemu", "lxc")])
def test_a_change_of_type_is_a_guest_that_its_schema_allows(before: str, after: str) -> None:
    change = of_web(planned(keys_of(after), existing(keys_of(before))))
    assert (change.action, change.effect) == ("replace", "recreate")
    guest = change.desired
    assert guest is not None
    targets = [each.target for each in guest.disks]  # type: ignore[union-attr]
    assert after == "lxc" or targets == ["vda", "vdb", "vdc"]


# --- disks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("type", ["qemu", "lxc"])
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_no_disk_shrinks(type: str, state: str) -> None:
    small = keys_of(type, disk="2GiB", disks=[{**DATA, "size": "512MiB"}])
    with pytest.raises(SpecErrors) as caught:
        planned(small, existing(keys_of(type), {"state": state}))
    assert [each.what for each in caught.value.errors] == [
        "guest web: disk can't shrink",
        "guest web: disks.data.size can't shrink",
    ]
    for each in caught.value.errors:
        assert each.exit_code == 2
        assert "iB or more" in each.cure


def test_a_disk_that_somebody_made_larger_stays() -> None:
    large = existing(keys_of("qemu"), {"sizes": {"lab-web-data": 5 * samples.GIB}})
    assert planned(keys_of("qemu"), large).changes == ()
    with pytest.raises(SpecErrors, match="can't shrink"):
        planned(keys_of("qemu", disks=[{**DATA, "size": "2GiB"}]), large)


def test_a_new_root_disk_may_be_smaller_but_no_other_disk_may() -> None:
    """A guest that is recreated has a new root disk; its other disks stay."""
    observed = existing(keys_of("qemu"))
    recreated = of_web(planned(keys_of("qemu", disk="2GiB", user="admin"), observed))
    assert recreated.action == "replace"
    small = [{**DATA, "size": "512MiB"}]
    with pytest.raises(SpecErrors, match=r"disks\.data\.size can't shrink"):
        planned(keys_of("qemu", disks=small, user="admin"), observed)


def test_a_disk_that_is_smaller_than_the_spec_grows() -> None:
    small = existing(keys_of("qemu"), {"sizes": {"lab-web-data": samples.GIB // 2}})
    found = planned(keys_of("qemu"), small)
    assert causes(found.changes) == {"disks.data.size": ("drift", "live")}
    small = existing(keys_of("lxc"), {"sizes": {"lab-web-root": samples.GIB}, "state": "stopped"})
    assert causes(planned(keys_of("lxc"), small).changes) == {"disk": ("drift", "next-boot")}


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_disk_that_is_gone_asks(state: str) -> None:
    observed = existing(keys_of("qemu"), {"without": ["lab-web-data"], "state": state})
    found = planned(keys_of("qemu"), observed)
    change = of_web(found)
    assert change.action == "update"
    assert effects(change) == {"disks.data": "restart" if state == "running" else "next-boot"}
    assert "lab-web-data is gone" in change.lost
    assert apply_refusal(found) is not None


def test_a_root_disk_that_is_gone_recreates_the_guest() -> None:
    found = planned(keys_of("qemu"), existing(keys_of("qemu"), {"without": ["lab-web-root"]}))
    change = of_web(found)
    assert (change.action, change.effect) == ("replace", "recreate")
    assert "root disk" in change.lost
    assert apply_refusal(found) is not None


def test_a_disk_that_is_gone_is_a_loss_of_a_recreated_guest_too() -> None:
    observed = existing(keys_of("qemu"), {"without": ["lab-web-data"]})
    change = of_web(planned(keys_of("qemu", user="admin"), observed))
    assert "all on the root disk of web, disk lab-web-data is gone" in change.lost
    assert effects(change) == {"user": "recreate", "disks.data": "restart"}


@pytest.mark.parametrize("type", ["qemu", "lxc"])
def test_a_seed_that_is_gone_is_written_again(type: str) -> None:
    """No data of anybody's is in it."""
    observed = existing(keys_of(type), {"without": ["lab-web-seed"]})
    found = planned(keys_of(type), observed)
    assert causes(found.changes) == {"disks.seed": ("drift", "next-boot")}
    assert of_web(found).lost == ""


def test_nothing_is_gone_where_the_pool_is_not_active() -> None:
    observed = existing(keys_of("qemu"), {"without": ["lab-web-data", "lab-web-root"]})
    unseen = replace(observed, pool_active=False, disk_sizes={})
    assert planned(keys_of("qemu"), unseen).changes == ()


def test_a_kept_disk_leaves_without_a_loss() -> None:
    kept = keys_of("qemu", disks=[{**DATA, "keep": True}])
    change = of_web(planned(keys_of("qemu", disks=[]), existing(kept)))
    assert (change.lost, effects(change)) == ("", {"disks.data": "live"})
    change = of_web(planned(keys_of("qemu", disks=[]), existing(keys_of("qemu"))))
    assert change.lost == "disk lab-web-data"


def test_a_disk_that_was_never_made_is_no_loss() -> None:
    observed = existing(keys_of("qemu"), {"volumes": "wanted"})
    assert of_web(planned(keys_of("qemu", disks=[]), observed)).lost == ""


def test_a_loss_from_another_spec_names_both() -> None:
    observed = existing(keys_of("qemu"), {"spec": "/other.yaml"})
    change = of_web(planned(keys_of("qemu", disks=[]), observed))
    (moved,) = [each for each in change.reasons if each.field == "spec"]
    assert (moved.before, moved.after) == ("/other.yaml", SPEC)


def test_the_others_keep_their_names_in_the_guest() -> None:
    observed = existing(keys_of("qemu"))
    change = of_web(planned(keys_of("qemu", disks=[{"name": "a", "size": "1GiB"}, DATA]), observed))
    targets = {each.name: each.target for each in change.desired.disks}  # type: ignore[union-attr]
    assert targets == {"root": "vda", "data": "vdb", "seed": "vdc", "a": "vdd"}


def test_the_seed_comes_last_and_stays_where_it_once_was() -> None:
    """0.1.0 gave it the second name; a guest that another type is made of gets that type's."""
    for type, names in (("qemu", "vda vdb vdc vdd"), ("xen-pv", "xvda xvdb xvdc xvdd")):
        keys = keys_of(type, max=None, disks=[DATA, MORE])
        (guest,) = samples.desired_of(text(keys), XEN).guests
        order = ["root", "data", "more", "seed"]
        assert [each.name for each in guest.disks] == order
        assert " ".join(each.target for each in guest.disks) == names
        old = {"lab-web-root": "vda", "lab-web-seed": "vdb", "lab-web-data": "vdc"}
        kept = {each.target: each.name for each in replace(guest, targets=old).disks}
        if type == "qemu":
            order = ["root", "seed", "data", "more"]
        assert list(kept.items()) == list(zip(names.split(), order, strict=True))


def test_a_guest_of_the_first_version_has_no_change() -> None:
    """Its seed is its second disk, and it read plain words of cloud_init by YAML 1.2."""
    disks, users = "[{name: data, size: 1GiB}]", "[{name: eve, sudo: no}]"
    keys = f"type: qemu, disks: {disks}, cloud_init: {{users: {users}}}"
    now = f"name: lab\nguests:\n  web: {{{keys}}}\n"
    salt = addresses.derived_uuid("lab", "guest", "web")
    first = digest(salt, {"users": [{"name": "eve", "sudo": "no"}]})
    targets = {"lab-web-root": "vda", "lab-web-seed": "vdb", "lab-web-data": "vdc"}
    made = DecidedGuest("qemu", None, "", targets=targets, cloud_init=first)
    before = samples.desired_of(now, decided=Decided(guests={"web": made}))
    observed = samples.up(before, SPEC)
    record = observed.guests["lab-web"].record
    assert record.requested["cloud_init"] == first
    assert {each.name: each.target for each in record.volumes if each.target} == targets
    for spec, fields in ((now, {}), (now.replace("no}", "yes}"), {"cloud_init": "recreate"})):
        found = samples.decided(samples.spec_of(spec), observed)
        diff = environment.diff(samples.desired_of(spec, decided=found), observed, spec_path=SPEC)
        assert {r.field: r.effect for each in diff.changes for r in each.reasons} == fields


@pytest.mark.parametrize(("before", "after"), [("no", '"no"'), ('"no"', "no"), ("on", "off")])
def test_plain_scalars_that_mean_something_else_now_are_a_change(before: str, after: str) -> None:
    now = "name: lab\nguests: {web: {type: lxc, cloud_init: {ssh_pwauth: WORD}}}\n"
    observed = samples.up(samples.desired_of(now.replace("WORD", before)), SPEC)
    for word, changes in ((before, 0), (after, 1)):
        spec = now.replace("WORD", word)
        found = samples.decided(samples.spec_of(spec), observed)
        desired = samples.desired_of(spec, decided=found)
        assert len(environment.diff(desired, observed, spec_path=SPEC).changes) == changes


def test_a_deleting_volume_goes_when_the_guest_has_let_go_of_it() -> None:
    """A container that was restarted since: what it had is to be deleted at last."""
    before, fresh = existing(keys_of("lxc")), existing(keys_of("lxc", disks=[]))
    old, guest = (each.guests["lab-web"] for each in (before, fresh))
    (data,) = [each for each in old.record.volumes if each.role == "disk"]
    volumes = (*guest.record.volumes, replace(data, state="deleting"))
    detaching = detaching_paths(old.record, guest.inactive, old.live)
    new = replace(guest.record, volumes=volumes, staged={"disks.data": "spec"}, detaching=detaching)
    held = replace(fresh, guests={"lab-web": replace(guest, record=new, live=old.live)})
    found = planned(keys_of("lxc", disks=[]), held)
    assert causes(found.changes) == {}
    assert causes(found.pending) == {"disks.data": ("spec", "restart")}
    after = replace(fresh, guests={"lab-web": replace(guest, record=new)})
    found = planned(keys_of("lxc", disks=[]), after)
    assert causes(found.changes) == {"volume lab-web-data": ("unfinished", "none")}


# --- drift ----------------------------------------------------------------------------------

HALF = {'<currentMemory unit="b">1073741824<': '<currentMemory unit="KiB">524288<'}
CRASH = {"<on_crash>destroy<": "<on_crash>preserve<"}
#: Another disk stands where the guest's second one was.
UNPLUGGED = {
    '<target dev="vdb"': '<target dev="vdx"',
    '<source file="/pool/lab-web-data"/>': '<source file="/pool/other"/>',
}


def drift(type: str, **edits: Any) -> Plan:
    return planned(keys_of(type), existing(keys_of(type), edits))


@pytest.mark.parametrize("type", ["qemu", "lxc"])
def test_an_edit_of_the_definition_alone_costs_the_guest_nothing(type: str) -> None:
    found = drift(type, edits={**HALF, **CRASH})
    assert causes(found.changes) == {"memory": ("drift", "none"), "on_crash": ("drift", "none")}
    assert found.pending == ()
    found = drift(type, edits={**HALF, **CRASH}, state="stopped")
    assert causes(found.changes) == {
        "memory": ("drift", "next-boot"),
        "on_crash": ("drift", "next-boot"),
    }


@pytest.mark.parametrize("type", ["qemu", "lxc"])
def test_what_others_added_is_no_drift(type: str) -> None:
    more = {
        "<devices>": '<devices><watchdog model="itco" action="reset"/>',
        "<name>lab-web</name>": "<name>lab-web</name><description>mine</description>",
        "</features>": "<vmport state='off'/></features>",
    }
    found = drift(type, edits=more, live_edits=more)
    assert (found.changes, found.pending) == ((), ())


def test_what_libvirt_rewrote_when_we_defined_it_is_no_drift() -> None:
    record = {"rewritten": ("on_crash",)}
    found = drift("qemu", edits=CRASH, live_edits=CRASH, record=record)
    assert (found.changes, found.pending) == ((), ())


@pytest.mark.parametrize("type", ["qemu", "lxc"])
@pytest.mark.parametrize("state", ["running", "paused"])
def test_setmem_is_undone_while_the_guest_runs(type: str, state: str) -> None:
    found = drift(type, live_edits=HALF, state=state)
    assert causes(found.changes) == {"memory": ("drift", "live")}
    assert found.pending == ()


def test_a_guest_that_has_all_its_memory_still_is_no_drift() -> None:
    """Its balloon has no driver, or isn't there yet: libvirt then says what it could have."""
    whole = {'<currentMemory unit="b">1073741824<': '<currentMemory unit="b">2147483648<'}
    found = drift("qemu", live_edits=whole)
    assert (found.changes, found.pending) == ((), ())


def test_devices_that_somebody_unplugged_come_back() -> None:
    found = drift("qemu", live_edits=UNPLUGGED)
    assert causes(found.changes) == {"disks.data": ("drift", "live")}
    mac = samples.desired_of(text(keys_of("qemu"))).guests[0].interfaces[0].mac
    found = drift("lxc", live_edits={mac: "52:54:00:00:00:01"})
    assert causes(found.changes) == {"networks.front": ("drift", "live")}
    folder = {f'<target dir="{LAYER_FOLDER}/mounts/srv/data"': '<target dir="/x"'}
    found = drift("lxc", live_edits=folder)
    assert (causes(found.changes), causes(found.pending)) == (
        {},
        {"disks.data": ("drift", "restart")},
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('<link state="up"/>', '<link state="down"/>'),
        ('<source network="lab-front"/>', '<source network="default"/>'),
        ("<on_crash>destroy<", "<on_crash>preserve<"),
        ('<driver name="qemu" type="raw" discard="unmap"/>', '<driver name="qemu" type="raw"/>'),
    ],
)
def test_what_cannot_be_plugged_waits_for_a_restart(old: str, new: str) -> None:
    """Else every `up` would say that it mends it, and the next plan would say so again."""
    found = drift("qemu", live_edits={old: new})
    assert found.changes == ()
    assert set(causes(found.pending).values()) == {("drift", "restart")}
    both = drift("qemu", edits={old: new}, live_edits={old: new})
    assert set(causes(both.changes).values()) == {("drift", "restart")}


def test_autostart_that_somebody_turned_is_turned_back() -> None:
    for state in ("running", "stopped"):
        found = drift("qemu", autostart=True, state=state)
        assert causes(found.changes) == {"autostart": ("drift", "live")}


def test_a_change_by_the_spec_accounts_for_its_places() -> None:
    """Somebody's edit of the same field is no reason of its own."""
    observed = existing(keys_of("qemu"), {"edits": HALF, "live_edits": HALF})
    found = planned(keys_of("qemu", memory="2GiB"), observed)
    assert causes(found.changes) == {"memory": ("spec", "live")}


# --- upgrades -------------------------------------------------------------------------------

E1000 = '{% extends "qemu.xml.j2" %}{% block card %}<model type="e1000"/>{% endblock %}'
SOUND_CARD = '{% extends "TYPE.xml.j2" %}{% block devices %}{{ super() }}<sound/>{% endblock %}'


def test_another_template_waits_for_the_next_boot() -> None:
    found = planned(keys_of("qemu"), existing(keys_of("qemu"), {"template": E1000}))
    assert causes(found.changes) == {"networks.front.model": ("upgrade", "next-boot")}
    stopped = existing(keys_of("qemu"), {"template": E1000, "state": "stopped"})
    off = planned(keys_of("qemu"), stopped)
    assert causes(off.changes) == {"networks.front.model": ("upgrade", "next-boot")}


@pytest.mark.parametrize("type", ["qemu", "lxc"])
def test_what_the_template_no_longer_has_is_taken_out(type: str) -> None:
    template = SOUND_CARD.replace("TYPE", type)
    found = planned(keys_of(type), existing(keys_of(type), {"template": template}))
    assert causes(found.changes) == {"sound": ("upgrade", "next-boot")}


def test_an_upgrade_is_never_a_reason_to_restart() -> None:
    live = existing(keys_of("qemu"), {"template": E1000}).guests["lab-web"].live
    record = {"staged": {"networks.front": "upgrade"}}
    after = existing(keys_of("qemu"), {"live": live, "record": record})
    for restart in (False, True):
        found = planned(keys_of("qemu"), after, restart=restart)
        assert found.changes == ()
        assert causes(found.pending) == {"networks.front.model": ("upgrade", "next-boot")}


def test_a_record_without_its_xml_is_only_drift() -> None:
    """As an earlier virtkit wrote it: nothing tells an upgrade from somebody's edit."""
    found = drift("qemu", edits=CRASH, record={"rendered": ""})
    assert causes(found.changes) == {"on_crash": ("drift", "none")}


# --- the rest -------------------------------------------------------------------------------


def test_unfinished_stands_beside_other_changes() -> None:
    observed = existing(keys_of("qemu"), {"finished": False})
    found = planned(keys_of("qemu", groups=["a"]), observed)
    assert causes(found.changes) == {"groups": ("spec", "none"), "finished": ("unfinished", "live")}


def test_what_waits_is_not_forgotten_by_a_start() -> None:
    record = {"staged": {"kernel": "spec"}}
    observed = existing(keys_of("qemu"), {"finished": False, "state": "paused", "record": record})
    change = of_web(planned(keys_of("qemu"), observed))
    assert (change.action, change.staged) == ("start", {"kernel": "spec"})


def test_the_worst_effect_is_the_changes() -> None:
    more = keys_of("qemu", groups=["a"], memory="2GiB", cpus=1)
    change = of_web(planned(more, existing(keys_of("qemu"))))
    assert change.effect == "restart"
    assert ORDER.index(change.effect) == max(ORDER.index(e) for e in effects(change).values())


def test_a_guest_on_another_network() -> None:
    found = planned(keys_of("qemu", networks=["back"]), existing(keys_of("qemu")))
    assert effects(of_web(found)) == {"networks.front": "live", "networks.back": "live"}
    assert {each.object: each.action for each in found.changes} == {
        "network/back": "create",
        "network/front": "delete",
        "guest/web": "update",
    }


def test_without_a_network_nobody_waits_for_it() -> None:
    found = planned(keys_of("qemu", networks=[]), existing(keys_of("qemu")))
    assert effects(of_web(found)) == {"networks.front": "live", "ready": "none"}


def test_detaching_is_what_the_running_guest_still_has() -> None:
    observed = existing(keys_of("qemu"))
    old = observed.guests["lab-web"]
    new = of_web(planned(keys_of("qemu", disks=[], networks=[]), observed)).desired
    wanted = render.domain_xml(samples.with_image(new))  # type: ignore[arg-type]  # it is there
    mac = old.record.interfaces[0].mac
    expected = ("devices/disk[vdb]", f"devices/interface[{mac}]")
    assert detaching_paths(old.record, wanted, old.live) == expected
    assert detaching_paths(old.record, wanted, "") == (), "it doesn't run"
    later = replace(old.record, rendered=wanted, detaching=expected)
    assert detaching_paths(later, wanted, old.live) == expected, "not forgotten by the next change"
    assert detaching_paths(later, wanted, wanted) == ()


requested = st.fixed_dictionaries(
    {"type": st.sampled_from(["qemu", "kvm", "lxc"])},
    optional={
        "memory": st.sampled_from(["512MiB", "1GiB"]),
        "cpus": st.integers(1, 2),
        "max": st.sampled_from(
            [{}, {"cpus": 4}, {"memory": "4GiB"}, {"cpus": 2, "memory": "1GiB"}]
        ),
        "networks": st.lists(st.sampled_from(["front", "back"]), max_size=2, unique=True),
        "disks": st.lists(st.sampled_from([DATA, MORE]), max_size=2, unique_by=lambda d: d["name"]),
        "groups": st.just(["a"]),
        "devices": st.just(["<sound model='ac97'/>"]),
    },
)


@settings(max_examples=60, deadline=None)
@given(requested, requested, st.sampled_from(["running", "paused", "stopped"]))
def test_whatever_is_requested_a_second_plan_has_nothing(
    old: dict[str, Any], new: dict[str, Any], state: str
) -> None:
    """From any guest to any other: the plan says something where they differ, and then nothing."""
    found = planned(new, existing(old, {"state": state}))
    changed = [each.action for each in found.changes if each.object == "guest/web"]
    requested = [samples.desired_of(text(each)).guests[0].requested for each in (old, new)]
    if requested[0] != requested[1]:
        assert changed == ["update" if old["type"] == new["type"] else "replace"]
    elif state == "running":
        assert changed == []
    after = planned(new, existing(new))
    assert (after.changes, after.pending, after.needs_consent) == ((), (), ())


# --- keys -----------------------------------------------------------------------------------------

OTHER = samples.PUBLIC.replace("ID6t", "ID7t")


@pytest.mark.parametrize(
    ("known", "wanted", "finished", "cause"),
    [
        (None, [OTHER], True, None),  # an older version's record doesn't say
        ([samples.PUBLIC], None, True, None),  # the spec names none: those that it was made with
        ([f"{samples.PUBLIC} me"], [f"{samples.PUBLIC} another comment"], True, None),
        ([samples.PUBLIC], [OTHER], True, "spec"),
        ([samples.PUBLIC, OTHER], [OTHER], False, "unfinished"),  # it may let in the old one still
        ([samples.PUBLIC], [], True, "spec"),
    ],
)
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_keys_that_a_guest_lets_in(
    known: list[str] | None,
    wanted: list[str] | None,
    finished: bool,
    cause: str | None,
    state: States,
) -> None:
    keys = keys_of("lxc", ssh_keys=["me.pub"] if wanted is not None else None)
    record = {"keys": known and tuple(known)}
    observed = existing(keys, {"state": state, "finished": finished, "record": record})
    desired = samples.desired_of(
        text(keys), decided=samples.decided(samples.spec_of(text(keys)), observed)
    )
    guests = tuple(replace(each, keys=wanted and tuple(wanted)) for each in desired.guests)
    if wanted == []:
        guests = tuple(replace(each, keys=()) for each in guests)
    found = environment.diff(replace(desired, guests=guests), observed, spec_path=SPEC)
    reasons = {each.field: each for change in found.changes for each in change.reasons}
    assert ("ssh_keys" in reasons) == (cause is not None)
    if cause is not None:
        assert reasons["ssh_keys"].cause == cause
        assert reasons["ssh_keys"].effect == ("live" if state == "running" else "next-boot")
        assert all("SHA256:" in each for each in reasons["ssh_keys"].before)
