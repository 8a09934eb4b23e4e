"""The files of a spec: read, each with those that it includes, and laid over each other.

Nothing but this touches a spec's files.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from virtkit.errors import RequestError
from virtkit.spec import values
from virtkit.spec.document import read_document
from virtkit.spec.errors import Problems
from virtkit.spec.merge import lay_file_over
from virtkit.spec.nodes import Mark, Node
from virtkit.spec.paths import moved
from virtkit.spec.problem import Problem, escaped, quote, suggestion
from virtkit.spec.scalars import kind_of

#: The largest file that is read, in bytes.
MAX_FILE_SIZE = 1024 * 1024
#: What stands for standard input, and how messages call it.
STDIN, STDIN_SOURCE = "-", "<stdin>"
#: The key that names files to lay under this one.
INCLUDE = "include"
SECTIONS = ("hosts", "images", "networks", "defaults", "profiles", "guests")
TOP_KEYS = ("name", INCLUDE, *SECTIONS)
#: Keys that begin so are nobody's, at the top.
NOBODYS = "x-"


def folder_of(source: str) -> Path:
    """The folder that a file's paths are relative to, absolute."""
    return Path.cwd() if source in (STDIN, STDIN_SOURCE) else Path(source).resolve().parent


def read_tree(files: Mapping[str, str], folder: Path, problems: Problems) -> Node:
    """The tree of a spec: its files over each other, the later over the earlier.

    Args:
        files: the text of each, by its name in messages.
        folder: the first one's, to which the paths in the tree are to be relative; absolute.

    Raises:
        SpecErrors: a file is no map of keys, or not YAML.
    """
    reader = _Reader(folder, problems)
    for index, (source, text) in enumerate(files.items()):
        reader.read(source, text, folder_of(source) if index else folder)
    return functools.reduce(lay_file_over, reader.layers)


class _Reader:
    """Reads files and what they include, each included file once.

    Attributes:
        layers: what was read, the lowest first; paths in it are relative to ``folder``.
    """

    def __init__(self, folder: Path, problems: Problems) -> None:
        self.folder = folder
        self.problems = problems
        self.layers: list[Node] = []
        self._included: set[Path] = set()
        #: The files that are being read, each included by the one before it.
        self._open: dict[Path, str] = {}

    def read(self, source: str, text: str, folder: Path) -> None:
        """Reads a file in a folder, below it what it includes."""
        path = folder / Path(source).name
        self._open[path] = source
        root = _root(source, text, self.problems)
        for item in _includes(root, self.problems):
            self._include(item, source, folder)
        del self._open[path]
        entries = {key: root.entries[key] for key in ("name", *SECTIONS) if key in root.entries}
        own = Node(entries, root.path, root.mark, root.key)
        self.layers.append(moved(own, os.path.relpath(folder, self.folder)))

    def _include(self, item: Node, source: str, folder: Path) -> None:
        name = Path(str(item.value)).expanduser()
        path = (folder / name).resolve()
        shown = str(name if source == STDIN_SOURCE else Path(source).parent / name)
        if path in self._open:
            problem = Problem(
                "files include each other",
                why=" includes ".join([*self._open.values(), shown]),
                cure=f"remove this one from `{INCLUDE}:`",
            )
            self.problems.at(item, (), problem)
        elif path not in self._included:
            self._included.add(path)
            try:
                text = read_file(shown, path)
            except RequestError as error:
                cure = error.cure if path.exists() else "write its path from this file's folder"
                self.problems.at(item, (), Problem(error.what, why=error.why, cure=cure))
            else:
                self.read(shown, text, path.parent)


def _root(source: str, text: str, problems: Problems) -> Node:
    """A file's tree: a map of keys that a spec has."""
    root, document_problems = read_document(text, source)
    for each in document_problems:
        problems.in_document(each)
    if root is None:
        problem = Problem(
            "the spec is empty", cure="write one, or get a starter with `virtkit init`"
        )
        problems.add(Mark(1, 1, source), (), problem)
        problems.raise_all()
    assert root is not None
    if not isinstance(root.value, dict):
        problem = Problem(
            f"a spec is a map of keys, this is {kind_of(root.plain())}",
            cure=f"begin with one of the keys {', '.join(TOP_KEYS)}",
        )
        problems.add(root.mark, (), problem)
        problems.raise_all()
    for key, node in root.entries.items():
        if key not in TOP_KEYS and not key.startswith(NOBODYS):
            unknown = Problem(f"there is no key {quote(key)} here", cure=suggestion(key, TOP_KEYS))
            problems.at_key(node, unknown)
    return root


def _includes(root: Node, problems: Problems) -> Iterable[Node]:
    """The paths under ``include``, one alone or a list."""
    node = root.entries.get(INCLUDE)
    if node is None or node.value is None:
        return
    if isinstance(node.value, dict):
        problem = Problem("expected a list of files, found a map", cure="write [base.yaml]")
        problems.at(node, (), problem)
    for item in node.items or ([] if isinstance(node.value, (dict, list)) else [node]):
        if not isinstance(item.value, str):
            problem = Problem(
                f"expected a file, found {kind_of(item.plain())}", cure="write its path"
            )
            problems.at(item, (), problem)
            continue
        try:
            values.host_path(item.value)
        except Problem as problem:
            problems.at(item, (), problem)
            continue
        yield item


def read_file(source: str, path: Path | None = None) -> str:
    """A file's text; ``-`` is standard input.

    Args:
        source: its path, as messages call it.
        path: its path where that is another.

    Raises:
        RequestError: it can't be read, is too large, or is not UTF-8.
    """
    if source == STDIN:
        return _decode(sys.stdin.buffer.read(MAX_FILE_SIZE + 1), STDIN_SOURCE)
    data = _read(path or Path(source), source)
    _check_path((path or Path(source)).resolve())
    return _decode(data, source)


#: Why a guest's file is no larger, and what to do.
_SEED_LIMIT = (
    "a guest's files lie in its seed, which it reads when it boots",
    (
        "have the guest fetch it (a playbook, or `cloud_init: {runcmd: …}`), put it into an image, "
        "or copy it with `virtkit cp`"
    ),
)


def read_content(
    path: Path, source: str, limit: int, larger: tuple[str, str] = _SEED_LIMIT
) -> bytes:
    """What is in a file that a guest is given, of any kind.

    Args:
        source: its path, as messages call it.
        limit: bytes that it may have.
        larger: why it may have no more, and the cure.

    Raises:
        RequestError: it can't be read, or is larger.
    """
    cure = "correct its path, which is relative to the file that it stands in"
    try:
        if path.is_dir():
            raise RequestError(f"{quote(source)} is a folder", cure="name the files in it")
        if not path.is_file():
            nothing = "no plain file" if path.exists() else "no file"
            raise RequestError(f"there is {nothing} {quote(source)}", cure=cure)
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RequestError(
            f"the file {quote(source)} can't be read",
            why=why,
            cure=f"check that you may read it: ls -l {shlex.quote(escaped(source))}",
        ) from error
    if len(data) > limit:
        raise RequestError(
            f"the file {quote(source)} is larger than {limit // 1024} KiB",
            why=larger[0],
            cure=larger[1],
        )
    return data


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
            cure=f"name the file in it, such as {Path(source) / 'virtkit.yaml'}",
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
