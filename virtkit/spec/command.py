"""The command lines that messages show: ``virtkit VERB SPEC …``. Text only."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

#: Between the paths of a spec's files, where they stand in one text: as a command line has them.
_BETWEEN = " -f "


def join_files(files: Iterable[str]) -> str:
    """The paths of a spec's files as one text, as records keep it and messages show it."""
    return _BETWEEN.join(files)


def split_files(spec: str) -> list[str]:
    """The paths in such a text."""
    return spec.split(_BETWEEN)


def can_join(file: str) -> bool:
    """Whether a path can stand in such a text."""
    return _BETWEEN not in f" {file} "


def virtkit_command(verb: str, spec: str, *arguments: str, settings: Iterable[str] = ()) -> str:
    """The command that does ``verb`` to a spec; one that was read from standard input is read from
    there again.

    Args:
        spec: the path of its file, or of several as ``join_files`` has them.
        settings: what is set in it, as ``PATH=VALUE``.
    """
    paths = ["-" if each.startswith("<") else each for each in split_files(spec)]
    plain = len(paths) == 1 and (paths[0] == "-" or paths[0].endswith((".yaml", ".yml")))
    words = [f"{'' if plain else '-f '}{shlex.quote(each)}" for each in paths]
    words += [f"--set {shlex.quote(each)}" for each in settings]
    return " ".join(["virtkit", verb, *words, *arguments])
