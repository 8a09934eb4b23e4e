"""Where an image's tree is made: a folder that can hold it, and that goes again in any case.

The folder for temporary files that the caller names (TMPDIR) comes first. Then /var/tmp, which is
on a disk everywhere, and only then /tmp, which on Debian 13 is memory that a build would fill.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from virtkit.errors import RequestError
from virtkit.images import sandbox
from virtkit.system import commands, temporary

#: Bytes that a build with no packages of the spec's takes at most: in its room, and where the image
#: is made. Measured, 597 and 912 MiB; not at the same time, so a disk that has both needs no more.
ROOM, WORK = 600 * 1024**2, 920 * 1024**2
_PREFIX = "virtkit-build-"
#: Tried as the packages' own programs will be run.
_TRY_SCRIPT = 'cp "$2" "$1/try" && "$1/try" && rm "$1/try"'


@contextmanager
def tree_folder(work: Path) -> Iterator[Path]:
    """A folder in which mmdebstrap can make its tree.

    In a user namespace that belongs to ids that may not pass through a home folder of mode 0700, so
    it is never in ``work`` there.

    Args:
        work: the folder that the image is made in.

    Raises:
        RequestError: there is none; the error tells of each why.
    """
    reasons = {}
    for base in _bases(work):
        if why := _why_unfit(base, work):
            reasons[base] = why
            continue
        with _folder(base) as folder:
            why = _cant_run(folder)
            if not why:
                yield folder
                return
            reasons[base] = why
    raise RequestError(
        "there is no folder to build an image in",
        why="; ".join(f"{base}: {why}" for base, why in reasons.items()),
        cure=f"name one on a disk with {_mib(ROOM)} free, in which programs may run and which all "
        "users can pass through: TMPDIR=/FOLDER virtkit …",
    )


def check_work(work: Path) -> None:
    """Looks whether an image fits where it is made.

    Raises:
        RequestError: it doesn't.
    """
    free = shutil.disk_usage(work).free
    if free < WORK:
        raise RequestError(
            f"there is no room for an image in {work}",
            why=f"{_mib(free)} are free there, and a build takes {_mib(WORK)}",
            cure=f"free some space there (df -h {shlex.quote(str(work))}), or name another folder "
            "for the cache: XDG_CACHE_HOME=/FOLDER virtkit …",
        )


def sweep() -> None:
    """Removes what the caller's builds left that were killed."""
    for folder in leftovers():
        sandbox.remove(folder)


def leftovers() -> Iterator[Path]:
    """What the caller's builds left that were killed."""
    yield from temporary.unlocked_folders(filter(_is_folder, _temporary()), _PREFIX)


def _temporary() -> list[Path]:
    named = os.environ.get("TMPDIR")
    paths = [*([Path(named).absolute()] if named else []), Path("/var/tmp"), Path("/tmp")]  # noqa: S108
    return list(dict.fromkeys(paths))


def _is_folder(path: Path) -> bool:
    """Whether the caller finds a folder there."""
    with suppress(PermissionError):  # they may not look
        return path.is_dir()
    return False


def _bases(work: Path) -> list[Path]:
    return [work, *_temporary()] if os.geteuid() == 0 else _temporary()


def _why_unfit(base: Path, work: Path) -> str:
    """Why a folder can't be used, as far as can be seen; empty where it may be."""
    if not _is_folder(base):
        return "there is no such folder"
    if not os.access(base, os.W_OK | os.X_OK):
        return "it may not be written to"
    if '"' in str(base) or "\n" in str(base):
        return "apt takes no path with such a character"
    if os.statvfs(base).f_flag & os.ST_NOEXEC:
        return "it is mounted noexec, so no package can be installed there"
    free = shutil.disk_usage(base).free
    needed = WORK if base.stat().st_dev == work.stat().st_dev else ROOM
    if free < needed:
        return f"{_mib(free)} are free there, and {_mib(needed)} are needed"
    return ""


@contextmanager
def _folder(base: Path) -> Iterator[Path]:
    """A folder for the tree, in one of ours below ``base`` that is locked for as long as it is
    used."""
    with temporary.locked_folder(base, _PREFIX, sandbox.remove) as outer:
        outer.chmod(0o711)
        yield _tree(outer)


def _tree(outer: Path) -> Path:
    """A folder in ``outer`` that belongs to the root of a subordinate namespace."""
    tree = outer / "tree"
    tree.mkdir()
    tree.chmod(0o755)
    if os.geteuid() != 0:  # there the first subordinate id comes right after the caller's own
        commands.run(*sandbox.namespaces("own"), "chown", "1:1", "--", str(tree))
    return tree


def _cant_run(folder: Path) -> str:
    """Why programs can't be run there; empty where they can."""
    line = [*sandbox.namespaces("subordinate"), "sh", "-c", _TRY_SCRIPT, "sh", str(folder)]
    done = commands.run(*line, commands.find("true") or "true")
    if done.returncode == 0:
        return ""
    return " ".join(done.stderr.split())[-200:] or "programs don't run there"


def _mib(size: int) -> str:
    return f"{size // 1024**2} MiB"
