"""Makes a disk of what people have: packed files, archives with a disk, disks of other tools.

A file of some kilobytes can stand for terabytes, so all that is made here is bounded. What is made
is sparse. The file that was given is only read.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePath
from subprocess import PIPE, CompletedProcess, Popen
from typing import IO

from virtkit.errors import RUN_AGAIN, RequestError, VirtkitError, from_os_error
from virtkit.images import disk_probe, file_checks, file_types, formats
from virtkit.images.file_types import FileType
from virtkit.progress import Meter, Progress
from virtkit.spec import format_size
from virtkit.system import commands

#: Bytes that a disk may come to. Unpacking so much nothing takes minutes, and fills no disk.
MAX_SIZE = 256 * 1024**3
#: Bytes that are left free where a disk is made.
MIN_FREE = 256 * 1024**2
#: Steps from a file to a disk: a packed archive with a disk to convert has three.
_MAX_STEPS = 4
#: Bytes of zeros that become a hole: a file system's block, several times over.
_CHUNK = 64 * 1024
_ZEROS = bytes(_CHUNK)
#: Bytes between two looks at the free room.
_LOOK = 64 * 1024**2


def make_disk(
    source: Path, name: str, work: Path, progress: Progress, *, limit: int = MAX_SIZE
) -> Path:
    """A disk made of a file; the file itself where it is one.

    Args:
        source: the file.
        name: what errors call it: its path or URL.
        work: an empty folder for what is made.
        limit: bytes that it may come to.

    Raises:
        RequestError: no disk can be made of it: it is something else, an archive with none or
            several, encrypted, or larger than ``limit``.
        VirtkitError: the folder has no room.
        Interrupted: the work should end.
    """
    path = source
    for step in range(_MAX_STEPS):
        head = file_checks.head_of(path)
        kind = file_types.recognise(head)
        if formats.is_ready(kind):
            return path
        target = work / f"step-{step}"
        assert kind is not None
        if kind.name in formats.UNPACKERS:
            unpack_file(path, name, target, kind, progress, limit=limit)
        elif kind is file_types.TAR:
            _take_out(path, name, target, progress, limit)
        elif kind.name in formats.CONVERTED:
            _convert(path, name, target, kind, progress, limit)
        else:
            raise file_checks.no_disk(name, head, kind)
        if path != source:
            path.unlink()
        path = target
    raise RequestError(
        f"image {name} is packed {_MAX_STEPS} times",
        cure="unpack it yourself, and name the disk as `path:`",
    )


def unpack_file(
    source: Path,
    name: str,
    target: Path,
    kind: FileType,
    progress: Progress,
    *,
    limit: int = MAX_SIZE,
) -> None:
    """Unpacks a file of a ``kind`` that `formats.UNPACKERS` has.

    Args:
        name: what errors call it: its path or URL.
        limit: bytes that it may come to.

    Raises:
        RequestError: it is damaged, or comes to more than ``limit``.
        VirtkitError: the folder of ``target`` has no room.
        Interrupted: the work should end.
    """
    program, *options = formats.UNPACKERS[kind.name]
    meter, length = Meter(progress, "unpacking"), source.stat().st_size
    with (
        source.open("rb") as packed,
        tempfile.TemporaryFile() as errors,
        Popen(
            commands.die_with_parent(commands.command_line(program, *options)),
            stdin=packed,
            stdout=PIPE,
            stderr=errors,
            env=commands.environment(LC_ALL="C.UTF-8"),
            process_group=0,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            with progress.on_cancel(process.kill):
                # the program moves the same offset
                _copy(process.stdout, target, name, limit, lambda: meter(packed.tell(), length))
        except BaseException:
            process.kill()
            raise
        progress.check_cancelled()  # it was ended, and did not fail
        if process.wait() != 0:
            errors.seek(0)
            raise RequestError(
                f"image {name} can't be unpacked",
                why=errors.read(2000).decode(errors="replace").strip(),
                cure="get it again: it may be damaged or cut off",
            )


def copy_file(source: Path, name: str, target: Path, progress: Progress) -> None:
    """Copies a disk, with holes for its zeros, however large it is.

    Args:
        name: what errors call it.

    Raises:
        VirtkitError: the folder of ``target`` has no room.
        Interrupted: the work should end.
    """
    meter, length = Meter(progress, "copying"), source.stat().st_size
    with source.open("rb") as file:
        _copy(file, target, name, length, lambda: meter(file.tell(), length))


def _take_out(source: Path, name: str, target: Path, progress: Progress, limit: int) -> None:
    meter, have = Meter(progress, "taking the disk out of its archive"), 0

    def look() -> None:
        nonlocal have
        have += _LOOK
        meter(have)

    with formats.opened_member(source, name) as file:
        _copy(file, target, name, limit, look)


def _convert(
    source: Path, name: str, target: Path, kind: FileType, progress: Progress, limit: int
) -> None:
    formats.check_convertible(source, kind, name)

    def qemu_img(*arguments: str) -> CompletedProcess[str]:
        return commands.run("qemu-img", *arguments, "-f", kind.name, str(source), progress=progress)

    size, needed = disk_probe.convertible_size(name, PurePath(name).name, qemu_img)
    if size > limit:
        raise _too_large(name, limit)
    if needed > shutil.disk_usage(target.parent).free - MIN_FREE:
        raise _no_room(name, target.parent)
    progress(f"converting it from {kind.name}")
    words = ("convert", "-f", kind.name, "-O", "qcow2", str(source), str(target))
    done = commands.run("qemu-img", *words, progress=progress)
    if done.returncode != 0:
        if "No space left" in done.stderr:
            raise _no_room(name, target.parent)
        raise RequestError(
            f"image {name} can't be converted",
            why=done.stderr.strip()[-500:],
            cure="get it again: it may be damaged or cut off",
        )


def _copy(source: IO[bytes], target: Path, name: str, limit: int, look: Callable[[], None]) -> None:
    """Writes all that comes, with holes for zeros; ``look`` is called now and then."""
    have = written = 0
    due = _LOOK
    try:
        with target.open("wb") as file:
            while chunk := source.read(_CHUNK):
                have += len(chunk)
                if have > limit:
                    raise _too_large(name, limit)
                if chunk == _ZEROS:
                    file.seek(len(chunk), 1)
                else:
                    file.write(chunk)
                    written += len(chunk)
                if have >= due:
                    due = have + _LOOK
                    look()
                    if written and shutil.disk_usage(target.parent).free < MIN_FREE:
                        raise _no_room(name, target.parent)
            file.truncate(have)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(name, target.parent) from error
        raise from_os_error(f"image {name} can't be unpacked", error) from error


def _too_large(name: str, limit: int) -> RequestError:
    return RequestError(
        f"image {name} comes to more than {format_size(limit)} unpacked",
        why="so small a file that stands for so much is rather a trap than a disk",
        cure="unpack it yourself if it is meant, and name the disk as `path:`",
    )


def _no_room(name: str, folder: Path) -> VirtkitError:
    return VirtkitError(
        f"image {name} can't be unpacked: {folder} has no room for it",
        why="No space left",
        cure=f"free some space (df -h {folder}), or set XDG_CACHE_HOME to a folder on a larger "
        f"disk, then {RUN_AGAIN}",
    )
