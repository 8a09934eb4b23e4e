"""The files of a playbook: whether it is one, and a digest that tells when any of them changed.

Nothing is run. What a playbook names by a variable is not seen, unless it is in one of Ansible's
own folders beside it.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from virtkit.errors import RequestError
from virtkit.spec.yaml_text import top_kind as yaml_top

#: Folders that Ansible looks into, beside a playbook and beside the spec.
_FOLDERS = (
    *("collections", "defaults", "files", "filter_plugins", "group_vars", "handlers", "host_vars"),
    *("library", "lookup_plugins", "module_utils", "roles", "tasks", "templates", "vars"),
)
#: Settings beside the spec, and those of them that name more folders.
_SETTINGS, _PATHS = "ansible.cfg", ("roles_path", "collections_path", "collections_paths")
#: What may be a file's name in a playbook.
_FILE_NAME = re.compile(r"[\w@+~./-]+")
#: Files above this count by their size and time (bytes): a digest of them would be felt.
_LARGE = 4 * 1024**2
#: What may stand at the top of a document, in words.
_TOPS = {"list": "a list", "map": "a map", "text": "a text", "": "nothing"}
#: Folders that no playbook is made of.
_SKIPPED_FOLDERS = {".git", "__pycache__", ".venv", "node_modules"}


def check(path: Path, where: str) -> None:
    """Checks that a file is a playbook, as far as that is seen without Ansible.

    Args:
        where: the place in the spec that names it.

    Raises:
        RequestError: it is not there, or is none.
    """
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        what, cure = f"there is no playbook {path}", "correct the path, or write the playbook"
        raise RequestError(what, cure=cure, where=where) from error
    except (OSError, UnicodeDecodeError) as error:
        cure = "name a text file that you may read"
        raise RequestError(
            f"playbook {path} can't be read", why=str(error), cure=cure, where=where
        ) from error
    top = yaml_top(text, str(path))
    if top != "list" and not text.startswith("$ANSIBLE_VAULT;"):
        raise RequestError(
            f"{path} is not a playbook",
            why=f"its top level is {_TOPS[top]}; a playbook is a list of plays",
            cure="begin it with `- hosts: all`",
            where=where,
        )


def installs_python(playbooks: Iterable[Path]) -> bool:
    """Whether playbooks may install Python in the guest themselves: they have raw commands."""
    return any(
        re.search(rb"\braw\b", _content(each))
        for path in playbooks
        for each in _files(path, path.parent)
    )


def digests(playbooks: Iterable[Path], folder: Path) -> tuple[str, str]:
    """Two digests of all files that Ansible would read.

    The first has the files' names in the spec's folder, so it stays where that is moved or cloned.
    The second has their whole paths, as records of older versions do.

    Args:
        folder: the spec's, where Ansible is started.
    """
    by_name, by_path = hashlib.sha256(), hashlib.sha256()
    for path in playbooks:
        files = [(each, hashlib.sha256(_content(each)).digest()) for each in _files(path, folder)]
        by_path.update(_entry(path, files))
        named = sorted((_name_in(folder, each), content) for each, content in files)
        by_name.update(_entry(_name_in(folder, path), named))
    return by_name.hexdigest(), by_path.hexdigest()


def _entry(playbook: Path, files: Iterable[tuple[Path, bytes]]) -> bytes:
    """What a digest has of a playbook and its files, each with its content's own digest."""
    entries = (f"\0{name}\0".encode() + content for name, content in files)
    return f"\0{playbook}\0".encode() + b"".join(entries)


def _name_in(folder: Path, path: Path) -> Path:
    """A file's name in the spec's folder; its whole path where it is elsewhere."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _files(playbook: Path, folder: Path) -> list[Path]:
    """The playbook, what it names, and all in Ansible's folders beside it and beside the spec."""
    seen: dict[Path, None] = {}
    for each in (playbook, folder / _SETTINGS):
        _add_named(each, playbook.parent, seen)
    folders = [base / name for base in (playbook.parent, folder) for name in _FOLDERS]
    for each in dict.fromkeys([*folders, *_configured_folders(folder)]):
        seen.update(dict.fromkeys(_below(each)))
    return sorted(seen)


def _configured_folders(folder: Path) -> Iterator[Path]:
    """The folders of roles and collections that the settings name, as far as they are the spec's
    own: what is everybody's may be large, and is nobody's edit."""
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    with suppress(configparser.Error, OSError, UnicodeDecodeError):
        settings.read(folder / _SETTINGS)
    for key in _PATHS:
        for each in str(settings.get("defaults", key, fallback="")).split(":"):
            if each and not each.startswith(("/", "~", "..")):
                yield folder / each


def _add_named(path: Path, base: Path, seen: dict[Path, None]) -> None:
    """Adds a file, and those that its text names, beside it or beside the playbook, to ``seen``."""
    if path in seen or not path.is_file():
        return
    seen[path] = None
    if path.suffix not in (".yml", ".yaml", ".json", ".cfg") or path.stat().st_size > _LARGE:
        return
    for name in set(_FILE_NAME.findall(path.read_text(errors="replace"))):
        for beside in dict.fromkeys((path.parent, base)):
            candidate = beside / name
            if not name.startswith(("/", "~")) and ("/" in name or "." in name):
                _add_named(candidate, base, seen)


def _below(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _SKIPPED_FOLDERS)
        yield from (Path(at, name) for name in sorted(names))


def _content(path: Path) -> bytes:
    """What of a file counts."""
    try:
        status = path.stat()
        if not path.is_file():
            return b""
        if status.st_size > _LARGE:
            return f"{status.st_size} {status.st_mtime_ns}".encode()
        return path.read_bytes()
    except OSError:
        return b""
