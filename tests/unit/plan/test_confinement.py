"""What keeps a container off its host: chosen when it is made, kept for its life."""

from __future__ import annotations

from typing import Any

import pytest
import samples

from virtkit.facts import HostFacts
from virtkit.host.programs import lxc_hook
from virtkit.plan import Plan, diff
from virtkit.state import addresses
from virtkit.state.desired import Decided
from virtkit.state.observed import Observed

SPEC = "/specs/lab.yaml"
TWO = "name: lab\ndefaults: {type: lxc, ready: none}\nguests: {a: {}, b: {}}\n"
USERNS = samples.facts_of()
NO_USERNS = samples.facts_of({"no_userns": {"why": "no hook", "cure": "make one"}})


def confinements(facts: HostFacts, text: str = TWO) -> dict[str, tuple[str, int]]:
    found = samples.desired_of(text, facts).guests
    return {each.name: (each.confinement.mode, each.confinement.ids) for each in found}


def planned(observed: Observed, facts: HostFacts, text: str = TWO) -> Plan:
    spec = samples.spec_of(text)
    desired = samples.resolve(spec, facts, samples.decided(spec, observed))
    return diff(desired, observed, spec_path=SPEC)


def existing(facts: HostFacts, change: dict[str, Any] | None = None, text: str = TWO) -> Observed:
    return samples.up(samples.desired_of(text, facts), SPEC, change)


def test_a_prepared_host_gives_each_its_own_ids() -> None:
    found = confinements(USERNS)
    assert {mode for mode, _ in found.values()} == {"userns"}
    (a, b) = (ids for _, ids in found.values())
    assert abs(a - b) >= addresses.ID_COUNT
    assert confinements(USERNS) == found  # and the same ones always


def test_an_unprepared_host_hardens_them_and_the_plan_says_why() -> None:
    assert confinements(NO_USERNS) == {"a": ("hardened", 0), "b": ("hardened", 0)}
    nothing = samples.up(samples.desired_of("name: lab\n"), SPEC)
    notes = planned(nothing, NO_USERNS).notes
    assert [each.partition(" (")[0] for each in notes] == [
        "guest/a, guest/b: hardened, not unprivileged: no hook",
    ]
    assert planned(nothing, USERNS).notes == ()


@pytest.mark.parametrize("facts", [USERNS, NO_USERNS])
def test_privileged_must_be_requested_and_needs_no_preparation(facts: HostFacts) -> None:
    found = confinements(facts, TWO.replace("b: {}", "b: {privileged: true}"))
    assert found["b"] == ("privileged", 0)
    assert found["a"][0] != "privileged"


@pytest.mark.parametrize(("before", "after"), [(USERNS, NO_USERNS), (NO_USERNS, USERNS)])
def test_what_exists_stays_as_it_is(before: HostFacts, after: HostFacts) -> None:
    observed = existing(before)
    found = planned(observed, after)
    assert (found.changes, found.notes) == ((), ())
    assert found.desired is not None
    kept = {each.name: each.confinement for each in found.desired.guests}
    assert {name: (c.mode, c.ids) for name, c in kept.items()} == confinements(before)


@pytest.mark.parametrize("guest", ["{disk: %s}", "{disk: %s, privileged: true}"])
def test_where_nobody_grows_a_file_system_the_plan_says_so(guest: str) -> None:
    small, large = (TWO.replace("a: {}", f"a: {guest % size}") for size in ("4GiB", "5GiB"))
    observed = existing(NO_USERNS, text=small)
    (note,) = planned(observed, NO_USERNS, large).notes
    assert note.startswith("guest/a: disk: the file system keeps its size, since libvirt's hook ")
    assert ": no hook (" in note
    assert planned(observed, USERNS, large).notes == ()
    assert planned(existing(USERNS, text=small), USERNS, large).notes == ()


def test_recreated_it_gets_the_best_there_is() -> None:
    larger = TWO.replace("ready: none", "ready: none, user: other")
    found = planned(existing(NO_USERNS), USERNS, larger)
    assert {each.action for each in found.changes} == {"replace"}
    guests = [each.desired for each in found.changes]
    assert {each.confinement.mode for each in guests if isinstance(each, samples.Guest)} == {
        "userns"
    }
    assert found.notes == ()
    found = planned(existing(USERNS), NO_USERNS, larger)
    (note,) = found.notes
    assert note.startswith("guest/a, guest/b: hardened")


def test_ids_of_a_guest_outlast_its_root() -> None:
    other_user = TWO.replace("ready: none", "ready: none, user: me")
    found = planned(existing(USERNS), USERNS, other_user)
    again = {
        e.desired.name: e.desired for e in found.changes if isinstance(e.desired, samples.Guest)
    }
    assert {n: (g.confinement.mode, g.confinement.ids) for n, g in again.items()} == confinements(
        USERNS
    )


@pytest.mark.parametrize("privileged", [True, False])
def test_a_change_of_privileged_recreates_it(privileged: bool) -> None:
    free = TWO.replace("a: {}", "a: {privileged: true}")
    before, after = (TWO, free) if privileged else (free, TWO)
    (change,) = planned(existing(USERNS, text=before), USERNS, after).changes
    assert (change.object, change.action) == ("guest/a", "replace")
    assert isinstance(change.desired, samples.Guest)
    assert change.desired.confinement.mode == ("privileged" if privileged else "userns")
    assert change.lost


def test_ids_that_anybody_has_are_not_given() -> None:
    """Other environments' containers, and users by /etc/subuid."""
    wanted = confinements(USERNS)["a"][1]
    taken = Decided(ids=frozenset({wanted}))
    first = samples.desired_of(TWO, USERNS, taken).guests[0].confinement.ids
    assert first == wanted + addresses.ID_COUNT or first < wanted
    everything = range(addresses.FIRST_ID, addresses.LAST_ID + 1)
    for hole in (range(addresses.FIRST_ID, wanted), range(wanted, addresses.LAST_ID + 1)):
        left = addresses.free_ids("lab", "a", taken=[hole])
        assert left in everything
        assert left not in hole
    with pytest.raises(Exception, match="no free range"):
        addresses.free_ids("lab", "a", taken=[everything])


def test_the_hook_has_the_same_numbers() -> None:
    """It can't import them."""
    assert (lxc_hook.FIRST_ID, lxc_hook.LAST_ID) == (addresses.FIRST_ID, addresses.LAST_ID)
    assert lxc_hook.IDS == addresses.ID_COUNT
    assert lxc_hook.FOLDER == "/run/virtkit/lxc"
