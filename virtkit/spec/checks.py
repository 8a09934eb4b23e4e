"""What no value of a spec shows alone: names that must exist, addresses that must differ.

Pure. Each check reports what it finds and leaves alone what is wrong already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

from virtkit.drivers import AUTO, DRIVERS, Driver
from virtkit.spec import raw_xml
from virtkit.spec.document import CLOUD
from virtkit.spec.draft import Entry, Reading
from virtkit.spec.errors import Faults
from virtkit.spec.model import (
    CATALOGUE,
    DEFAULT_NETWORK,
    LOCAL,
    GuestKeys,
    GuestSpec,
    InterfaceSpec,
    NetworkSpec,
    not_a_guest,
)
from virtkit.spec.nodes import Node, Path
from virtkit.spec.scalars import kind_of
from virtkit.spec.value_error import Wrong, meant, quote
from virtkit.spec.values import RESERVED_DISKS

#: The longest ``ENVIRONMENT-NAME``: libvirt's sockets carry it, and their paths are short.
LONGEST_NAME = 63

_DEFAULTS = GuestKeys.model_construct()


def check(reading: Reading, faults: Faults) -> None:
    """All checks that need more than one value; errors go to ``faults``."""
    _networks(reading, faults)
    for entry in reading.entries:
        _image(entry, reading, faults)
        _host(entry, reading, faults)
        _driver(entry, reading, faults)
        _disks(entry, faults)
        _users(entry, faults)
        _playbooks(entry, faults)
        _most(entry, faults)
        _links(entry, reading, faults)
    _addresses(reading, faults)
    _macs(reading, faults)
    _raw(reading, faults)
    _cycles(reading, faults)
    _long_names(reading, faults)
    _volumes(reading, faults)


def _networks(reading: Reading, faults: Faults) -> None:
    """Made networks whose addresses overlap."""
    nodes, models = reading.networks.nodes, reading.networks.models
    subnets = [(name, n.subnet) for name, n in models.items() if n.made and n.subnet is not None]
    for (first, one), (second, other) in combinations(subnets, 2):
        if one.overlaps(other):
            wrong = Wrong(
                f"the networks '{first}' and '{second}' overlap",
                why=f"{one} and {other} hold the same addresses",
                cure="give each its own cidr",
            )
            faults.at(nodes[second], ("cidr",), wrong)


def _users(entry: Entry, faults: Faults) -> None:
    """Users in forms that cloud-init fails at, before it has made the login."""
    for path, wrong in _no_users(entry.keys.cloud_init):
        faults.at(entry.node, (CLOUD, *path), wrong)


def _playbooks(entry: Entry, faults: Faults) -> None:
    """Playbooks of a guest that ssh can't go to."""
    node = entry.node.entries.get("playbooks")
    if entry.keys.playbooks and entry.keys.networks == () and node is not None:
        wrong = Wrong(
            "a guest without networks cannot be given playbooks",
            why="Ansible gets in by ssh",
            cure="take `playbooks:` out (`playbooks: null` where they are inherited), or give it "
            "a network",
        )
        faults.at(node, (), wrong)


def _no_users(cloud: Mapping[str, Any]) -> Iterator[tuple[Path, Wrong]]:
    users, user = cloud.get("users", []), cloud.get("user", "")
    cure = "write a list of names and maps: [{name: eve, sudo: false}]"
    if not isinstance(users, (str, list, dict)):
        yield ("users",), Wrong(f"`users` is {kind_of(users)}, which makes no user", cure=cure)
    if isinstance(user, dict):
        yield from _no_user(("user",), user)
    elif not isinstance(user, str):
        wrong = Wrong(f"`user` is {kind_of(user)}, which is no user", cure="set `user: eve`")
        yield ("user",), wrong
    rows: Iterable[tuple[str | int, Any]] = ()
    if isinstance(users, (list, dict)):
        rows = users.items() if isinstance(users, dict) else enumerate(users)
    for place, each in rows:
        if isinstance(each, dict):
            yield from _no_user(("users", place), each)
        elif not (_is_switch(each) if isinstance(users, dict) else _is_names(each)):
            yield ("users", place), Wrong(f"{kind_of(each)} is no user", cure=cure)


def _is_switch(value: object) -> bool:
    """Whether it says of a name in a map if there is such a user."""
    return isinstance(value, (str, bool, int, float))


def _is_names(value: object) -> bool:
    """Whether it is a name in a list of users, or names."""
    return all(isinstance(each, str) for each in (value if isinstance(value, list) else [value]))


def _no_user(path: Path, user: Mapping[str, Any]) -> Iterator[tuple[Path, Wrong]]:
    """What of a user's map is looked at here: whose it is, and whom it lets in."""
    name = user.get("name", "")
    if not isinstance(name, str):
        wrong = Wrong(f"a user's name is {kind_of(name)}", cure="write a name, in quotes")
        yield (*path, "name"), wrong
    for key in ("ssh_authorized_keys", "ssh-authorized-keys"):
        value = user.get(key) or []
        keys = value.values() if isinstance(value, dict) else value
        if isinstance(value, str) or (
            isinstance(value, (list, dict)) and all(isinstance(each, str) for each in keys)
        ):
            continue
        wrong = Wrong(f"`{key}` is no list of ssh keys", cure="write [ssh-ed25519 AAAA… me@here]")
        yield (*path, key), wrong


def _image(entry: Entry, reading: Reading, faults: Faults) -> None:
    name = entry.keys.image
    names = [*reading.images.nodes, *CATALOGUE]
    if name not in names:
        wrong = Wrong(f"there is no image {quote(name)}", cure=meant(name, names))
        faults.at(entry.node, ("image",), wrong)


def _host(entry: Entry, reading: Reading, faults: Faults) -> None:
    """A host that there is, and that virtkit runs the guest's type on as far as the spec tells."""
    host_name, hosts = entry.keys.host, [*reading.hosts.nodes] or [LOCAL]
    if host_name is not None and host_name not in hosts:
        cure = f"add `{LOCAL}: {{}}` to `hosts:`" if host_name == LOCAL else meant(host_name, hosts)
        wrong = Wrong(f"there is no host {quote(host_name)}", cure=cure)
        faults.at(entry.node, ("host",), wrong)
        return
    host = host_name or (hosts[0] if len(hosts) == 1 else LOCAL)
    guest_type = entry.keys.type
    if host == LOCAL or "type" in entry.wrong:
        return
    guest_types = AUTO if guest_type == "auto" else (guest_type,)
    if not all(DRIVERS[each].runs_remotely for each in guest_types):
        types = ", ".join(word for word, driver in DRIVERS.items() if driver.runs_remotely)
        addition = "" if LOCAL in hosts else f"add `{LOCAL}: {{}}` to `hosts:` and "
        wrong = Wrong(
            f"a guest of type {guest_type} cannot be on host {quote(host)}",
            why=f"on hosts that ssh reaches virtkit runs {types} so far "
            f"(guest {quote(entry.base)})",
            cure=f"{addition}set `host: {LOCAL}`, or one of these types",
        )
        faults.at(entry.node, ("host",) if host_name else ("type",), wrong)


def _driver(entry: Entry, reading: Reading, faults: Faults) -> None:
    """What the guest's type cannot do; ``auto`` is held to what all that it may choose can."""
    guest_type = entry.keys.type
    if "type" in entry.wrong:
        return
    image = reading.images.models.get(entry.keys.image)
    for choice in AUTO if guest_type == "auto" else (guest_type,):
        driver = DRIVERS[choice]
        for path, why in _lacking(entry.keys, driver):
            feature = "disks.blank" if path[0] == "disks" else str(path[0])
            phrase = "a disk without `mount:`" if feature == "disks.blank" else f"`{feature}:`"
            wrong = Wrong(
                f"a guest of type {guest_type} cannot have {phrase}",
                why=f"{why} (guest {quote(entry.base)})",
                cure=_cure(feature, phrase),
            )
            faults.at(entry.node, path, wrong)
        boots = entry.keys.kernel is not None and "kernel" not in driver.unsupported
        if driver.needs_built_image and not boots and image is not None and image.build is None:
            wrong = Wrong(
                f"a guest of type {guest_type} needs an image that virtkit builds",
                why=f"'{entry.keys.image}' is a disk image (guest {quote(entry.base)})",
                cure="name an image with `build:`, or choose another type",
            )
            faults.at(entry.node, ("image",), wrong)


def _lacking(keys: GuestKeys, driver: Driver) -> Iterator[tuple[Path, str]]:
    """What ``keys`` ask for and ``driver`` lacks, with the reason."""
    for feature, why in driver.unsupported.items():
        if feature == "disks.blank":
            for index, disk in enumerate(keys.disks):
                if disk.mount is None:
                    yield ("disks", index), why
        elif getattr(keys, feature) != getattr(_DEFAULTS, feature):
            yield (feature,), why


def _cure(feature: str, phrase: str) -> str:
    if feature == "disks.blank":
        return "give it `mount:`"
    types = [word for word, driver in DRIVERS.items() if feature not in driver.unsupported]
    if set(AUTO) <= set(types):  # which runs everywhere
        types = ["auto"]
    return f"take {phrase} out" + (f", or set `type: {types[0]}`" if types else "")


def _disks(entry: Entry, faults: Faults) -> None:
    """Disks of one guest with the same name, or mounted on the same folder."""
    for key in ("name", "mount"):
        seen: set[str] = set()
        for index, disk in enumerate(entry.keys.disks):
            value = getattr(disk, key)
            if value is None:
                continue
            if value in seen:
                wrong = Wrong(
                    f"two disks of the guest have the {key} {value}",
                    cure=f"give each disk its own {key}",
                )
                faults.at(entry.node, ("disks", index, key), wrong)
            seen.add(value)


def _most(entry: Entry, faults: Faults) -> None:
    """A guest that begins with more than it may grow to."""
    for key in ("cpus", "memory"):
        most, own = getattr(entry.keys.max, key), getattr(entry.keys, key)
        if most is not None and most < own:
            wrong = Wrong(
                f"max.{key} is below the guest's {key}",
                why="`max` says how far the guest may grow while it runs",
                cure=f"raise it to `{key}` at least, or take it out",
            )
            faults.at(entry.node, ("max", key), wrong)


def _links(entry: Entry, reading: Reading, faults: Faults) -> None:
    """Network cards on networks that are missing, or twice on one."""
    seen: set[str] = set()
    names = [*reading.networks.nodes, DEFAULT_NETWORK]
    for index, link in enumerate(entry.keys.networks or ()):
        path = ("networks", index, "name")
        if link.name not in names:
            wrong = Wrong(f"there is no network {quote(link.name)}", cure=meant(link.name, names))
            faults.at(entry.node, path, wrong)
        elif link.name in seen:
            wrong = Wrong(
                f"the guest is on the network '{link.name}' twice", cure="take one of them out"
            )
            faults.at(entry.node, path, wrong)
        seen.add(link.name)


def _cards(reading: Reading) -> Iterator[tuple[Entry, GuestSpec, Path, InterfaceSpec]]:
    """Every network card, with the path of its entry below the guest's."""
    for entry, guest in reading.guests():
        for index, link in enumerate(guest.networks or ()):
            yield entry, guest, ("networks", index), link


def _addresses(reading: Reading, faults: Faults) -> None:
    """Addresses that their network cannot have, or that two guests would have."""
    models = {DEFAULT_NETWORK: NetworkSpec.model_construct()} | reading.networks.models
    if DEFAULT_NETWORK in reading.networks.nodes and (
        DEFAULT_NETWORK not in reading.networks.models
    ):
        del models[DEFAULT_NETWORK]
    owners: dict[tuple[str, str], str] = {}
    reported: set[tuple[str, Path]] = set()
    for entry, guest, path, link in _cards(reading):
        network = models.get(link.name)
        if link.address is None or network is None or (entry.base, path) in reported:
            continue
        wrong = _misplaced(link.address, link.name, network)
        owner = owners.setdefault((link.name, link.address), guest.name)
        if wrong is None and owner != guest.name:
            wrong = Wrong(
                f"two guests have the address {link.address} on '{link.name}'",
                why=f"'{owner}' and '{guest.name}'",
                cure="give each its own address, or leave it out",
            )
        if wrong is not None:
            reported.add((entry.base, path))
            faults.at(entry.node, (*path, "address"), wrong)


def _misplaced(address: str, name: str, network: NetworkSpec) -> Wrong | None:
    """Why no guest can have ``address`` on the network ``name``."""
    subnet = network.subnet
    if network.existing is not None:
        return Wrong(
            f"the guest cannot have a fixed address on '{name}'",
            why="virtkit does not change a network that was there already, its DHCP neither",
            cure="take `address:` out, or describe the network's bridge with `mode: bridge`",
        )
    if subnet is None:
        return Wrong(
            f"the network '{name}' has no cidr that {address} could belong to",
            cure=f"set `cidr:` under networks.{name}, or take `address:` out",
        )
    reason = not_a_guest(address, subnet)
    if not reason and network.made and address == str(subnet[1]):
        reason = f"the host's own on '{name}'"
    if not reason and address == network.gateway:
        reason = f"the gateway of '{name}'"
    if not reason:
        return None
    first = subnet[2] if network.made else subnet[1]
    return Wrong(f"the address {address} is {reason}", cure=f"use one of {first} to {subnet[-2]}")


def _macs(reading: Reading, faults: Faults) -> None:
    """MAC addresses that two network cards would have."""
    owners: dict[str, tuple[str, Path]] = {}
    reported: set[tuple[str, Path]] = set()
    for entry, guest, path, link in _cards(reading):
        if link.mac is None or (entry.base, path) in reported:
            continue
        owner, owner_path = owners.setdefault(link.mac, (guest.name, path))
        if (owner, owner_path) != (guest.name, path):
            reported.add((entry.base, path))
            wrong = Wrong(
                f"two network cards have the MAC address {link.mac}",
                why=f"of '{owner}' and of '{guest.name}'",
                cure="give each its own MAC address, or leave it out",
            )
            faults.at(entry.node, (*path, "mac"), wrong)


def _raw(reading: Reading, faults: Faults) -> None:
    """What raw XML gives to two guests of one host, and one alone can have."""
    owners: dict[tuple[str, str, str], str] = {}
    reported: set[tuple[str, int, str]] = set()
    for _, guest, _, link in _cards(reading):
        if link.mac is not None:
            owners["MAC address", link.mac, guest.host or ""] = guest.name
    for entry, guest in reading.guests():
        for index, xml in enumerate(guest.devices):
            for sole in raw_xml.soles(xml):
                place = (sole.kind, sole.value, guest.host or "")
                if place in owners and (entry.base, index, sole.kind) not in reported:
                    reported.add((entry.base, index, sole.kind))
                    wrong = raw_xml.shared(owners[place], guest.name, sole)
                    faults.at(entry.node, ("devices", index), wrong)
                owners.setdefault(place, guest.name)


def _cycles(reading: Reading, faults: Faults) -> None:
    """Guests that wait for each other.

    All guests of an entry are after the same ones, so entries that go in a circle always hold
    guests that do.
    """
    base = {guest.name: entry.base for entry, guest in reading.guests()}
    after = {
        entry.base: list(dict.fromkeys(base[name] for name in guest.after))
        for entry, guest in reading.guests()
    }
    nodes = {entry.base: entry.node for entry in reading.entries}
    for cycle in _find_cycles(after):
        what = "guests wait for each other, and none can start"
        if len(cycle) == 1:
            what = f"the guest '{cycle[0]}' waits for itself"
        wrong = Wrong(
            what,
            why=" after ".join([*cycle, cycle[0]]),
            cure="take one out of `after:`; a guest's own `after: []` drops what it inherits",
        )
        faults.at(nodes[cycle[0]], ("after",), wrong)


def _find_cycles(after: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """Cycles of a graph, at least one of each knot; each begins where it was first entered."""
    done: set[str] = set()
    for start in after:
        trail: dict[str, Iterator[str]] = {}
        if start not in done:
            trail[start] = iter(after[start])
        while trail:
            name = next(reversed(trail))
            below = next(trail[name], None)
            if below is None:
                done.add(name)
                del trail[name]
            elif below in trail:
                names = list(trail)
                yield names[names.index(below) :]
            elif below not in done:
                trail[below] = iter(after[below])


def _long_names(reading: Reading, faults: Faults) -> None:
    """Names that are too long once the environment's stands before them."""
    for entry in reading.entries:
        name = max(entry.names, key=len)
        _check_length(reading.name, name, entry.node, faults)
    for name, node in reading.networks.nodes.items():
        if name not in reading.networks.models or reading.networks.models[name].made:
            _check_length(reading.name, name, node, faults)


def _check_length(environment: str, name: str, node: Node, faults: Faults) -> None:
    full = f"{environment}-{name}"
    if len(full) > LONGEST_NAME and len(name) <= LONGEST_NAME:
        wrong = Wrong(
            f"the name {quote(full)} is too long for libvirt",
            why=f"{len(full)} characters; its sockets take {LONGEST_NAME}",
            cure="shorten it, or the environment's name",
        )
        faults.key(node, wrong)


def _volumes(reading: Reading, faults: Faults) -> None:
    """Disks of different guests whose volumes would have the same name."""
    owners: dict[str, str] = {}
    for _, guest in reading.guests():
        owners |= {f"{guest.name}-{disk}": guest.name for disk in RESERVED_DISKS}
    for entry, guest in reading.guests():
        for index, disk in enumerate(guest.disks):
            volume = f"{guest.name}-{disk.name}"
            owner = owners.setdefault(volume, guest.name)
            if owner != guest.name:
                wrong = Wrong(
                    f"two volumes would be called '{reading.name}-{volume}'",
                    why=f"a disk of '{owner}' and one of '{guest.name}'",
                    cure="rename the disk or one of the guests",
                )
                faults.at(entry.node, ("disks", index, "name"), wrong)
