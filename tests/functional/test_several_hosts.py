"""An environment on several hosts: where guests are, what moves, and one plan of it all. Against
libvirt's test driver, one world for each host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import samples
from functional.conftest import NODE, POOL

from virtkit import access
from virtkit.api._hosts import existing_guests, observe_all
from virtkit.api._placement import placed
from virtkit.api.plan import plan_on
from virtkit.drivers import QEMU
from virtkit.errors import RequestError
from virtkit.host import Host
from virtkit.plan import Plan
from virtkit.spec import Spec, read_text
from virtkit.state import record, record_text
from virtkit.xml import render, tree

HOSTS = "hosts: {local: {}, far: {address: root@far}, more: {address: root@more}}\n"
#: As a record's: there is nothing of the file system's here.
PATH = "/lab.yaml"
MakeHosts = Callable[[], list[Host]]


@pytest.fixture
def hosts(tmp_path: Path) -> list[Host]:
    """Three hosts. Only `far` knows containers."""

    def make(name: str, *schemes: str) -> Host:
        uris = {}
        for scheme in ("qemu", "lxc", "xen"):
            node = tmp_path / f"{name}-{scheme}.xml"
            if scheme in schemes:
                node.write_text(NODE.format(POOL))
            uris[scheme] = f"test://{node}"
        return Host(name, "default", uris)

    return [make("local", "qemu"), make("far", "qemu", "lxc"), make("more", "qemu")]


def spec_of(guests: str) -> Spec:
    return read_text(f"name: lab\n{HOSTS}guests: {guests}\n", source="/lab.yaml", folder=Path("/"))


def make(host: Host, text: str) -> None:
    """A guest, as it is after an `up` on a host."""
    (guest,) = samples.desired_of(f"name: lab\nguests: {text}\n").guests
    guest = samples.with_image(guest)
    body = render.guest(guest)
    made = replace(record.of_guest(guest, PATH, body).with_state("made"), finished=True)
    xml = tree.with_record(body, record_text.guest_element(made))
    host.domains.define(QEMU, xml, autostart=False)
    for volume in guest.volumes:
        host.storage.create(render.guest_volume(volume))


def entries(plan: Plan) -> list[tuple[str, str, str, str]]:
    return [(e.host, e.object, e.action, e.effect) for e in plan.changes]


def test_a_guest_is_on_the_host_that_runs_its_type(hosts: list[Host]) -> None:
    spec = spec_of("{a: {type: lxc}, b: {type: qemu}, c: {type: xen-pv, host: more}, d: {}}")
    assert placed(spec, observe_all(hosts)) == {"a": "far", "b": "local", "c": "more", "d": "local"}


def test_it_stays_where_it_is_while_its_type_stays(hosts: list[Host]) -> None:
    make(hosts[2], "{b: {type: qemu}}")
    sites = observe_all(hosts)
    assert placed(spec_of("{b: {type: qemu}}"), sites) == {"b": "more"}
    assert placed(spec_of("{b: {type: auto}}"), sites) == {"b": "more"}
    assert placed(spec_of("{b: {type: lxc}}"), sites) == {"b": "far"}
    assert existing_guests(spec_of("{b: {type: lxc}}"), sites)["b"].host is hosts[2]


def test_a_plan_of_all_hosts(hosts: list[Host]) -> None:
    make(hosts[1], "{gone: {type: qemu, networks: []}}")
    found = plan_on(hosts, spec_of("{a: {type: qemu}}"))
    assert entries(found) == [
        ("local", "image/debian-12", "create", "none"),
        ("local", "network/default", "create", "none"),
        ("local", "guest/a", "create", "none"),
        ("far", "guest/gone", "delete", "none"),
    ]
    assert entries(plan_on(hosts, spec_of("{a: {type: qemu}}"), ["a"])) == entries(found)[:3]


def test_a_host_that_left_the_spec_is_told(
    hosts: list[Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (guest,) = samples.desired_of("name: lab\nguests: {a: {}}\n").guests
    made = replace(record.of_guest(guest, PATH), host_key="ssh-ed25519 AAAA")
    for host in ("far", "gone"):
        access.write_known_hosts("lab", [made], host)
    notes = plan_on(hosts, spec_of("{a: {type: qemu}}")).notes
    told = "host gone left the spec and is not looked at: guests of lab were there"
    assert [each for each in notes if "left the spec" in each] == [told]


def test_a_guest_moves_with_consent(hosts: list[Host]) -> None:
    make(hosts[1], "{a: {type: qemu, networks: []}}")
    text = "{a: {type: qemu, host: local, networks: []}, b: {type: qemu, networks: []}}"
    found = plan_on(hosts, spec_of(text), ["a"])
    assert entries(found)[1:] == [
        ("local", "guest/a", "create", "recreate"),
        ("far", "guest/a", "delete", "none"),
    ]
    create, delete = found.changes[1:]
    assert [each.as_dict() for each in create.reasons] == [
        {"field": "host", "from": "far", "to": "local", "cause": "spec", "effect": "recreate"}
    ]
    assert [delete] == list(found.asks)
    assert delete.lost == "lab-a-root"
    assert entries(plan_on(hosts, spec_of(text), ["b"]))[1:] == [
        ("local", "guest/b", "create", "none")
    ]


def test_one_with_disks_does_not(hosts: list[Host]) -> None:
    disk = "networks: [], disks: [{name: data, size: 1MiB, mount: /d, keep: true}]"
    make(hosts[1], f"{{a: {{type: qemu, {disk}}}}}")
    with pytest.raises(RequestError) as caught:
        plan_on(hosts, spec_of(f"{{a: {{type: qemu, host: local, {disk}}}}}"))
    (error,) = caught.value.every()
    assert error.what == "guest a can't move from host far to local"
    assert "lab-a-data" in error.why
    assert "host: far" in error.cure
