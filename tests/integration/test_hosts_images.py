"""Images on several hosts, over real ssh: they come there once, whole, side by side; a host fetches
one itself; a cut upload and a full disk leave nothing that counts."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from integration.lab import POOL, run, tiny_disk, until
from integration.several_hosts import (
    NET,
    HostsLab,
    LibvirtHost,
    hosts_laboratory,
    several_hosts,
)

MIB = 1024 * 1024
SPEC = """
defaults: {image: disk, type: qemu, memory: 32MiB, ready: none, networks: []}
images: {disk: IMAGE}
guests:
  a: {host: h1}
  b: {host: h2}
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LibvirtHost]]:
    with several_hosts(tmp_path_factory.mktemp("hosts"), 2) as hosts:
        yield hosts


@pytest.fixture
def lab(hosts: list[LibvirtHost], tmp_path: Path) -> Iterator[HostsLab]:
    with hosts_laboratory(tmp_path, "img", SPEC, hosts, user="ops") as lab:
        lab.settings = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        yield lab


def with_image(lab: HostsLab, image: str, more: str = "") -> None:
    """Writes the spec; ``image`` is the entry of its image."""
    lines = lab.spec.read_text().splitlines()
    lab.write(f"{lines[0]}\n{SPEC.replace('IMAGE', image)}{more}")


def sparse_disk(path: Path, data: int) -> str:
    """Makes a disk that boots, with so many MiB of random data, as much in holes and a piece of
    zeros; its digest."""
    part = data * MIB // 4
    with path.open("wb") as file:
        file.write(tiny_disk())
        for _ in range(4):
            for begin in range(0, part, MIB):
                file.write(os.urandom(min(MIB, part - begin)))
            file.seek(part, os.SEEK_CUR)
        file.write(bytes(8 * MIB))
        file.truncate(file.tell() + 3 * MIB)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def volume(digest: str) -> str:
    """The file of an image in a pool."""
    return f"{POOL}/virtkit-{hashlib.sha256(digest.encode()).hexdigest()[:20]}.root"


def has(host: LibvirtHost, digest: str) -> bool:
    """Whether a host has the whole image."""
    return host.ssh(f"sha256sum {volume(digest)} 2>/dev/null || :").startswith(digest)


def boots(lab: HostsLab, host: LibvirtHost, guest: str) -> bool:
    return until(lambda: "tiny: up" in lab.on(host).printed(guest), 30)


def until_it_says(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    said = ""
    while words not in said:
        line = process.stderr.readline()
        assert line, said
        said += line


@contextmanager
def ready_to(host: LibvirtHost, command: str) -> Iterator[Callable[[], None]]:
    """A function that runs a command on a host at once: its login was before."""
    pipe = subprocess.PIPE
    line = [*host.ssh_line(), f"echo ready; read line; {command}"]
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "ready\n"
        yield lambda: print(shell.communicate("go\n")[1])


def made(lab: HostsLab) -> list[bool]:
    """What the pools' records say of the images of this spec."""
    return [each["made"] for each in lab.json("image list")["images"] if each["name"] == "disk"]


# --- from here ------------------------------------------------------------------------------


def test_an_image_comes_to_each_host_once_sparse_and_side_by_side(lab: HostsLab) -> None:
    path = lab.folder / "disk.raw"
    digest = sparse_disk(path, 160)
    with_image(lab, "{path: disk.raw}")
    done = lab.virtkit("up", "--json")
    steps = [each for each in done.data["steps"] if each["object"] == "image/disk"]
    assert sorted(each["host"] for each in steps) == ["h1", "h2"]
    first_end = done.err.index(" make done")
    assert done.err.count(" make: uploading", 0, first_end) == 2, "both had begun by then"
    for host, guest in zip(lab.hosts, "ab", strict=True):
        assert has(host, digest)
        taken = int(host.ssh(f"stat -c %b {volume(digest)}")) * 512
        assert taken < 164 * MIB, "holes stay holes, and zeros become some"
        assert boots(lab, host, guest)
    assert done.err.count("uploading, 0 of 16") == 2, done.err
    assert done.err.count("computing its digest") == 1, "of a file that several hosts need"
    assert lab.json("plan")["changes"] == []
    with_image(lab, "{path: disk.raw}", "  c: {host: h2}\n")
    again = lab.virtkit("up", "--json")
    assert "uploading" not in again.err
    assert boots(lab, lab.hosts[1], "c")


@contextmanager
def cut_at_the_host(up: subprocess.Popen[str], lab: HostsLab) -> Iterator[None]:
    """Its ssh server's connections end, this one's too."""
    pid = lab.hosts[0].folder / "sshd.pid"
    with ready_to(lab.hosts[0], f"pkill -KILL -P $(cat {pid})") as cut:
        yield
        cut()
    out, err = up.communicate(timeout=120)
    assert up.returncode == 1, err
    report = json.loads(out)
    failed = [each for each in report["steps"] if each["outcome"] == "failed"]
    assert {each["host"] for each in failed} == {"h1"}, failed
    assert "image/disk" in {each["object"] for each in failed}
    assert all(each["error"]["cure"] for each in failed)
    ended = {(each["object"], each["outcome"]) for each in report["steps"]}
    assert ("guest/b", "done") in ended
    assert ("guest/a", "skipped") in ended


@contextmanager
def killed(up: subprocess.Popen[str], _lab: HostsLab) -> Iterator[None]:
    yield
    up.kill()
    up.communicate()


@contextmanager
def interrupted(up: subprocess.Popen[str], _lab: HostsLab) -> Iterator[None]:
    yield
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=30)
    assert up.returncode == 130


@pytest.mark.parametrize(
    "end",
    [cut_at_the_host, *(pytest.param(e, marks=pytest.mark.long) for e in (killed, interrupted))],
)
def test_an_upload_that_was_cut_is_none(
    end: Callable[[subprocess.Popen[str], HostsLab], AbstractContextManager[None]], lab: HostsLab
) -> None:
    digest = sparse_disk(lab.folder / "disk.raw", 400)
    with_image(lab, "{path: disk.raw}")
    with lab.starts("up", "--json") as up, end(up, lab):
        until_it_says(up, "h1 make: uploading, ")
        time.sleep(0.2)
    assert False in made(lab)
    assert lab.json("up")["ok"]
    assert [has(each, digest) for each in lab.hosts] == [True, True]
    assert made(lab)[-2:] == [True, True]
    assert lab.json("plan")["changes"] == []


# --- full ------------------------------------------------------------------------------------


@contextmanager
def small_pool(host: LibvirtHost, mib: int) -> Iterator[Callable[[], None]]:
    """A host whose pool has so little room, and a function that gives it more."""
    host.ssh(f"mkdir -p {POOL} && mount -t tmpfs -o mode=711,size={mib}m tmpfs {POOL}")
    refresh = "virsh -q -c qemu:///system pool-refresh default 2>/dev/null || :"
    host.ssh(refresh)
    try:
        yield lambda: print(host.ssh(f"mount -o remount,size=1g {POOL}"))
    finally:
        host.ssh(f"umount -l {POOL}; {refresh}")


def test_one_hosts_disk_is_full(lab: HostsLab) -> None:
    digest = sparse_disk(lab.folder / "disk.raw", 24)
    with_image(lab, "{path: disk.raw}")
    with small_pool(lab.hosts[1], 16) as enlarge:
        report = lab.json("up", code=1)
        (failed,) = [each for each in report["steps"] if each["outcome"] == "failed"]
        error = failed["error"]
        assert error["where"] == "h2 image/disk"
        assert "pool default on host h2 has no room for image disk" in error["what"]
        assert "No space left: it takes 2" in error["why"]
        assert f"df -h {POOL}" in error["cure"]
        assert boots(lab, lab.hosts[0], "a")
        assert not has(lab.hosts[1], digest)
        enlarge()
        assert lab.json("up")["ok"]
        assert boots(lab, lab.hosts[1], "b")
        lab.virtkit("down")


@pytest.mark.long  # seen in short by what is cut
def test_one_hosts_disk_gets_full_meanwhile(lab: HostsLab) -> None:
    digest = sparse_disk(lab.folder / "disk.raw", 240)
    with_image(lab, "{path: disk.raw}")
    with small_pool(lab.hosts[1], 280) as enlarge:
        fill = f"dd if=/dev/zero of={POOL}/others bs=1M 2>&1"
        with lab.starts("up", "--json") as up, ready_to(lab.hosts[1], fill) as filled:
            until_it_says(up, "h2 make: uploading, ")
            filled()
            out, err = up.communicate(timeout=120)
        assert up.returncode == 1, err
        report = json.loads(out)
        (failed,) = [each for each in report["steps"] if each["outcome"] == "failed"]
        assert failed["error"]["where"] == "h2 image/disk"
        assert "No space left" in failed["error"]["why"]
        assert "on host h2" in failed["error"]["cure"]
        assert lab.hosts[1].ssh(f"ls {POOL}").count(".root") == 0, "it takes no room any more"
        assert boots(lab, lab.hosts[0], "a")
        enlarge()
        assert lab.json("up")["ok"]
        assert has(lab.hosts[1], digest)
        lab.virtkit("down")


# --- by the host -----------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """A web server on the hosts' network. ``asked`` has who asked for what; after ``most`` bytes
    it says nothing until ``goes_on``."""

    def __init__(self, content: bytes) -> None:
        super().__init__((f"{NET}.1", 0), Handler)
        self.content = content
        self.most = len(content)
        self.goes_on = threading.Event()
        self.asked: list[tuple[str, str]] = []

    def url(self, name: str = "disk.raw") -> str:
        return f"http://{NET}.1:{self.server_port}/{name}"

    def image(self, digest: str = "", name: str = "disk.raw") -> str:
        digest = digest or hashlib.sha256(self.content).hexdigest()
        return f"{{url: {self.url(name)}, sha256: {digest}, fetch: host}}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.client_address[0], self.path))
        content = self.server.content
        if self.path.endswith("SUMS"):
            content = f"{hashlib.sha512(content).hexdigest()} *disk.raw\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.most])
        if self.server.most < len(content):
            self.server.goes_on.wait(60)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(hosts: list[LibvirtHost]) -> Iterator[Server]:
    server = Server(tiny_disk(os.urandom(5 * MIB) + bytes(5 * MIB)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.goes_on.set()
    server.shutdown()
    server.server_close()


def nothing_runs(host: LibvirtHost) -> bool:
    """Whether a host has no program of ours any more, and no file."""
    programs = host.ssh("pgrep -u ops python3 || :")
    return (
        programs == "" and host.ssh("ls /proc/*/fd -l 2>/dev/null | grep -c /var/tmp/ || :") == "0"
    )


@pytest.mark.parametrize("digests", ["sha256", pytest.param("checksums", marks=pytest.mark.long)])
def test_each_host_fetches_an_image_itself(
    digests: str, lab: HostsLab, server: Server, hosts: list[LibvirtHost]
) -> None:
    image = server.image()
    if digests == "checksums":
        image = f"{{url: {server.url()}, checksums: {server.url('SHA512SUMS')}, fetch: host}}"
    with_image(lab, image)
    done = lab.virtkit("up", "--json")
    asked = sorted(server.asked)
    assert asked == sorted(
        (each.address, path)
        for each in hosts
        for path in ["/disk.raw", *(["/SHA512SUMS"] if digests == "checksums" else [])]
    )
    assert done.err.count("downloads it, 0 of 11 MiB") == 2, done.err
    assert done.err.count("giving it to libvirt") == 2
    digest = hashlib.sha256(server.content).hexdigest()
    for host, guest in zip(hosts, "ab", strict=True):
        assert has(host, digest)
        assert int(host.ssh(f"stat -c %b {volume(digest)}")) * 512 <= 7 * MIB
        assert boots(lab, host, guest)
        assert nothing_runs(host)
    assert not list(lab.folder.glob("cache/**/root.img")), "nothing came here"
    assert lab.json("plan")["changes"] == []
    lab.virtkit("down")
    assert lab.json("up")["ok"]
    assert sorted(server.asked) == asked, "it is in the pools"
    with_image(lab, image.replace(", fetch: host", ""))
    assert lab.json("plan")["changes"] == [], "who fetches it is no part of what it is"


def test_a_wrong_digest_leaves_nothing_there(lab: HostsLab, server: Server) -> None:
    with_image(lab, server.image("ab" * 32))
    report = lab.json("up", code=1)
    failed = [each for each in report["steps"] if each["outcome"] == "failed"]
    assert [each["object"] for each in failed] == ["image/disk"] * 2
    digest = hashlib.sha256(server.content).hexdigest()
    for each in failed:
        assert digest in each["error"]["why"]
    for host in lab.hosts:
        assert host.ssh(f"ls {volume(digest)} 2>/dev/null || :") == ""
        assert nothing_runs(host)


@pytest.mark.parametrize(
    "what", ["page", *(pytest.param(each, marks=pytest.mark.long) for each in ("backing", "gone"))]
)
def test_what_is_no_image_is_refused(what: str, lab: HostsLab, server: Server) -> None:
    said = "can't be downloaded on host h1"
    if what == "page":
        server.content = b"<!DOCTYPE html><html><title>Log in</title>".ljust(200000)
        server.most = 100000  # the rest is not waited for
        said = "a web page"
    elif what == "backing":
        run("qemu-img", "create", "-q", "-f", "raw", lab.folder / "base", "1M")
        words = ["-f", "qcow2", "-F", "raw", "-b", str(lab.folder / "base")]
        run("qemu-img", "create", "-q", *words, lab.folder / "over")
        server.content = (lab.folder / "over").read_bytes()
        server.most = len(server.content)
        said = "has a backing file"
    with_image(lab, server.image())
    if what == "gone":
        server.shutdown()
        server.server_close()
    began = time.monotonic()
    report = lab.json("up", code=1)
    failed = [each["error"]["what"] for each in report["steps"] if each["outcome"] == "failed"]
    assert len(failed) == 2
    assert any(said in each for each in failed), failed
    assert time.monotonic() - began < 40
    assert all(nothing_runs(each) for each in lab.hosts)


@pytest.mark.long  # seen in short by what is cut
def test_an_interrupted_download_ends_there_too(lab: HostsLab, server: Server) -> None:
    server.most = 3 * MIB
    with_image(lab, server.image())
    with lab.starts("up") as up:
        until_it_says(up, "downloads it, ")
        assert not nothing_runs(lab.hosts[0])
        up.send_signal(signal.SIGINT)
        _, err = up.communicate(timeout=20)
        assert up.returncode == 130, err
    assert until(lambda: all(nothing_runs(each) for each in lab.hosts), 5)
    server.goes_on.set()
    server.most = len(server.content)
    assert lab.json("up")["ok"]
    assert has(lab.hosts[0], hashlib.sha256(server.content).hexdigest())


def test_a_host_that_lacks_qemu_img(lab: HostsLab, server: Server) -> None:
    with_image(lab, server.image())
    host = lab.hosts[1]
    host.ssh("mount --bind /dev/null /usr/bin/qemu-img")
    try:
        (error,) = lab.errors("up")
        assert "host h2 can't fetch image disk: it has no qemu-img" in error
        assert server.asked == []
        assert lab.domains() == set()
    finally:
        host.ssh("umount /usr/bin/qemu-img")
