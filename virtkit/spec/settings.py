"""What a command line sets in a spec for one run: ``PATH=VALUE``, by ``--set``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from virtkit._dataclass import dataclass
from virtkit.spec.document import EACH, read_document
from virtkit.spec.errors import Problems
from virtkit.spec.files import SECTIONS, TOP_KEYS
from virtkit.spec.merge import lay_file_over, without_nulls
from virtkit.spec.nodes import Mark, Node, Path, dotted, error_at
from virtkit.spec.problem import Problem, quote, suggestion
from virtkit.spec.scalars import kind_of

OPTION = "--set"
_PART = re.compile(
    r"(?P<dot>\.)?(?:(?P<key>[^.\[\]'\"]+)|(?P<quoted>'[^']+'|\"[^\"]+\"))|\[(?P<index>[0-9]{1,4})\]"
)
#: The keys of a guest that decide which layers it has: they are set before the layers are merged.
_OF_LAYERS = ("count", "profiles", EACH)


@dataclass(frozen=True)
class Setting:
    """One value of the command line. ``node`` is the value, at ``path`` in the spec."""

    path: Path
    node: Node

    @property
    def guest(self) -> str:
        """The entry under ``guests`` whose merged keys it changes; empty where it changes none."""
        is_own = self.path[:1] == ("guests",) and len(self.path) > 2
        return str(self.path[1]) if is_own and self.path[2] not in _OF_LAYERS else ""


def read_settings(texts: Iterable[str], problems: Problems) -> list[Setting]:
    """What ``--set`` says, once for each.

    Raises:
        RequestError: one is not of the form PATH=VALUE, or its value is not YAML.
    """
    return [_setting(each, problems) for each in texts]


def _setting(text: str, problems: Problems) -> Setting:
    name, sign, value = text.partition("=")
    mark = Mark(0, 0, OPTION)
    cure = f"write PATH=VALUE, such as {OPTION} guests.web.memory=2GiB"
    if not sign:
        raise error_at(mark, (), Problem(f"{quote(text)} sets nothing", cure=cure))
    path = _path(name.strip())
    if path is None or path[0] not in TOP_KEYS:
        problem = Problem(f"{quote(name)} is no path of a spec", cure=cure)
        if path is not None:
            cure = suggestion(str(path[0]), ("name", *SECTIONS))
            problem = Problem(f"a spec has no key {quote(path[0])}", cure=cure)
        raise error_at(mark, (), problem)
    if path[0] not in ("name", *SECTIONS):
        problem = Problem(f"`{path[0]}` can't be set", cure="name the file with a second -f")
        raise error_at(mark, path, problem)
    root, document_problems = read_document(value, f"{OPTION} {name}", path)
    for each in document_problems:
        problems.in_document(replace(each, mark=mark))
    return Setting(path, _at(root or Node(None, path, mark, mark), mark))


def _path(text: str) -> Path | None:
    """Keys, and indices of lists: ``guests.web.disks[0].size``; None where it is none."""
    parts: list[str | int] = []
    end = 0
    for match in _PART.finditer(text):
        is_index = match["index"] is not None
        needs_dot = bool(parts) and not is_index
        if match.start() != end or bool(match["dot"]) is not needs_dot or (is_index and not parts):
            return None
        parts.append(int(match["index"]) if is_index else match["key"] or match["quoted"][1:-1])
        end = match.end()
    return tuple(parts) if parts and end == len(text) else None


def _at(node: Node, mark: Mark) -> Node:
    """The same value, all of it at one place."""
    value = node.value
    if isinstance(value, dict):
        value = {key: _at(below, mark) for key, below in value.items()}
    elif isinstance(value, list):
        value = [_at(below, mark) for below in value]
    return Node(value, node.path, mark, mark, node.core)


def in_tree(root: Node, settings: Iterable[Setting], problems: Problems) -> Node:
    """The spec's tree with all that is set, but for the merged keys of guests."""
    for each in settings:
        if _is_there(each, root, problems) and not each.guest:
            root = _put(root, each, each.path, problems)
    return root


def in_guest(entry: Node, base: str, settings: Iterable[Setting], problems: Problems) -> Node:
    """A merged guest, whose key is ``base``, with what is set of it."""
    for each in settings:
        if each.guest == base:
            entry = _put(entry, each, each.path[2:], problems)
    return without_nulls(entry)


def _is_there(setting: Setting, root: Node, problems: Problems) -> bool:
    """Whether the spec has the host, image, network, profile or guest that is set."""
    section, *rest = setting.path
    if not rest or section == "defaults":
        return True
    names = root.entries[str(section)].entries if section in root.entries else {}
    name = str(rest[0])
    if name in names:
        return True
    base, _, number = name.rpartition("-")
    cure = suggestion(name, names)
    if section == "guests" and base in names and number.isdecimal():
        cure = f"set {dotted((section, base, EACH, number, *rest[1:]))}"
    problem = Problem(f"the spec has no {section} {quote(name)}", cure=cure)
    problems.at(setting.node, (), problem)
    return False


def _put(node: Node, setting: Setting, path: Path, problems: Problems) -> Node:
    """``node`` with what is set at ``path`` below it."""
    if not path:
        return lay_file_over(node, setting.node)
    part, rest = path[0], path[1:]
    if isinstance(part, int):
        if part < len(node.items):
            items = list(node.items)
            items[part] = _put(items[part], setting, rest, problems)
            return Node(items, node.path, node.mark, node.key)
        what = f"there is no entry {part} to set" if node.items else "there is no list to set in"
        problems.at(setting.node, (), Problem(what, cure="set the whole list, as [a, b]"))
        return node
    if node.entries or node.value is None or isinstance(node.value, dict):
        new = Node(None, (*node.path, part), setting.node.mark, setting.node.key)
        below = node.entries.get(part, new)
        entries = node.entries | {part: _put(below, setting, rest, problems)}
        return Node(entries, node.path, node.mark, node.key)
    problem = Problem(f"there are no keys to set in {kind_of(node.plain())}", cure="set it whole")
    problems.at(setting.node, (), problem)
    return node
