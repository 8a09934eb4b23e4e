"""Which subnet, MAC, address and range of ids everything gets: derived from names, never drawn.

Pure arithmetic; the same input gives the same answer on every machine.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from itertools import chain
from typing import TypeVar

from virtkit.errors import RequestError

InterfaceKey = TypeVar("InterfaceKey")

#: The host's ids that containers get, ID_COUNT each: above those of useradd (to 600100000),
#: systemd-nspawn (to 0x6fffffff) and sssd (to 2000200000), and below 2**31, where some programs see
#: a sign.
FIRST_ID = 0x78000000
LAST_ID = 0x7FFFFFFF
ID_COUNT = 65536

#: Where subnets are taken from, one after the other.
PRIVATE = tuple(
    IPv4Network(each) for each in ("10.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8")
)
#: The prefix length of those that are taken.
_OURS = 24
#: A route with this prefix length, or a shorter one, covers nearly everything.
_WIDE = 9

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:virtkit:1")


def derived_uuid(*names: str) -> str:
    """The UUID of the object that ``names`` name, as text."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(names)))


def mac(*names: str, taken: Collection[str] = ()) -> str:
    """A MAC in QEMU's range 52:54:00, derived from ``names`` and not in ``taken``.

    Raises:
        RequestError: 256 attempts all gave one that is taken.
    """
    for attempt in range(256):
        digest = hashlib.sha256("/".join((*names, str(attempt))).encode()).digest()
        candidate = "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])
        if candidate not in taken:
            return candidate
    raise RequestError(
        "no free MAC address", cure="give the guest's entry in `networks:` its own `mac:`"
    )


def free_ids(*names: str, taken: Collection[range]) -> int:
    """The first id of a range of ID_COUNT, derived from ``names``, that meets none of ``taken``.

    Raises:
        RequestError: no range is free.
    """
    slots = (LAST_ID + 1 - FIRST_ID) // ID_COUNT
    start = int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:4], "big")
    for step in range(slots):
        first = FIRST_ID + (start + step) % slots * ID_COUNT
        if not any(each.start < first + ID_COUNT and first < each.stop for each in taken):
            return first
    raise RequestError(
        "no free range of ids for a container", cure="remove containers that nobody needs"
    )


def is_first_id(number: int) -> bool:
    """Whether a container's range of ids can begin with it."""
    return FIRST_ID <= number <= LAST_ID and (number - FIRST_ID) % ID_COUNT == 0


def slaac(prefix: str, hardware: str) -> str:
    """The IPv6 address that a guest with MAC ``hardware`` gives itself (EUI-64, RFC 4291)."""
    octets = bytes.fromhex(hardware.replace(":", ""))
    suffix = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(IPv6Network(prefix)[int.from_bytes(suffix, "big")])


def _candidates(name: str, within: IPv4Network) -> Iterator[IPv4Network]:
    """All /24 of a network, in an order of their own for each name."""
    count = 2 ** (_OURS - within.prefixlen)
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    for step in range(count):
        yield IPv4Network((int(within[0]) + (start + step) % count * 256, _OURS))


def free_subnet(
    name: str, used: Collection[str], routes: Collection[str] = (), where: str = ""
) -> str:
    """A /24 for the network ``name`` that overlaps none of ``used``.

    Args:
        name: ``ENVIRONMENT/NETWORK``.
        used: subnets, as ``10.0.0.0/24``.
        routes: the same; but one that covers nearly everything, such as a VPN's, does not count
            where nothing else is free.
        where: an error's ``where``.

    Raises:
        RequestError: none is free.
    """
    fixed = [IPv4Network(each) for each in used]
    routed = [IPv4Network(each) for each in routes]
    # the wider a route is, the less it says
    for most in (-1, *sorted({each.prefixlen for each in routed if _is_wide(each)})):
        relevant = [each for each in routed if each.prefixlen > most or not _is_wide(each)]
        if subnet := _free_of(name, [*fixed, *relevant]):
            return subnet
    network = name.rpartition("/")[2]
    part = _free_of(name, [*fixed, *(each for each in routed if each.prefixlen >= _OURS)])
    raise RequestError(
        f"no free /{_OURS} for the network {network}",
        why="the host's routes and libvirt's networks take up all of 10.0.0.0/8, 172.16.0.0/12 and "
        "192.168.0.0/16 (ip route show table all; virsh -c qemu:///system net-list --all)",
        cure=f"set a `cidr:` within a routed range that this host does not use: "
        f"`networks: {{{network}: {{cidr: {part}}}}}`"
        if part
        else "remove routes or networks that nobody needs",
        where=where,
    )


def _free_of(name: str, used: Iterable[IPv4Network]) -> str:
    """The first candidate that meets none of the ``used`` subnets; empty where there is none."""
    taken = [(int(each[0]), int(each[-1])) for each in set(used)]
    for within in PRIVATE:
        for candidate in _candidates(name, within):
            first, last = int(candidate[0]), int(candidate[-1])
            if not any(first <= end and start <= last for start, end in taken):
                return str(candidate)
    return ""


def _is_wide(route: IPv4Network) -> bool:
    """Whether a route covers so much that it says nothing about a /24 within."""
    return route.prefixlen <= _WIDE or any(each.subnet_of(route) for each in PRIVATE)


def dynamic_range(cidr: str) -> tuple[str, str]:
    """The first and the last address of what DHCP gives to machines that virtkit doesn't know: the
    last quarter of a subnet."""
    network = IPv4Network(cidr)
    first = network.num_addresses - max(network.num_addresses // 4, 2)
    return str(network[first]), str(network[-2])


def allocate(
    cidr: str,
    wanted: Mapping[InterfaceKey, str | None],
    *,
    kept: Mapping[InterfaceKey, str],
    held: Collection[str] = (),
    dynamic: tuple[str, str] | None,
) -> dict[InterfaceKey, str]:
    """An address in ``cidr`` for every interface: wanted, else kept, else free.

    Free ones come from outside the ``dynamic`` range (first, last) as long as there are any, and
    are none that is ``held`` by guests outside the spec, as long as there are others.

    Raises:
        RequestError: the subnet is full.
    """
    network = IPv4Network(cidr)
    own = {str(each) for each in (network[0], network[1], network[-1])}  # the host's is the second
    answer = {interface: address for interface, address in wanted.items() if address is not None}
    for interface in wanted:
        former = kept.get(interface)
        if interface in answer or former is None or former in own:
            continue
        if IPv4Address(former) in network and former not in answer.values():
            answer[interface] = former
    taken = {IPv4Address(each) for each in answer.values()}
    others = {IPv4Address(each) for each in held if each not in own} - taken
    last = sorted(each for each in others if each in network)
    free = chain(_free(network, taken | others, dynamic), last)
    for interface in wanted:
        if interface in answer:
            continue
        address = next(free, None)
        if address is None:
            raise RequestError(f"subnet {cidr} is full", cure="give the network a larger `cidr:`")
        answer[interface] = str(address)
    return answer


def _free(
    network: IPv4Network, taken: Collection[IPv4Address], dynamic: tuple[str, str] | None
) -> Iterator[IPv4Address]:
    def is_dynamic(address: IPv4Address) -> bool:
        return dynamic is not None and (
            IPv4Address(dynamic[0]) <= address <= IPv4Address(dynamic[1])
        )

    for wanted in (False, True):
        for each in network.hosts():
            if each != network[1] and each not in taken and is_dynamic(each) is wanted:
                yield each
