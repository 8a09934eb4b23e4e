"""Downloads a file on the machine that it runs on, and gives it to libvirt there.

Other hosts get it with ``python3 -c``, so it needs the standard library alone. Questions are lines
of JSON on its input, and so are answers on its output. It ends with its input, and what it started
ends with it. The file has no name: however this ends, nothing is left of it.

    {"do": "read", "url": …}                    a text: {"text": …}
    {"do": "download", "url": …, "kind": …}     {"progress": {"have": …, "total": …}} now and then,
                                                the first time with the file's "head";
                                                {"length": …, "data": bytes that are no holes,
                                                "digests": {"sha256": …, KIND: …}}
    {"do": "qemu-img", "arguments": [...]}      what qemu-img answers: {"code": …, "out": …}
    {"do": "upload", "uri": …, "pool": …, "volume": …}      {}

What fails is answered with {"failed": "network" | "disk" | "program", "why": …}.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import http.client
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO, Any

#: Attempts after the first one, and seconds without a byte until one is given up.
RETRIES, TIMEOUT = 4, 30.0
_CHUNK = 1024 * 1024
#: Bytes of a text that are read, and of a file's head.
_MAX_TEXT, _HEAD = 16 * 1024 * 1024, 64 * 1024
#: Seconds between two lines of progress.
_PROGRESS_INTERVAL = 0.2
#: Where programs are that users' own PATH has not.
_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
#: What the machine says where it can't write; asking the server again is no use.
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)

_children: list[subprocess.Popen[str]] = []


class Failed(Exception):
    """Something failed: ``network``, ``disk`` or ``program``, and why."""


def say(answer: dict[str, Any]) -> None:
    """Prints a line of the answer."""
    print(json.dumps(answer), flush=True)


class Download:
    """A file that is being downloaded, with its digests so far."""

    def __init__(self, file: IO[bytes], url: str, kind: str) -> None:
        self.file = file
        self.url = url
        self.kinds = ("sha256", kind)
        self.due = 0.0
        self._begin()

    def _begin(self) -> None:
        """Forgets what came so far."""
        self.file.seek(0)
        self.file.truncate()
        self.digests = {each: hashlib.new(each) for each in self.kinds}
        self.have = 0

    def fetch(self) -> None:
        """Downloads all of it, in several attempts; each goes on where the one before broke off."""
        for attempt in range(RETRIES + 1):
            try:
                self._continue()
                return
            except urllib.error.HTTPError as error:
                if error.code == 416 and self.have:  # nothing after what came; its digest tells
                    return
                if error.code < 500 or attempt == RETRIES:
                    why = f"the server answered {error.code} {error.reason}"
                    raise Failed("network", why) from error
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.errno in _OURS:
                    raise Failed("disk", error.strerror) from error
                if attempt == RETRIES:
                    raise Failed("network", str(error)) from error
            time.sleep(2**attempt / 4)

    def _continue(self) -> None:
        request = urllib.request.Request(self.url)  # noqa: S310 - the spec allows http, https, file
        if self.have:
            request.add_header("Range", f"bytes={self.have}-")
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            if getattr(answer, "status", None) != 206:
                self._begin()
            remaining = answer.headers.get("Content-Length", "")
            total = self.have + int(remaining) if remaining.isdecimal() else 0
            # the head alone: a server that sends a page may be slow with the rest
            while chunk := answer.read(_CHUNK - self.have % _CHUNK if self.have else _HEAD):
                self._write(chunk, total)
        if total and self.have < total:
            raise OSError(f"the connection ended after {self.have} of {total} bytes")

    def _write(self, chunk: bytes, total: int) -> None:
        """Takes the next bytes of the file; zeros become a hole."""
        if chunk.strip(b"\0"):
            self.file.write(chunk)
        else:
            self.file.seek(len(chunk), os.SEEK_CUR)
            self.file.truncate()
        for each in self.digests.values():
            each.update(chunk)
        head = {} if self.have else {"head": base64.b64encode(chunk[:_HEAD]).decode()}
        self.have += len(chunk)
        if head or time.monotonic() >= self.due:
            self.due = time.monotonic() + _PROGRESS_INTERVAL
            say({"progress": {"have": self.have, "total": total, **head}})


def download(file: IO[bytes], url: str, kind: str) -> dict[str, Any]:
    """The file's length, what it takes, and its digests."""
    work = Download(file, url, kind)
    work.fetch()
    file.flush()
    return {
        "length": work.have,
        "data": os.fstat(file.fileno()).st_blocks * 512,
        "digests": {kind: each.hexdigest() for kind, each in work.digests.items()},
    }


def read(file: IO[bytes], url: str) -> dict[str, Any]:
    """A text that is somewhere else than the file."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310
            return {"text": answer.read(_MAX_TEXT).decode("utf-8", "replace")}
    except (OSError, http.client.HTTPException) as error:
        raise Failed("network", str(error)) from error


def qemu_img(file: IO[bytes], arguments: list[str]) -> dict[str, Any]:
    """What qemu-img finds in the file."""
    code, out, errors = run(file, "qemu-img", *arguments, f"/dev/fd/{file.fileno()}")
    return {"code": code, "out": out, "errors": errors}


def upload(file: IO[bytes], uri: str, pool: str, volume: str) -> dict[str, Any]:
    """Fills a volume of libvirt's with the file."""
    arguments = ["-q", "-c", uri, "vol-upload", "--pool", pool, "--vol", volume, "--sparse"]
    code, _, errors = run(file, "virsh", *arguments, "--file", f"/dev/fd/{file.fileno()}")
    if code:
        raise Failed("program", errors.strip())
    return {}


def run(file: IO[bytes], *arguments: str) -> tuple[int, str, str]:
    """What a program answers that has the file."""
    settings = {"LC_ALL": "C.UTF-8", "PATH": f"{os.environ.get('PATH', '')}:{_PATH}"}
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
            errors="replace",
            env={**os.environ, **settings},
            pass_fds=[file.fileno()],
        )
    except OSError as error:
        raise Failed("program", f"{arguments[0]}: {error.strerror}") from error
    _children.append(child)
    out, errors = child.communicate()
    return child.returncode, out, errors


def listen(questions: queue.SimpleQueue[str]) -> None:
    """Takes questions; ends all where nobody asks any more."""
    for line in sys.stdin:
        questions.put(line)
    for child in _children:
        child.kill()
    os._exit(0)


def folder() -> str:
    """Where a large file may lie: TMPDIR, else not in memory if that can be helped."""
    given = os.environ.get("TMPDIR", "")
    return given or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir())  # noqa: S108


def main() -> None:
    """The program."""
    questions: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(questions,), daemon=True).start()
    work: dict[str, Callable[..., dict[str, Any]]]
    work = {"download": download, "qemu-img": qemu_img, "read": read, "upload": upload}
    with tempfile.TemporaryFile(dir=folder()) as file:
        while True:
            question = json.loads(questions.get())
            try:
                say(work[question.pop("do")](file, **question))
            except Failed as error:
                failed, why = error.args
                say({"failed": failed, "why": f"{why} ({folder()})" if failed == "disk" else why})


if __name__ == "__main__":
    main()
