"""Folders for temporary files that are removed in any case, if need be by the next run; and files
that are written in one go.

Each is locked for as long as it is used, and the lock dies with its holder. Nothing may be removed
that is another user's, or that somebody has the lock of.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "virtkit-work-"


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Writes a file that the caller alone may read, in one go, however many do at a time."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f"{path.name}.", delete=False
    ) as new:
        new.write(text)
    Path(new.name).chmod(mode)
    Path(new.name).replace(path)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder of the caller's alone."""
    sweep()
    with locked_folder(Path(tempfile.gettempdir()), _PREFIX) as path:
        yield path


def sweep() -> None:
    """Removes what the caller's killed runs left."""
    for each in leftovers():
        _remove(each)


def leftovers() -> Iterator[Path]:
    """What the caller's killed runs left."""
    yield from unlocked_folders([Path(tempfile.gettempdir())], _PREFIX)


@contextmanager
def locked_folder(
    base: Path, prefix: str, remove: Callable[[Path], object] = _remove
) -> Iterator[Path]:
    """A new folder in ``base``, of mode 0700, whose lock we have until it was removed."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        # another run may take it for a leftover until we have its lock
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                break
            os.close(lock)
    try:
        yield path
    finally:
        remove(path)
        os.close(lock)


def unlocked_folders(bases: Iterable[Path], prefix: str) -> Iterator[Path]:
    """The caller's folders of that name that nobody has the lock of; we have it meanwhile."""
    for base in bases:
        for each in sorted(base.glob(f"{prefix}*")):
            try:
                lock = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield each
            except BlockingIOError:
                continue
            finally:
                os.close(lock)
