"""Files, defaults, profiles and a guest's own keys, laid over each other on the spec's tree.

Maps merge key by key, lists and scalars whole; null takes a key back to its built-in default.
Every value keeps the place it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from virtkit.spec.document import CLOUD_INIT, VARS
from virtkit.spec.nodes import Node


def without_nulls(node: Node) -> Node:
    """The same value with no entry that is null, in maps at any depth.

    Lists inside ``cloud_init`` and ``vars`` stay as they are.
    """
    return _clean(node, in_lists=True)


def _clean(node: Node, *, in_lists: bool) -> Node:
    if isinstance(node.value, dict):
        entries = {
            key: _clean(below, in_lists=in_lists and key not in (CLOUD_INIT, VARS))
            for key, below in node.value.items()
            if below.value is not None
        }
        return Node(entries, node.path, node.mark, node.key)
    if isinstance(node.value, list) and in_lists:
        items = [_clean(item, in_lists=True) for item in node.value]
        return Node(list(items), node.path, node.mark, node.key)
    return node


def lay_over(under: Node, over: Node) -> Node:
    """``over`` laid over ``under``; the result stands where ``over`` does."""
    if not isinstance(under.value, dict) or not isinstance(over.value, dict):
        return over
    entries = dict(under.value)
    for key, value in over.value.items():
        if value.value is None:
            entries.pop(key, None)
        elif key in entries:
            entries[key] = lay_over(entries[key], value)
        else:
            entries[key] = value
    return Node(entries, over.path, over.mark, over.key)


def lay_file_over(under: Node, over: Node) -> Node:
    """One file's tree laid over another's. A null stays: what it takes back is what the merged
    file has below it, such as a profile's."""
    if not isinstance(under.value, dict) or not isinstance(over.value, dict):
        return over
    both = {
        key: lay_file_over(under.value[key], node) if key in under.value else node
        for key, node in over.value.items()
    }
    return Node({**under.value, **both}, over.path, over.mark, over.key)


def merged(layers: Iterable[Node]) -> Node:
    """All ``layers`` (maps), the first at the bottom; the result stands where the last does."""
    first, *rest = layers
    # A null of the first layer has nothing below it to take away.
    result = without_nulls(first)
    for layer in rest:
        result = lay_over(result, layer)
    return without_nulls(result)


def profile_order(entry: Node, defaults: Node | None, profiles: Mapping[str, Node]) -> list[Node]:
    """The profiles of a guest, in the order in which they are laid.

    A profile's own profiles come right before it, each profile only once. Names that are no
    profile are passed over.
    """
    own = entry.entries.get("profiles")
    if own is None and defaults is not None:
        own = defaults.entries.get("profiles")
    order: dict[str, Node] = {}
    if own is not None:
        _collect(own, profiles, order, set())
    return list(order.values())


def _collect(
    names: Node, profiles: Mapping[str, Node], order: dict[str, Node], open_names: set[str]
) -> None:
    for item in names.items:
        name = item.value
        if not isinstance(name, str) or name in order or name in open_names:
            continue
        profile = profiles.get(name)
        if profile is None:
            continue
        own = profile.entries.get("profiles")
        if own is not None:
            _collect(own, profiles, order, open_names | {name})
        order[name] = profile
