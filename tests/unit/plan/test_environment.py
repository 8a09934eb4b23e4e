"""Words to guests, desired against observed. Whole plans are cases: tests/cases."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

from virtkit.errors import RequestError, SpecErrors
from virtkit.plan import (
    Plan,
    apply_refusal,
    diff,
    down_refusal,
    removal,
    select,
    with_after,
)
from virtkit.spec.command import virtkit_command
from virtkit.state.desired import Decided
from virtkit.state.observed import Observed

BASES = {"db": "db", "web-1": "web", "web-2": "web", "cache": "cache"}
GROUPS = {"db": ("data",), "web-1": ("front",), "web-2": ("front", "data"), "cache": ()}


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["db"], {"db"}),
        (["web"], {"web-1", "web-2"}),
        (["web-2"], {"web-2"}),
        (["web-*"], {"web-1", "web-2"}),
        (["*"], set(BASES)),
        (["[cd]*"], {"cache", "db"}),
        (["@data"], {"db", "web-2"}),
        (["@front", "db"], {"web-1", "web-2", "db"}),
        ([], set()),
    ],
)
def test_select(patterns: list[str], names: set[str]) -> None:
    assert select(patterns, GROUPS, BASES) == names


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("wbe", "did you mean web?"),
        ("catch", "did you mean cache?"),
        ("zzz", "one of: db, web-1, web-2, cache"),
        ("@nobody", "one of"),
        ("@", "one of"),
        ("", "one of"),
        ("x*", "one of"),
        ("[", "one of"),
    ],
)
def test_select_says_what_there_is(pattern: str, hint: str) -> None:
    with pytest.raises(RequestError) as caught:
        select([pattern], GROUPS, BASES)
    assert hint in caught.value.cure
    assert pattern in caught.value.what


def test_select_where_there_is_nothing() -> None:
    with pytest.raises(RequestError) as caught:
        select(["web"], {}, {})
    assert caught.value.cure == "one of: none"


graphs = st.dictionaries(
    st.integers(0, 9).map(str), st.lists(st.integers(0, 9).map(str), max_size=3), max_size=10
)


@given(graphs, st.lists(st.integers(0, 9).map(str), max_size=3))
def test_with_after(after: dict[str, list[str]], names: list[str]) -> None:
    found = with_after(names, after)
    assert set(names) <= found
    for name in found:
        assert set(after.get(name, ())) <= found, "nothing that it needs is missing"
    for name in found - set(names):
        assert any(name in after.get(each, ()) for each in found), "nothing comes along unasked"


SPEC = json.dumps(
    {
        "name": "lab",
        "networks": {"front": {"cidr": "10.20.0.0/24"}},
        "defaults": {"networks": ["front"], "type": "qemu"},
        "guests": {
            "web": {"after": ["db"]},
            "db": {"disks": [{"name": "data", "size": "1GiB", "mount": "/d", "keep": True}]},
        },
    }
)
DESIRED = samples.desired_of(SPEC)
UP = samples.up(DESIRED, "/lab.yaml")
EVERYTHING = ["guest/web", "guest/db", "network/front", "images"]


def actions(plan: Plan) -> dict[str, str]:
    return {each.object: each.action for each in plan.changes}


def test_nothing_there() -> None:
    found = diff(DESIRED, samples.up(DESIRED, "", {"without": EVERYTHING}), spec_path="/lab.yaml")
    assert actions(found) == {
        "image/debian-12": "create",
        "network/front": "create",
        "guest/web": "create",
        "guest/db": "create",
    }
    assert found.needs_consent == ()
    assert apply_refusal(found) is None


@given(st.sets(st.sampled_from(EVERYTHING)), st.sampled_from(["running", "paused", "stopped"]))
def test_what_is_missing_is_planned_and_nothing_else(without: set[str], state: str) -> None:
    """Promise 2: whatever an interruption left, the plan is what is missing."""
    change = {"without": without, "guests": {"web": {"state": state}}}
    observed = samples.up(DESIRED, "/lab.yaml", change)
    desired = samples.desired_of(SPEC, decided=decided(observed))
    found = actions(diff(desired, observed, spec_path="/lab.yaml"))
    expected = {each: "create" for each in without if each != "images"}
    if "images" in without and {"guest/web", "guest/db"} & without:
        expected["image/debian-12"] = "create"
    if "guest/web" not in without and state != "running":
        expected["guest/web"] = "start"
    assert found == expected
    assert not [each for each in found.values() if each in ("delete", "replace")]


def decided(observed: Observed) -> Decided:
    return samples.decided(samples.spec_of(SPEC), observed)


def test_a_path_alone_is_no_change_but_stands_beside_a_loss() -> None:
    same = samples.desired_of(SPEC, decided=decided(UP))
    assert diff(same, UP, spec_path="/elsewhere.yaml").changes == ()
    other = samples.desired_of(SPEC.replace('"after": ["db"]', '"user": "admin"'))
    (change,) = [each for each in diff(other, UP, spec_path="/elsewhere.yaml").changes if each.lost]
    moved = next(each for each in change.reasons if each.field == "spec")
    assert (moved.before, moved.after) == ("/lab.yaml", "/elsewhere.yaml")


def test_nothing_is_lost_where_nothing_was_made() -> None:
    """An interrupted first run may be followed by another spec, without a question."""
    half = samples.up(DESIRED, "/lab.yaml", {"guests": {"web": {"volumes": "wanted"}}})
    other = samples.desired_of(SPEC.replace('"after": ["db"]', '"user": "admin"'))
    changes = diff(other, half, spec_path="/lab.yaml").changes
    assert [(c.action, c.lost) for c in changes if c.object == "guest/web"] == [("replace", "")]


def test_consent() -> None:
    empty = samples.desired_of("name: lab\n")
    found = diff(empty, UP, spec_path="/lab.yaml")
    refused = apply_refusal(found)
    assert refused is not None
    assert refused.exit_code == 2
    assert "lab-db-root" in refused.why
    assert "lab-db-data stays" in refused.why
    assert "--yes" in refused.cure
    assert [each.object for each in found.needs_consent] == ["guest/web", "guest/db"]


def test_all_errors_at_once() -> None:
    strangers = replace(
        samples.up(DESIRED, "", {"without": EVERYTHING}),
        foreign_domains=frozenset({("qemu", "lab-web"), ("qemu", "lab-db")}),
        foreign_networks=frozenset({"lab-front"}),
    )
    with pytest.raises(SpecErrors) as caught:
        diff(DESIRED, strangers, spec_path="/lab.yaml")
    assert len(caught.value.errors) == 3


def test_another_environment_with_the_same_libvirt_names() -> None:
    """`a` with guest `b-c` and `a-b` with guest `c` both want the domain a-b-c."""
    ours = "name: a\nguests: {b-c: {type: qemu, networks: []}}\n"
    theirs = samples.desired_of("name: a-b\nguests: {c: {type: qemu, networks: []}}\n")
    with pytest.raises(SpecErrors) as caught:
        diff(samples.desired_of(ours), samples.up(theirs, ""), spec_path="")
    assert "guest c of environment a-b" in caught.value.why


def test_only_deletes_nothing() -> None:
    found = diff(samples.desired_of(SPEC, decided=decided(UP)), UP, spec_path="", only={"web"})
    assert found.changes == ()
    less = samples.desired_of(json.dumps({"name": "lab", "guests": {"new": {"networks": []}}}))
    found = diff(less, UP, spec_path="", only={"new"})
    assert set(actions(found).values()) == {"create"}


# --- down -----------------------------------------------------------------------------------


def test_down_takes_what_left_the_spec_too() -> None:
    found = removal.down(UP, "lab", spec_path="/lab.yaml", only=None, volumes=False)
    assert actions(found) == {
        "guest/web": "delete",
        "guest/db": "delete",
        "network/front": "delete",
    }
    assert removal.down(UP, "other", spec_path="/lab.yaml", only=None, volumes=True).changes == ()


def test_a_network_goes_with_its_last_guest() -> None:
    assert actions(removal.down(UP, "lab", spec_path="/lab.yaml", only={"web"}, volumes=False)) == {
        "guest/web": "delete"
    }
    without = samples.up(DESIRED, "", {"without": ["guest/db"]})
    assert "network/front" in actions(
        removal.down(without, "lab", spec_path="/lab.yaml", only={"web"}, volumes=False)
    )


def test_a_strangers_guest_holds_a_network() -> None:
    held = samples.up(DESIRED, "", {"users": {"lab-front": ["somebody"]}})
    found = removal.down(held, "lab", spec_path="/lab.yaml", only=None, volumes=False)
    assert "network/front" not in actions(found)
    assert found.notes == ("network/front stays: somebody (not made by virtkit) uses it",)


def test_kept_disks() -> None:
    kept = samples.up(
        samples.desired_of("name: lab\n"), "", {"kept": ["lab/db/lab-db-data", "x/y/z"]}
    )
    assert removal.down(kept, "lab", spec_path="/lab.yaml", only=None, volumes=False).changes == ()
    assert actions(removal.down(kept, "lab", spec_path="/lab.yaml", only=None, volumes=True)) == {
        "disk/lab-db-data": "delete"
    }
    assert (
        removal.down(kept, "lab", spec_path="/lab.yaml", only={"web"}, volumes=True).changes == ()
    )


def test_what_another_spec_made_needs_consent_to_go() -> None:
    path = "/home/bob/lab's.yaml"
    both = samples.up(DESIRED, "/lab.yaml", {"guests": {"db": {"spec": path}}})
    assert down_refusal(down(both, "/lab.yaml", only={"web"}), "/lab.yaml") is None
    refused = down_refusal(down(both, "/lab.yaml"), "/lab.yaml")
    assert refused is not None
    assert refused.exit_code == 2
    assert refused.why == (
        "this would be lost: guest/db: lab-db-root (lab-db-data stays) "
        f"(made from {path}, not from /lab.yaml)"
    )
    assert "run again with --yes" in refused.cure
    assert refused.cure.endswith("to remove only what is this spec's: virtkit down /lab.yaml web")
    # nothing of it is this spec's; with the kept disks
    moved = down_refusal(down(UP, "/new.yaml", volumes=True), "/new.yaml", volumes=True)
    assert moved is not None
    assert "lab-db-data (made from /lab.yaml, not from /new.yaml)" in moved.why
    assert "only" not in moved.cure
    # and the other way round
    theirs = down_refusal(down(both, path, volumes=True), path, volumes=True)
    assert theirs is not None
    assert theirs.cure.endswith("""virtkit down '/home/bob/lab'"'"'s.yaml' db --volumes""")


def down(observed: Observed, spec: str, **options: Any) -> Plan:
    return removal.down(
        observed, "lab", spec_path=spec, **{"only": None, "volumes": False} | options
    )


def test_commands() -> None:
    assert virtkit_command("down", "/a b/lab.yaml", "x") == "virtkit down '/a b/lab.yaml' x"
    assert virtkit_command("down", "<stdin>", "x") == "virtkit down - x"
    assert virtkit_command("up", "/lab.txt") == "virtkit up -f /lab.txt"


def test_consent_names_both_specs() -> None:
    empty = samples.desired_of("name: lab\n")
    refused = apply_refusal(diff(empty, UP, spec_path="/mine.yaml"))
    assert refused is not None
    assert "lab-web-root (made from /lab.yaml, not from /mine.yaml)" in refused.why
    assert (
        "if /lab.yaml is another spec, and not this one before its file was moved" in refused.cure
    )


def test_a_guest_without_a_disk_asks_too() -> None:
    guest = UP.guests["lab-web"]
    bare = replace(guest, record=replace(guest.record, volumes=()))
    there = replace(UP, guests={guest.domain: bare}, networks={})
    found = diff(samples.desired_of("name: lab\n"), there, spec_path="/lab.yaml")
    assert [each.lost for each in found.needs_consent] == ["the guest itself"]


def test_as_dict() -> None:
    text = SPEC.replace('"after": ["db"]', '"memory": "2GiB"')
    other = samples.desired_of(text, decided=decided(UP))
    document = diff(other, UP, spec_path="/lab.yaml").as_dict()
    assert json.loads(json.dumps(document)) == document
    (change,) = [each for each in document["changes"] if each["action"] == "update"]
    assert change["object"] == "guest/web"
    memory = next(each for each in change["reasons"] if each["field"] == "memory")
    assert memory == {
        "field": "memory",
        "from": samples.GIB,
        "to": 2 * samples.GIB,
        "cause": "spec",
        "effect": "restart",
    }
    assert change["effect"] == "restart"


@pytest.mark.parametrize(
    ("lost", "words"),
    [("data", "lab-web-data is recreated"), ("data more", "lab-web-data, lab-web-more are")],
)
def test_the_disks_that_an_undefined_guest_has_lost(lost: str, words: str) -> None:
    disks = ", ".join(f"{{name: {each}, size: 1GiB}}" for each in ("data", "more"))
    text = f"name: lab\nguests: {{web: {{type: qemu, networks: [], disks: [{disks}]}}}}\n"
    names = [f"lab-web-{each}" for each in lost.split()]
    change = {"undefined": ["web"], "without": names}
    observed = samples.up(samples.desired_of(text), "/lab.yaml", change)
    found = samples.decided(samples.spec_of(text), observed)
    plan = diff(samples.desired_of(text, decided=found), observed, spec_path="/lab.yaml")
    (note,) = plan.notes
    assert note.partition("; ")[2].startswith(words)
