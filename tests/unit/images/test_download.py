"""Downloads from a server of the test's own, that breaks off, forgets and lies when told to."""

from __future__ import annotations

import hashlib
import lzma
import os
import select
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from virtkit import api
from virtkit.errors import Interrupted, RequestError, VirtkitError
from virtkit.images import cache, download
from virtkit.images.checksums import Digest
from virtkit.progress import Progress
from virtkit.spec import Image
from virtkit.state.desired import ImageRef, image_identity

CONTENT = bytes(range(256)) * 12 * 1024  # 3 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()
WANTED = Digest("sha256", DIGEST)


#: Seconds that a server waits for the other side to hang up.
STALL = 10.0


@dataclass
class Server:
    """What it serves, how it misbehaves, and what it was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {"/disk.img": CONTENT})
    ranges: list[str | None] = field(default_factory=list)
    resumes: bool = True
    break_after: list[int] = field(default_factory=list)
    refuse: list[int] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    stated_length: int | str | None = None
    stalls_after: int | None = None
    silent_until: threading.Event | None = None
    sleeps: float = 0.0

    @property
    def disk(self) -> str:
        return f"{self.url}/disk.img"


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = state.files.get(self.path)
            wanted = self.headers["Range"]
            state.ranges.append(wanted)
            state.paths.append(self.path)
            if state.refuse:
                self.send_error(state.refuse.pop(0))
            elif content is None:
                self.send_error(404)
            elif wanted and state.resumes:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_error(416)
                else:
                    self._send(206, content[start:])
            else:
                self._send(200, content)

        def _send(self, code: int, content: bytes) -> None:
            time.sleep(state.sleeps)
            self.send_response(code)
            self.send_header("Content-Length", str(state.stated_length or len(content)))
            self.end_headers()
            length = state.break_after.pop(0) if state.break_after else len(content)
            if state.stalls_after is not None:
                self.wfile.write(content[: state.stalls_after])
                self.wfile.flush()
                if state.silent_until is not None:
                    state.silent_until.wait(STALL)
                    return
                closed, _, _ = select.select([self.connection], [], [], STALL)
                assert closed, "it hung up"
            with suppress(ConnectionError):
                self.wfile.write(content[:length])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


quiet = Progress()


def test_whole(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    download.fetch(server.disk, tmp_path / "a", WANTED, Progress(said.append))
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [None]
    assert said[-1] == "downloading, 3 of 3 MiB, 100 %"


def test_a_server_that_refuses_what_nobody_asked(server: Server, tmp_path: Path) -> None:
    server.refuse = [416]
    with pytest.raises(VirtkitError, match="can't be downloaded") as caught:
        download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert "416" in caught.value.why


def test_zeros_become_holes(server: Server, tmp_path: Path) -> None:
    content = CONTENT + bytes(2 * 1024 * 1024) + b"end" + bytes(3 * 1024 * 1024)
    server.files["/disk.img"] = content
    server.break_after = [4 * 1024 * 1024]
    digest = Digest("sha256", hashlib.sha256(content).hexdigest())
    download.fetch(server.disk, tmp_path / "a", digest, quiet)
    assert (tmp_path / "a").read_bytes() == content
    assert len(server.ranges) == 2
    assert (tmp_path / "a").stat().st_blocks * 512 <= 5 * 1024 * 1024


def test_resumed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT[:1000])
    download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_there_already(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_can_not_resume(server: Server, tmp_path: Path) -> None:
    server.resumes = False
    (tmp_path / "a").write_bytes(b"x" * 1000)
    download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_broken_off(server: Server, tmp_path: Path) -> None:
    server.break_after = [2_000_000]
    download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(server.ranges) == 2
    assert server.ranges[1] is not None
    assert int(server.ranges[1].removeprefix("bytes=").removesuffix("-")) > 0


def test_a_server_in_trouble(server: Server, tmp_path: Path) -> None:
    server.refuse = [503]
    download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert len(server.ranges) == 2


def test_gives_up_at_once_where_there_is_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(VirtkitError) as caught:
        download.fetch(f"{server.url}/other", tmp_path / "a", WANTED, quiet)
    assert "404" in caught.value.why
    assert len(server.ranges) == 1


def test_gives_up_in_the_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RETRIES", 1)
    server.break_after = [100, 100]
    with pytest.raises(VirtkitError) as caught:
        download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert "200 of" in caught.value.why
    assert (tmp_path / "a").stat().st_size == 200, "the next run goes on from there"


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "RETRIES", 0)
    with pytest.raises(VirtkitError) as caught:
        download.fetch("http://127.0.0.1:1/disk.img", tmp_path / "a", WANTED, quiet)
    assert "refused" in caught.value.why


def test_a_part_of_another_file(server: Server, tmp_path: Path) -> None:
    """What was there is not taken for the beginning of this one."""
    (tmp_path / "a").write_bytes(b"x" * 1000)
    download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_a_server_that_claims_too_little(server: Server, tmp_path: Path) -> None:
    server.stated_length = 1000
    with pytest.raises(VirtkitError) as caught:
        download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert "its 1000 bytes" in caught.value.why
    server.stated_length = None
    download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_claims_nonsense(server: Server, tmp_path: Path) -> None:
    server.stated_length = "3 MiB"
    download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_claims_too_much(server: Server, tmp_path: Path) -> None:
    server.stated_length = len(CONTENT) + 1000
    download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_falls_silent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RETRIES", 0)
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.sleeps = 1.0
    with pytest.raises(VirtkitError) as caught:
        download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert "timed out" in caught.value.why


def test_it_is_ended_from_another_thread_and_gone_on_with(server: Server, tmp_path: Path) -> None:
    """The server is silent just then."""
    server.stalls_after, server.silent_until = 1024 * 1024, threading.Event()
    image = f"{{url: '{server.disk}', sha256: {DIGEST}}}"
    (tmp_path / "lab.yaml").write_text(f"images: {{one: {image}}}\nguests: {{}}\n")
    spec = api.read(tmp_path / "lab.yaml")
    stop = threading.Event()
    threading.Timer(1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        api.image_make(spec, "one", stop=stop)
    assert time.monotonic() - began < STALL
    server.stalls_after = None
    server.silent_until.set()
    assert api.image_make(spec, "one").size == len(CONTENT)
    assert server.ranges == [None, "bytes=1048576-"]


def test_no_space_left_here(server: Server, tmp_path: Path) -> None:
    """The server is not to blame, and not asked again."""
    (tmp_path / "a").symlink_to("/dev/full")
    with pytest.raises(VirtkitError) as caught:
        download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert "No space left" in caught.value.why
    assert "free some space" in caught.value.cure
    assert len(server.ranges) == 1


def test_another_content(server: Server, tmp_path: Path) -> None:
    with pytest.raises(VirtkitError) as caught:
        download.fetch(server.disk, tmp_path / "a", Digest("sha256", "0" * 64), quiet)
    assert DIGEST in caught.value.why
    assert not (tmp_path / "a").exists(), "nothing is kept of it"


def test_checksums_that_are_not_there(server: Server) -> None:
    with pytest.raises(VirtkitError, match="can't be downloaded"):
        download.digest_in(f"{server.url}/none", server.disk)


# --- what is no disk -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x04\x22\x4d\x18" + os.urandom(3 * 1024 * 1024), "is compressed with lz4"),
        (lzma.compress(b"<html>" + os.urandom(1024).hex().encode() * 900), "(a web page in it)"),
        (b"<!doctype html>" + b"Log in. " * 200_000, "is a web page"),
        (b"<html>404</html>", "is a web page"),
    ],
    ids=["lz4", "a packed page", "a long page", "a short page"],
)
def test_what_is_no_disk_is_told_by_its_first_bytes(
    server: Server, content: bytes, what: str, tmp_path: Path
) -> None:
    """The rest is not waited for, and nothing of it is kept."""
    server.files["/disk.img"] = content
    server.stalls_after = min(len(content), 1024 * 1024)
    started = time.monotonic()
    with pytest.raises(RequestError) as caught:
        download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert time.monotonic() - started < STALL
    assert what in caught.value.what
    assert caught.value.cure
    assert not (tmp_path / "a").exists()
    assert len(server.ranges) == 1, "it is not asked for again"


def test_how_a_packed_disk_is_unpacked(server: Server, tmp_path: Path) -> None:
    packed = lzma.compress(bytes(1024 * 1024), lzma.FORMAT_ALONE)
    server.files["/d.qcow2.lzma"] = packed
    url = f"{server.url}/d.qcow2.lzma"
    with pytest.raises(RequestError) as caught:
        download.fetch(url, tmp_path / "a", WANTED, quiet)
    assert f"wget -O d.qcow2.lzma {url}" in caught.value.cure
    assert "xz -dk d.qcow2.lzma; then name d.qcow2" in caught.value.cure


def test_a_part_of_what_is_no_disk_is_not_gone_on_with(server: Server, tmp_path: Path) -> None:
    """As an older version may have left it."""
    (tmp_path / "a").write_bytes(b"<html>".ljust(100_000, b"x"))
    download.fetch(server.disk, tmp_path / "a", WANTED, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [None]


def test_a_download_that_breaks_off_at_once_is_not_judged(server: Server, tmp_path: Path) -> None:
    server.files["/disk.img"] = content = b"text at first".ljust(1000) + CONTENT
    server.break_after = [100]
    wanted = Digest("sha512", hashlib.sha512(content).hexdigest())
    download.fetch(server.disk, tmp_path / "a", wanted, quiet)
    assert (tmp_path / "a").read_bytes() == content


@pytest.mark.parametrize("kind", ["sha256", "sha384", "sha512"])
def test_each_kind_of_digest_is_verified(kind: str, server: Server, tmp_path: Path) -> None:
    wanted = Digest(kind, hashlib.new(kind, CONTENT).hexdigest())
    download.fetch(server.disk, tmp_path / "a", wanted, quiet)
    with pytest.raises(VirtkitError, match="does not match the digest in the spec") as caught:
        download.fetch(server.disk, tmp_path / "b", Digest(kind, "0" * 64), quiet)
    assert f"the {kind} of its" in caught.value.why


# --- local_image ----------------------------------------------------------------------------


def ref_of(**keys: str) -> ImageRef:
    entry = Image(**keys)
    return ImageRef("cloud", entry, image_identity(entry))


def test_local_image_once(server: Server, tmp_path: Path) -> None:
    ref = ref_of(url=server.disk, sha256=DIGEST)
    first = cache.local_image(ref, tmp_path, quiet)
    assert Path(first.root).read_bytes() == CONTENT
    assert (first.format, first.size, first.kernel) == ("raw", len(CONTENT), "")
    assert cache.local_image(ref, tmp_path, quiet) == first
    assert len(server.ranges) == 1


def test_local_image_by_many_at_once(server: Server, tmp_path: Path) -> None:
    ref = ref_of(url=server.disk, sha256=DIGEST)
    with ThreadPoolExecutor(6) as pool:
        image = list(pool.map(lambda _: cache.local_image(ref, tmp_path, quiet), range(6)))
    assert len(set(image)) == 1
    assert len(server.ranges) == 1


def test_local_image_with_checksums(server: Server, tmp_path: Path) -> None:
    server.files["/SUMS"] = f"{DIGEST}  disk.img\n".encode()
    ref = ref_of(url=server.disk, checksums=f"{server.url}/SUMS")
    image = cache.local_image(ref, tmp_path, quiet)
    assert Path(image.root).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "line",
    [
        f"SHA512 (disk.img) = {hashlib.sha512(CONTENT).hexdigest()}",
        f"{hashlib.sha512(CONTENT).hexdigest()}  disk.img",
        f"{hashlib.sha384(CONTENT).hexdigest()}",
    ],
)
def test_local_image_with_other_digests(server: Server, line: str, tmp_path: Path) -> None:
    server.files["/SUMS"] = f"{line}\n".encode()
    ref = ref_of(url=server.disk, checksums=f"{server.url}/SUMS")
    image = cache.local_image(ref, tmp_path, quiet)
    assert Path(image.root).read_bytes() == CONTENT
    server.files["/SUMS"] = line.replace("a", "b").encode()
    other = ref_of(url=f"{server.disk}?other", checksums=f"{server.url}/SUMS")
    server.files["/disk.img?other"] = CONTENT
    with pytest.raises(VirtkitError, match="does not match the digest in the spec"):
        cache.local_image(other, tmp_path, quiet)


def test_checksums_that_do_not_fit_are_told_before_the_download(
    server: Server, tmp_path: Path
) -> None:
    server.files["/SUMS"] = f"{DIGEST}  other.img\n".encode()
    with pytest.raises(VirtkitError, match="has no line for disk"):
        cache.local_image(ref_of(url=server.disk, checksums=f"{server.url}/SUMS"), tmp_path, quiet)
    assert server.paths == ["/SUMS"]


def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path) -> None:
    ref = ref_of(url=server.disk, sha256=DIGEST)
    part = cache.folder() / f"{ref.identity}.part"
    part.mkdir(parents=True)
    (part / "root.img").write_bytes(CONTENT[:5000])
    assert cache.cached(ref.identity) is None
    assert Path(cache.local_image(ref, tmp_path, quiet).root).read_bytes() == CONTENT
    assert server.ranges == ["bytes=5000-"]
    assert not part.exists()


def test_a_wrong_download_is_not_there_afterwards(server: Server, tmp_path: Path) -> None:
    ref = ref_of(url=server.disk, sha256="0" * 64)
    for _ in range(2):
        with pytest.raises(VirtkitError, match="does not match the digest in the spec"):
            cache.local_image(ref, tmp_path, quiet)
    assert cache.cached(ref.identity) is None
    assert server.ranges == [None, None]


def test_somebody_cut_the_cached_file_off(server: Server, tmp_path: Path) -> None:
    ref = ref_of(url=server.disk, sha256=DIGEST)
    first = cache.local_image(ref, tmp_path, quiet)
    os.truncate(first.root, 1000)
    assert cache.cached(ref.identity) is None
    assert cache.local_image(ref, tmp_path, quiet) == first
    assert Path(first.root).read_bytes() == CONTENT


def test_forgotten(server: Server, tmp_path: Path) -> None:
    ref = ref_of(url=server.disk, sha256=DIGEST)
    cache.local_image(ref, tmp_path, quiet)
    cache.forget(ref.identity)
    assert cache.cached(ref.identity) is None
    cache.local_image(ref, tmp_path, quiet)
    assert len(server.ranges) == 2


def test_a_file_url(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(CONTENT)
    ref = ref_of(url=f"file://{tmp_path}/disk.img", sha256=DIGEST)
    assert Path(cache.local_image(ref, tmp_path, quiet).root).read_bytes() == CONTENT
