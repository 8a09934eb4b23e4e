"""What goes is what a record lists: by its key, in the pool where it lies, and only while the
record still says so. Against libvirt's test driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
import samples

from virtkit.apply import Context, StepOptions, steps_of
from virtkit.drivers import QEMU
from virtkit.errors import VirtkitError
from virtkit.host import Host, Storage
from virtkit.plan import Change, Plan, down
from virtkit.state import record, record_text
from virtkit.xml import render, tree

MakeHost = Callable[..., Host]
POOL = "<pool type='dir'><name>{}</name><target><path>{}</path></target></pool>"
SPEC = """
name: lab
networks: {front: {cidr: 10.20.0.0/24}}
guests:
  web: {type: qemu, networks: [front], disks: [{name: data, size: 1GiB, mount: /d}]}
"""
DESIRED = samples.desired_of(SPEC)
WEB = samples.with_image(DESIRED.guests[0])
BODY = render.domain_xml(WEB)
RECORD = replace(record.of_guest(WEB, "/lab.yaml", BODY).with_state("made"), finished=True)
DOMAIN = """<domain type="test"><name>lab-web</name><uuid>{}</uuid>
<memory>65536</memory><os><type>hvm</type></os></domain>"""
MADE = {each.name for each in WEB.volumes}


@pytest.fixture
def host(host_with: MakeHost) -> Host:
    """A host with the guest, and another pool that has volumes of the same names."""
    host = host_with(POOL.format("default", "/pool"), POOL.format("other", "/other"))
    for storage in (host.storage, Storage(host.connections, "other")):
        for volume in WEB.volumes:
            storage.create(render.guest_volume_xml(volume))
    xml = tree.with_record(BODY, record_text.guest_element(RECORD))
    host.domains.define(QEMU, xml, autostart=False)
    return host


def volume_names(host: Host) -> tuple[frozenset[str], frozenset[str]]:
    """The names in the guest's pool and in the other one."""
    return host.storage.names(), Storage(host.connections, "other").names()


def run_down(host: Host, steps: Iterable[str]) -> None:
    """Carries out steps of the guest's removal. (The last one's flags are none of the test
    driver's.)"""
    going = down(host.observe(pool=False), "lab", spec_path="/lab.yaml", only=None, volumes=False)
    context = Context(host, StepOptions(spec="/lab.yaml", folder=Path("/")))
    for step in steps_of(going, context):
        if step.name in steps:
            step.run(lambda _: None)


def test_a_key_is_of_one_volume(host: Host) -> None:
    assert host.storage.delete("/other/lab-web-root")
    assert not host.storage.delete("/other/lab-web-root")
    assert not host.storage.delete("/elsewhere/lab-web-root")
    assert volume_names(host) == (MADE, MADE - {"lab-web-root"})


def test_down_takes_the_guests_volumes_and_leaves_those_of_the_same_names(host: Host) -> None:
    run_down(host, ["stop", "volumes"])
    assert volume_names(host) == (frozenset(), MADE)


@pytest.mark.parametrize("active", [True, False])
def test_down_where_the_spec_names_another_pool_by_now(host: Host, active: bool) -> None:
    if not active:
        host.connections.any().storagePoolLookupByName("default").destroy()
    left = Storage(host.connections, "default")
    host.storage = Storage(host.connections, "other")
    run_down(host, ["stop", "volumes"])
    assert (left.names(), host.storage.names()) == (frozenset(), MADE)
    assert left.active()


def test_down_where_no_pool_has_the_volumes(host: Host) -> None:
    pool = host.connections.any().storagePoolLookupByName("default")
    pool.destroy()
    pool.undefine()
    host.storage = Storage(host.connections, "other")
    with pytest.raises(VirtkitError, match="no pool has the folder /pool") as caught:
        run_down(host, ["volumes"])
    uri = host.connections.uri(host.schemes[0])
    assert f"virsh -c {uri} pool-define-as NAME dir --target /pool" in caught.value.cure
    assert host.storage.names() == MADE
    assert "lab-web" in host.observe().guests, "its record still tells what there is to remove"


def wipe(host: Host) -> None:
    """Somebody else defines a domain of the same name and id."""
    host.connections.get("qemu").defineXML(DOMAIN.format(WEB.uuid))


def move(host: Host) -> None:
    """The record lists other volumes than before."""
    volumes = (replace(each, key=f"/other/{each.name}") for each in RECORD.volumes)
    host.domains.write_record(replace(RECORD, volumes=tuple(volumes)))


@pytest.mark.parametrize(
    ("change", "steps"), [(wipe, ("volumes", "undefine")), (move, ("volumes",))]
)
def test_the_record_is_looked_at_right_before(
    host: Host, change: Callable[[Host], None], steps: tuple[str, ...]
) -> None:
    going = down(host.observe(), "lab", spec_path="/lab.yaml", only=None, volumes=False)
    context = Context(host, StepOptions(spec="/lab.yaml", folder=Path("/")))
    change(host)
    for step in steps_of(going, context):
        if step.name in steps:
            with pytest.raises(
                VirtkitError, match=r"domain lab-web \(guest web of .* has changed"
            ) as caught:
                step.run(lambda _: None)
            assert caught.value.cure
    assert volume_names(host) == (MADE, MADE)
    host.connections.get("qemu").lookupByName("lab-web")


def test_a_network_that_became_anothers_stays(host: Host) -> None:
    (network,) = DESIRED.networks
    host.networks.define(record.of_network(network, "/lab.yaml", render.network_xml(network)))
    observed = host.observe().networks["lab-front"]
    theirs = render.network_xml(network).replace("10.20.0.", "10.21.0.")
    host.connections.any().networkDefineXML(theirs)
    with pytest.raises(
        VirtkitError, match="network lab-front of environment lab has changed"
    ) as caught:
        host.networks.delete(observed)
    assert caught.value.cure
    assert host.observe().foreign_networks == {"lab-front"}


def test_nobodys_domain_is_defined_over(host: Host) -> None:
    """One that came between the plan and the run."""
    host.connections.get("qemu").lookupByName("lab-web").undefine()
    observed = host.observe()
    change = Change("guest/web", "local", "create", desired=WEB)
    context = Context(host, StepOptions(spec="/lab.yaml", folder=Path("/")))
    wipe(host)
    for name in MADE:
        host.storage.delete(f"/pool/{name}")
    step = next(e for e in steps_of(Plan("lab", (change,)), context) if e.name == "define")
    with pytest.raises(VirtkitError, match=r"domain lab-web \(guest web of .* has changed"):
        step.run(lambda _: None)
    assert not observed.guests
    domain = host.connections.get("qemu").lookupByName("lab-web")
    assert "virtkit" not in domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
