"""Fills volumes by libvirt's streams, and deletes those that can't be filled."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import libvirt

#: Seconds in which whoever makes a small volume, or opens one, has done so.
_BUSY_TIMEOUT = 2.0
#: Bytes that are sent at once: fewer are more work on all sides, more than a MiB is slower by ssh.
_PIECE = 512 * 1024
_ZEROS = bytes(_PIECE)


def retry_while_busy(call: Callable[[], object]) -> None:
    """Calls libvirt for a volume; it refuses in the moment in which another makes or opens it."""
    end = time.monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            call()
            return
        except libvirt.libvirtError as error:
            invalid = error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID
            if not invalid or time.monotonic() > end:
                raise
        time.sleep(0.01)


@contextmanager
def filling(volume: libvirt.virStorageVol) -> Iterator[libvirt.virStream]:
    """A stream into a new volume. A volume that can't be filled is deleted."""
    stream = volume.connect().newStream(0)
    try:
        yield stream
        stream.finish()
    except BaseException:  # an interrupt too: else libvirt keeps the volume busy
        for let_go in (stream.abort, lambda: volume.delete(0)):
            with suppress(libvirt.libvirtError):
                let_go()
        raise


def send_bytes(stream: libvirt.virStream, content: bytes) -> None:
    """Sends ``content`` through a stream that libvirt reads."""
    position = 0

    def chunk(_stream: Any, size: int, _opaque: Any) -> bytes:
        nonlocal position
        piece = content[position : position + size]
        position += len(piece)
        return piece

    stream.sendAll(chunk, None)


def send_sparse(
    stream: libvirt.virStream, descriptor: int, size: int, say: Callable[[int, int], None]
) -> None:
    """Sends a file, its holes left out, and so what holds nothing but zeros.

    Not by libvirt's own loop: in Python that sends 64 KiB at a time, and asks where the next hole
    is before each.

    Args:
        say: gets the bytes that are done and how many there are, holes aside; it may raise.
    """
    extents = list(_extents(descriptor, size))
    total = sum(end - start for start, end in extents)
    at = done = 0  # how far the stream is; how much of the data
    for start, piece in _pieces(descriptor, extents):
        say(done, total)
        if _is_data(piece):
            if start > at:
                stream.sendHole(start - at)
            stream.send(piece)
            at = start + len(piece)
        done += len(piece)
    if at < size:
        stream.sendHole(size - at)
    say(done, total)


def data_length(path: Path, *, exact: bool = False) -> int:
    """How many bytes of a file are not in holes.

    Args:
        exact: leave out zeros as well, as `send_sparse` does; the whole file is read for that.
    """
    with path.open("rb", buffering=0) as file:
        extents = _extents(file.fileno(), os.fstat(file.fileno()).st_size)
        if not exact:
            return sum(end - start for start, end in extents)
        return sum(len(piece) for _, piece in _pieces(file.fileno(), extents) if _is_data(piece))


def _pieces(descriptor: int, extents: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """What stands in these parts of a file, with where it begins."""
    for start, end in extents:
        while start < end:
            piece = os.pread(descriptor, min(_PIECE, end - start), start)
            if not piece:
                raise OSError(errno.ENODATA, "the file was cut off while it was read")
            yield start, piece
            start += len(piece)


def _is_data(piece: bytes) -> bool:
    return piece != _ZEROS[: len(piece)]


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data, up to ``size``: begin and end of each piece."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: no data up to the end
            return
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        if start < end:
            yield start, end
