"""Filling volumes by libvirt's streams; those that can't be filled go."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import libvirt

#: Seconds in which whoever makes a small volume, or opens one, has done so.
_BUSY_TIMEOUT = 2.0


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
    """A stream into a new volume; one that can't be filled goes, and so does the space it took."""
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
    stream: libvirt.virStream, descriptor: int, size: int, say: Callable[[int], None]
) -> None:
    """Sends a file, holes left out; ``say`` gets the bytes sent so far and may raise."""
    _Sparse(descriptor, size, say).send(stream)


class _Sparse:
    """The three callbacks of libvirt's sparse streams, over one file descriptor."""

    def __init__(self, descriptor: int, size: int, say: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._size = size
        self._say = say

    def send(self, stream: libvirt.virStream) -> None:
        stream.sparseSendAll(self._data, self._hole, self._skip, None)

    def _data(self, _stream: Any, size: int, _opaque: Any) -> bytes:
        piece = os.read(self._descriptor, size)
        self._say(os.lseek(self._descriptor, 0, os.SEEK_CUR))
        return piece

    def _hole(self, _stream: Any, _opaque: Any) -> tuple[bool, int]:
        """Whether data (else a hole) comes next, and how many bytes of it."""
        here = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        if here >= self._size:
            return False, 0
        data = self._next(here, os.SEEK_DATA)
        if data > here:
            os.lseek(self._descriptor, here, os.SEEK_SET)
            return False, data - here
        hole = self._next(here, os.SEEK_HOLE)
        os.lseek(self._descriptor, here, os.SEEK_SET)
        return True, hole - here

    def _next(self, here: int, kind: int) -> int:
        try:
            return os.lseek(self._descriptor, here, kind)
        except OSError:  # ENXIO: no data up to the end
            return self._size

    def _skip(self, _stream: Any, length: int, _opaque: Any) -> int:
        os.lseek(self._descriptor, length, os.SEEK_CUR)
        return 0
