"""The entries under ``guests``: merged with defaults and profiles, counted out, linked up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from pydantic import ValidationError

from virtkit.spec.document import CLOUD_INIT, EACH
from virtkit.spec.draft import Entry
from virtkit.spec.errors import Problems
from virtkit.spec.merge import merged, profile_order, without_nulls
from virtkit.spec.model import (
    FROM_FILE,
    MAX_GUESTS,
    NO_IMAGE,
    GuestEntry,
    GuestFields,
    GuestSpec,
    InterfaceSpec,
    Ready,
)
from virtkit.spec.nodes import Node
from virtkit.spec.problem import Problem, quote, suggestion
from virtkit.spec.references import References
from virtkit.spec.scalars import kind_of
from virtkit.spec.settings import Setting, in_guest
from virtkit.spec.values import NUMBER_PATTERN, is_label, label

_MAX_IPV4 = 2**32 - 1
_MAX_IPV6 = 2**128 - 1


def section_nodes(root: Node, key: str, problems: Problems) -> dict[str, Node]:
    """The entries of a top-level map of maps; null stands for an empty map everywhere."""
    node = root.entries.get(key)
    if node is None:
        return {}
    return {name: _map(below, problems) for name, below in _map(node, problems).entries.items()}


def _map(node: Node, problems: Problems) -> Node:
    """``node`` where it is a map, else an empty map in its place."""
    if isinstance(node.value, dict):
        return node
    if node.value is not None:
        kind = kind_of(node.plain())
        problem = Problem(
            f"expected a map of keys, found {kind}", cure="write `key: value` lines below the key"
        )
        problems.at(node, (), problem)
    return Node({}, node.path, node.mark, node.key)


def read_entries(
    root: Node, settings: Sequence[Setting], folder: Path, problems: Problems
) -> list[Entry]:
    """Every entry under ``guests``, with the guests it makes.

    Args:
        folder: what paths are relative to.
    """
    defaults = _map(root.entries["defaults"], problems) if "defaults" in root.entries else None
    profiles = section_nodes(root, "profiles", problems)
    guests = section_nodes(root, "guests", problems)
    for node in [*profiles.values(), *guests.values()]:
        _check_name(node, problems)
    for node in [*([defaults] if defaults else []), *profiles.values(), *guests.values()]:
        _check_layer(node, profiles, problems)
        for below in section_nodes(node, EACH, Problems()).values():
            _check_part(below, GuestFields, problems)
    entries: list[Entry] = []
    for base, node in guests.items():
        layers = [*profile_order(node, defaults, profiles), node]
        layers = [defaults, *layers] if defaults else layers
        entries += _entries(base, layers, settings, folder, problems)
    if _check_total(entries, problems):
        _check_collisions(entries, problems)
        _make_guests(entries, problems)
    return entries


def _entries(
    base: str, layers: list[Node], settings: Sequence[Setting], folder: Path, problems: Problems
) -> Iterator[Entry]:
    """The guests of an entry: those that are alike, and each for which ``each`` says something."""

    def entry(*more: Node) -> Entry:
        def with_layers(*lower: Node) -> Node:
            return in_guest(merged([*lower, *layers, *more]), base, settings, problems)

        return _entry(base, with_layers, folder, problems)

    plain = entry()
    count = plain.fields.count
    own = {} if "count" in plain.invalid else _own_layers(plain.node, count, problems)
    if count is not None:
        plain.numbers = [each for each in range(1, count + 1) if each not in own]
    if plain.numbers != []:
        yield plain
    for number, layer in own.items():
        one = entry(layer)
        one.numbers = [number]
        one.own_networks = "networks" in layer.entries
        yield one


def _own_layers(node: Node, count: int | None, problems: Problems) -> dict[int, Node]:
    """What ``each`` says, by the numbers of guests that there are."""
    answer: dict[int, Node] = {}
    for name, layer in section_nodes(node, EACH, problems).items():
        if re.fullmatch(NUMBER_PATTERN, name) is None:
            continue  # the model says so
        if count is not None and 1 <= int(name) <= count:
            answer[int(name)] = layer
            continue
        cure = (
            f"use 1 to {count}, or raise `count:`" if count else "add `count:`, or remove `each:`"
        )
        problem = Problem(f"the entry makes no guest with the number {quote(name)}", cure=cure)
        problems.at_key(layer, problem)
    return answer


def _check_name(node: Node, problems: Problems) -> None:
    try:
        label(str(node.path[-1]))
    except Problem as problem:
        problems.at_key(node, problem)


def _check_layer(node: Node, profiles: Mapping[str, Node], problems: Problems) -> None:
    """Errors of one layer by itself, so that each is reported where it was written, and once."""
    _check_part(node, GuestEntry, problems)
    names = node.entries.get("profiles")
    for item in names.items if names else []:
        if isinstance(item.value, str) and is_label(item.value) and item.value not in profiles:
            problem = Problem(
                f"there is no profile {quote(item.value)}", cure=suggestion(item.value, profiles)
            )
            problems.at(item, (), problem)


def _check_part(node: Node, model: type[GuestFields], problems: Problems) -> None:
    """Errors of keys that others are merged with, which may lack some."""
    clean = without_nulls(node)
    try:
        model.model_validate(clean.plain(), context=FROM_FILE)
    except ValidationError as error:
        problems.add_validation_error(error, clean, model, partial=True)


def _entry(base: str, with_layers: Callable[..., Node], folder: Path, problems: Problems) -> Entry:
    """The guest that its layers make, with what its keys take from elsewhere.

    Args:
        with_layers: merges them, over those that it is given.
    """
    written = with_layers()
    references = References(folder)
    node = with_layers(*references.layers(written))
    data = node.plain()
    invalid: set[str] = set()
    try:
        fields = GuestEntry.model_validate(data, context=FROM_FILE)
    except ValidationError as error:
        invalid = problems.add_validation_error(error, node, GuestEntry)
        valid = {key: value for key, value in data.items() if key not in invalid}
        fields = GuestEntry.model_validate(valid, context=FROM_FILE)
    own = written.entries.get(CLOUD_INIT)
    in_spec = own.plain() if own is not None and CLOUD_INIT not in invalid else {}
    contents = {} if "files" in invalid else references.file_contents(node)
    password = None if "password" in invalid else references.password(node)
    ignition = b"" if "ignition" in invalid else references.ignition(node)
    return Entry(
        base,
        node,
        fields,
        invalid,
        written_cloud_init=in_spec,
        file_contents=contents,
        password_text=password,
        ignition_bytes=ignition,
        unread=tuple(references.unread),
    )


def _check_total(entries: Iterable[Entry], problems: Problems) -> bool:
    total = 0
    for entry in entries:
        total += len(entry.names)
        if total > MAX_GUESTS:
            problem = Problem(
                f"the spec makes more than {MAX_GUESTS} guests",
                cure="lower `count:`, or split the environment",
            )
            problems.at(entry.node, ("count",), problem)
            return False
    return True


def _check_collisions(entries: Iterable[Entry], problems: Problems) -> None:
    """Names that two entries would both make."""
    seen: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.fields.count is not None):
        for name in entry.names:
            other = seen.setdefault(name, entry)
            if other is not entry:
                problem = Problem(
                    f"two guests would be called '{name}'",
                    why=f"{quote(other.base)} and {quote(entry.base)} with its count both make it",
                    cure="rename one of them",
                )
                problems.at_key(entry.node, problem)
                break


def _make_guests(entries: list[Entry], problems: Problems) -> None:
    """Makes the guests of each entry, with ``after`` as names of guests."""
    guest_names: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        guest_names |= {name: (name,) for name in entry.names}
    bases: dict[str, dict[str, int]] = {}
    for entry in entries:
        bases.setdefault(entry.base, {}).update((n, each or 0) for n, each in entry.numbered())
    guest_names |= {
        base: tuple(sorted(names, key=names.__getitem__)) for base, names in bases.items()
    }
    uncounted = {entry.base for entry in entries if "count" in entry.invalid}
    for entry in entries:
        after = _after(entry, guest_names, uncounted, problems)
        ready = _ready(entry, problems)
        entry.guests = list(_count_out(entry, after, ready, problems))


def _after(
    entry: Entry,
    guest_names: Mapping[str, tuple[str, ...]],
    uncounted: set[str],
    problems: Problems,
) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for index, name in enumerate(entry.fields.after):
        if name in guest_names:
            names |= dict.fromkeys(guest_names[name])
        elif name.rpartition("-")[0] not in uncounted:
            problem = Problem(
                f"there is no guest {quote(name)}", cure=suggestion(name, guest_names)
            )
            problems.at(entry.node, ("after", index), problem)
    return tuple(names)


def _ready(entry: Entry, problems: Problems) -> Ready:
    """What the guests' readiness is: none without networks, or where ssh is not set up; by its
    address where a system is there and nobody can log in."""
    fields, kind = entry.fields, entry.fields.ready.kind
    if fields.system == "windows" and fields.networks != ():
        named = "kind" in fields.ready.model_fields_set  # else it is the default
        return fields.ready if named else fields.ready.model_copy(update={"kind": "address"})
    if fields.ignition is not None and fields.image != NO_IMAGE and fields.networks != ():
        return _ready_by_address(entry, problems)
    no_ssh = fields.image == NO_IMAGE and kind == "ssh"
    if kind == "none" or not (fields.networks == () or no_ssh):
        return fields.ready
    node = entry.node.entries.get("ready")
    if node is not None and node.path[:1] == ("guests",):
        if fields.networks == ():
            problem = Problem(
                f"a guest without networks can't have `ready: {kind}`",
                why="nothing could reach it to ask; with `networks: []` ready is none",
                cure="remove `ready:`, or give it a network",
            )
        else:
            problem = Problem(
                f"a guest without an image can't have `ready: {kind}`",
                why="nobody gave it keys that let anybody in; with `image: none` ready is none",
                cure="remove `ready:`, or set `ready: address` or `ready: {port: 22}`",
            )
        problems.at(node, (), problem)
    return Ready.model_construct(kind="none")


def _ready_by_address(entry: Entry, problems: Problems) -> Ready:
    """The readiness of guests that have a system whose host key nobody knows."""
    ready, node = entry.fields.ready, entry.node.entries.get("ready")
    if ready.kind != "ssh":
        return ready
    if "kind" in ready.model_fields_set and node is not None and node.path[:1] == ("guests",):
        problem = Problem(
            "a guest with `ignition:` can't have `ready: ssh`",
            why="virtkit knows no host key of it; with `ignition:` ready is address",
            cure="remove `ready:`, or set `ready: {port: 22}`",
        )
        problems.at(node, (), problem)
    return ready.model_copy(update={"kind": "address"})


def _count_out(
    entry: Entry, after: tuple[str, ...], ready: Ready, problems: Problems
) -> Iterable[GuestSpec]:
    fields = {name: getattr(entry.fields, name) for name in GuestEntry.model_fields}
    of_entry = ("count", "profiles", EACH)
    for name in of_entry:
        del fields[name]
    cloud = entry.node.entries.get(CLOUD_INIT)
    core = cloud.plain(core=True) if cloud and fields[CLOUD_INIT] else {}
    same = entry.written_cloud_init == fields[CLOUD_INIT]
    fields["written_cloud_init"] = None if same else entry.written_cloud_init
    fields["file_contents"] = dict(entry.file_contents)
    fields["password_text"] = entry.password_text
    fields["ignition_bytes"] = entry.ignition_bytes
    fields["core_cloud_init"] = core if core != fields[CLOUD_INIT] else {}
    fields_set = set(entry.fields.model_fields_set) - set(of_entry)
    fields_set |= {"name", "base", "index"}
    interfaces = _first_interfaces(entry, problems)
    for name, number in entry.numbered():
        step = 0 if number is None or entry.own_networks else number - 1
        values = fields | {
            "name": name,
            "base": entry.base,
            "index": number,
            "after": after,
            "ready": ready,
            "networks": None
            if interfaces is None
            else tuple(_counted(interface, step) for interface in interfaces),
        }
        # Every value was validated as part of the entry.
        yield GuestSpec.model_construct(_fields_set=fields_set, **values)


def _first_interfaces(entry: Entry, problems: Problems) -> list[InterfaceSpec] | None:
    """The network interfaces of the first guest; what can't count up far enough is left out."""
    if entry.fields.networks is None:
        return None
    last = 0 if entry.own_networks else max(entry.numbers or [1]) - 1
    interfaces = []
    for index, interface in enumerate(entry.fields.networks):
        left_out: dict[str, None] = {}
        if interface.address and int(IPv4Address(interface.address)) + last > _MAX_IPV4:
            left_out["address"] = None
        if interface.address6 and int(IPv6Address(interface.address6)) + last > _MAX_IPV6:
            left_out["address6"] = None
        if (
            interface.mac
            and (_mac_number(interface.mac) + last) >> 40 != _mac_number(interface.mac) >> 40
        ):
            left_out["mac"] = None
        for key in left_out:
            problem = Problem(
                f"{getattr(interface, key)} can't count up {last} times",
                cure=f"begin with a lower {key}, or lower `count:`",
            )
            problems.at(entry.node, ("networks", index, key), problem)
        interfaces.append(interface.model_copy(update=left_out))
    return interfaces


def _counted(interface: InterfaceSpec, step: int) -> InterfaceSpec:
    if step == 0 or not (interface.address or interface.address6 or interface.mac):
        return interface
    update: dict[str, str] = {}
    if interface.address:
        update["address"] = str(IPv4Address(interface.address) + step)
    if interface.address6:
        update["address6"] = str(IPv6Address(interface.address6) + step)
    if interface.mac:
        digits = f"{_mac_number(interface.mac) + step:012x}"
        update["mac"] = ":".join(digits[at : at + 2] for at in range(0, 12, 2))
    return interface.model_copy(update=update)


def _mac_number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)
