"""What no value of a spec shows alone: names that must exist, addresses that must differ.

Pure. Each check reports what it finds and leaves alone what is wrong already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations

from virtkit.spec import (
    disk_checks,
    guest_files,
    host_checks,
    memory_checks,
    network_checks,
    no_image,
    raw_xml,
    system_checks,
    type_checks,
    user_checks,
)
from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.imported import known_image, known_images
from virtkit.spec.model import (
    DEFAULT_NETWORK,
    LOCAL,
    NO_IMAGE,
    GuestSpec,
    InterfaceSpec,
    NetworkSpec,
    drive_name,
    why_no_guest_address,
)
from virtkit.spec.model.ignition import IGNITION_VOLUME
from virtkit.spec.nodes import Node, Path
from virtkit.spec.problem import Problem, quote, suggestion
from virtkit.spec.values import RESERVED_DISKS

#: The longest ``ENVIRONMENT-NAME``: libvirt's sockets carry it, and their paths are short.
MAX_NAME_LENGTH = 63


def check(draft: Draft, problems: Problems) -> None:
    """All checks that need more than one value; errors go to ``problems``."""
    _networks(draft, problems)
    host_checks.check(draft, problems)
    disk_checks.check(draft, problems)
    no_image.check(draft, problems)
    for entry in draft.entries:
        _image(entry, draft, problems)
        type_checks.check(entry, draft, problems)
        system_checks.check(entry, draft, problems)
        _disks(entry, problems)
        guest_files.check(entry, problems)
        user_checks.check(entry, problems)
        _playbooks(entry, problems)
        _max(entry, problems)
        _listen(entry, problems)
        _cpu(entry, problems)
        memory_checks.check(entry, problems)
        _interfaces(entry, draft, problems)
    _addresses(draft, problems)
    network_checks.check(draft, problems)
    _macs(draft, problems)
    _exclusive_resources(draft, problems)
    _cycles(draft, problems)
    _left_off(draft, problems)
    _long_names(draft, problems)
    _volumes(draft, problems)


def _networks(draft: Draft, problems: Problems) -> None:
    """Made networks whose addresses overlap."""
    nodes, models = draft.networks.nodes, draft.networks.models
    subnets = [(name, n.subnet) for name, n in models.items() if n.managed and n.subnet is not None]
    for (first, first_subnet), (second, second_subnet) in combinations(subnets, 2):
        if first_subnet.overlaps(second_subnet):
            problem = Problem(
                f"the networks '{first}' and '{second}' overlap",
                why=f"{first_subnet} and {second_subnet} hold the same addresses",
                cure="give each its own cidr",
            )
            problems.at(nodes[second], ("cidr",), problem)


def _playbooks(entry: Entry, problems: Problems) -> None:
    """Playbooks of a guest that ssh can't go to."""
    node = entry.node.entries.get("playbooks")
    if entry.fields.playbooks and entry.fields.networks == () and node is not None:
        problem = Problem(
            "a guest without networks can't be given playbooks",
            why="Ansible gets in by ssh",
            cure="remove `playbooks:` (`playbooks: null` where they are inherited), or give it "
            "a network",
        )
        problems.at(node, (), problem)


def _image(entry: Entry, draft: Draft, problems: Problems) -> None:
    name = entry.fields.image
    if name not in (*draft.images.nodes, NO_IMAGE) and known_image(name) is None:
        names = [*draft.images.nodes, *known_images(), NO_IMAGE]
        problem = Problem(f"there is no image {quote(name)}", cure=suggestion(name, names))
        problems.at(entry.node, ("image",), problem)


def _disks(entry: Entry, problems: Problems) -> None:
    """Disks of one guest with the same name, or mounted on the same folder."""
    for key in ("name", "mount"):
        seen: set[str] = set()
        for index, disk in enumerate(entry.fields.disks):
            value = getattr(disk, key)
            if value is None:
                continue
            if value in seen:
                problem = Problem(
                    f"two disks of the guest have the {key} {value}",
                    cure=f"give each disk its own {key}",
                )
                problems.at(entry.node, ("disks", index, key), problem)
            seen.add(value)


def _listen(entry: Entry, problems: Problems) -> None:
    """A display that other machines may see, unasked."""
    fields = entry.fields
    if fields.graphics.reaches_others and "listen" not in fields.allow:
        problem = Problem(
            f"the display would be seen by others, at {fields.graphics.listen}",
            why="whoever reaches that address may look at the guest and type into it",
            cure="add `allow: [listen]` if that is meant; `virtkit console --vnc` reaches one on "
            "loopback, on other hosts too",
        )
        problems.at(entry.node, ("graphics", "listen"), problem)


def _max(entry: Entry, problems: Problems) -> None:
    """A guest that begins with more than it may grow to."""
    for key in ("cpus", "memory"):
        limit, own = getattr(entry.fields.max, key), getattr(entry.fields, key)
        if limit is not None and limit < own:
            problem = Problem(
                f"max.{key} is below the guest's {key}",
                why="`max` says how far the guest may grow while it runs",
                cure=f"raise it to `{key}` at least, or remove it",
            )
            problems.at(entry.node, ("max", key), problem)


def _cpu(entry: Entry, problems: Problems) -> None:
    """A layout of CPUs, or a list of the host's, that is for another number of them."""
    fields, cpu = entry.fields, entry.fields.cpu
    most = fields.max.cpus or fields.cpus
    if cpu.topology is not None and cpu.topology.cpus != most:
        problem = Problem(
            f"the topology is of {cpu.topology.cpus} CPUs, and the guest has {most}",
            why="sockets, cores and threads multiply to `max.cpus`, or to `cpus` where that is all",
            cure=f"set `cpus: {cpu.topology.cpus}`, or another topology",
        )
        problems.at(entry.node, ("cpu", "topology"), problem)
    if cpu.pin and len(cpu.pin) != most:
        problem = Problem(
            f"pin names {len(cpu.pin)} of the host's CPUs, and the guest has {most}",
            cure="name one for each CPU of the guest, in their order",
        )
        problems.at(entry.node, ("cpu", "pin"), problem)


def _interfaces(entry: Entry, draft: Draft, problems: Problems) -> None:
    """Network interfaces on networks that are missing, or twice on one."""
    seen: set[str] = set()
    names = [*draft.networks.nodes, DEFAULT_NETWORK]
    for index, interface in enumerate(entry.fields.networks or ()):
        path = ("networks", index, "name")
        if interface.name not in names:
            problem = Problem(
                f"there is no network {quote(interface.name)}",
                cure=suggestion(interface.name, names),
            )
            problems.at(entry.node, path, problem)
        elif interface.name in seen:
            problems.at(entry.node, path, _twice(interface.name, draft))
        seen.add(interface.name)


def _twice(name: str, draft: Draft) -> Problem:
    """Two interfaces of a guest on one network: each is known by its network's name."""
    network = draft.networks.models.get(name) or NetworkSpec.model_construct()
    if network.managed:
        same = f"existing: {draft.name}-{name}"
    elif network.existing is not None:
        same = f"existing: {network.existing}"
    else:
        key = "bridge" if network.mode == "bridge" else "device"
        same = f"mode: {network.mode}, {key}: {getattr(network, key)}"
    return Problem(
        f"the guest is on the network '{name}' twice",
        why="an interface is known by the name of its network",
        cure=f"remove one of them, or name that network a second time: `{name}-2: {{{same}}}` "
        "under `networks:`",
    )


def _all_interfaces(draft: Draft) -> Iterator[tuple[Entry, GuestSpec, Path, InterfaceSpec]]:
    """Every network interface, with the path of its entry below the guest's."""
    for entry, guest in draft.guests():
        for index, interface in enumerate(guest.networks or ()):
            yield entry, guest, ("networks", index), interface


def _addresses(draft: Draft, problems: Problems) -> None:
    """Addresses that their network can't have, or that two guests would have."""
    models = {DEFAULT_NETWORK: NetworkSpec.model_construct()} | draft.networks.models
    if DEFAULT_NETWORK in draft.networks.nodes and (DEFAULT_NETWORK not in draft.networks.models):
        del models[DEFAULT_NETWORK]
    with_address: dict[tuple[str, str], list[GuestSpec]] = {}
    reported: set[tuple[str, Path]] = set()
    for entry, guest, path, interface in _all_interfaces(draft):
        network = models.get(interface.name)
        if interface.address is None or network is None or (entry.base, path) in reported:
            continue
        problem = _misplaced(interface.address, interface.name, network)
        owners = with_address.setdefault((interface.name, interface.address), [])
        # a network that is made is another one on each host
        others = (e for e in owners if not (network.managed and guest.is_elsewhere(e)))
        other = next((each.name for each in others if each.name != guest.name), None)
        owners.append(guest)
        if problem is None and other is not None:
            problem = Problem(
                f"two guests have the address {interface.address} on '{interface.name}'",
                why=f"'{other}' and '{guest.name}'",
                cure="give each its own address, or leave it out",
            )
        if problem is not None:
            reported.add((entry.base, path))
            problems.at(entry.node, (*path, "address"), problem)


def _misplaced(address: str, name: str, network: NetworkSpec) -> Problem | None:
    """Why no guest can have ``address`` on the network ``name``."""
    subnet = network.subnet
    if network.existing is not None:
        return Problem(
            f"the guest can't have a fixed address on '{name}'",
            why="virtkit does not change a network that was there already, nor its DHCP",
            cure="remove `address:`, or describe the network's bridge with `mode: bridge`",
        )
    if subnet is None:
        return Problem(
            f"the network '{name}' has no cidr that {address} could belong to",
            cure=f"set `cidr:` under networks.{name}, or remove `address:`",
        )
    reason = why_no_guest_address(address, subnet)
    if not reason and network.managed and address == str(subnet[1]):
        reason = f"the host's own on '{name}'"
    if not reason and address == network.gateway:
        reason = f"the gateway of '{name}'"
    if not reason:
        return None
    first = subnet[2] if network.managed else subnet[1]
    return Problem(f"the address {address} is {reason}", cure=f"use one of {first} to {subnet[-2]}")


def _macs(draft: Draft, problems: Problems) -> None:
    """MAC addresses that two network interfaces would have."""
    owners: dict[str, tuple[str, Path]] = {}
    reported: set[tuple[str, Path]] = set()
    for entry, guest, path, interface in _all_interfaces(draft):
        if interface.mac is None or (entry.base, path) in reported:
            continue
        owner, owner_path = owners.setdefault(interface.mac, (guest.name, path))
        if (owner, owner_path) != (guest.name, path):
            reported.add((entry.base, path))
            problem = Problem(
                f"two network interfaces have the MAC address {interface.mac}",
                why=f"of '{owner}' and of '{guest.name}'",
                cure="give each its own MAC address, or leave it out",
            )
            problems.at(entry.node, (*path, "mac"), problem)


def _exclusive_resources(draft: Draft, problems: Problems) -> None:
    """What is given to two guests of one host, and one alone can have."""
    owners: dict[tuple[str, str, str], str] = {}
    reported: set[tuple[str, Path, str]] = set()
    hosts = [*draft.hosts.nodes] or [LOCAL]
    default = hosts[0] if len(hosts) == 1 else ""
    for _, guest, _, interface in _all_interfaces(draft):
        if interface.mac is not None:
            owners["MAC address", interface.mac, guest.host or default] = guest.name
    for _, guest in draft.guests():
        for _, disk in disk_checks.existing_disks(guest):
            if not (disk.readonly or disk.shared):
                name = disk.existing or ""
                value = name if name.startswith("/") else name.replace("/", ":")
                owners["disk", value, guest.host or default] = guest.name
    for entry, guest in draft.guests():
        for path, resource in _resources_of(guest):
            place = (resource.kind, resource.value, guest.host or default)
            if place in owners and (entry.base, path, resource.kind) not in reported:
                reported.add((entry.base, path, resource.kind))
                problem = raw_xml.conflict(owners[place], guest.name, resource)
                problems.at(entry.node, path, problem)
            owners.setdefault(place, guest.name)


def _resources_of(guest: GuestSpec) -> Iterator[tuple[Path, raw_xml.ExclusiveResource]]:
    """What only one guest may have of what a guest has, and where it stands."""
    for index, resource in raw_xml.exclusive_devices(guest.host_devices):
        yield ("host_devices", index), resource
    for index, xml in enumerate(guest.devices):
        yield from ((("devices", index), each) for each in raw_xml.exclusive_resources(xml))


def _left_off(draft: Draft, problems: Problems) -> None:
    """Guests that wait for one that nobody starts."""
    off = {guest.name for _, guest in draft.guests() if not guest.start}
    for entry in draft.entries:
        waits = sorted({name for guest in entry.guests for name in guest.after if name in off})
        if waits and any(guest.start for guest in entry.guests):
            problem = Problem(
                f"the guest waits for '{waits[0]}', which is left off",
                why=f"'{waits[0]}' has `start: false`, so it is never ready",
                cure="remove it from `after:`, or its `start: false`",
            )
            problems.at(entry.node, ("after",), problem)


def _cycles(draft: Draft, problems: Problems) -> None:
    """Guests that wait for each other.

    Guests that are alike are after the same ones, so entries that go in a circle always hold
    guests that do.
    """
    whole = Counter(entry.base for entry in draft.entries)
    entries = {(e.base if whole[e.base] == 1 else e.names[0]): e for e in draft.entries}
    label = {guest.name: name for name, entry in entries.items() for guest in entry.guests}
    after = {
        name: list(dict.fromkeys(label[other] for guest in entry.guests for other in guest.after))
        for name, entry in entries.items()
    }
    for cycle in _find_cycles(after):
        what = "guests wait for each other, and none can start"
        if len(cycle) == 1:
            what = f"the guest '{cycle[0]}' waits for itself"
        problem = Problem(
            what,
            why=" after ".join([*cycle, cycle[0]]),
            cure="remove one from `after:`; a guest's own `after: []` drops what it inherits",
        )
        problems.at(entries[cycle[0]].node, ("after",), problem)


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


def _long_names(draft: Draft, problems: Problems) -> None:
    """Names that are too long once the environment's stands before them."""
    for entry in draft.entries:
        name = max(entry.names, key=len)
        _check_length(draft.name, name, entry.node, problems)
    for name, node in draft.networks.nodes.items():
        if name not in draft.networks.models or draft.networks.models[name].managed:
            _check_length(draft.name, name, node, problems)


def _check_length(environment: str, name: str, node: Node, problems: Problems) -> None:
    full = f"{environment}-{name}"
    if len(full) > MAX_NAME_LENGTH and len(name) <= MAX_NAME_LENGTH:
        problem = Problem(
            f"the name {quote(full)} is too long for libvirt",
            why=f"{len(full)} characters; its sockets take {MAX_NAME_LENGTH}",
            cure="shorten it, or the environment's name",
        )
        problems.at_key(node, problem)


def _volumes(draft: Draft, problems: Problems) -> None:
    """Disks of different guests whose volumes would have the same name."""
    owners: dict[str, str] = {}
    for _, guest in draft.guests():
        owners |= {f"{guest.name}-{disk}": guest.name for disk in RESERVED_DISKS}
    for entry, guest in draft.guests():
        for number in range(1, len(guest.cdroms) + 1):
            owners.setdefault(f"{guest.name}-{drive_name(number)}", guest.name)
        if guest.ignition is not None:
            owners.setdefault(f"{guest.name}-{IGNITION_VOLUME}", guest.name)
        for index, disk in enumerate(guest.disks):
            volume = f"{guest.name}-{disk.name}"
            owner = owners.setdefault(volume, guest.name)
            if owner != guest.name:
                problem = Problem(
                    f"two volumes would be called '{draft.name}-{volume}'",
                    why=f"a disk of '{owner}' and one of '{guest.name}'",
                    cure="rename the disk or one of the guests",
                )
                problems.at(entry.node, ("disks", index, "name"), problem)
