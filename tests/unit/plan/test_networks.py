"""Networks that stand: what changes at once, what waits for their guests, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import samples

from virtkit.errors import SpecErrors
from virtkit.plan import Change, Plan, diff
from virtkit.state.observed import Observed

NETWORK = {"cidr": "10.20.0.0/24", "domain": "lab.test", "ipv6": "fd00:20::/64"}
WEB = {"type": "qemu", "networks": ["front"]}


def text(network: dict[str, Any], **guests: Any) -> str:
    return json.dumps({"name": "lab", "networks": {"front": network}, "guests": guests})


def existing(change: dict[str, Any] | None = None, without: list[str] | None = None) -> Observed:
    """The network with its guest; ``change`` is of the network."""
    desired = samples.desired_of(text(NETWORK, web=WEB))
    fields = {"networks": {"front": change or {}}, "without": without or []}
    return samples.up(desired, "/lab.yaml", fields)


def planned(observed: Observed, network: dict[str, Any] = NETWORK, **guests: Any) -> Plan:
    spec = text(network, **(guests or {"web": WEB}))
    found = samples.decided(samples.spec_of(spec), observed)
    return diff(samples.desired_of(spec, decided=found), observed, spec_path="/lab.yaml")


def causes(changes: tuple[Change, ...]) -> dict[str, tuple[str, str]]:
    every = [each for each in changes if each.object == "network/front"]
    return {r.field: (r.cause, r.effect) for each in every for r in each.reasons}


def test_as_it_was_made_is_no_change() -> None:
    found = planned(existing())
    assert (found.changes, found.pending, found.notes) == ((), (), ())


HOST = 'name="web" ip="10.20.0.2"'
NAME = "<hostname>web.lab.test</hostname>"


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (HOST, 'name="web" ip="10.20.0.99"', "dhcp/host[52:54:00:11:4a:43]/@ip"),
        (HOST, 'name="other" ip="10.20.0.2"', "dhcp/host[52:54:00:11:4a:43]/@name"),
        ("52:54:00:11:4a:43", "52:54:00:00:00:01", "dhcp/host[52:54:00:11:4a:43]"),
        (NAME, "<hostname>other</hostname>", "/hostname"),
    ],
)
def test_hosts_that_somebody_edited_come_back_at_once(old: str, new: str, field: str) -> None:
    found = planned(existing({"edits": {old: new}, "live_edits": {old: new}}))
    ((name, cost),) = causes(found.changes).items()
    assert name.endswith(field)
    assert cost == ("drift", "live")
    assert (found.pending, found.notes) == ((), ())
    live_only = planned(existing({"live_edits": {old: new}}))
    assert set(causes(live_only.changes).values()) == {("drift", "live")}
    definition = planned(existing({"edits": {old: new}}))
    assert set(causes(definition.changes).values()) == {("drift", "none")}


STP = {'stp="off"': 'stp="on"'}


def test_what_can_not_change_while_guests_hold_it_waits() -> None:
    found = planned(existing({"live_edits": STP}))
    assert found.changes == ()
    assert causes(found.pending) == {"bridge/@stp": ("drift", "restart")}
    assert found.notes == (
        "network/front gets bridge/@stp when it starts again; in use by lab-web",
    )  # fmt: skip
    both = planned(existing({"edits": STP, "live_edits": STP}))
    assert causes(both.changes) == {"bridge/@stp": ("drift", "restart")}
    definition = planned(existing({"edits": STP}))
    assert causes(definition.changes) == {"bridge/@stp": ("drift", "none")}


def test_a_network_that_nobody_uses_is_restarted_for_it() -> None:
    free = existing({"edits": STP, "live_edits": STP}, without=["guest/web"])
    assert causes(planned(free).changes)["bridge/@stp"] == ("drift", "live")
    live = existing({"live_edits": STP}, without=["guest/web"])
    found = planned(live)
    assert causes(found.changes)["bridge/@stp"] == ("drift", "live")
    assert found.pending == ()


def test_what_others_added_is_none_of_ours() -> None:
    more = {
        "<dhcp>": '<dhcp><host mac="52:54:00:00:00:09" name="printer" ip="10.20.0.9"/>',
        "<dns>": "<dns><txt name='a' value='b'/>",
    }
    found = planned(existing({"edits": more, "live_edits": more}))
    assert (found.changes, found.pending) == ((), ())


def test_what_libvirt_rewrote_is_no_drift() -> None:
    observed = existing({"edits": STP, "live_edits": STP})
    network = observed.networks["lab-front"]
    new = replace(network.record, rewritten=("bridge/@stp",))
    same = replace(observed, networks={"lab-front": replace(network, record=new)})
    assert planned(same).changes == ()


def test_a_newer_virtkit_renders_otherwise() -> None:
    """The definition has it when the network starts again; its guests keep their link."""
    observed = existing()
    network = observed.networks["lab-front"]
    old = network.inactive.replace('delay="0"', 'delay="2"')
    new = replace(network, record=replace(network.record, rendered=old), inactive=old, live=old)
    found = planned(replace(observed, networks={"lab-front": new}))
    assert causes(found.changes) == {"bridge/@delay": ("upgrade", "restart")}


@pytest.mark.parametrize(
    "changed", [{"cidr": "10.30.0.0/24"}, {"domain": "x"}, {"mode": "isolated"}]
)
def test_what_the_spec_changes_is_refused_while_guests_hold_it(changed: dict[str, str]) -> None:
    with pytest.raises(SpecErrors, match="can't change while guests use it") as caught:
        planned(existing(), {**NETWORK, **changed})
    assert next(iter(changed)) in caught.value.what
    assert "lab-web" in caught.value.why
    assert "virtkit down" in caught.value.cure
    found = planned(existing(without=["guest/web"]), {**NETWORK, **changed})
    (change,) = [each for each in found.changes if each.object == "network/front"]
    assert (change.action, change.effect) == ("replace", "recreate")


def test_a_guest_more_and_a_guest_less_are_reservations() -> None:
    found = planned(existing(), web=WEB, db=WEB)
    assert causes(found.changes) == {"reservations": ("spec", "live")}
    desired = samples.desired_of(text(NETWORK, web=WEB, db=WEB))
    found = planned(samples.up(desired, "/lab.yaml"))
    assert causes(found.changes) == {"reservations": ("spec", "live")}


@pytest.mark.parametrize(("active", "autostart"), [(False, True), (True, False), (False, False)])
def test_one_that_is_off_is_started(active: bool, autostart: bool) -> None:
    (change,) = planned(existing({"active": active, "autostart": autostart})).changes
    assert (change.object, change.action, change.effect) == ("network/front", "start", "live")
