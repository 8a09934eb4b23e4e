"""From a plan to steps: their order is what a crash survives. None of them is run here."""

from __future__ import annotations

from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import samples

from virtkit.apply import Context, Step, StepOptions, steps_of
from virtkit.host import Host
from virtkit.plan import Plan, down, environment
from virtkit.state.observed import Observed

SPEC = """
name: lab
networks: {front: {cidr: 10.20.0.0/24}}
defaults: {networks: [front], type: qemu}
guests:
  db: {type: lxc, disks: [{name: data, size: 1GiB, mount: /d, keep: true}]}
  web: {after: [db]}
"""
DESIRED = samples.desired_of(SPEC)
UP = samples.up(DESIRED, "/lab.yaml")
NOTHING = samples.up(samples.desired_of("name: lab\n"), "/lab.yaml")


def steps(plan: Plan, **options: Any) -> dict[str, set[str]]:
    """What each step comes after, directly or not, by ``OBJECT STEP``."""
    context = Context(Host(), StepOptions(spec="/lab.yaml", folder=Path("/"), **options))
    made: dict[str, Step] = {" ".join(each.key): each for each in steps_of(plan, context)}
    direct = {
        name: {
            " ".join(key) for key in (*each.after, *each.after_on_any_host) if " ".join(key) in made
        }
        for name, each in made.items()
    }
    after: dict[str, set[str]] = {}
    for name in TopologicalSorter(direct).static_order():
        after[name] = direct[name].union(*(after[each] for each in direct[name]))
    return after


def diff(observed: Observed = NOTHING, text: str = SPEC) -> Plan:
    decided = samples.decided(samples.spec_of(text), observed)
    return environment.diff(
        samples.desired_of(text, decided=decided), observed, spec_path="/lab.yaml"
    )


def test_a_new_environment() -> None:
    after = steps(diff())
    web = [f"guest/web {each}" for each in ("define", "volumes", "start", "ready", "finish")]
    for earlier, later in pairwise(web):
        assert earlier in after[later]
    assert {"pool ensure", "image/debian-12 make", "network/front start"} <= after[web[0]]
    assert "network/front define" in after["network/front start"]
    assert "guest/db ready" in after["guest/web start"]
    assert "guest/db start" not in after["guest/web volumes"], "only the start waits"


def test_without_waiting() -> None:
    after = steps(diff(), wait=False)
    assert "guest/db ready" in after, "web is after it"
    assert "guest/web ready" not in after
    assert "guest/web start" in after["guest/web finish"]


def test_only_waiting_does_not_count() -> None:
    context = Context(Host(), StepOptions(spec="/lab.yaml", folder=Path("/")))
    waits = {each.name for each in steps_of(diff(), context) if each.waits}
    assert waits == {"ready"}


def test_started_guests_are_not_defined_again() -> None:
    stopped = samples.up(DESIRED, "/lab.yaml", {"guests": {"web": {"state": "stopped"}}})
    assert set(steps(diff(stopped))) == {
        "guest/web start",
        "guest/web ready",
        "guest/web finish",
    }


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ("stopped", {"define", "volumes", "start", "ready", "finish"}),
        (
            "paused",
            {"define", "unplug", "volumes", "plug", "start", "ready", "follow", "finish"},
        ),
    ],
)
def test_a_start_of_an_unfinished_guest_leaves_nothing_out(state: str, names: set[str]) -> None:
    change = {"guests": {"web": {"state": state, "finished": False}}}
    plan = diff(samples.up(DESIRED, "/lab.yaml", change))
    assert [each.action for each in plan.changes] == ["start"]
    assert set(steps(plan)) == {
        "pool ensure",
        "pool record",
        *(f"guest/web {each}" for each in names),
    }


def test_what_waits_restarts_a_paused_guest_too() -> None:
    """Where --restart asks for it: resuming would not bring it, and the record said it did."""
    staged = {"record": {"staged": {"cpus": "spec"}}, "live_edits": {">1</vcpu>": ">2</vcpu>"}}
    observed = samples.up(DESIRED, "/lab.yaml", {"guests": {"web": {"state": "paused"} | staged}})
    desired = samples.desired_of(SPEC, decided=samples.decided(samples.spec_of(SPEC), observed))
    after = steps(
        environment.diff(desired, observed, spec_path="/lab.yaml", restart=True), restart=True
    )
    assert {"guest/web define", "guest/web stop", "guest/web start"} <= set(after)


def test_replaced() -> None:
    other = SPEC.replace("after: [db]", "user: admin")
    after = steps(diff(UP, other))
    assert "guest/web stop" in after["guest/web define"]
    assert not [each for each in after if each.startswith("guest/db")]


def test_live() -> None:
    grouped = SPEC.replace("after: [db]", "after: [db], groups: [front]")
    assert set(steps(diff(UP, grouped))) == {"guest/web update"}


def test_changes_of_a_running_guest() -> None:
    """Unplugged before its volumes go, plugged in when they are made; never stopped."""
    other = SPEC.replace("after: [db]", "disks: [{name: more, size: 1GiB}]")
    after = steps(diff(UP, other))
    chain = [f"guest/web {each}" for each in ("define", "unplug", "volumes", "plug", "follow")]
    for earlier, later in pairwise([*chain, "guest/web finish"]):
        assert earlier in after[later]
    assert not {"guest/web stop", "guest/web start", "guest/web ready"} & set(after)


def test_what_needs_a_restart_waits_unless_asked() -> None:
    bigger = diff(UP, SPEC.replace("after: [db]", "memory: 2GiB"))
    assert "guest/web stop" not in steps(bigger)
    after = steps(bigger, restart=True)
    chain = [f"guest/web {each}" for each in ("define", "stop", "volumes", "start", "ready")]
    for earlier, later in pairwise([*chain, "guest/web finish"]):
        assert earlier in after[later]


@pytest.mark.parametrize("volumes", [False, True])
def test_down_runs_backwards_and_undefines_last(volumes: bool) -> None:
    after = steps(
        down(UP, "lab", spec_path="/lab.yaml", only=None, volumes=volumes), volumes=volumes
    )
    for name in ("db", "web"):
        assert after[f"guest/{name} volumes"] >= {f"guest/{name} stop"}
        assert after[f"guest/{name} undefine"] >= {f"guest/{name} volumes"}
    assert after["network/front delete"] >= {"guest/db undefine", "guest/web undefine"}


def test_nothing_to_do_is_no_step() -> None:
    assert steps(diff(UP)) == {}
