"""Standard input for a command in a guest: read here, or copied to a program."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

#: Seconds until the next piece of an input that is to be short.
_PIECE_TIMEOUT = 0.3
#: Seconds until the end of such an input; after that, `read_all` says that it waits for the end.
_END_TIMEOUT = 2.0
_PIECE_BYTES = 65536


class Stdin:
    """Standard input. A terminal's and a closed one's is never read.

    Attributes:
        read_so_far: what was read of it up to now.
        silent: nothing was read of it, and its end neither.
    """

    def __init__(self) -> None:
        self.read_so_far = b""
        self._ended = sys.stdin is None or sys.stdin.closed or sys.stdin.isatty()
        self._source = 0 if self._ended else sys.stdin.fileno()

    @property
    def silent(self) -> bool:
        return not self.read_so_far and not self._ended

    def read_if_short(self, limit: int) -> bytes | None:
        """All of it, where its end is near and it has no more than ``limit`` bytes."""
        end = time.monotonic() + _END_TIMEOUT
        while not self._ended and len(self.read_so_far) <= limit:
            if time.monotonic() > end or not self._ready(_PIECE_TIMEOUT):
                return None
            self._read()
        return self.read_so_far if len(self.read_so_far) <= limit else None

    def read_all(self, limit: int, say: Callable[[str], None]) -> bytes | None:
        """All of it, once it has ended; None where it has more than ``limit`` bytes."""
        say_at = time.monotonic() + _END_TIMEOUT
        while not self._ended and len(self.read_so_far) <= limit:
            if self._ready(_PIECE_TIMEOUT):
                self._read()
            elif time.monotonic() > say_at:
                say_at = float("inf")
                say("waiting for the end of standard input; `</dev/null` gives the command none")
        return self.read_so_far if len(self.read_so_far) <= limit else None

    def copy_to(self, program: subprocess.Popen[bytes]) -> None:
        """Gives a program, in the background, what was read and all that comes."""
        threading.Thread(target=self._copy, args=[program], daemon=True).start()

    def _copy(self, program: subprocess.Popen[bytes]) -> None:
        assert program.stdin is not None
        with suppress(OSError), program.stdin as target:  # it ends when it likes
            target.write(self.read_so_far)
            target.flush()
            while not self._ended and (piece := os.read(self._source, _PIECE_BYTES)):
                target.write(piece)
                target.flush()

    def _ready(self, seconds: float) -> bool:
        return bool(select.select([self._source], [], [], seconds)[0])

    def _read(self) -> None:
        piece = os.read(self._source, _PIECE_BYTES)
        self.read_so_far += piece
        self._ended = not piece
