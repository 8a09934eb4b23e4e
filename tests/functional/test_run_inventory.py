"""The inventory of a run, against libvirt's test driver: what it costs, and what it has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest
import samples
from functional.conftest import serve_qemu

from virtkit.access import keys
from virtkit.api.inventory import RunInventory
from virtkit.apply import Context, StepOptions, steps_of
from virtkit.drivers import QEMU
from virtkit.host import Host
from virtkit.plan import Plan, diff
from virtkit.progress import Progress
from virtkit.spec import Spec
from virtkit.state import record, record_text
from virtkit.xml import render, tree

pytestmark = pytest.mark.usefixtures("streams", "own_folders")

SPEC = """name: many
networks: {front: {cidr: 10.20.0.0/24}}
defaults: {networks: [front], type: qemu, ready: none}
guests: {web: {count: COUNT}}
"""
#: How often each is called.
Calls = Counter[str]


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller has one key, and keeps nothing of an environment yet."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "home/.ssh").mkdir(parents=True)
    (tmp_path / "home/.ssh/id_ed25519.pub").write_text(f"{samples.PUBLIC}\n")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Counts reads of domains' documents, and of the caller's keys."""
    counted: Calls = Counter()

    def count(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counting(*arguments: Any) -> Any:
            counted[name] += 1
            return real(*arguments)

        monkeypatch.setattr(owner, name, counting)

    count(libvirt.virDomain, "XMLDesc")
    count(keys, "_files_in_ssh_folder")
    return counted


def spec_of(guests: int) -> Spec:
    return samples.spec_of(SPEC.replace("COUNT", str(guests)))


def brought_up(host: Host, text: str) -> None:
    """The guests of ``text``, and they run."""
    for guest in map(samples.with_image, samples.desired_of(text).guests):
        body = render.domain_xml(guest)
        made = replace(record.of_guest(guest, "/lab.yaml", body).with_state("made"), finished=True)
        made = replace(made, keys=(samples.PUBLIC,), host_key=samples.KEYS.host_public)
        xml = tree.with_record(body, record_text.guest_element(made))
        host.domains.define(QEMU, xml, autostart=False)
        host.domains.start(QEMU, guest.domain)


def addresses(inventory: RunInventory) -> dict[str, str]:
    hosts = inventory.tree()["all"]["hosts"]
    return {name: each["ansible_host"] for name, each in hosts.items()}


@pytest.mark.parametrize("guests", [4, 8])
def test_each_guest_is_looked_at_once(
    guests: int, host: Host, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought_up(host, SPEC.replace("COUNT", str(guests)))
    serve_qemu(host, monkeypatch)
    inventory = RunInventory(spec_of(guests), [host], {})
    calls.clear()
    first = inventory.tree()
    looked = dict(calls)
    assert looked["_files_in_ssh_folder"] == guests
    for _ in range(guests):
        assert inventory.tree() == first
    assert calls == looked, "each guest's playbooks find the same"
    assert len(first["all"]["hosts"]) == guests


def planned(host: Host, text: str) -> Plan:
    observed = host.observe()
    decided = samples.decided(samples.spec_of(text), observed)
    return diff(samples.desired_of(text, decided=decided), observed, spec_path="/lab.yaml")


def test_it_has_what_steps_made_and_removed_since(host: Host, tmp_path: Path) -> None:
    """A guest's own playbooks may go by the addresses of all that it is after."""
    one, two = (SPEC.replace("COUNT", str(each)) for each in (1, 2))
    brought_up(host, one)
    host.storage.write_record(record.PoolRecord(samples.images_of(samples.desired_of(two).guests)))
    inventory = RunInventory(samples.spec_of(two), [host], {})
    assert addresses(inventory).keys() == {"web-1"}
    options = StepOptions(spec="/lab.yaml", folder=Path("/"), inventory=inventory)
    (change,) = [each for each in planned(host, two).changes if each.object == "guest/web-2"]
    steps = {each.name: each for each in steps_of(Plan("many", (change,)), Context(host, options))}
    steps["ensure"].run(Progress())
    steps["record"].run(Progress())
    steps["define"].run(Progress())
    assert addresses(inventory).keys() == {"web-1", "web-2"}, "its address is known by then"
    steps["volumes"].run(Progress())
    steps["start"].run(Progress())
    assert addresses(inventory).keys() == {"web-1", "web-2"}
    host_key = host.observe().guests["many-web-2"].record.host_key
    known_hosts = tmp_path / "data/virtkit/many/known_hosts"
    assert f"many-web-2 {host_key}\n" in known_hosts.read_text()
    assert addresses(RunInventory(samples.spec_of(two), [host], {})) == addresses(inventory)
    inventory.note_removed(host, "many-web-1")
    assert addresses(inventory).keys() == {"web-2"}


def test_where_others_removed_a_guest_all_are_looked_at_again(host: Host) -> None:
    """One that a step has just noted, and that has no address of its own, is asked for it."""
    text = SPEC.replace("COUNT", "2").replace("{cidr: 10.20.0.0/24}", "{mode: bridge, bridge: br0}")
    brought_up(host, text)
    inventory = RunInventory(samples.spec_of(text), [host], {})
    assert addresses(inventory).keys() == {"web-1", "web-2"}
    noted = replace(host.observe().guests["many-web-2"].record, finished=False)
    inventory.note(host, noted, running=True)
    gone = host.connections.get("qemu").lookupByName("many-web-2")
    gone.destroy()
    gone.undefine()
    assert addresses(inventory).keys() == {"web-1"}
