"""Addresses, MACs and subnets: derived, inside their subnet, and never given twice."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from virtkit.errors import RequestError
from virtkit.state import addresses

subnets = st.builds(
    lambda base, prefix: str(IPv4Network((base & ~0xFF, prefix), strict=False)),
    st.integers(0x0A000000, 0x0AFFFFFF),
    st.integers(20, 29),
)


@st.composite
def networks(draw: st.DrawFn) -> tuple[str, dict[int, str | None], dict[int, str]]:
    """A subnet, what its links want (as the spec's checks leave it), and what they had."""
    cidr = draw(subnets)
    network = IPv4Network(cidr)
    interfaces = range(draw(st.integers(0, min(network.num_addresses - 3, 12))))
    usable = st.integers(2, network.num_addresses - 2).map(lambda at: str(network[at]))
    wanted = draw(st.lists(usable, unique=True, max_size=len(interfaces)))
    had = st.integers(int(network[0]) - 8, int(network[-1]) + 8).map(lambda n: str(IPv4Address(n)))
    kept = draw(st.dictionaries(st.sampled_from(interfaces), had)) if interfaces else {}
    return cidr, dict(zip(interfaces, [*wanted, *[None] * len(interfaces)], strict=False)), kept


@given(networks(), st.booleans())
def test_allocate(
    given: tuple[str, dict[int, str | None], dict[int, str]], has_dynamic: bool
) -> None:
    cidr, wanted, kept = given
    network = IPv4Network(cidr)
    dynamic = addresses.dynamic_range(cidr) if has_dynamic else None
    found = addresses.allocate(cidr, wanted, kept=kept, dynamic=dynamic)
    assert found == addresses.allocate(cidr, wanted, kept=kept, dynamic=dynamic)
    assert found.keys() == wanted.keys()
    assert len(set(found.values())) == len(found), "no address twice"
    for interface, address in found.items():
        assert IPv4Address(address) in network
        assert address not in (str(network[0]), str(network[1]), str(network[-1]))
        assert wanted[interface] in (None, address), "what the spec says is what it gets"
    # who is there already stays where it is
    assert found == addresses.allocate(cidr, wanted, kept=found, dynamic=dynamic)
    # and so it does when somebody else comes
    assume(len(found) < network.num_addresses - 3)
    more = addresses.allocate(cidr, {99: None} | wanted, kept=found, dynamic=dynamic)
    assert {interface: more[interface] for interface in found} == found


def test_allocate_leaves_the_dynamic_range_alone_while_it_can() -> None:
    cidr = "10.0.0.0/28"
    dynamic = addresses.dynamic_range(cidr)
    assert dynamic == ("10.0.0.12", "10.0.0.14")
    interfaces: dict[int, str | None] = dict.fromkeys(range(13))
    found = list(addresses.allocate(cidr, interfaces, kept={}, dynamic=dynamic).values())
    assert found == [f"10.0.0.{last}" for last in range(2, 15)]


def test_allocate_says_when_a_subnet_is_full() -> None:
    interfaces: dict[int, str | None] = dict.fromkeys(range(6))
    with pytest.raises(RequestError, match="full"):
        addresses.allocate("10.0.0.0/29", interfaces, kept={}, dynamic=None)


@given(st.text(max_size=20), st.lists(subnets, max_size=8))
def test_free_subnet(name: str, used: list[str]) -> None:
    found = IPv4Network(addresses.free_subnet(name, used))
    assert found.prefixlen == 24
    assert found.is_private
    assert not any(found.overlaps(IPv4Network(each)) for each in used)
    assert str(found) == addresses.free_subnet(name, used)
    other = IPv4Network(addresses.free_subnet(name, [*used, str(found)]))
    assert not other.overlaps(found)


def test_free_subnet_takes_the_next_range() -> None:
    for used, within in (
        ([], "10.64.0.0/10"),
        (["10.0.0.0/8"], "172.16.0.0/12"),
        (["10.0.0.0/8", "172.16.0.0/12"], "192.168.0.0/16"),
        (["10.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"], "10.0.0.0/8"),
    ):
        for found in (
            addresses.free_subnet("lab/front", used),
            addresses.free_subnet("lab/front", [], used),
        ):
            assert IPv4Network(found).subnet_of(IPv4Network(within))
    for routes in (
        ["0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8"],
        ["10.0.0.0/9", "10.128.0.0/9", "160.0.0.0/3", "192.0.0.0/7"],
    ):
        found = addresses.free_subnet("lab/front", [], routes)
        assert IPv4Network(found).subnet_of(IPv4Network("172.16.0.0/12")), "the widest tells least"


@pytest.mark.parametrize(
    "routes",
    [
        ["0.0.0.0/1", "128.0.0.0/1"],
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
    ],
)
def test_routes_to_nearly_everything_do_not_count(routes: list[str]) -> None:
    free = addresses.free_subnet("lab/front", [])
    assert addresses.free_subnet("lab/front", [], routes) == free
    # but what is narrower in there is one
    assert addresses.free_subnet("lab/front", [], [*routes, free]) != free
    assert addresses.free_subnet("lab/front", [free], routes) != free


def test_free_subnet_says_when_there_is_none() -> None:
    every = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
    with pytest.raises(RequestError, match="no free") as caught:
        addresses.free_subnet("lab/front", every, where="lab.yaml:2:3")
    assert caught.value.where == "lab.yaml:2:3"
    halves = [str(half) for each in every for half in IPv4Network(each).subnets(prefixlen_diff=2)]
    with pytest.raises(RequestError, match="no free") as caught:
        addresses.free_subnet("lab/front", ["10.64.0.0/10"], halves)
    said = re.search(r"networks: {front: {cidr: ([0-9.]+/24)}}", caught.value.cure)
    assert said is not None
    assert not IPv4Network(said[1]).overlaps(IPv4Network("10.64.0.0/10"))


@given(subnets)
def test_dynamic_range(cidr: str) -> None:
    network = IPv4Network(cidr)
    first, last = (IPv4Address(each) for each in addresses.dynamic_range(cidr))
    assert network[1] < first <= last < network.broadcast_address


@given(st.lists(st.text(max_size=8), min_size=1, max_size=3))
def test_mac(names: list[str]) -> None:
    taken: list[str] = []
    for _ in range(5):
        found = addresses.mac(*names, taken=taken)
        assert re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", found)
        assert found not in taken
        assert found == addresses.mac(*names, taken=taken)
        taken.append(found)


def test_mac_gives_up() -> None:
    class Everything(list[str]):
        def __contains__(self, _: object) -> bool:
            return True

    with pytest.raises(RequestError, match="no free MAC"):
        addresses.mac("lab", "web", taken=Everything())


def test_derived_uuid() -> None:
    assert addresses.derived_uuid("lab", "guest", "web") == "698bcd3f-a163-57b0-a748-c2e4e370e02c"
    assert addresses.derived_uuid("lab", "guest", "web") != addresses.derived_uuid(
        "lab", "network", "web"
    )


def test_slaac() -> None:
    found = addresses.slaac("fd00:20::/64", "52:54:00:78:d1:a3")
    assert found == "fd00:20::5054:ff:fe78:d1a3"
    assert IPv6Address(found).is_private


def test_what_guests_outside_the_spec_hold_is_given_last() -> None:
    held = ["10.0.0.2", "10.0.0.4", "10.9.9.9", "10.0.0.1"]
    interfaces = dict.fromkeys(range(5))
    found = addresses.allocate("10.0.0.0/29", interfaces, kept={}, held=held, dynamic=None)
    assert [*found.values()] == ["10.0.0.3", "10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.4"]
