"""What a new volume starts with: a file system, a seed, a file of the caller's."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from virtkit.errors import RequestError, VirtkitError
from virtkit.progress import Progress
from virtkit.system import commands, temporary

#: A seed in ext4 has room to spare: this many bytes, and twice what is in it beyond half of that.
_SEED_SIZE = 1024 * 1024
#: A journal has 4 MiB, and mke2fs wants the file system to be several times that.
_SMALLEST_WITH_JOURNAL = 32 * 1024 * 1024


def iso9660(files: Mapping[str, str]) -> bytes:
    """A NoCloud seed for virtual machines: ISO 9660 with Joliet and Rock Ridge, label cidata."""
    import pycdlib  # for new seeds only

    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for index, (name, text) in enumerate(files.items()):
        data = text.encode()
        iso.add_fp(
            io.BytesIO(data),
            len(data),
            f"/FILE{index}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
            file_mode=0o100600,
        )
    answer = io.BytesIO()
    iso.write_fp(answer)
    iso.close()
    return answer.getvalue()


def ext4_seed(files: Mapping[str, str], progress: Progress | None = None) -> bytes:
    """A NoCloud seed for containers: not every host's kernel can mount an ISO."""
    with temporary.folder() as folder:
        tree = folder / "tree"
        tree.mkdir()
        for name, text in files.items():
            file = Path(tree, name)
            file.touch(mode=0o600)  # it keeps its mode in the guest
            file.write_bytes(text.encode())
        image = folder / "seed"
        content = sum(len(each.encode()) for each in files.values())
        size = _SEED_SIZE * max(1, -(-2 * content // _SEED_SIZE))
        options = ("-O", "^has_journal", "-d", str(tree))
        _mke2fs(image, size, "cidata", *options, progress=progress)
        return image.read_bytes()


def read_iso9660(data: bytes) -> dict[str, str]:
    """The files of a seed that ``iso9660`` made; none in one whose upload was cut off."""
    import pycdlib

    iso = pycdlib.PyCdlib()
    answer = {}
    try:
        iso.open_fp(io.BytesIO(data))
        for child in iso.list_children(joliet_path="/"):
            name = child.file_identifier().decode("utf-16-be")
            if child.is_file():
                text = io.BytesIO()
                iso.get_file_from_iso_fp(text, joliet_path=f"/{name}")
                answer[name] = text.getvalue().decode()
        iso.close()
    except (pycdlib.pycdlibexception.PyCdlibException, struct.error, ValueError, IndexError):
        return {}
    return answer


def read_ext4_seed(data: bytes) -> dict[str, str]:
    """The files of a seed that ``ext4_seed`` made; none in one whose upload was cut off.

    Raises:
        RequestError: there is no debugfs to read it with.
    """
    with temporary.folder() as folder:
        image = folder / "seed"
        image.write_bytes(data)
        tree = folder / "tree"
        tree.mkdir()
        # debugfs splits its request at blanks
        quoted = str(tree).replace('"', '""')
        commands.run("debugfs", "-R", f'rdump / "{quoted}"', str(image))
        # a privileged container can write to its seed, and a link there may name any file here
        files = [each for each in tree.iterdir() if each.is_file() and not each.is_symlink()]
        try:
            return {each.name: each.read_bytes().decode() for each in files}
        except ValueError:  # cut off
            return {}


@contextmanager
def ext4(size: int, label: str, progress: Progress | None = None) -> Iterator[Path]:
    """An empty ext4 file system of ``size`` bytes in a sparse file that goes again."""
    with temporary.folder() as folder:
        image = folder / "disk"
        journal: tuple[str, ...] = ("-J", "size=4") if size < 8 * 1024**3 else ()
        if size < _SMALLEST_WITH_JOURNAL:
            journal = ("-O", "^has_journal")
        options = ("-E", "lazy_itable_init=1,root_owner=0:0", "-m", "0", *journal)
        _mke2fs(image, size, label, *options, progress=progress)
        yield image


def _mke2fs(image: Path, size: int, label: str, *options: str, progress: Progress | None) -> None:
    with image.open("wb") as file:
        file.truncate(size)
    arguments = ("-q", "-F", "-t", "ext4", "-L", label[:16], *options, str(image))
    result = commands.run("mke2fs", *arguments, progress=progress)
    if result.returncode != 0:
        raise VirtkitError(
            f"a file system of {size} bytes can't be made",
            why=result.stderr.strip(),
            cure="check the disk's size and the free space in the folder for temporary files",
        )


def existing_file(path: Path) -> Path:
    """A file of the caller's.

    Raises:
        RequestError: there is no such file.
    """
    path = path.expanduser()
    if not path.is_file():
        raise RequestError(f"there is no file {path}", cure="correct the path in the spec")
    return path
