"""A port of this machine that leads to one that another host reaches, by ssh."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from virtkit.host.ssh import Remote
from virtkit.system import commands


@contextmanager
def forwarded(remote: Remote, address: str, port: int) -> Iterator[tuple[str, int]]:
    """The address and port on this machine's loopback, as long as the context lasts.

    Not ssh's own -L: it takes no free port by itself, and on a shared connection it stays.
    """
    line = commands.die_with_parent(
        [str(remote.ssh_program()), "-W", f"[{address}]:{port}", remote.address]
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=[listener, line], daemon=True).start()
        try:
            here, number = listener.getsockname()
            yield str(here), int(number)
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends the thread, and its programs with it


def _serve(listener: socket.socket, line: Sequence[str]) -> None:
    """Gives each connection a program that leads on, until the listener is shut down."""
    programs: list[subprocess.Popen[bytes]] = []
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            programs = [each for each in programs if each.poll() is None]  # the others are done
            with connection:
                programs.append(
                    subprocess.Popen(
                        line,
                        stdin=connection.fileno(),
                        stdout=connection.fileno(),
                        stderr=subprocess.DEVNULL,
                        env=commands.environment(),
                    )
                )
