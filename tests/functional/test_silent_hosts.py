"""What is told and done on the hosts that answer, where another does not. Against libvirt's test
driver on the one, and nothing on the other.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
import samples
from functional.conftest import NODE

from virtkit import access, api
from virtkit.cli import main
from virtkit.errors import VirtkitError
from virtkit.spec import Spec, load
from virtkit.state import record, record_text
from virtkit.state.desired import ImageFiles
from virtkit.state.record import GuestRecord, PoolRecord, StoredImage
from virtkit.xml import render, tree

COMMON = """
name: lab
networks: {front: {cidr: 10.20.0.0/24}}
defaults: {type: qemu, networks: [front], playbooks: [site.yml], ready: {port: 1, timeout: 1s}}
guests:
  here: {networks: [{name: front, address: 10.20.0.5}]}
"""
SPEC = f"""{COMMON}
  there:
    host: far
    type: auto
    networks: [{{name: front, address: 10.20.0.6}}]
    groups: [web]
    vars: {{a: 1}}
  lost: {{host: far}}
hosts:
  local: {{}}
  far:
    address: root@far
    uris: {{qemu: qemu+tcp://far/system, lxc: lxc+tcp://far/system, xen: xen+tcp://far/system}}
"""
POOL = """<pool type='dir'><name>default</name><target><path>/pool/</path></target>{}</pool>"""
VOLUME = "<volume type='file'><name>{}</name><capacity>4096</capacity></volume>"
IMAGE = "ab" * 20
FAR = "qemu+tcp://far/system"
#: The guest of this machine.
HERE = samples.guest_of(COMMON)


def recorded(path: str = "/lab.yaml") -> GuestRecord:
    made = record.of_guest(HERE, path, render.domain_xml(HERE)).with_state("made")
    return replace(made, finished=True, host_key="ssh-ed25519 AAAA")


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: None) -> list[str]:
    """The URIs that were opened. This machine has guest `here` with a log, and an image that it
    does not use; the other one does not answer."""
    for name in ("DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    path = tmp_path / "lab.yaml"
    path.write_text(SPEC)
    (tmp_path / "site.yml").write_text("- hosts: all\n")
    domain = tree.with_record(
        render.domain_xml(HERE), record_text.guest_element(recorded(str(path)))
    )
    files = ImageFiles(IMAGE, "/pool/virtkit-x.root", "raw", 4096)
    image = StoredImage("old", ("identity",), files, made=True)
    pool = record_text.pool_text(PoolRecord({IMAGE: image}))
    contents = {
        "virtkit-record-000001.json": pool,
        "virtkit-x.root": "",
        "lab-here-console": "up\n",
    }
    for name, content in contents.items():
        (tmp_path / "volumes" / name).write_text(content)
    node = tmp_path / "node.xml"
    node.write_text(NODE.format(POOL.format("".join(map(VOLUME.format, contents))) + domain))
    real, uris = libvirt.open, []

    def open_one(uri: str) -> libvirt.virConnect:
        uris.append(uri)
        if uri == "qemu:///system":
            return real(f"test://{node}")
        if "://far/" not in uri:
            return real("none:///system")  # a driver that libvirt hasn't got
        return real("qemu+tcp://127.0.0.1:1/system")  # nobody is there

    monkeypatch.setattr(libvirt, "open", open_one)
    monkeypatch.chdir(tmp_path)
    return uris


@pytest.fixture
def spec(opened: list[str], tmp_path: Path) -> Spec:
    return load(tmp_path / "lab.yaml")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a verb, and answers its exit code and what it printed."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["virtkit", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


SILENT = "host far does not answer: unable to connect to server"


@pytest.mark.parametrize(
    ("line", "code", "key"),
    [
        ("logs", 1, "logs"),
        ("logs here", 0, "logs"),
        ("logs there", 1, "logs"),
        ("ssh-config", 1, "ssh_config"),
        ("ssh-config here", 0, "ssh_config"),
        ("ssh-config lost", 1, "ssh_config"),
        ("render here", 0, "documents"),
        ("render", 1, "documents"),
        ("image list lab.yaml", 1, "images"),
        ("image rm lab.yaml old", 1, "removed"),
        ("doctor lab.yaml --orphans", 1, "orphans"),
    ],
)
def test_what_is_not_told_ends_with_1(run: Run, line: str, code: int, key: str) -> None:
    Path("virtkit.yaml").symlink_to("lab.yaml")
    ended, out, err = run(*line.split(), "--json")
    document = json.loads(out)
    assert ended == code
    assert key in document
    assert (SILENT in err) == bool(code)
    assert [*document.get("unanswered", ())] == ["far"] * code
    if code:
        assert document["unanswered"]["far"]["cure"]


def test_without_json_it_is_the_same(run: Run) -> None:
    code, out, err = run("logs", "lab.yaml")
    assert (code, out) == (1, "up\n")
    assert SILENT in err
    assert "; cure: see what virsh says" in err
    code, out, err = run("doctor", "lab.yaml", "--orphans")
    assert (code, SILENT in err) == (1, True)


# --- verbs that name one guest --------------------------------------------------------------------


def test_a_guest_on_a_host_that_answers(spec: Spec, opened: list[str]) -> None:
    assert api.console(spec, "here")[-1] == "lab-here"
    assert FAR in opened, "nobody knows that it is not there"
    access.write_known_hosts("lab", [recorded()], "local")
    opened.clear()
    assert api.console(spec, "here")[-1] == "lab-here"
    assert FAR not in opened, "it was seen here last, so nobody waits for the other host"


def test_one_that_moved_is_found(spec: Spec) -> None:
    access.write_known_hosts("lab", [recorded()], "far")
    assert api.console(spec, "here")[-1] == "lab-here"


def test_one_that_may_be_on_a_silent_host(spec: Spec) -> None:
    guest = spec.guests["there"].model_copy(update={"host": None})
    for each in (spec, spec.model_copy(update={"guests": {"there": guest}})):
        with pytest.raises(VirtkitError, match="guest there is on no host that answers") as caught:
            api.console(each, "there")
        assert caught.value.exit_code == 1, "it may exist"
        assert caught.value.why.startswith(SILENT)
        assert (caught.value.where, bool(caught.value.cure)) == ("far", True)


# --- the inventory --------------------------------------------------------------------------------


def test_ansible_gets_the_guests_that_are_known(run: Run, tmp_path: Path) -> None:
    access.write_known_hosts("lab", [recorded()], "far")
    kept = tmp_path / "DATA/virtkit/lab/known_hosts-far"
    before = kept.read_text()
    code, out, err = run("inventory", "lab.yaml", "--list")
    assert code == 0, "Ansible drops all that a failed script answered"
    assert SILENT in err
    assert "guest lost is left out: host far does not answer" in err
    document = json.loads(out)
    variables = document["_meta"]["hostvars"]
    assert variables.keys() == {"here", "there"}
    assert document["_meta"]["unanswered"].keys() == {"far"}
    there = variables["there"]
    assert (there["ansible_host"], there["ansible_user"], there["a"]) == ("10.20.0.6", "virtkit", 1)
    assert "HostKeyAlias=lab-there" in there["ansible_ssh_common_args"]
    assert "root@far" in there["ansible_ssh_common_args"]
    assert str(kept) in there["ansible_ssh_common_args"]
    assert kept.read_text() == before
    assert "virtkit_type" not in there, "its host has chosen it"
    assert "type_auto" not in document
    assert document["web"]["hosts"] == document["host_far"]["hosts"] == ["there"]
    code, out, err = run("inventory", "lab.yaml")
    assert (code, " ansible_host=10.20.0.6 " in out) == (1, True)


def test_through_the_hypervisor_a_host_is_enough(spec: Spec) -> None:
    guests = {"lost": spec.guests["lost"].model_copy(update={"type": "lxc"})}
    found = api.inventory(spec.model_copy(update={"guests": guests}), hypervisor=True)
    ways = {each.name: each.variables["ansible_connection"] for each in found.guests}
    assert ways["lost"] == "virtkit.core.exec"


def test_ssh_gets_the_same(spec: Spec) -> None:
    said: list[str] = []
    answer = api.ssh_config(spec, say=said.append)
    assert answer.unanswered.keys() == {"far"}
    assert "Host lab-here\n" in answer.value
    assert "Host lab-there\n" in answer.value
    assert "lab-lost" not in answer.value
    assert [each for each in said if each.startswith("guest lost is left out")]


def test_who_knows_that_a_host_is_silent_does_not_ask_again(spec: Spec, opened: list[str]) -> None:
    silent = api.inventory(spec).unanswered
    opened.clear()
    again = api.inventory(spec, unanswered=silent)
    assert (again.unanswered, FAR in opened) == (silent, False)
    assert {each.name for each in again.guests} == {"here", "there"}


# --- what is removed ------------------------------------------------------------------------------


def test_an_image_is_removed_where_it_can_be(spec: Spec, tmp_path: Path) -> None:
    """In the cache it stays: a run may be sending it to the other host."""
    cached = tmp_path / "CACHE/virtkit/images/identity"
    cached.mkdir(parents=True)
    assert [each.host for each in api.image_remove("old", spec).value] == ["local"]
    assert not (tmp_path / "volumes/virtkit-x.root").exists()
    assert cached.is_dir()


def test_an_image_that_may_be_on_a_silent_host(spec: Spec) -> None:
    with pytest.raises(VirtkitError, match="no host that answers has an image 'new'") as caught:
        api.image_remove("new", spec)
    assert caught.value.exit_code == 1
    assert caught.value.why.startswith(SILENT)


def test_nobody_is_sure_of_what_a_silent_host_may_have(spec: Spec, tmp_path: Path) -> None:
    (tmp_path / "CACHE/virtkit/images/sent").mkdir(parents=True)
    gone = spec.model_copy(update={"name": "other"})
    (tmp_path / "DATA/virtkit/other").mkdir(parents=True)
    found = {
        each.kind: each for each in api.orphans(gone).value if each.kind in ("cache", "folder")
    }
    assert {kind: each.sure for kind, each in found.items()} == {"cache": False, "folder": False}
    assert "far" in found["cache"].why
    assert "it may have some on far" in found["folder"].why


# --- playbooks ------------------------------------------------------------------------------------


def test_playbooks_run_where_they_can(spec: Spec) -> None:
    report = api.provision(spec)
    ended = {each.object: each.outcome for each in report.results}
    assert ended["host/far"] == "failed"
    assert ended["guest/there"] == ended["guest/lost"] == "skipped"
    assert "login" in {each.step for each in report.results if each.object == "guest/here"}
