"""The program's standard streams. A reader that goes away ends no run and changes no exit code."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Unread(Exception):
    """Nobody reads standard output any more."""


class _Stream(io.FileIO):
    """A standard stream for output. What meets one of these errors is dropped.

    Attributes:
        unread: something was dropped.
    """

    def __init__(self, number: int, dropped: type[OSError]) -> None:
        super().__init__(number, "w", closefd=False)
        self._dropped = dropped
        self.unread = False

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except self._dropped:
            self.unread = True
            return memoryview(data).nbytes


def open_all() -> None:
    """Opens all three.

    One that the caller closed leads nowhere. Else what is opened next, as libvirt's socket, gets
    its number, and is written to. An answer that can't be written is an error, unless its reader
    has read enough; what is printed beside it, on standard error, never is.
    """
    for number, mode, name in ((0, "r", "stdin"), (1, "w", "stdout"), (2, "w", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - until the end
    if sys.stdout is sys.__stdout__ is not None:
        sys.stdout = _open(1, sys.__stdout__, BrokenPipeError)
    if sys.stderr is sys.__stderr__ is not None:
        sys.stderr = _open(2, sys.__stderr__, OSError)


def _open(number: int, like: io.TextIOWrapper, dropped: type[OSError]) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(number, dropped)),
        encoding=like.encoding,
        errors=like.errors,
        line_buffering=like.line_buffering or like.write_through,
    )


def flush() -> None:
    """Writes out what was printed on standard output.

    Raises:
        Unread: nobody reads it any more.
    """
    sys.stdout.flush()
    stream = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(stream, _Stream) and stream.unread:
        raise Unread
