"""Disks that the caller keeps by a name: made of a file once, and then there for every spec."""

from __future__ import annotations

import shutil
from pathlib import Path

from virtkit.errors import RequestError
from virtkit.images import unpack
from virtkit.images.disk_probe import probe
from virtkit.progress import Progress
from virtkit.spec import imported
from virtkit.system import temporary

#: What the folder of a disk that is on its way begins with.
_PREFIX = ".import-"


def import_disk(source: Path, name: str, progress: Progress) -> tuple[Path, str, int]:
    """Makes a disk of a file and keeps it under a name; the file stays.

    Args:
        source: a disk, or what `unpack.make_disk` makes one of.

    Returns:
        its path, its format, and its virtual size in bytes.

    Raises:
        RequestError: no disk can be made of it.
        VirtkitError: there is no room for it.
        Interrupted: the work should end.
    """
    if not source.is_file():
        raise RequestError(f"there is no file {source}", cure="correct its path")
    folder = imported.folder()
    folder.mkdir(parents=True, exist_ok=True)
    for left in temporary.unlocked_folders([folder], _PREFIX):
        shutil.rmtree(left, ignore_errors=True)
    with temporary.locked_folder(folder, _PREFIX) as work:
        disk = unpack.make_disk(source, str(source), work, progress)
        format, size = probe(disk, progress)
        if disk == source:
            disk = work / "disk"
            unpack.copy_file(source, str(source), disk, progress)
        final = folder / f"{name}{imported.SUFFIXES[format]}"
        disk.chmod(0o644)
        disk.replace(final)
    return final, format, size
