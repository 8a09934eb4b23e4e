"""Images by url and by path: fetched once, verified, refused where they lean on other files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from integration.lab import POOL, Lab, laboratory, printed, run, tiny_disk, until

SPEC = """
name: images
images: {tiny: IMAGE}
defaults: {image: tiny, type: qemu, memory: 32MiB, ready: none, networks: []}
guests: {a: {}}
"""


class Server(ThreadingHTTPServer):
    """Serves one file at any path; ``asked`` has what was asked for. Breaks off after ``most``."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.most = len(content)
        self.requested: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/tiny.raw"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") :].rstrip("-"))
        self.server.requested.append(f"{self.path} from {start}")
        content = self.server.content
        if self.path.endswith("SUMS"):
            content = f"{hashlib.sha256(content).hexdigest()} *tiny.raw\n".encode()
        rest = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.most])
        if self.server.most < len(rest):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(tiny_disk(os.urandom(3 * 1024 * 1024)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with laboratory(tmp_path, "images", SPEC, XDG_CACHE_HOME=str(tmp_path / "cache")) as lab:
        yield lab


def by_url(lab: Lab, server: Server, digest: str = "") -> None:
    digest = digest or hashlib.sha256(server.content).hexdigest()
    lab.write(SPEC.replace("IMAGE", f"{{url: {server.url}, sha256: {digest}}}"))


def boots(lab: Lab, guest: str = "a") -> bool:
    return until(lambda: "tiny: up" in printed(f"{lab.name}-{guest}"), 20)


def test_an_image_by_url_is_fetched_once(lab: Lab, server: Server) -> None:
    by_url(lab, server)
    assert lab.json("up")["ok"]
    assert boots(lab)
    assert server.requested == ["/tiny.raw from 0"]
    lab.virtkit("down")
    assert lab.json("up")["ok"]  # from the pool
    lab.virtkit("image pull", "tiny")  # from the cache
    assert server.requested == ["/tiny.raw from 0"]

    (entry,) = [e for e in lab.json("image list")["images"] if e["users"] == ["images-a"]]
    assert (entry["name"], entry["format"], entry["made"]) == ("tiny", "raw", True)
    in_use = run_image(lab, "rm", "tiny", code=2)
    assert "in use" in in_use
    assert "images-a" in in_use
    lab.virtkit("down")
    assert POOL.joinpath(f"virtkit-{entry['content'][:20]}.root").exists()
    run_image(lab, "rm", entry["content"][:12])
    assert not list(POOL.glob(f"virtkit-{entry['content'][:20]}*"))
    assert lab.json("up")["ok"]
    assert server.requested == ["/tiny.raw from 0"] * 2
    lab.virtkit("down")
    run_image(lab, "rm", entry["content"])


def run_image(lab: Lab, *words: str, code: int = 0) -> str:
    """``virtkit image WORDS…``, which take no spec here."""
    line = [lab.line("status")[0], "image", *words]
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, env=os.environ | lab.settings
    )
    assert done.returncode == code, (line, done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_a_download_goes_on_where_it_broke_off(lab: Lab, server: Server) -> None:
    by_url(lab, server)
    server.most = 1024 * 1024
    assert lab.json("up")["ok"]
    size = len(server.content)
    begun = [int(each.split()[-1]) for each in server.requested]
    assert begun == list(range(0, size, server.most))
    assert boots(lab)


def test_a_wrong_digest_leaves_nothing(lab: Lab, server: Server) -> None:
    by_url(lab, server, "ab" * 32)
    report = lab.virtkit("up", "--json", code=1).data
    (failed,) = [each for each in report["steps"] if each["outcome"] == "failed"]
    assert (failed["object"], failed["step"]) == ("image/tiny", "make")
    assert hashlib.sha256(server.content).hexdigest() in failed["error"]["why"]
    assert not [path for path in (lab.folder / "cache").rglob("*") if path.stat().st_size > 4096]
    assert lab.volumes() == set()


def test_checksums_may_name_it(lab: Lab, server: Server) -> None:
    sums = server.url.replace("tiny.raw", "SHA256SUMS")
    lab.write(SPEC.replace("IMAGE", f"{{url: {server.url}, checksums: {sums}}}"))
    lab.virtkit("image pull", "tiny")
    lab.virtkit("image pull", "tiny")
    assert server.requested == ["/SHA256SUMS from 0", "/tiny.raw from 0"]


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_an_image_by_path(lab: Lab, format: str) -> None:
    raw = lab.folder / "disk.raw"
    raw.write_bytes(tiny_disk(os.urandom(4096)))
    run("qemu-img", "convert", "-f", "raw", "-O", format, raw, lab.folder / "disk")
    lab.write(SPEC.replace("IMAGE", "{path: ./disk}").replace("a: {}", "a: {disk: 8MiB}"))
    assert lab.json("up")["ok"]
    assert boots(lab)
    assert lab.json("plan")["changes"] == []
    info = run("qemu-img", "info", "-U", POOL / "images-a-root")
    assert "virtual size: 8 MiB" in info
    assert f"backing file format: {format}" in info


def test_an_image_that_needs_others_is_refused(lab: Lab) -> None:
    folder = lab.folder
    (folder / "base").write_bytes(tiny_disk())
    make = partial(run, "qemu-img", "create", "-q", "-f", "qcow2")
    make("-b", folder / "base", "-F", "raw", folder / "backed")
    make("-o", f"data_file={folder / 'data'}", folder / "split", "1M")
    make("-b", "/etc/passwd", "-F", "raw", folder / "thief")
    for name, what in (("backed", "backing file"), ("split", "data file"), ("thief", "passwd")):
        lab.write(SPEC.replace("IMAGE", f"{{path: {name}}}"))
        (error,) = lab.json("up", code=2)["errors"]
        assert what in error["what"]
        assert "qemu-img convert" in error["cure"]
    lab.write(SPEC.replace("IMAGE", "{path: nowhere}"))
    (error,) = lab.json("up", code=2)["errors"]
    assert "nowhere" in error["what"]
    assert not lab.left()


def test_a_root_disk_smaller_than_its_image_is_refused(lab: Lab) -> None:
    (lab.folder / "disk").write_bytes(tiny_disk(bytes(7 * 1024 * 1024)))
    lab.write(SPEC.replace("IMAGE", "{path: disk}").replace("a: {}", "a: {disk: 2MiB}"))
    report = lab.virtkit("up", "--json", code=None)
    assert report.code in (1, 2)
    assert "smaller than its image" in report.out
    lab.write(lab.spec.read_text().replace("2MiB", "9MiB"))
    assert lab.virtkit("up", "--json").data["ok"]
    lab.virtkit("down")
    assert not lab.left()


@pytest.mark.parametrize("format", ["raw", "vmdk", "vdi", "vhdx"])
def test_what_becomes_a_disk(lab: Lab, format: str) -> None:
    """Packed by xz; the plan says what is done with it, and the guest starts from it."""
    raw, disk = lab.folder / "tiny.raw", lab.folder / f"tiny.{format}"
    raw.write_bytes(tiny_disk(os.urandom(1024 * 1024)))
    if format != "raw":
        run("qemu-img", "convert", "-f", "raw", "-O", format, raw, disk)
    run("xz", "-k", disk)
    lab.write(SPEC.replace("IMAGE", f"{{path: ./tiny.{format}.xz}}"))
    (note,) = [each for each in lab.json("plan")["notes"] if each.startswith("image/tiny")]
    assert "on this machine it is unpacked (xz)" in note
    assert (f"then converted from {format} to qcow2" in note) == (format != "raw")
    assert lab.json("up")["ok"]
    assert boots(lab)
    assert lab.json("plan")["changes"] == []
    lab.virtkit("down")


def test_a_box_by_url(lab: Lab, server: Server) -> None:
    """The digest is that of the box; the disk in it is what guests start from."""
    (lab.folder / "box.img").write_bytes(server.content)
    (lab.folder / "metadata.json").write_text('{"provider": "libvirt", "format": "raw"}')
    run("tar", "-czf", "tiny.box", "metadata.json", "box.img", cwd=lab.folder)
    server.content = (lab.folder / "tiny.box").read_bytes()
    server.most = len(server.content)
    by_url(lab, server)
    assert lab.json("up")["ok"]
    assert boots(lab)
    lab.virtkit("down")
