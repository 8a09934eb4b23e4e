"""Differences in a guest's XML by the name of the field that they belong to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import samples

from virtkit.plan import detaching_paths, pending_fields
from virtkit.plan.drift import DriftCheck, FieldDifference
from virtkit.state.desired import Guest
from virtkit.state.observed import ObservedGuest
from virtkit.xml import render

KEYS = {
    "type": "qemu",
    "networks": ["front", "back"],
    "graphics": "vnc",
    "disk": "4GiB",
    "disks": [{"name": "data", "size": "1GiB", "mount": "/srv/a.b+c"}],
}


def desired(**keys: object) -> Guest:
    guests = {"web": {**KEYS, **keys}}
    networks = {"front": {}, "back": {}}
    return samples.guest_of(json.dumps({"name": "lab", "networks": networks, "guests": guests}))


def changed(old: ObservedGuest, **keys: object) -> Guest:
    """The guest that exists, as the spec asks for it now."""
    targets = {each.name: each.target for each in old.record.volumes}
    return replace(desired(**keys), targets=targets)


def existing(guest: Guest) -> ObservedGuest:
    found = replace(samples.desired_of("name: lab\n"), guests=(guest,))
    return samples.up(found, "/lab.yaml").guests[guest.domain]


def drift_check(guest: Guest, **fields: str) -> DriftCheck:
    current = replace(existing(guest), **fields)  # type: ignore[arg-type]  # fields of several types
    return DriftCheck(guest, current, render.domain_xml(guest))


def place(guest: Guest, old: str, new: str) -> FieldDifference:
    """The difference that an edit of the definition makes."""
    xml = render.domain_xml(guest)
    assert xml.count(old) == 1, (old, xml)
    (found,) = drift_check(guest, inactive=xml.replace(old, new)).next_boot()
    return found


FRONT, BACK = (each.mac for each in desired().interfaces)
GIB = str(samples.GIB)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (f'<currentMemory unit="b">{GIB}<', '<currentMemory unit="b">1<', "memory"),
        (f'<memory unit="b">{GIB}<', '<memory unit="b">1<', "memory"),
        (' current="1">1<', ' current="1">2<', "cpus"),
        (' current="1">1<', ' current="2">1<', "cpus"),
        ("mitigations=off", "mitigations=on", "kernel"),
        ('listen="127.0.0.1"', 'listen="0.0.0.0"', "graphics"),
        ('<model type="vga"/>', '<model type="qxl"/>', "graphics"),
        ("<serial>root</serial>", "<serial>x</serial>", "disk"),
        ('<source file="/pool/lab-web-data"/>', '<source file="/x"/>', "disks.data"),
        ('<target dev="vdb"', '<target dev="vdx"', "disks.data"),
        ('<source network="lab-front"/>', '<source network="x"/>', "networks.front"),
        (BACK, "52:54:00:00:00:01", "networks.back"),
        ("<on_crash>destroy<", "<on_crash>restart<", "on_crash"),
        ('machine="q35"', 'machine="pc-i440fx-8.2"', "os/type/@machine"),
    ],
)
def test_a_machines_fields(old: str, new: str, field: str) -> None:
    found = place(desired(), old, new)
    assert (found.field, found.cause, found.live) == (field, "drift", None)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("<quota>100000<", "<quota>1<", "cpus"),
        ('dir="/.virtkit/mounts/srv/a.b+c"', 'dir="/x"', "disks.data"),
        ("/lab-web-data", "/x", "disks.data"),
        (FRONT, "52:54:00:00:00:01", "networks.front"),
        ("<privnet/>", "", "features/privnet"),
    ],
)
def test_a_containers_fields(old: str, new: str, field: str) -> None:
    assert place(desired(type="lxc", graphics="none"), old, new).field == field


def test_what_was_requested_as_a_limit_is_a_limit() -> None:
    guest = desired(max={"cpus": 4, "memory": "4GiB"})
    assert (
        place(guest, f'<memory unit="b">{4 * samples.GIB}<', '<memory unit="b">1<').field == "max"
    )
    assert place(guest, ' current="1">4<', ' current="1">8<').field == "max"
    assert place(guest, ' current="1">4<', ' current="2">4<').field == "cpus"


@pytest.mark.parametrize(
    ("old", "new", "fixed"),
    [
        (f'<currentMemory unit="b">{GIB}<', '<currentMemory unit="b">1<', True),
        ('<target dev="vdb"', '<target dev="vdx"', True),
        (BACK, "52:54:00:00:00:01", True),
        ('<source network="lab-front"/>', '<source network="x"/>', False),
        ('<source file="/pool/lab-web-data"/>', '<source file="/x"/>', False),
        ("<on_crash>destroy<", "<on_crash>restart<", False),
    ],
)
def test_what_a_running_guest_can_be_given(old: str, new: str, fixed: bool) -> None:
    assert place(desired(), old, new).live_fix is fixed


def test_the_running_guest_has_it_too() -> None:
    guest = desired()
    edited = render.domain_xml(guest).replace("<on_crash>destroy<", "<on_crash>restart<")
    (found,) = drift_check(guest, inactive=edited, live=edited).next_boot()
    assert found.live is not None
    assert (found.live.wanted, found.live.current) == ("destroy", "restart")
    (now,) = drift_check(guest, live=edited).running()
    assert now.field == "on_crash"
    assert drift_check(guest, live="").running() == [], "it doesn't run"


def test_what_no_longer_is_wanted_is_named_by_what_it_was() -> None:
    old = existing(desired())
    new = changed(old, disks=[], networks=["front"])
    found = DriftCheck(new, old, render.domain_xml(new))
    assert {each.field for each in found.next_boot()} == {"disks.data", "networks.back"}
    assert {each.cause for each in found.next_boot()} == {"upgrade"}
    assert {each.field for each in found.running()} == {"disks.data", "networks.back"}


def test_what_is_detaching_is_named_when_only_the_running_guest_has_it() -> None:
    old = existing(desired())
    new = changed(old, disks=[], networks=["front"])
    left = detaching_paths(old.record, render.domain_xml(new), old.live)
    now = existing(new)
    now = replace(now, live=old.live, record=replace(now.record, detaching=left))
    fields = [each.field for each in DriftCheck(new, now, render.domain_xml(new)).running()]
    assert fields == ["disks.data", "networks.back"]
    kept = replace(now, inactive=old.live)
    assert DriftCheck(new, kept, render.domain_xml(new)).running() == [], (
        "a restart would not take it away"
    )


def test_beyond() -> None:
    found = drift_check(desired(cpus=2, max={"memory": "2GiB"}))
    assert not found.exceeds_max("memory", 2 * samples.GIB)
    assert found.exceeds_max("memory", 3 * samples.GIB)
    assert not found.exceeds_max("cpus", 2)
    assert found.exceeds_max("cpus", 3)
    assert not found.exceeds_max("disk", 9 * samples.GIB)
    assert not drift_check(desired(), live="").exceeds_max("memory", 9 * samples.GIB), (
        "it doesn't run"
    )


def test_waiting() -> None:
    """What `status` shows: nothing once the guest was started again."""
    guest = existing(desired(cpus=2))
    staged = replace(guest.record, staged={"cpus": "spec", "disks.x": "upgrade"}, staged_in="7")
    assert pending_fields(replace(guest, record=staged)) == ("cpus", "disks.x")
    assert pending_fields(replace(guest, record=replace(staged, staged_in="6"))) == ()
    assert pending_fields(replace(guest, record=staged, live="")) == ()
