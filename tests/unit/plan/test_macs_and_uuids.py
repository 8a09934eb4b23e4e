"""Two hosts, one spec: what is on a network with others is each host's own, and stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import samples

from virtkit.facts import HostFacts
from virtkit.plan import diff
from virtkit.plan.resolve import resolve
from virtkit.state.desired import Decided, Desired

SPEC = """
name: lab
networks: {lan: {mode: bridge, bridge: br0}, old: {existing: default}, front: {cidr: 10.1.0.0/24}}
guests:
  web: {type: qemu, networks: [lan, old, front]}
  db: {type: lxc, networks: [lan]}
  plain: {type: qemu}
"""
PATH = "/specs/lab.yaml"


def host(identity: str) -> HostFacts:
    return samples.facts_of({"networks": {"default": True}, "identity": identity})


def macs(desired: Desired) -> dict[tuple[str, str], str]:
    return {(g.name, each.network): each.mac for g in desired.guests for each in g.interfaces}


def uuids(desired: Desired) -> dict[str, str]:
    return {each.name: each.uuid for each in desired.guests}


def test_two_hosts_share_no_address_on_a_shared_network() -> None:
    first, second = (samples.desired_of(SPEC, host(each)) for each in ("one", "two"))
    same = {interface for interface, mac in macs(first).items() if macs(second)[interface] == mac}
    assert same == {("web", "front"), ("plain", "default")}, "networks that are the host's own"
    assert {n for n, uuid in uuids(first).items() if uuids(second)[n] == uuid} == {"plain"}
    assert macs(first) == macs(samples.desired_of(SPEC, host("one"))), "and the same the next time"


@pytest.mark.parametrize("before", ["", "one"])
@pytest.mark.parametrize("after", ["", "two"])
def test_guests_that_exist_keep_what_they_have(before: str, after: str) -> None:
    """Those of 0.1.0, which knew no identity; and those of a host that got another one."""
    old = samples.desired_of(SPEC, host(before))
    there = samples.up(old, PATH)
    found = samples.decided(samples.spec_of(SPEC), there)
    new = resolve(samples.spec_of(SPEC), host(after), found)
    assert macs(new) == macs(old)
    assert uuids(new) == uuids(old)
    assert diff(new, there, spec_path=PATH).changes == ()


def resolved(text: str, before: str, after: str) -> dict[tuple[str, str], str]:
    """The MACs of a spec whose guests were made from another one, on a host of 0.1.0."""
    there = samples.up(samples.desired_of(before, host("")), PATH)
    spec = samples.spec_of(text)
    return macs(resolve(spec, host(after), samples.decided(spec, there)))


def test_a_new_interface_is_new_and_a_mac_that_the_spec_said_is_not_kept() -> None:
    before = SPEC.replace("[lan]", '[{name: lan, mac: "52:54:00:00:00:10"}]')
    old = macs(samples.desired_of(before, host("")))
    found = resolved(SPEC.replace("  plain:", "  plain2:"), before, "two")
    alone = macs(samples.desired_of(SPEC, host("two")))
    assert found["web", "lan"] == old["web", "lan"]
    assert found["db", "lan"] == alone["db", "lan"]
    more = SPEC.replace("plain: {type: qemu}", "plain: {type: qemu, networks: [default, lan]}")
    found = resolved(more, SPEC, "two")
    assert found["plain", "default"] == macs(samples.desired_of(SPEC, host("")))["plain", "default"]
    assert found["plain", "lan"] == macs(samples.desired_of(more, host("two")))["plain", "lan"]


def test_a_mac_that_another_guest_asks_for_is_given_up() -> None:
    taken = macs(samples.desired_of(SPEC, host("")))["db", "lan"]
    asks = SPEC.replace("networks: [lan, old, front]", f'networks: [{{name: lan, mac: "{taken}"}}]')
    found = resolved(asks, SPEC, "")
    assert found["web", "lan"] == taken
    assert found["db", "lan"] != taken


@pytest.mark.parametrize(
    "requested",
    [{"networks": 5}, {"networks": ["lan"]}, {"networks": [{}]}, {"networks": [{"name": []}]}],
)
def test_records_that_somebody_wrote(requested: dict[str, Any]) -> None:
    spec = samples.spec_of(SPEC)
    there = samples.up(samples.desired_of(SPEC, host("")), PATH)
    guest = there.guests["lab-db"]
    for mac in ("52:54:00:00:00:10", "'/><evil/>"):
        interfaces = (replace(guest.record.interfaces[0], mac=mac),)
        odd = replace(
            guest, record=replace(guest.record, requested=requested, interfaces=interfaces)
        )
        found = samples.decided(spec, replace(there, guests={"lab-db": odd}))
        assert mac not in macs(resolve(spec, host("one"), found)).values()
    assert isinstance(found, Decided)
