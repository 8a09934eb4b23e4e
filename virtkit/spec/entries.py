"""The entries under ``guests``: merged with defaults and profiles, counted out, linked up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from pydantic import ValidationError

from virtkit.spec.document import CLOUD
from virtkit.spec.draft import Entry
from virtkit.spec.errors import Faults
from virtkit.spec.merge import merged, profile_order, without_nulls
from virtkit.spec.model import FROM_FILE, MAX_GUESTS, GuestEntry, GuestSpec, InterfaceSpec, Ready
from virtkit.spec.nodes import Node
from virtkit.spec.scalars import kind_of
from virtkit.spec.value_error import Wrong, meant, quote
from virtkit.spec.values import is_label, label

_MAX_IPV4 = 2**32 - 1


def section(root: Node, key: str, faults: Faults) -> dict[str, Node]:
    """The entries of a top-level map of maps; null stands for an empty map everywhere."""
    node = root.entries.get(key)
    if node is None:
        return {}
    return {name: _map(below, faults) for name, below in _map(node, faults).entries.items()}


def _map(node: Node, faults: Faults) -> Node:
    """``node`` where it is a map, else an empty map in its place."""
    if isinstance(node.value, dict):
        return node
    if node.value is not None:
        kind = kind_of(node.plain())
        wrong = Wrong(
            f"expected a map of keys, found {kind}", cure="write `key: value` lines below the key"
        )
        faults.at(node, (), wrong)
    return Node({}, node.path, node.mark, node.key)


def read_entries(root: Node, faults: Faults) -> list[Entry]:
    """Every entry under ``guests``, with the guests it makes."""
    defaults = _map(root.entries["defaults"], faults) if "defaults" in root.entries else None
    profiles = section(root, "profiles", faults)
    guests = section(root, "guests", faults)
    for node in [*profiles.values(), *guests.values()]:
        _check_name(node, faults)
    for node in [*([defaults] if defaults else []), *profiles.values(), *guests.values()]:
        _check_layer(node, profiles, faults)
    entries = []
    for base, node in guests.items():
        layers = [*profile_order(node, defaults, profiles), node]
        entries.append(_entry(base, merged([defaults, *layers] if defaults else layers), faults))
    if _check_total(entries, faults):
        _check_collisions(entries, faults)
        _link(entries, faults)
    return entries


def _check_name(node: Node, faults: Faults) -> None:
    try:
        label(str(node.path[-1]))
    except Wrong as wrong:
        faults.key(node, wrong)


def _check_layer(node: Node, profiles: Mapping[str, Node], faults: Faults) -> None:
    """Errors of one layer by itself, so that each is told where it was written, and once."""
    clean = without_nulls(node)
    try:
        GuestEntry.model_validate(clean.plain(), context=FROM_FILE)
    except ValidationError as error:
        faults.invalid(error, clean, GuestEntry, partial=True)
    names = node.entries.get("profiles")
    for item in names.items if names else []:
        if isinstance(item.value, str) and is_label(item.value) and item.value not in profiles:
            wrong = Wrong(
                f"there is no profile {quote(item.value)}", cure=meant(item.value, profiles)
            )
            faults.at(item, (), wrong)


def _entry(base: str, node: Node, faults: Faults) -> Entry:
    data = node.plain()
    try:
        return Entry(base, node, GuestEntry.model_validate(data, context=FROM_FILE), set())
    except ValidationError as error:
        wrong = faults.invalid(error, node, GuestEntry)
    valid = {key: value for key, value in data.items() if key not in wrong}
    return Entry(base, node, GuestEntry.model_validate(valid, context=FROM_FILE), wrong)


def _check_total(entries: Iterable[Entry], faults: Faults) -> bool:
    total = 0
    for entry in entries:
        total += entry.fields.count or 1
        if total > MAX_GUESTS:
            wrong = Wrong(
                f"the spec makes more than {MAX_GUESTS} guests",
                cure="lower `count:`, or split the environment",
            )
            faults.at(entry.node, ("count",), wrong)
            return False
    return True


def _check_collisions(entries: Iterable[Entry], faults: Faults) -> None:
    """Names that two entries would both make."""
    seen: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.fields.count is not None):
        for name in entry.names:
            other = seen.setdefault(name, entry)
            if other is not entry:
                wrong = Wrong(
                    f"two guests would be called '{name}'",
                    why=f"{quote(other.base)} and {quote(entry.base)} with its count both make it",
                    cure="rename one of them",
                )
                faults.key(entry.node, wrong)
                break


def _link(entries: list[Entry], faults: Faults) -> None:
    """Makes the guests of each entry, with ``after`` as names of guests."""
    guest_names: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        guest_names |= {name: (name,) for name in entry.names}
    for entry in entries:
        guest_names[entry.base] = tuple(entry.names)
    uncounted = {entry.base for entry in entries if "count" in entry.wrong}
    for entry in entries:
        after = _after(entry, guest_names, uncounted, faults)
        ready = _ready(entry, faults)
        entry.guests = list(_count_out(entry, after, ready, faults))


def _after(
    entry: Entry, guest_names: Mapping[str, tuple[str, ...]], uncounted: set[str], faults: Faults
) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for index, name in enumerate(entry.fields.after):
        if name in guest_names:
            names |= dict.fromkeys(guest_names[name])
        elif name.rpartition("-")[0] not in uncounted:
            wrong = Wrong(f"there is no guest {quote(name)}", cure=meant(name, guest_names))
            faults.at(entry.node, ("after", index), wrong)
    return tuple(names)


def _ready(entry: Entry, faults: Faults) -> Ready:
    """What the guests' readiness is: none without networks."""
    fields = entry.fields
    if fields.networks != () or fields.ready.kind == "none":
        return fields.ready
    node = entry.node.entries.get("ready")
    if node is not None and node.path[:1] == ("guests",):
        wrong = Wrong(
            f"a guest without networks cannot be asked for {fields.ready.kind}",
            why="with `networks: []` ready is none",
            cure="take `ready:` out, or give it a network",
        )
        faults.at(node, (), wrong)
    return Ready.model_construct(kind="none")


def _count_out(
    entry: Entry, after: tuple[str, ...], ready: Ready, faults: Faults
) -> Iterable[GuestSpec]:
    fields = {name: getattr(entry.fields, name) for name in GuestEntry.model_fields}
    del fields["count"], fields["profiles"]
    cloud = entry.node.entries.get(CLOUD)
    core = cloud.plain(core=True) if cloud and fields[CLOUD] else {}
    fields["core_cloud_init"] = core if core != fields[CLOUD] else {}
    fields_set = set(entry.fields.model_fields_set) - {"count", "profiles"}
    fields_set |= {"name", "base", "index"}
    interfaces = _first_interfaces(entry, faults)
    for step, name in enumerate(entry.names):
        values = fields | {
            "name": name,
            "base": entry.base,
            "index": None if entry.fields.count is None else step + 1,
            "after": after,
            "ready": ready,
            "networks": None
            if interfaces is None
            else tuple(_counted(interface, step) for interface in interfaces),
        }
        # Every value was validated as part of the entry.
        yield GuestSpec.model_construct(_fields_set=fields_set, **values)


def _first_interfaces(entry: Entry, faults: Faults) -> list[InterfaceSpec] | None:
    """The network cards of the first guest; what cannot count up far enough is left out."""
    if entry.fields.networks is None:
        return None
    last = (entry.fields.count or 1) - 1
    interfaces = []
    for index, interface in enumerate(entry.fields.networks):
        left_out: dict[str, None] = {}
        if interface.address and int(IPv4Address(interface.address)) + last > _MAX_IPV4:
            left_out["address"] = None
        if (
            interface.mac
            and (_mac_number(interface.mac) + last) >> 40 != _mac_number(interface.mac) >> 40
        ):
            left_out["mac"] = None
        for key in left_out:
            wrong = Wrong(
                f"{getattr(interface, key)} cannot count up {last} times",
                cure=f"begin with a lower {key}, or lower `count:`",
            )
            faults.at(entry.node, ("networks", index, key), wrong)
        interfaces.append(interface.model_copy(update=left_out))
    return interfaces


def _counted(interface: InterfaceSpec, step: int) -> InterfaceSpec:
    if step == 0 or not (interface.address or interface.mac):
        return interface
    update: dict[str, str] = {}
    if interface.address:
        update["address"] = str(IPv4Address(interface.address) + step)
    if interface.mac:
        digits = f"{_mac_number(interface.mac) + step:012x}"
        update["mac"] = ":".join(digits[at : at + 2] for at in range(0, 12, 2))
    return interface.model_copy(update=update)


def _mac_number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)
