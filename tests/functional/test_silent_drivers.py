"""A host of which one driver does not answer: its guests are not seen, and may be there. Containers
and networks are those of libvirt's test driver; the daemon for virtual machines takes connections
and says nothing, or is none.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
import samples
from functional.conftest import POOL

from virtkit import access, api
from virtkit.drivers import LXC, XEN_PV
from virtkit.errors import RequestError, VirtkitError
from virtkit.host import Host, connection
from virtkit.spec import Spec, read_text
from virtkit.state import record, record_text
from virtkit.state.desired import ImageFiles
from virtkit.state.record import GuestRecord, PoolRecord, StoredImage
from virtkit.xml import render, tree

NETWORKS = "networks: {front: {cidr: 10.20.0.0/24}, back: {cidr: 10.21.0.0/24}}\n"
WEB = "  web: {type: lxc, networks: [{name: front, address: 10.20.0.5}]}\n"
BOX = "  box: {type: qemu, networks: [{name: front, address: 10.20.0.6}]}\n"
FRONT = "lab-front"
IMAGE = "ab" * 20
MakeSpec = Callable[..., Spec]

pytestmark = pytest.mark.usefixtures("streams")


def records(guests: str = WEB + BOX) -> dict[str, GuestRecord]:
    """What an `up` has written of guests, by their names."""
    desired = samples.desired_of(f"name: lab\n{NETWORKS}guests:\n{guests}")
    made = {}
    for each in map(samples.with_image, desired.guests):
        one = record.of_guest(each, "/lab.yaml", render.domain_xml(each)).with_state("made")
        made[each.name] = replace(one, finished=True, host_key=f"ssh-ed25519 {each.name}")
    return made


@pytest.fixture
def host(host_with: Callable[..., Host]) -> Host:
    """A host with a container and networks, on which there is a virtual machine, too: what its own
    driver says of that is for each test."""
    none = "none:///system"
    uris = {"qemu": none, "lxc": host_with(POOL).connections.uri("qemu"), "xen": none}
    host = Host("local", "default", uris)
    gone = "  gone: {type: lxc, networks: [back]}\n"
    desired = samples.desired_of(f"name: lab\n{NETWORKS}guests:\n{WEB}{BOX}{gone}")
    for network in desired.networks:
        made = record.of_network(network, "/lab.yaml", render.network_xml(network))
        host.networks.define(made)
        host.networks.start(network.libvirt_name)
    web = records()["web"]
    xml = tree.with_record(web.rendered, record_text.guest_element(web))
    host.domains.define(LXC, xml, autostart=False)
    return host


def listed(host: Host, *guests: str) -> None:
    """The pool's record lists guests, and an image that none uses."""
    every = [records()[each].for_pool_record() for each in guests]
    files = ImageFiles(IMAGE, "/pool/virtkit-x.root", "raw", 4096)
    image = StoredImage("old", ("identity",), files, made=True)
    host.storage.create(render.volume_xml("virtkit-x.root", 4096, "raw"))
    host.storage.write_record(PoolRecord({IMAGE: image}, {}, {e.domain: e for e in every}))


@pytest.fixture
def make_spec(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeSpec]:
    """A spec of this machine, whose containers are the host's; its virtual machines' daemon says
    nothing, or is none."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(connection, "OPEN_TIMEOUT", 0.3)
    access.write_known_hosts("lab", records().values())
    containers, real = host.connections.get("lxc"), libvirt.open

    def opened(uri: str) -> libvirt.virConnect:
        if uri == "lxc:///system":
            return containers
        return real(uri if "socket" in uri else "none:///system")

    monkeypatch.setattr(libvirt, "open", opened)
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()

        def make(guests: str, *, silent: bool = True) -> Spec:
            uris = f"{{qemu: 'qemu+unix:///system?socket={path}'}}" if silent else "{}"
            text = f"name: lab\nhosts: {{local: {{uris: {uris}}}}}\n{NETWORKS}guests:\n{guests}"
            return read_text(text, source="/lab.yaml", folder=Path("/"))

        yield make


SILENT = "libvirt's qemu driver on host local does not answer"


def outcomes(report: api.Report) -> dict[str, str]:
    return {each.object: each.outcome for each in report.results}


def left(host: Host) -> tuple[set[str], set[str]]:
    observed = host.observe(pool=False)
    return {*observed.guests}, {*observed.networks}


# --- a daemon that says nothing -------------------------------------------------------------------


@pytest.mark.parametrize("guests", [WEB + BOX, WEB])
def test_down_leaves_what_its_guests_may_use(host: Host, make_spec: MakeSpec, guests: str) -> None:
    """Also where the spec does not name them any more."""
    said: list[str] = []
    spec = make_spec(guests)
    planned = api.down_plan(spec)
    assert planned.incomplete
    assert {each.object for each in planned.changes} == {"guest/web"}
    report = api.down(spec, run=api.RunOptions(say=said.append))
    assert not report.ok
    ended = outcomes(report)
    assert (ended["guest/web"], ended["host/local"]) == ("done", "failed")
    assert ("guest/box" in ended) == ("box" in guests)
    assert left(host) == (set(), {FRONT, "lab-back"})
    assert "network/front stays: unseen guests of libvirt's qemu driver may use it" in said
    assert access.has_folder("lab"), "the keys of those that may be there"
    assert access.last_host("lab", "lab-box") == "local"


def test_what_it_lists_is_unknown_though_the_spec_does_not_name_it(
    host: Host, make_spec: MakeSpec
) -> None:
    listed(host, "web", "box")
    planned = api.down_plan(make_spec(WEB))
    assert [(each.guest, each.why) for each in planned.unknown] == [("box", SILENT)]
    (error,) = planned.unanswered.values()
    assert "did not answer for" in error.why
    assert error.cure


def test_its_guests_are_unknown(make_spec: MakeSpec) -> None:
    said: list[str] = []
    states = {e.name: e.state for e in api.status(make_spec(WEB + BOX), say=said.append)}
    assert states == {"web": "stopped", "box": "unknown"}
    assert [each for each in said if each.startswith(f"{SILENT}: ")] == said


def test_a_verb_is_not_done_to_them(make_spec: MakeSpec) -> None:
    report = api.change_state(make_spec(WEB + BOX), "stop")
    assert outcomes(report)["host/local"] == "failed"
    assert outcomes(report)["guest/box"] == "skipped"
    assert not report.ok
    with pytest.raises(VirtkitError, match="guest box is not seen") as caught:
        api.console(make_spec(WEB + BOX), "box")
    assert caught.value.exit_code == 1, "it may exist"
    assert caught.value.why.startswith(SILENT)


def test_the_rest_is_planned(host: Host, make_spec: MakeSpec) -> None:
    planned = api.plan(make_spec(WEB.replace("lxc", "lxc, description: new") + BOX))
    assert [(each.guest, each.why) for each in planned.unknown] == [("box", SILENT)]
    assert planned.unanswered.keys() == {"local (qemu)"}
    changed = {each.object for each in planned.changes}
    assert "guest/web" in changed
    assert not [each for each in changed if each.startswith("network/")], "reservations stay, too"
    assert api.plan(make_spec(WEB), ["web"]).incomplete is False


def test_a_network_that_they_may_use_does_not_change(host: Host, make_spec: MakeSpec) -> None:
    api.down(make_spec(WEB))
    spec = make_spec(WEB + BOX)
    front = spec.networks["front"].model_copy(update={"domain": "lab.test"})
    networks = {**spec.networks, "front": front}
    with pytest.raises(RequestError, match="network front: domain can't change") as caught:
        api.plan(spec.model_copy(update={"networks": networks}))
    assert "unseen guests of libvirt's qemu driver" in caught.value.why
    assert "run again" in caught.value.cure


def test_an_image_that_they_may_use_stays(host: Host, make_spec: MakeSpec) -> None:
    listed(host)
    with pytest.raises(VirtkitError, match="no host that answers has an image 'old'") as caught:
        api.image_remove("old", make_spec(WEB))
    assert caught.value.why.startswith(SILENT)
    assert "virtkit-x.root" in host.storage.names()
    assert [each.name for each in api.image_remove("old", make_spec(WEB, silent=False)).value]


# --- a driver that the host seems not to have -----------------------------------------------------


def test_where_nothing_tells_of_its_guests_there_are_none(host: Host, make_spec: MakeSpec) -> None:
    listed(host, "web")
    spec = make_spec(WEB + BOX, silent=False)
    assert {e.name: e.state for e in api.status(spec)} == {"web": "stopped", "box": "missing"}
    report = api.down(spec)
    assert report.ok
    assert left(host) == (set(), set())
    assert not access.has_folder("lab")


def test_where_the_pool_lists_its_guests_they_may_be_there(host: Host, make_spec: MakeSpec) -> None:
    """As where its daemon was stopped, or its package removed."""
    listed(host, "web", "box")
    spec = make_spec(WEB + BOX, silent=False)
    assert {e.name: e.state for e in api.status(spec)} == {"web": "stopped", "box": "unknown"}
    assert outcomes(api.change_state(spec, "stop"))["guest/box"] == "skipped"
    planned = api.plan(spec)
    assert [each.guest for each in planned.unknown] == ["box"]
    networks = {each.object: each.action for each in planned.changes if "network/" in each.object}
    assert networks == {"network/back": "delete"}, "what the other one reserves for it stays"
    said: list[str] = []
    report = api.down(spec, run=api.RunOptions(say=said.append))
    assert (outcomes(report)["guest/web"], outcomes(report)["guest/box"]) == ("done", "skipped")
    assert not report.ok
    assert left(host) == (set(), {FRONT}), "nobody is on the other one"
    assert "network/front stays: lab-box may use it" in said


def test_one_that_answered_before_is_there(tmp_path: Path) -> None:
    node = tmp_path / "lxc.xml"
    node.write_text(f"<node>{POOL}</node>")
    uris = {"qemu": "test:///default", "lxc": f"test://{node}"}  # and no Xen here
    host = Host("local", "default", uris)

    def unanswered() -> tuple[set[str], set[str]]:
        with ThreadPoolExecutor(1) as pool:  # with connections of its own
            observed = pool.submit(lambda: host.observe(pool=False)).result()
        return {*observed.silent}, {*observed.absent}

    assert unanswered() == (set(), {"xen"})
    node.unlink()
    assert unanswered() == ({"lxc"}, {"xen"})
    assert host.has_driver(LXC)
    assert not host.has_driver(XEN_PV)
