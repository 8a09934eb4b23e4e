"""What of others is in a plan's way: the cure names whose it is, and the command that mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import samples

from virtkit.errors import RequestError, SpecErrors
from virtkit.facts import HostFacts
from virtkit.plan import diff
from virtkit.state.observed import Observed

LAB = "name: lab\nguests: {web: {type: qemu, networks: []}}\n"
TWO = "name: lab-two\nnetworks: {front: {cidr: 10.7.0.0/24}}\nguests: {a: {networks: [front]}}\n"


def refused(
    text: str, observed: Observed, facts: HostFacts = samples.WITH_KVM, **options: Any
) -> RequestError:
    found = samples.decided(samples.spec_of(text), observed)
    desired = samples.desired_of(text, facts, found)
    with pytest.raises(SpecErrors) as caught:
        diff(desired, observed, spec_path="/lab.yaml", facts=facts, **options)
    (error,) = caught.value.every()
    return error


def undefined(spec: str = "/lab.yaml") -> Observed:
    return samples.up(samples.desired_of(LAB), spec, {"undefined": ["web"]})


def taken_over(observed: Observed, domains: Mapping[str, str], holder: str) -> Observed:
    """The guest's volumes, or its name, are a stranger's; ``domains``: names to schemes."""
    pairs = frozenset((scheme, name) for name, scheme in domains.items())
    return replace(observed, undefined={}, taken_over={"lab-web": holder}, foreign_domains=pairs)


def test_the_cure_asks_the_driver_of_a_strangers_domain_with_a_guests_volumes() -> None:
    there = taken_over(undefined(), {"lab web's": "lxc"}, "lab web's")
    uris = {"qemu": "qemu+ssh://ops@rack/system", "lxc": "lxc+ssh://ops@rack/system?a=b&c=d"}
    known = {
        scheme: replace(each, uri=uris[scheme])
        for scheme, each in samples.WITH_KVM.connections.items()
    }
    error = refused(LAB, there, replace(samples.WITH_KVM, connections=known))
    virsh, name = "virsh -c 'lxc+ssh://ops@rack/system?a=b&c=d'", """'lab web'"'"'s'"""
    assert f"leaves its disks: {virsh} undefine {name}; or" in error.cure
    assert f"{virsh} domrename {name} lab-web (if it runs" in error.cure


def test_a_strangers_domain_with_a_guests_name() -> None:
    error = refused(LAB, taken_over(undefined(), {"lab-web": "qemu"}, "lab-web"))
    assert "virsh -c qemu:///system undefine lab-web (if it runs" in error.cure
    assert "domrename" not in error.cure


def test_another_environments_guest_of_the_same_name_in_libvirt() -> None:
    """Environment a-b with guest c, and environment a with guest b-c."""
    theirs = samples.up(
        samples.desired_of("name: a-b\nguests: {c: {type: qemu, networks: []}}\n"), "/their's.yaml"
    )
    ours = "name: a\nguests: {b-c: {type: qemu, networks: []}}\n"
    assert "guest c of environment a-b" in refused(ours, theirs).why
    # undefined, and none of its disks has a name that ours would have
    record = theirs.guests["a-b-c"].record.for_pool_record()
    gone = replace(
        theirs,
        guests={},
        volumes=frozenset({"a-b-c-data"}),
        pool=replace(theirs.pool, guests={"a-b-c": record}),
    )
    error = refused(ours, gone)
    assert error.what == "domain a-b-c does not belong to this environment"
    assert """virtkit down '/their'"'"'s.yaml' c;""" in error.cure


def test_another_environments_network_with_the_subnet() -> None:
    theirs = samples.up(samples.desired_of(TWO), "/two.yaml")
    text = TWO.replace("lab-two", "lab")
    facts = samples.facts_of(
        {
            "kvm": {"works": True, "why": "it does"},
            "used_subnets": ["10.7.0.0/24 network lab-two-front"],
            "networks": {"lab-two-front": True},
        }
    )
    error = refused(text, theirs, facts)
    assert error.cure.endswith("or have environment lab-two (made from /two.yaml) taken down")
    stranger = refused(text, replace(theirs, networks={}), facts)
    assert stranger.cure.endswith("virsh -c qemu:///system net-destroy lab-two-front")
