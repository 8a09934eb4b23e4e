"""A spec's file to a Spec: reads, merges, checks, and reports all errors at once.

``read_text`` is pure; ``load`` is the only function here that touches a file.
"""

from __future__ import annotations

import shlex
import sys
import unicodedata
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from virtkit.errors import RequestError
from virtkit.spec.checks import check
from virtkit.spec.document import read_document
from virtkit.spec.draft import Draft, Section
from virtkit.spec.entries import read_entries, section_nodes
from virtkit.spec.errors import Problems
from virtkit.spec.merge import without_nulls
from virtkit.spec.model import (
    CATALOGUE,
    DEFAULT_NETWORK,
    FROM_FILE,
    LOCAL,
    HostSpec,
    Image,
    NetworkSpec,
    Spec,
)
from virtkit.spec.nodes import Mark, Node
from virtkit.spec.positions import Positions
from virtkit.spec.problem import Problem, escaped, quote, suggestion
from virtkit.spec.scalars import kind_of
from virtkit.spec.values import label, suggest_label

#: The largest file that is read, in bytes.
MAX_FILE_SIZE = 1024 * 1024
#: What ``load`` takes for standard input, and how messages call it.
STDIN, STDIN_SOURCE = "-", "<stdin>"

TOP_KEYS = ("name", "hosts", "images", "networks", "defaults", "profiles", "guests")

_ModelT = TypeVar("_ModelT", bound=BaseModel)


def load(path: str | Path) -> Spec:
    """The spec in a file.

    Args:
        path: the file; ``-`` is standard input.

    Raises:
        SpecErrors: the spec is wrong; holds every error found.
        RequestError: the file can't be read.
    """
    source = str(path)
    if source == STDIN:
        data = sys.stdin.buffer.read(MAX_FILE_SIZE + 1)
        return read_text(_decode(data, STDIN_SOURCE), source=STDIN_SOURCE, folder=Path.cwd())
    data = _read(Path(path), source)
    full = Path(path).resolve()
    _check_path(full)
    return read_text(_decode(data, source), source=source, folder=full.parent)


def _read(path: Path, source: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_SIZE + 1)
    except FileNotFoundError as error:
        raise RequestError(
            f"there is no file {quote(source)}",
            cure="name the spec's file, or make one with `virtkit init`",
            where=source,
        ) from error
    except IsADirectoryError as error:
        raise RequestError(
            f"{quote(source)} is a folder, not a spec",
            cure=f"name the file in it, such as {path / 'virtkit.yaml'}",
            where=source,
        ) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise RequestError(
            f"the spec {quote(source)} can't be read",
            why=why or type(error).__name__,
            cure=f"check that it is a file that you may read: ls -l {shlex.quote(escaped(source))}",
            where=source,
        ) from error


def _check_path(path: Path) -> None:
    """Paths below the spec's folder go into the files of other programs, a line each."""
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in str(path)):
        raise RequestError(
            f"the spec's path {quote(str(path))} holds a control character",
            why="ssh and Ansible read the paths of files below it from lines of text",
            cure="rename the folder or the file",
            where=escaped(str(path)),
        )


def _decode(data: bytes, source: str) -> str:
    if len(data) > MAX_FILE_SIZE:
        raise RequestError(
            f"the spec is larger than {MAX_FILE_SIZE // 1024} KiB",
            cure="split the environment, or use `count:`, `defaults:` and `profiles:`",
            where=source,
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise RequestError(
            "the spec is not UTF-8 text",
            why=f"byte 0x{data[error.start]:02x} starts no character",
            cure="save it as UTF-8",
            where=f"{source}:{line}:{column}",
        ) from error


def read_text(text: str, *, source: str, folder: Path) -> Spec:
    """The spec in ``text``.

    Args:
        text: YAML.
        source: the path of the file as given, or ``<stdin>``; names the environment where the
            text does not.
        folder: what the spec's paths are relative to, absolute.

    Raises:
        SpecErrors: the spec is wrong; holds every error found.
    """
    problems = Problems(source)
    root = _root(text, problems)
    for key, node in root.entries.items():
        if key not in TOP_KEYS:
            unknown = Problem(f"there is no key {quote(key)} here", cure=suggestion(key, TOP_KEYS))
            problems.at_key(node, unknown)
    draft = Draft(
        name=_environment(root, problems, source, folder),
        hosts=_hosts(root, problems),
        images=_section(root, "images", Image, problems),
        networks=_section(root, "networks", NetworkSpec, problems),
        entries=read_entries(root, problems),
    )
    check(draft, problems)
    problems.raise_all()
    return _spec(draft, root, source, folder)


def _root(text: str, problems: Problems) -> Node:
    root, document_problems = read_document(text, problems.source)
    for each in document_problems:
        problems.in_document(each)
    if root is None:
        problems.add(
            Mark(1, 1),
            (),
            Problem("the spec is empty", cure="write one, or get a starter with `virtkit init`"),
        )
        problems.raise_all()
    assert root is not None
    if not isinstance(root.value, dict):
        problems.add(
            root.mark,
            (),
            Problem(
                f"a spec is a map of keys, this is {kind_of(root.plain())}",
                cure=f"begin with one of the keys {', '.join(TOP_KEYS)}",
            ),
        )
        problems.raise_all()
    return root


def _environment(root: Node, problems: Problems, source: str, folder: Path) -> str:
    """The environment's name: as written, else from the file's or its folder's name."""
    node = root.entries.get("name")
    if node is not None and node.value is not None:
        if isinstance(node.value, str):
            try:
                return label(node.value)
            except Problem as problem:
                problems.at(node, (), problem)
        else:
            kind = kind_of(node.plain())
            problems.at(node, (), Problem(f"expected text, found {kind}", cure="set `name: lab`"))
        return ""
    if source == STDIN_SOURCE:
        problems.add(
            root.mark,
            ("name",),
            Problem("a spec from standard input needs a name", cure="add `name: lab`"),
        )
        return ""
    path = Path(source)
    stem = folder.name if path.stem == "virtkit" else path.stem
    try:
        return label(stem)
    except Problem as problem:
        problems.add(
            root.mark,
            ("name",),
            Problem(
                f"the environment can't be called {quote(stem)}, after its "
                + ("folder" if path.stem == "virtkit" else "file"),
                why=problem.why,
                cure=f"add `name: {suggest_label(stem) or 'lab'}`",
            ),
        )
    return ""


def _hosts(root: Node, problems: Problems) -> Section[HostSpec]:
    """The hosts by name; others than ``local`` have an address."""
    hosts = _section(root, "hosts", HostSpec, problems)
    for name, host in hosts.models.items():
        if (name == LOCAL) == (host.address is None):
            continue
        problem = (
            Problem("local is this machine", cure="remove the address, or give the host a name")
            if name == LOCAL
            else Problem(f"host {name} has no address", cure="add `address: USER@HOST`")
        )
        problems.at_key(hosts.nodes[name], problem)
    return hosts


def _section(root: Node, key: str, model: type[_ModelT], problems: Problems) -> Section[_ModelT]:
    """The entries of the section ``key``, each to be a ``model``."""
    answer: Section[_ModelT] = Section(section_nodes(root, key, problems), {})
    for name, node in answer.nodes.items():
        try:
            label(name)
        except Problem as problem:
            problems.at_key(node, problem)
        validated = _validated(node, model, problems)
        if validated is not None:
            answer.models[name] = validated
    return answer


def _validated(node: Node, model: type[_ModelT], problems: Problems) -> _ModelT | None:
    try:
        return model.model_validate(without_nulls(node).plain(), context=FROM_FILE)
    except ValidationError as error:
        problems.add_validation_error(error, node, model)
        return None


def _spec(draft: Draft, root: Node, source: str, folder: Path) -> Spec:
    hosts, images = dict(draft.hosts.models), dict(draft.images.models)
    networks = dict(draft.networks.models)
    guests = {guest.name: guest for entry in draft.entries for guest in entry.guests}
    any_without_host = any(e.host is None and e.place is None for e in guests.values())
    if not hosts or (any_without_host and len(hosts) > 1):
        hosts.setdefault(LOCAL, HostSpec.model_construct())
    for guest in guests.values():
        if guest.image not in images:
            images[guest.image] = CATALOGUE[guest.image]
        for interface in guest.interfaces:
            if interface.name == DEFAULT_NETWORK:
                networks.setdefault(DEFAULT_NETWORK, NetworkSpec.model_construct())
    spec = Spec.model_construct(
        name=draft.name,
        source=source,
        folder=folder,
        images=images,
        networks=networks,
        guests=guests,
        hosts=hosts,
    )
    merged_guests = {entry.base: entry.node for entry in draft.entries}
    merged_guests |= {guest.name: e.node for e in draft.entries for guest in e.guests}
    spec._positions = Positions(root, merged_guests)
    return spec
