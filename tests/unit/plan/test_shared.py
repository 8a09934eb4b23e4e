"""What a plan says of folders and devices of the host, beside the cases."""

from __future__ import annotations

from dataclasses import replace

import pytest
import samples

from virtkit.errors import SpecErrors
from virtkit.facts import FolderFacts, HostFacts, SharedFacts
from virtkit.plan import Plan, diff
from virtkit.state.observed import Observed

HOST = samples.facts_of({"shared": {"virtiofsd": "/usr/libexec/virtiofsd", "hook_interface": 3}})
FOLDERS = "folders: [{{source: {}, target: /srv/x}}]"
GUEST = f"name: lab\nguests: {{{{a: {{{{type: {{}}, networks: [], {FOLDERS}{{}}}}}}}}}}\n"


def host(**folder: object) -> HostFacts:
    """The host, with what is known of /specs/src and of /specs."""
    found = {path: FolderFacts(path) for path in ("/specs/src", "/specs")}
    found["/specs/src"] = replace(found["/specs/src"], **{"owner": 1000, **folder})
    return replace(HOST, shared=replace(HOST.shared or SharedFacts(), folders=found))


def planned(text: str, facts: HostFacts, observed: Observed | None = None) -> Plan:
    there = observed or samples.up(samples.desired_of("name: lab\n", facts), "/lab.yaml")
    decided = samples.decided(samples.spec_of(text), there)
    desired = samples.desired_of(text, facts, decided)
    return diff(desired, there, spec_path="/lab.yaml", facts=facts)


def guest(kind: str, source: str = "./src", more: str = "") -> str:
    return GUEST.format(kind, source, more)


def test_a_folder_of_the_first_user_needs_no_word() -> None:
    assert planned(guest("qemu"), host()).notes == ()
    assert planned(guest("lxc"), host(owner=0)).notes == ()


def test_whose_the_files_are() -> None:
    (note,) = planned(guest("qemu"), host(owner=1234)).notes
    assert "belongs to the host's user 1234" in note
    (note,) = planned(guest("lxc", more=", privileged: true"), host()).notes
    assert "what it writes in /specs/src belongs to the host's root" in note


def test_who_writes_to_the_specs_folder_can_change_the_spec() -> None:
    notes = planned(guest("lxc", "."), host()).notes
    assert notes == ("guest/a: who is root in it can change the spec, which is in /specs",)


def test_a_relative_path_is_none_of_another_machine() -> None:
    """Where its host was chosen by `place`, only the plan knows."""
    with pytest.raises(SpecErrors) as caught:
        planned(guest("qemu"), replace(host(), name="rack"))
    (error,) = caught.value.errors
    assert error.what == "guest a: ./src is no folder of host rack, which is another machine"
    assert error.where == "lab.yaml:2:40 guests.a.folders"


def test_a_container_needs_a_hook_that_knows_folders() -> None:
    known = replace(
        host().shared or SharedFacts(), hook_interface=2, prepare="virtkit host prepare"
    )
    facts = replace(host(), shared=known)
    with pytest.raises(SpecErrors) as caught:
        planned(guest("lxc"), facts)
    assert [each.cure for each in caught.value.errors] == ["virtkit host prepare"]
    assert planned(guest("lxc", more=", privileged: true"), facts).changes


def test_the_last_folder_leaves_shared_memory_that_nobody_waits_for() -> None:
    facts, without = host(), guest("qemu").replace("[{source: ./src, target: /srv/x}]", "[]")
    now = samples.up(samples.desired_of(without, facts), "/lab.yaml")
    before = samples.up(samples.desired_of(guest("qemu"), facts), "/lab.yaml")
    new, old = now.guests["lab-a"], before.guests["lab-a"]
    left = old.live[old.live.index("<filesystem ") : old.live.index("</filesystem>") + 13]
    record = replace(new.record, detaching=("memoryBacking", "devices/filesystem[gone]"))
    gone = replace(new, record=record, live=old.live.replace(left, ""))
    plan = planned(without, facts, replace(now, guests={"lab-a": gone}))
    assert (plan.changes, plan.pending) == ((), ())


def test_a_folder_that_should_have_left_waits_for_a_restart() -> None:
    facts, without = host(), guest("qemu").replace("[{source: ./src, target: /srv/x}]", "[]")
    now = samples.up(samples.desired_of(without, facts), "/lab.yaml")
    before = samples.up(samples.desired_of(guest("qemu"), facts), "/lab.yaml")
    new, old = now.guests["lab-a"], before.guests["lab-a"]
    (folder,) = samples.guest_of(guest("qemu"), facts).folders
    record = replace(new.record, detaching=(f"devices/filesystem[{folder.tag}]",))
    stays = replace(new, record=record, live=old.live)
    plan = planned(without, facts, replace(now, guests={"lab-a": stays}))
    fields = [reason.field for each in (*plan.changes, *plan.pending) for reason in each.reasons]
    assert fields == ["folders"]
