"""Asks a host what only its own files tell: this machine at once, another one by one ssh command.

Nothing of virtkit's is installed there: the program, `virtkit.host.machine.inspection`, goes along
with the question, and its files are gone again with the answer.
"""

from __future__ import annotations

import functools
import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from virtkit.errors import VirtkitError
from virtkit.host.machine import preparation
from virtkit.host.machine.inspection import answer
from virtkit.host.ssh import Remote

#: Unpacks what comes on its input, runs it with the arguments after it, and removes it. It prints
#: nothing where there is no Python.
_RUN = (
    '[ -x "$(command -v python3)" ] || exit 0; '
    'folder=$(mktemp -d) && trap \'rm -rf "$folder"\' EXIT && tar -xz -C "$folder" -f - && '
    'python3 -IBS "$folder"'
)
_MAIN = "import sys\nfrom virtkit.host.machine.inspection import main\nmain(*sys.argv[1:])\n"


def ask(remote: Remote | None, *questions: str) -> dict[str, Any]:
    """The answers of a host by the questions' first words; see `virtkit.host.machine.inspection`.

    Raises:
        VirtkitError: the host was not reached, or has no Python.
    """
    if remote is None:
        return answer(questions)
    output = remote.run(f"{_RUN} {shlex.join(questions)}", data=_packed())
    if not output:
        raise VirtkitError(
            f"host {remote.name} has no Python",
            why="what only a host's own files tell is asked of them by a program of virtkit's",
            cure="install Python 3 there (package python3)",
            where=remote.name,
        )
    try:
        answers: dict[str, Any] = json.loads(output)
    except ValueError as error:
        raise remote.unexpected_output(output) from error
    return answers


def folder_missing(remote: Remote | None, path: str) -> bool:
    """Whether a folder of a host is not there, as far as can be seen from here.

    Raises:
        VirtkitError: the host was not reached, or its shell prints more than the answer.
    """
    if remote is not None:
        output = remote.run(f"test -d {shlex.quote(path)} || echo missing")
        if output not in (b"", b"missing\n"):
            raise remote.unexpected_output(output)
        return output != b""
    try:
        return not Path(path).is_dir()
    except OSError:  # nobody but root may look
        return False


@functools.cache
def _packed() -> bytes:
    """The program and the files that it reads, as a tar archive."""
    import tarfile  # for other hosts only

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in _files():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def _files() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN.encode()
    package = Path(__file__).parents[1]
    for folder in ("", "host/"):
        yield f"virtkit/{folder}__init__.py", b""
    shipped = (preparation.HOOK_FILE, preparation.LINK_FILE)
    for path in (*Path(preparation.__file__).parent.glob("*.py"), *shipped):
        yield f"virtkit/{path.relative_to(package)}", path.read_bytes()
