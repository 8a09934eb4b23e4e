"""A spec that names a pool which virtkit can't use, or not the one in which guests have their
volumes: that is wrong, and no silence of its host. Against libvirt's test driver.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
import samples
from functional.conftest import NODE, POOL

from virtkit import api
from virtkit.api.plan import plan_on
from virtkit.drivers import QEMU
from virtkit.errors import RequestError
from virtkit.host import Host, Remote
from virtkit.spec import Spec, read_text
from virtkit.state import record, record_text
from virtkit.xml import render, tree

LOGICAL = "<pool type='logical'><name>default</name><source><name>vg</name></source></pool>"
WRONG = "pool default is of type logical; virtkit needs a folder"
HERE = "here: {type: qemu, networks: []}"
THERE = "there: {type: qemu, host: far, networks: []}"
MakeHosts = Callable[..., list[Host]]


@pytest.fixture
def hosts_with(tmp_path: Path) -> MakeHosts:
    """Hosts with pools, by their names."""

    def make(**pools: str) -> list[Host]:
        none, hosts = f"test://{tmp_path}/none.xml", []
        for name, pool in pools.items():
            node = tmp_path / f"{name}.xml"
            node.write_text(NODE.format(pool))
            hosts.append(
                Host(name, "default", {"qemu": f"test://{node}", "lxc": none, "xen": none})
            )
        return hosts

    return make


def spec_of(*guests: str) -> Spec:
    uris = ", ".join(f"{each}: {each}+tcp://far/system" for each in ("qemu", "lxc", "xen"))
    hosts = f"{{local: {{}}, far: {{address: root@far, uris: {{{uris}}}}}}}"
    text = f"name: lab\nhosts: {hosts}\nguests: {{{', '.join(guests)}}}\n"
    return read_text(text, source="/lab.yaml", folder=Path("/"))


def make(host: Host, guest: str, folder: str = "/pool") -> None:
    """A guest that is off, as it is after an `up` on a host."""
    (desired,) = samples.desired_of(f"name: lab\nguests: {{{guest}}}\n").guests
    desired = samples.with_image(desired)
    body = render.domain_xml(desired).replace("/pool/", f"{folder}/")
    made = replace(record.of_guest(desired, "/lab.yaml", body).with_state("made"), finished=True)
    volumes = tuple(replace(e, key=e.key.replace("/pool/", f"{folder}/")) for e in made.volumes)
    xml = tree.with_record(body, record_text.guest_element(replace(made, volumes=volumes)))
    host.domains.define(QEMU, xml, autostart=False)


@pytest.mark.parametrize("guest", [THERE, "new: {type: qemu, place: {}, networks: []}"])
def test_a_plan_is_refused(hosts_with: MakeHosts, guest: str) -> None:
    for hosts in (hosts_with(local=POOL, far=LOGICAL), hosts_with(far=LOGICAL)):
        with pytest.raises(RequestError) as caught:
            plan_on(hosts, spec_of(HERE, guest))
        assert [(each.what, each.where) for each in caught.value.every()] == [(WRONG, "far")]
        assert caught.value.exit_code == 2


def test_all_of_them_are_told(hosts_with: MakeHosts) -> None:
    with pytest.raises(RequestError) as caught:
        plan_on(hosts_with(local=LOGICAL, far=LOGICAL), spec_of(HERE, THERE))
    assert [each.where for each in caught.value.every()] == ["local", "far"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Host]], None]:
    """Has virtkit find what hosts have where it opens their libvirt."""

    def serve(hosts: list[Host]) -> None:
        worlds = {each.name: each.connections.get("qemu") for each in hosts}

        def opened(uri: str) -> libvirt.virConnect:
            if not uri.startswith("qemu"):
                raise libvirt.libvirtError("nobody is there")
            return worlds["far" if "far" in uri else "local"]

        monkeypatch.setattr(libvirt, "open", opened)

    return serve


def test_down_removes_nothing(hosts_with: MakeHosts, served: Callable[[list[Host]], None]) -> None:
    hosts = hosts_with(local=POOL, far=LOGICAL)
    make(hosts[0], HERE)
    served(hosts)
    for remove in (api.down, api.down_plan):
        with pytest.raises(RequestError) as caught:
            remove(spec_of(HERE, THERE))
        assert (caught.value.what, caught.value.exit_code) == (WRONG, 2)
    assert hosts[0].observe().guests.keys() == {"lab-here"}


def test_no_pool_has_the_volumes(
    hosts_with: MakeHosts, served: Callable[[list[Host]], None]
) -> None:
    hosts = hosts_with(local=POOL, far=POOL)
    make(hosts[0], HERE, "/elsewhere")
    served(hosts)
    alone = read_text(f"name: lab\nguests: {{{HERE}}}\n", source="/lab.yaml", folder=Path("/"))
    for ask, spec in ((api.plan, spec_of(HERE, THERE)), (api.plan, alone), (api.down, alone)):
        with pytest.raises(RequestError, match="no pool has the folder /elsewhere") as caught:
            ask(spec)
        assert (caught.value.where, caught.value.exit_code) == ("local", 2)


def test_a_list_of_hosts_says_that_it_answers(
    hosts_with: MakeHosts, served: Callable[[list[Host]], None]
) -> None:
    served(hosts_with(local=LOGICAL))
    said: list[str] = []
    (status,) = api.host_status(say=said.append)
    assert (status.reachable, status.types) == (True, ())
    assert said == [
        f"host local can run no guests: {WRONG}; cure: {said[0].partition('cure: ')[2]}"
    ]
    (checks,) = api.check_hosts(say=said.append)
    (check,) = [each for each in checks.checks if each.needed]
    assert (check.name, check.what) == ("pool default", WRONG)


def test_who_falls_silent_as_it_is_asked_for_room_is_told(hosts_with: MakeHosts) -> None:
    """Its libvirt answers, and ssh does not get there."""
    here, far = hosts_with(local=POOL, far=POOL)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))  # nobody listens there
        remote = Remote("far", "root@127.0.0.1", server.getsockname()[1])
        far = Host("far", "default", far.connections._uris, remote)
        plan = plan_on([here, far], spec_of("new: {type: qemu, place: {}, networks: []}"))
    assert (plan.unanswered.keys(), plan.incomplete) == ({"far"}, True)
    assert ("guest/new", "local") in {(each.object, each.host) for each in plan.changes}
