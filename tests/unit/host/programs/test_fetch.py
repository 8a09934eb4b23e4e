"""What a host downloads for itself: whole, by several attempts, and without a trace."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from virtkit.host.programs import fetch

CONTENT = os.urandom(1024 * 1024) + bytes(2 * 1024 * 1024) + os.urandom(1000)


class Server(ThreadingHTTPServer):
    """Serves ``content`` at any path; ``refuses`` first; ``most`` bytes a time."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.most = len(content)
        self.resumes = True
        self.overstates = 0
        self.refuses: list[int] = []
        self.ranges: list[str] = []
        self.hangs = threading.Event()
        self.hangs.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/disk.img"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range") or ""
        self.server.ranges.append(wanted)
        self.server.hangs.wait(20)
        if self.server.refuses:
            self.send_error(self.server.refuses.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-") or 0) if self.server.resumes else 0
        rest = self.server.content[start:]
        if start and not rest:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest) + self.server.overstates))
        self.end_headers()
        self.wfile.write(rest[: self.server.most])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(CONTENT)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.hangs.set()
    server.shutdown()
    server.server_close()


class Program:
    """The program, as the Python of another host runs it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.progress: list[dict[str, Any]] = []

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if "progress" not in answer:
                return answer
            self.progress.append(answer["progress"])
        raise AssertionError(f"it ended with {self.process.wait()}")


@contextmanager
def program(folder: Path) -> Iterator[Program]:
    source = Path(fetch.__file__).read_text()
    with subprocess.Popen(
        [sys.executable, "-IBSc", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"TMPDIR": str(folder), "PATH": os.environ["PATH"]},
    ) as process:
        yield Program(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(5) == 0
    assert list(folder.iterdir()) == []


def test_a_file_with_its_digests(server: Server, tmp_path: Path) -> None:
    with program(tmp_path) as it:
        answer = it.ask(do="download", url=server.url, kind="sha512")
    assert answer["length"] == len(CONTENT)
    assert answer["data"] <= len(CONTENT) - 1024 * 1024, "zeros are a hole"
    assert answer["digests"] == {
        kind: hashlib.new(kind, CONTENT).hexdigest() for kind in ("sha256", "sha512")
    }
    assert base64.b64decode(it.progress[0]["head"]) == CONTENT[: 64 * 1024]
    assert {each["total"] for each in it.progress} == {len(CONTENT)}


def test_a_text(server: Server, tmp_path: Path) -> None:
    server.content = b"abc  disk.img\n"
    with program(tmp_path) as it:
        assert it.ask(do="read", url=server.url) == {"text": "abc  disk.img\n"}


@pytest.mark.parametrize("resumes", [True, False])
def test_it_goes_on_where_it_broke_off(resumes: bool, server: Server, tmp_path: Path) -> None:
    server.most, server.refuses, server.resumes = 2 * 1024 * 1024, [503], resumes
    with program(tmp_path) as it:
        answer = it.ask(do="download", url=server.url, kind="sha256")
    if resumes:
        assert answer["digests"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
        assert server.ranges == ["", "", "bytes=2097152-"]
    else:
        assert answer["failed"] == "network"
        assert "the connection ended after 2097152 of" in answer["why"]


def test_all_of_it_came_before_the_connection_broke(server: Server, tmp_path: Path) -> None:
    server.overstates = 1
    with program(tmp_path) as it:
        answer = it.ask(do="download", url=server.url, kind="sha256")
        assert server.ranges == ["", f"bytes={len(CONTENT)}-"]
        assert answer["length"] == len(CONTENT)
        assert answer["digests"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
        server.refuses = [416]
        nothing = it.ask(do="download", url=server.url, kind="sha256")
        assert "416" in nothing["why"], "nothing came"


def test_a_server_that_has_none(server: Server, tmp_path: Path) -> None:
    server.refuses = [404]
    with program(tmp_path) as it:
        answer = it.ask(do="download", url=server.url, kind="sha256")
        assert answer == {"failed": "network", "why": "the server answered 404 Not Found"}
        assert it.ask(do="download", url=server.url, kind="sha256")["length"] == len(CONTENT)


def test_what_qemu_img_says(server: Server, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "3M"], check=True)
    server.content = disk.read_bytes()
    server.most = len(server.content)
    disk.unlink()
    with program(tmp_path) as it:
        it.ask(do="download", url=server.url, kind="sha256")
        info = it.ask(do="qemu-img", arguments=["info", "-U", "--output=json"])
        assert json.loads(info["out"])["virtual-size"] == 3 * 1024 * 1024
        assert it.ask(do="qemu-img", arguments=["check", "-U", "-f", "qcow2"])["code"] == 0
        answer = it.ask(do="upload", uri="test:///default", pool="none", volume="x")
        assert answer["failed"] == "program"
        assert "none" in answer["why"]


def test_it_ends_when_nobody_listens(server: Server, tmp_path: Path) -> None:
    """A server that says nothing does not hold it."""
    server.hangs.clear()
    with program(tmp_path) as it:
        assert it.process.stdin is not None
        print(
            json.dumps({"do": "download", "url": server.url, "kind": "sha256"}),
            file=it.process.stdin,
            flush=True,
        )
        end = time.monotonic() + 10
        while not server.ranges:
            assert time.monotonic() < end
            time.sleep(0.01)
