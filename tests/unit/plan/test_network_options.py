"""Fields of a network that change while guests use it: what is live, what waits, what is left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import samples

from virtkit.plan import Change, Plan, diff
from virtkit.plan.port_conflicts import errors
from virtkit.state.network import DnsHost, merged_names
from virtkit.state.observed import Observed

NETWORK = {"cidr": "10.20.0.0/24", "forward": {"corp.test": "10.0.0.53"}, "mtu": 1400}
WEB = {"type": "qemu", "networks": [{"name": "front", "mtu": 1500}]}


def text(network: dict[str, Any]) -> str:
    return json.dumps({"name": "lab", "networks": {"front": network}, "guests": {"web": WEB}})


def existing(network: dict[str, Any], **change: Any) -> Observed:
    return samples.up(samples.desired_of(text(network)), "/lab.yaml", change)


def planned(observed: Observed, network: dict[str, Any], *, restart: bool = False) -> Plan:
    spec = text(network)
    found = samples.decided(samples.spec_of(spec), observed)
    desired = samples.desired_of(spec, decided=found)
    return diff(desired, observed, spec_path="/lab.yaml", restart=restart)


def reasons(changes: Sequence[Change]) -> dict[str, tuple[str, str]]:
    return {each.field: (each.cause, each.effect) for c in changes for each in c.reasons}


def with_outdated(observed: Observed, live: str) -> Observed:
    """The same, where a run took out what the active network may still have."""
    network = started_before(observed, live).networks["lab-front"]
    paths = ("mtu", "dns/forwarder[corp.test]", "bridge")
    record = replace(network.record, outdated=paths)
    return replace(observed, networks={"lab-front": replace(network, record=record)})


def started_before(observed: Observed, live: str) -> Observed:
    """The network as it is defined now, and active as it was before."""
    network = observed.networks["lab-front"]
    return replace(observed, networks={"lab-front": replace(network, live=live)})


def test_what_only_a_start_brings_waits_for_it() -> None:
    before = existing({"cidr": "10.20.0.0/24"}).networks["lab-front"].live
    staged = started_before(existing(NETWORK), before)
    found = planned(staged, NETWORK)
    assert found.changes == ()
    waiting = {"forward": ("spec", "restart"), "mtu": ("spec", "restart")}
    assert reasons(found.pending) == waiting
    asked = planned(staged, NETWORK, restart=True)
    assert asked.pending == ()
    (change,) = asked.changes
    assert (change.object, change.effect) == ("network/front", "restart")
    assert reasons(asked.changes) == waiting


def test_others_guests_keep_a_network_from_its_restart() -> None:
    before = existing({"cidr": "10.20.0.0/24"}).networks["lab-front"].live
    staged = started_before(existing(NETWORK, users={"lab-front": ["theirs"]}), before)
    asked = planned(staged, NETWORK, restart=True)
    assert asked.changes == ()
    assert reasons(asked.pending).keys() == {"forward", "mtu"}


def test_guests_that_nobody_named_keep_their_link() -> None:
    two = {"name": "lab", "networks": {"front": NETWORK}, "guests": {"web": WEB, "db": WEB}}
    old = {**two, "networks": {"front": {"cidr": "10.20.0.0/24"}}}
    before = samples.up(samples.desired_of(json.dumps(old)), "/lab.yaml")
    after = samples.up(samples.desired_of(json.dumps(two)), "/lab.yaml")
    staged = started_before(after, before.networks["lab-front"].live)
    decided = samples.decided(samples.spec_of(json.dumps(two)), staged)
    desired = samples.desired_of(json.dumps(two), decided=decided)

    def network(*only: str) -> list[Change]:
        found = diff(desired, staged, spec_path="/lab.yaml", only=only or None, restart=True)
        return [each for each in found.changes if each.object == "network/front"]

    assert network("web") == []
    assert len(network("web", "db")) == len(network()) == 1


def test_what_is_gone_is_there_until_the_network_starts_again() -> None:
    plain = {"cidr": "10.20.0.0/24"}
    before = existing(NETWORK).networks["lab-front"].live
    found = planned(with_outdated(existing(plain), before), plain)
    assert reasons(found.pending) == {"forward": ("spec", "restart"), "mtu": ("spec", "restart")}
    unused = existing(plain, without=["guest/web"])
    found = planned(with_outdated(unused, before), plain)
    assert reasons([e for e in found.changes if e.object == "network/front"]) == {
        "forward": ("spec", "live"),
        "mtu": ("spec", "live"),
    }


def test_names_that_somebody_took_away() -> None:
    named = {"cidr": "10.20.0.0/24", "names": {"api": "10.20.0.5"}}
    gone = existing({"cidr": "10.20.0.0/24"}).networks["lab-front"].live
    found = planned(started_before(existing(named), gone), named)
    assert reasons(found.changes) == {"dns/host[10.20.0.5]": ("drift", "live")}


def test_an_address_has_one_entry() -> None:
    hosts = [DnsHost("10.20.0.5", ("a",)), DnsHost("fd00::5", ("a",)), DnsHost("10.20.0.5", ("b",))]
    assert merged_names(hosts) == (DnsHost("10.20.0.5", ("a", "b")), DnsHost("fd00::5", ("a",)))


def test_a_name_has_an_entry_for_each_of_its_addresses() -> None:
    spec = {"cidr": "10.20.0.0/24", "names": {"api": ["10.20.0.2", "10.20.0.3"], "b": "10.20.0.3"}}
    desired = samples.desired_of(text(spec))
    assert desired.networks[0].names == (
        DnsHost("10.20.0.2", ("api",)),
        DnsHost("10.20.0.3", ("api", "b")),
    )
    assert desired.guests[0].interfaces[0].address == "10.20.0.4", "they are somebody's already"


def test_one_address_in_a_list_is_what_it_is_alone() -> None:
    one = existing({"cidr": "10.20.0.0/24", "names": {"api": "10.20.0.5"}})
    found = planned(one, {"cidr": "10.20.0.0/24", "names": {"api": ["10.20.0.5"]}})
    assert reasons(found.changes) == {}
    more = planned(one, {"cidr": "10.20.0.0/24", "names": {"api": ["10.20.0.5", "10.20.0.6"]}})
    assert reasons(more.changes) == {"names": ("spec", "live")}


def test_an_address_with_a_name_is_no_guests() -> None:
    spec = {"cidr": "10.20.0.0/24", "names": {"api": "10.20.0.2"}}
    (guest,) = samples.desired_of(text(spec)).guests
    assert guest.interfaces[0].address == "10.20.0.3"


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"networks": {"campus": True}}, ["puts no interface into a VLAN"]),
        ({"networks": {"campus": True}, "vlan_networks": ["campus"]}, []),
        ({"vlan_networks": ["campus"], "portgroups": {"campus": []}}, ["has no portgroup dmz"]),
        ({}, []),
    ],
)
def test_ports_that_a_network_lacks(facts: dict[str, Any], what: list[str]) -> None:
    spec = "name: lab\nnetworks: {dmz: {existing: campus}}\nguests: {web: {type: qemu, networks: "
    spec += "[{name: dmz, vlan: 42, portgroup: dmz}]}}\n"
    guest = samples.guest_of(spec)
    found = [each.what for each in errors(guest, samples.facts_of(facts))]
    assert len(found) == len(what)
    assert all(part in each for part, each in zip(what, found, strict=True))
