"""examples/labs: labs of others, in virtkit's own keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import samples

from virtkit.plan.resolve import resolve
from virtkit.spec import load
from virtkit.state.desired import Decided
from virtkit.xml import render

LABS = sorted((Path(__file__).parents[3] / "examples/labs").glob("*.yaml"))


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_it_needs_no_xml_and_can_be_rendered(path: Path) -> None:
    spec = load(path)
    assert not [e.name for e in spec.guests.values() if e.devices or e.template]
    desired = resolve(spec, samples.WITH_KVM, Decided())
    assert desired.refused == {}
    assert len(desired.guests) == len(spec.guests) > 0
    for guest in map(samples.with_image, desired.guests):
        assert render.domain_xml(guest).startswith("<domain")
    for network in desired.networks:
        assert render.network_xml(network).startswith("<network")


def test_those_of_the_issue_are_there() -> None:
    """All ten of the issue."""
    known = {*("ceph-ansible", "ci-framework", "forklift", "jellyfin", "k8s-provisioner")}
    known |= {"kcli-openstack", "kubespray", "vagrant-ceph", "virt-infra", "win10"}
    assert known <= {path.stem for path in LABS}


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_its_size_on_a_laptop_is_as_it_says(path: Path) -> None:
    line = re.search(r"`virtkit up (\S+\.yaml) (.*)`", path.read_text())
    assert line is not None
    assert line[1] == path.name
    settings = re.findall(r"--set (\S*)", line[2])
    small, whole = load(path, settings=settings), load(path)
    memory = [sum(e.memory for e in each.guests.values()) for each in (small, whole)]
    assert memory[0] < memory[1]
