"""A spec's files to a Spec: reads, merges, checks, and reports all errors at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from virtkit.errors import RequestError
from virtkit.spec.checks import check
from virtkit.spec.command import can_join
from virtkit.spec.draft import Draft, Section
from virtkit.spec.entries import read_entries, section_nodes
from virtkit.spec.errors import Problems
from virtkit.spec.files import STDIN, STDIN_SOURCE, folder_of, read_file, read_tree
from virtkit.spec.imported import known_image
from virtkit.spec.merge import without_nulls
from virtkit.spec.model import (
    DEFAULT_NETWORK,
    FROM_FILE,
    LOCAL,
    NO_IMAGE,
    HostSpec,
    Image,
    NetworkSpec,
    Spec,
)
from virtkit.spec.nodes import Node
from virtkit.spec.nodes import Path as KeyPath
from virtkit.spec.positions import Positions
from virtkit.spec.problem import Problem, quote
from virtkit.spec.scalars import kind_of
from virtkit.spec.settings import in_tree, read_settings
from virtkit.spec.values import label, suggest_label

_ModelT = TypeVar("_ModelT", bound=BaseModel)


def load(*paths: str | Path, settings: Iterable[str] = ()) -> Spec:
    """The spec in one file or several.

    Args:
        paths: the files, the later over the earlier; ``-`` is standard input. The first one's
            folder is the spec's.
        settings: values that are set in it, as ``PATH=VALUE``.

    Raises:
        SpecErrors: the spec is wrong; holds every error found.
        RequestError: a file can't be read, or a setting is none.
    """
    files: dict[str, str] = {}
    for path in map(str, paths):
        if len(paths) > 1 and not can_join(path):
            raise RequestError(
                f"the spec {quote(path)} can't be one of several",
                why="its path holds what is between the paths of several, ' -f '",
                cure="rename the file or the folder",
            )
        if path in files or (path == STDIN and STDIN_SOURCE in files):
            raise RequestError(f"the spec {quote(path)} is named twice", cure="name each file once")
        files[STDIN_SOURCE if path == STDIN else path] = read_file(path)
    return read_files(files, settings, folder_of(next(iter(files))))


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
    return read_files({source: text}, (), folder)


def read_files(files: Mapping[str, str], texts: Iterable[str], folder: Path) -> Spec:
    """The spec in the ``files``, a text by each one's name, and with what is set by ``texts``."""
    problems = Problems()
    texts = tuple(texts)
    root, draft, missing = _draft(files, texts, folder, problems)
    problems.raise_all()
    spec = _spec(draft, folder, tuple(files), texts)
    merged_guests = {entry.base: entry.node for entry in draft.entries}
    merged_guests |= {guest.name: e.node for e in draft.entries for guest in e.guests}
    spec._positions = Positions(root, merged_guests)
    spec._unread = {
        guest.name: (*e.unread, *missing.get(id(e), ()))
        for e in draft.entries
        for guest in e.guests
    }
    return spec


def find_problems(text: str, source: str, folder: Path) -> list[tuple[KeyPath, Problem]]:
    """What is wrong with the spec in ``text``, each with its path; as ``read_text``.

    Raises:
        SpecErrors: it is no map of keys, or not YAML.
    """
    problems = Problems()
    _draft({source: text}, (), folder, problems)
    return problems.by_path


def _draft(
    files: Mapping[str, str], texts: Iterable[str], folder: Path, problems: Problems
) -> tuple[Node, Draft, dict[int, tuple[RequestError, ...]]]:
    """The tree of a spec's files, all that is in it, checked, and what `_host_parts` says."""
    settings = read_settings(texts, problems)
    root = in_tree(read_tree(files, folder, problems), settings, problems)
    draft = Draft(
        name=_environment(root, problems, next(iter(files)), folder),
        hosts=_hosts(root, problems),
        images=_section(root, "images", Image, problems),
        networks=_section(root, "networks", NetworkSpec, problems),
        entries=read_entries(root, settings, folder, problems),
    )
    check(draft, problems)
    return root, draft, _host_parts(draft, folder, problems)


def _host_parts(
    draft: Draft, folder: Path, problems: Problems
) -> dict[int, tuple[RequestError, ...]]:
    """Checks what guests are given of their host; by the entry's id, what of it is missing here."""
    if not any({"folders", "host_devices"} & {*each.node.entries} for each in draft.entries):
        return {}
    from virtkit.spec import host_parts  # most specs have none of it

    host_parts.check(draft, folder, problems)
    return {id(each): tuple(host_parts.missing(each, draft, folder)) for each in draft.entries}


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


def _spec(draft: Draft, folder: Path, files: tuple[str, ...], settings: tuple[str, ...]) -> Spec:
    hosts, images = dict(draft.hosts.models), dict(draft.images.models)
    networks = dict(draft.networks.models)
    guests = {guest.name: guest for guest in draft.in_order()}
    any_without_host = any(e.host is None and e.place is None for e in guests.values())
    if not hosts or (any_without_host and len(hosts) > 1):
        hosts.setdefault(LOCAL, HostSpec.model_construct())
    for guest in guests.values():
        if guest.image not in (*images, NO_IMAGE):
            images[guest.image] = known_image(guest.image) or Image.model_construct()
        for interface in guest.interfaces:
            if interface.name == DEFAULT_NETWORK:
                networks.setdefault(DEFAULT_NETWORK, NetworkSpec.model_construct())
    return Spec.model_construct(
        name=draft.name,
        source=files[0],
        more_files=files[1:],
        settings=settings,
        folder=folder,
        images=images,
        networks=networks,
        guests=guests,
        hosts=hosts,
    )
