"""What is done once for all guests, and not for each of them: in calls, as time tells nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import samples

from virtkit.api._observation import HostState
from virtkit.api._placement import place_guests
from virtkit.api.orphans import _kept_disks, _Specs
from virtkit.apply import Step, run
from virtkit.host import Host
from virtkit.plan import environment, resolve
from virtkit.spec.draft import Draft
from virtkit.state import addresses
from virtkit.state.observed import Observed

#: Counts the calls of a method, by its name.
Count = Callable[[type, str], None]
FEW, MANY = 3, 30


def text(guests: int, hosts: str = "local: {}") -> str:
    return (
        f"name: lab\nnetworks: {{front: {{cidr: 10.20.0.0/24}}}}\nhosts: {{{hosts}}}\n"
        "defaults: {networks: [front], type: qemu}\n"
        f"guests: {{db: {{host: local}}, web: {{count: {guests}, place: {{apart: db}}}}}}\n"
    )


@pytest.fixture
def calls() -> Counter[str]:
    return Counter()


@pytest.fixture
def count(calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> Count:
    def counted(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def counting(*arguments: Any) -> Any:
            calls[name] += 1
            return real(*arguments)

        monkeypatch.setattr(owner, name, counting)

    return counted


def same(calls: Counter[str], work: Callable[[int], object]) -> None:
    """Checks that many guests take as many calls as a few."""
    work(FEW)
    few = dict(calls)
    calls.clear()
    work(MANY)
    assert few
    assert dict(calls) == few


def observed(guests: int) -> Observed:
    return samples.up(samples.desired_of(text(guests)), "/lab.yaml")


@pytest.fixture
def states(count: Count) -> dict[int, Observed]:
    """libvirt with so many guests, which are looked for and counted."""
    answer = {guests: observed(guests) for guests in (FEW, MANY)}
    for name in ("guests_of", "undefined_of"):
        count(Observed, name)
    return answer


def test_the_guests_that_there_are(calls: Counter[str], states: dict[int, Observed]) -> None:

    def diff(guests: int) -> None:
        found = samples.decided(samples.spec_of(text(guests)), states[guests])
        desired = samples.desired_of(text(guests), decided=found)
        environment.diff(desired, states[guests], spec_path="/lab.yaml")

    same(calls, diff)


def test_the_hosts_that_have_them(calls: Counter[str], states: dict[int, Observed]) -> None:
    def place(guests: int) -> None:
        two_hosts = text(guests, "local: {}, rack1: {address: rack1}")
        place_guests(samples.spec_of(two_hosts), [HostState(Host(), states[guests])])

    same(calls, place)


def test_the_names_that_a_place_may_have(calls: Counter[str], count: Count) -> None:
    def read(guests: int) -> None:
        entries = ", ".join(f"web-{each}: {{place: {{apart: db}}}}" for each in range(guests))
        samples.spec_of(f"name: lab\nguests: {{db: {{}}, {entries}}}\n")

    count(Draft, "guests")
    same(calls, read)


def test_the_environments_that_have_guests(calls: Counter[str], count: Count) -> None:
    count(Observed, "records")

    def orphans(disks: int) -> None:
        kept = [f"gone/web-{each}/gone-web-{each}-data" for each in range(disks)]
        nothing = samples.desired_of("name: lab\nguests: {}\n")
        there = samples.up(nothing, "/lab.yaml", {"kept": kept})
        assert len(list(_kept_disks(there, _Specs(None), Host()))) == disks

    same(calls, orphans)


def test_the_macs_that_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    sets: list[object] = []
    real = addresses.mac

    def mac(*names: str, taken: Any) -> str:
        sets.append(taken)
        return real(*names, taken=taken)

    monkeypatch.setattr(resolve.addresses, "mac", mac)
    guests = samples.desired_of(text(MANY)).guests
    macs = {each.mac for guest in guests for each in guest.interfaces}
    assert len(sets) == len(macs) == MANY + 1
    assert len({id(each) for each in sets}) == 1, "one for all"


def test_the_steps_of_other_hosts() -> None:
    """A step's own are looked up: nobody goes through all steps of the run."""
    looks = Counter[str]()

    class Keys(tuple[tuple[str, str], ...]):
        def __contains__(self, key: object) -> bool:
            looks["contains"] += 1
            return super().__contains__(key)

    done: list[str] = []
    steps = [
        Step(
            f"guest/{number}",
            "start",
            f"h{number % 3}",
            lambda _, number=number: done.append(str(number)),  # type: ignore[misc]
            after_on_any_host=Keys([(f"guest/{number - 1}", "start")]),
        )
        for number in range(MANY)
    ]
    assert run("lab", steps, parallel=4).ok
    assert done == [str(each) for each in range(MANY)]
    assert looks["contains"] <= MANY
