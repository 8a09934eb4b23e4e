"""Another host that downloads: how it ends where the connection, or the run, does."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ssh_guest

from virtkit.errors import Interrupted, VirtkitError
from virtkit.host import Remote
from virtkit.host.fetch import fetching
from virtkit.progress import Progress

URL = "http://127.0.0.1:1/disk.img"


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)  # ssh's sockets have short paths
        with ssh_guest.host(tmp_path) as remote:
            yield remote


def ask_after(end: Callable[[], object], remote: Remote, progress: Progress) -> None:
    """Asks a question before the connection ends, and one after."""
    with fetching(remote, URL, "qemu", "default", progress) as fetch:
        assert fetch.qemu_img("--version").returncode == 0
        end()
        fetch._process.wait(20)
        fetch.read(URL)


def test_a_connection_that_ends_between_two_questions(remote: Remote) -> None:
    server = int(remote.run("echo $SERVER"))
    with pytest.raises(VirtkitError, match="host rack1 can't be reached"):
        ask_after(lambda: os.kill(server, signal.SIGKILL), remote, Progress())


def test_an_interruption_between_two_questions(remote: Remote) -> None:
    stop = threading.Event()
    with pytest.raises(Interrupted):
        ask_after(stop.set, remote, Progress(stop=stop))
