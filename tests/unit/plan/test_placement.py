"""Which host a new guest goes to, where its spec says ``place:``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from virtkit.errors import SpecErrors
from virtkit.facts import Room
from virtkit.plan.placement import Candidate, place
from virtkit.spec import read_text

GIB = 2**30
HOSTS = "hosts: {a: {address: a}, b: {address: b}, c: {address: c}}\n"


def host(
    name: str,
    free: float = 8,
    zone: str = "",
    used: int = 0,
    unable: Mapping[str, str] = MappingProxyType({}),
) -> Candidate:
    labels = {"zone": zone} if zone else {}
    return Candidate(name, Room(8 * GIB, int(free * GIB), 4, used, 0), labels, unable)


def placed(guests: str, *hosts: Candidate, **current: str) -> dict[str, str]:
    """The host of each new guest."""
    labels = "".join(
        f" {each.name}: {{address: {each.name}, labels: {{zone: z}}}}\n" for each in hosts
    )
    spec = read_text(f"hosts:\n{labels}guests:\n{guests}", source="lab.yaml", folder=Path("/"))
    new = [name for name in spec.guests if name not in current]
    return {name: each.host for name, each in place(spec, hosts, current, new).items()}


def refusal(guests: str, *hosts: Candidate, **current: str) -> str:
    with pytest.raises(SpecErrors) as caught:
        placed(guests, *hosts, **current)
    (error,) = caught.value.errors
    assert error.cure
    return f"{error.what}: {error.why}"


def test_most_room_and_the_first_of_equals() -> None:
    two = " web: {count: 2, place: {}}\n"
    assert placed(two, host("a"), host("b")) == {"web-1": "a", "web-2": "b"}
    assert placed(two, host("a", 3), host("b")) == {"web-1": "b", "web-2": "b"}


def test_the_same_every_time_and_guests_stay() -> None:
    guests = " web: {count: 6, place: {spread: host}}\n"
    hosts = host("a"), host("b"), host("c")
    first = placed(guests, *hosts)
    assert first == placed(guests, *hosts)
    assert sorted(first.values()) == ["a", "a", "b", "b", "c", "c"]
    with_one_more = placed(guests.replace("6", "7"), *hosts, **first)
    assert with_one_more.keys() == {"web-7"}


def test_evenly_over_the_values_of_a_label() -> None:
    hosts = host("a", zone="x"), host("b", zone="x"), host("c", zone="y")
    answer = placed(" web: {count: 4, place: {spread: zone}}\n", *hosts)
    assert sorted(answer.values()) == ["a", "b", "c", "c"]


def test_apart_and_together() -> None:
    guests = """
  db: {count: 2, place: {apart: db}}
  cache: {place: {with: db-2}}
  web: {place: {apart: [db, cache]}}
"""
    answer = placed(guests, host("a"), host("b"), host("c"))
    assert answer == {"db-1": "a", "db-2": "b", "cache": "b", "web": "c"}
    assert "a has db-1, and they are to be apart" in refusal(guests, host("a"), host("b"))


def test_apart_counts_for_those_that_say_nothing_of_it() -> None:
    guests = " db: {place: {apart: web}}\n web: {place: {}}\n"
    assert placed(guests, host("a"), host("b"), db="a") == {"web": "b"}


def test_with_one_that_comes_later_in_the_spec() -> None:
    guests = " cache: {place: {with: web}}\n web: {memory: 4GiB, place: {}}\n"
    assert placed(guests, host("a", 2), host("b")) == {"web": "b", "cache": "b"}


def test_those_that_want_to_be_with_each_other() -> None:
    guests = " one: {place: {with: other}}\n other: {place: {with: one}}\n"
    assert len({*placed(guests, host("a"), host("b")).values()}) == 1


def test_packed() -> None:
    guests = " web: {count: 3, memory: 2GiB, place: {pack: true}}\n"
    answer = placed(guests, host("a"), host("b", 5))
    assert answer == {"web-1": "b", "web-2": "b", "web-3": "a"}


def test_too_little_room_is_an_error_that_names_every_host() -> None:
    text = refusal(" web: {memory: 4GiB, place: {}}\n", host("a", 1.5), host("b", 0.25))
    assert text == (
        "there is no host for guest web: a has 1.5 GiB of memory free, and 4GiB are needed; b has "
        "256 MiB of memory free, and 4GiB are needed"
    )


def test_a_host_that_can_not_run_a_type() -> None:
    kvm = host("a", unable={"kvm": "KVM is missing"})
    assert placed(" web: {type: kvm, place: {}}\n", kvm, host("b", 2)) == {"web": "b"}
    assert "a can't run type kvm (KVM is missing)" in refusal(" web: {type: kvm, place: {}}\n", kvm)


def test_cpus_count_too() -> None:
    busy = host("a", used=40)
    assert placed(" web: {place: {}}\n", busy, host("b", 6)) == {"web": "b"}


def test_a_containers_memory_is_a_limit() -> None:
    """It is no reason to refuse it, and counts where hosts are compared."""
    guests = " box: {count: 12, type: lxc, memory: 2GiB, place: {}}\n"
    answer = placed(guests, host("a"), host("b"))
    assert sorted(answer.values()) == ["a"] * 6 + ["b"] * 6
