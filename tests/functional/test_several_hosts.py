"""An environment on several hosts: where guests are, what moves, and one plan of it all. Against
libvirt's test driver, one world for each host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
import samples
from functional.conftest import NODE, POOL

from virtkit import access, api
from virtkit.api._hosts import existing_guests
from virtkit.api._observation import observe
from virtkit.api._placement import place_guests
from virtkit.api.plan import plan_on
from virtkit.drivers import QEMU
from virtkit.errors import RequestError, VirtkitError
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
    body = render.domain_xml(guest)
    made = replace(record.of_guest(guest, PATH, body).with_state("made"), finished=True)
    xml = tree.with_record(body, record_text.guest_element(made))
    host.domains.define(QEMU, xml, autostart=False)
    for volume in guest.volumes:
        host.storage.create(render.guest_volume_xml(volume))
    host.connections.release()  # of the test driver each connection is a world of its own


def entries(plan: Plan) -> list[tuple[str, str, str, str]]:
    return [(e.host, e.object, e.action, e.effect) for e in plan.changes]


def test_a_guest_is_on_the_host_that_runs_its_type(hosts: list[Host]) -> None:
    spec = spec_of("{a: {type: lxc}, b: {type: qemu}, c: {type: xen-pv, host: more}, d: {}}")
    assert place_guests(spec, observe(hosts).host_states) == {
        "a": "far",
        "b": "local",
        "c": "more",
        "d": "local",
    }


def test_it_stays_where_it_is_while_its_type_stays(hosts: list[Host]) -> None:
    make(hosts[2], "{b: {type: qemu}}")
    host_states = observe(hosts).host_states
    assert place_guests(spec_of("{b: {type: qemu}}"), host_states) == {"b": "more"}
    assert place_guests(spec_of("{b: {type: auto}}"), host_states) == {"b": "more"}
    assert place_guests(spec_of("{b: {type: lxc}}"), host_states) == {"b": "far"}
    assert existing_guests(spec_of("{b: {type: lxc}}"), host_states)["b"].host is hosts[2]


def test_a_plan_of_all_hosts(hosts: list[Host]) -> None:
    make(hosts[1], "{gone: {type: qemu, networks: []}}")
    plan = plan_on(hosts, spec_of("{a: {type: qemu}}"))
    assert entries(plan) == [
        ("local", "image/debian-12", "create", "none"),
        ("local", "network/default", "create", "none"),
        ("local", "guest/a", "create", "none"),
        ("far", "guest/gone", "delete", "none"),
    ]
    assert entries(plan_on(hosts, spec_of("{a: {type: qemu}}"), ["a"])) == entries(plan)[:3]


def test_a_host_that_left_the_spec_is_told(
    hosts: list[Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (guest,) = samples.desired_of("name: lab\nguests: {a: {}}\n").guests
    made = replace(record.of_guest(guest, PATH), host_key="ssh-ed25519 AAAA")
    for host in ("far", "gone"):
        access.write_known_hosts("lab", [made], host)
    notes = plan_on(hosts, spec_of("{a: {type: qemu}}")).notes
    note = (
        "host gone is no longer in the spec, so guests of lab on it are not looked at; "
        "put it back into `hosts:` to see or remove them"
    )
    assert [each for each in notes if "no longer in the spec" in each] == [note]


def test_a_guest_moves_with_consent(hosts: list[Host]) -> None:
    make(hosts[1], "{a: {type: qemu, networks: []}}")
    text = "{a: {type: qemu, host: local, networks: []}, b: {type: qemu, networks: []}}"
    plan = plan_on(hosts, spec_of(text), ["a"])
    assert entries(plan)[1:] == [
        ("local", "guest/a", "create", "recreate"),
        ("far", "guest/a", "delete", "none"),
    ]
    create, delete = plan.changes[1:]
    (reason,) = (each.as_dict() for each in create.reasons)
    assert reason == {
        "field": "host",
        "from": "far",
        "to": "local",
        "cause": "spec",
        "effect": "recreate",
        "where": "/lab.yaml:3:32",
    }
    assert [delete] == list(plan.needs_consent)
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


# --- a host that does not answer ------------------------------------------------------------------


@pytest.fixture
def silent(hosts: list[Host], tmp_path: Path) -> list[Host]:
    """The same hosts; `far` does not answer."""
    none = f"test://{tmp_path}/none.xml"
    far = Host("far", "default", {"qemu": none, "lxc": none, "xen": none})
    return [hosts[0], far, hosts[2]]


def test_what_it_may_have_is_unknown_and_the_rest_is_planned(silent: list[Host]) -> None:
    guests = "{there: {type: qemu, host: far, networks: []}, here: {type: qemu, networks: []}}"
    plan = plan_on(silent, spec_of(guests))
    assert [(e.guest, e.host) for e in plan.unknown] == [("there", "far")]
    assert plan.unanswered.keys() == {"far"}
    assert plan.incomplete
    assert {e.object for e in plan.changes} == {"image/debian-12", "guest/here"}
    document = plan.as_dict()
    assert document["unknown"][0]["object"] == "guest/there"
    assert document["unanswered"]["far"]["cure"]


def test_what_is_after_it_is_not_started(silent: list[Host]) -> None:
    guests = """{
        db: {type: qemu, host: far, networks: []},
        web: {type: qemu, after: [db], networks: []},
        front: {type: qemu, after: [web], networks: []},
        other: {type: qemu, networks: []}}"""
    plan = plan_on(silent, spec_of(guests))
    assert {e.object for e in plan.changes} == {"image/debian-12", "guest/other"}
    why = {each.guest: each.why for each in plan.unknown}
    assert why.keys() == {"db", "web", "front"}
    assert why["web"] == "it is after db, and host far does not answer"


def test_a_plan_of_others_alone_is_whole(silent: list[Host]) -> None:
    guests = "{there: {type: qemu, host: far, networks: []}, here: {type: qemu, networks: []}}"
    plan = plan_on(silent, spec_of(guests), ["here"])
    assert (plan.unknown, plan.incomplete) == ((), False)


def test_a_guest_last_seen_there_is_not_made_elsewhere(
    silent: list[Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    guests = "{seen: {type: qemu, networks: [], place: {}}, new: {type: qemu, networks: []}}"
    spec = spec_of(guests)
    (guest,) = samples.desired_of("name: lab\nguests: {seen: {type: qemu, networks: []}}").guests
    seen = record.of_guest(samples.with_image(guest), PATH, "")
    access.write_known_hosts("lab", [replace(seen, host_key="ssh-ed25519 AAAA")], "far")
    plan = plan_on(silent, spec)
    assert [each.guest for each in plan.unknown] == ["seen"]
    assert ("guest/new", "create") in {(e.object, e.action) for e in plan.changes}


def test_no_host_that_answers_is_an_error(silent: list[Host]) -> None:
    with pytest.raises(VirtkitError, match="open test"):
        plan_on([silent[1]], spec_of("{a: {type: qemu, host: far, networks: []}}"))


def test_a_verb_is_done_on_the_hosts_that_answer(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that is named and may be on another host is no error: it is skipped."""
    make(hosts[0], "{here: {type: qemu, networks: []}}")
    answering = hosts[0].connections.get("qemu")

    def opened(uri: str) -> libvirt.virConnect:
        if uri != "qemu:///system":
            raise libvirt.libvirtError("nobody is there")
        return answering

    monkeypatch.setattr(libvirt, "open", opened)
    uris = ", ".join(f"{each}: {each}+tcp://far/system" for each in ("qemu", "lxc", "xen"))
    guests = "".join(
        f"  {name}: {{type: qemu, host: {host}, networks: []}}\n"
        for name, host in (("here", "local"), ("there", "far"))
    )
    text = f"name: lab\nhosts: {{local: {{}}, far: {{address: root@far, uris: {{{uris}}}}}}}\n"
    spec = read_text(f"{text}guests:\n{guests}", source=PATH, folder=Path("/"))
    report = api.change_state(spec, "start", ["here", "there"], wait=False)
    assert [(each.object, each.outcome) for each in report.results] == [
        ("guest/here", "done"),
        ("host/far", "failed"),
        ("guest/there", "skipped"),
    ]
