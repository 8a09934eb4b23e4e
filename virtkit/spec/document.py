"""A YAML document to a tree of nodes that know where they stand.

YAML 1.2's core rules for plain values, and less than all of YAML: no tags, bounded depth and
size. Pure: text in, tree out. It must never construct anything but str, int, float, bool,
None, lists and maps.
"""

from __future__ import annotations

from collections.abc import Callable

from virtkit.spec import yaml11
from virtkit.spec.nodes import DocumentProblem, Mark, Node, Path, Scalar
from virtkit.spec.problem import Problem, quote
from virtkit.spec.scalars import control_character, not_text, resolve
from virtkit.spec.yaml_text import MAX_DEPTH, MAX_NODES, RawNode, YamlParser, too_deep, too_many

_YAML_TAG = "tag:yaml.org,2002:"
#: The keys below which plain scalars are cloud-init's and Ansible's, and so YAML 1.1's.
CLOUD_INIT, VARS = "cloud_init", "vars"
#: The key below which the keys are the numbers of guests.
EACH = "each"
#: Ansible's tags for a variable's value, and what its JSON has instead.
_ANSIBLE_TAGS = {"!vault": "__ansible_vault", "!unsafe": "__ansible_unsafe"}


def read_document(
    text: str, source: str, path: Path = ()
) -> tuple[Node | None, list[DocumentProblem]]:
    """The tree of a YAML document, None where it holds nothing, and what is wrong in it.

    Args:
        text: the document.
        source: its name in messages.
        path: where in a spec it stands; a whole spec by default.

    Raises:
        SpecErrors: it is not YAML, or larger than a spec may be.
    """
    raw = YamlParser(text, source).document()
    if raw is None or raw.is_null:
        return None, []
    builder = _Builder()
    return builder.build(raw, path, raw.mark, len(path)), builder.problems


class _Builder:
    """From raw nodes to nodes with paths: follows aliases, resolves scalars, checks keys."""

    def __init__(self) -> None:
        self.count = 0
        self.problems: list[DocumentProblem] = []

    def build(self, raw: RawNode, path: Path, key: Mark, depth: int) -> Node:
        self.count += 1
        if self.count > MAX_NODES:
            raise too_many(raw.mark)
        if depth > MAX_DEPTH:
            raise too_deep(raw.mark)
        node = Node(None, path, raw.mark, key)
        if raw.tag in _ANSIBLE_TAGS and raw.kind == "scalar" and _below(path, VARS):
            value = Node(raw.text, (*path, _ANSIBLE_TAGS[raw.tag]), raw.mark, key)
            node.value = {_ANSIBLE_TAGS[raw.tag]: value}
        elif raw.tag:
            self._report(
                raw.mark,
                path,
                f"the tag {quote(raw.tag.replace(_YAML_TAG, '!!'))} can't stand in a spec",
                cure="leave the tag out; quotes make a value text",
            )
        elif raw.kind == "scalar":
            cloud = _below(path, CLOUD_INIT)
            is_yaml11 = cloud or _below(path, VARS)
            node.value = self._scalar(raw, path, yaml11.resolve if is_yaml11 else resolve)
            node.core = _core(raw) if cloud else None
        elif raw.kind == "list":
            node.value = [
                self.build(item, (*path, index), item.mark, depth + 1)
                for index, item in enumerate(raw.items)
            ]
        else:
            node.value = self._map(raw, path, depth)
        return node

    def _map(self, raw: RawNode, path: Path, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for raw_key, raw_value in raw.pairs:
            key = self._key(raw_key, path)
            if key is None:
                continue
            if key in entries:
                self._report(
                    raw_key.mark,
                    (*path, key),
                    f"the key {quote(key)} stands here twice",
                    why=f"it is on line {entries[key].key.line} already",
                    cure="remove one of them",
                )
                continue
            entries[key] = self.build(raw_value, (*path, key), raw_key.mark, depth + 1)
        return entries

    def _key(self, raw: RawNode, path: Path) -> str | None:
        """The text of a key; None, and an error, where it is something else."""
        if raw.kind != "scalar" or raw.tag:
            self._report_key(raw.mark, path, "a key is not text", cure="write keys as plain words")
            return None
        if raw.text == "<<" and raw.plain:
            self._report_key(
                raw.mark,
                path,
                "'<<' is not a key",
                why="YAML 1.2 has no merge keys",
                cure="use `defaults:` and `profiles:`",
            )
            return None
        bad = control_character(raw.text)
        if bad:
            self._report_key(raw.mark, path, f"the key holds {bad}", cure="remove it")
            return None
        if raw.plain and not raw.text:
            self._report_key(raw.mark, path, "a key is empty", cure="write a key before the `:`")
            return None
        is_number = path[-1:] == (EACH,) and _below(path, EACH) and raw.text.isdecimal()
        read_as = not_text(raw.text) if raw.plain and not is_number else ""
        if read_as:
            self._report_key(
                raw.mark,
                path,
                f"the key {quote(raw.text)} is read as {read_as}",
                cure=f'put it in quotes: "{raw.text}"',
            )
            return None
        return raw.text

    def _scalar(self, raw: RawNode, path: Path, read: Callable[[str], Scalar]) -> Scalar:
        text = raw.text
        bad = control_character(text)
        if bad:
            self._report(raw.mark, path, f"the text holds {bad}", cure="remove it")
            return ""
        if not raw.plain:
            return text
        try:
            return read(text)
        except ValueError as error:
            self._report(
                raw.mark, path, f"{quote(text)} {error}", cure="put it in quotes if it is text"
            )
            return 0

    def _report(self, mark: Mark, path: Path, what: str, *, cure: str, why: str = "") -> None:
        self.problems.append(DocumentProblem(mark, path, Problem(what, cure=cure, why=why)))

    def _report_key(self, mark: Mark, path: Path, what: str, *, cure: str, why: str = "") -> None:
        self.problems.append(
            DocumentProblem(mark, path, Problem(what, cure=cure, why=why), of_value=False)
        )


def _below(path: Path, key: str) -> bool:
    """Whether ``path`` leads below that key of a guest, a profile or the defaults, or of what one
    guest of several has for itself."""
    if path[:1] not in (("defaults",), ("profiles",), ("guests",)):
        return False
    keys = path[1:] if path[0] == "defaults" else path[2:]
    return key in (keys[:1] if keys[:1] != (EACH,) else (EACH, *keys[2:3]))


def _core(raw: RawNode) -> tuple[Scalar] | None:
    """A plain scalar's value by YAML 1.2; None where there is none."""
    try:
        return (resolve(raw.text),) if raw.plain else None
    except ValueError:
        return None
