"""Real faults: full disks, a pool or network that is gone, damaged images, guests that hang.

Each makes its fault really happen, and looks at the same things: the error names the object, the
cause and a cure; the guests that don't hang on it are finished; status and plan answer in seconds;
once it is mended, `up` ends in a plan without changes; `down` leaves nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from integration.lab import (
    POOL,
    URIS,
    VIRTKIT,
    Lab,
    domains,
    laboratory,
    printed,
    run,
    tiny_disk,
    until,
    virsh,
)

pytestmark = pytest.mark.long

SPEC = """
name: fault
images: {tiny: {path: tiny.raw}, other: {path: other.raw}}
networks: {front: {cidr: 10.94.21.0/24}}
defaults: {image: tiny, type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {disks: [{name: data, size: 8MiB, mount: /srv}]}
  b: {image: other}
  c: {after: [a]}
"""
#: Boot sectors in real mode. All print their name on COM1; then
#: loop: takes the interrupt table away and traps: a triple fault, so it starts over
#: deaf: hlt for ever, with no ear for the power button
#: fill: writes its disk full by int 13h, 32 KiB after 32 KiB
_LOOP = (
    "fa31c08ed88ed0bc007cbe227ce806000f011e2d7cccbaf803ac84c07403eeebf8c36c6f6f703a2075700d0a00"
    "000000000000"
)
_DEAF = "fa31c08ed88ed0bc007cbe1f7ce80300f4ebfdbaf803ac84c07403eeebf8c3646561663a2075700d0a00"
_FILL = (
    "fa31c08ed88ed0bc007cfbbe357ce81800be407cb80043b28056cd135e8344084073f183440a01ebebbaf803ac"
    "84c07403eeebf8c366696c6c3a2075700d0a0010004000007c00004000000000000000"
)
POOL_NAME = "default"
#: Seconds that status and plan may take, whatever is broken.
SOON = 10.0


def disk(sector: str) -> bytes:
    return (bytes.fromhex(sector).ljust(510, b"\0") + b"\x55\xaa").ljust(1024 * 1024, b"\0")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("fault")
    (folder / "tiny.raw").write_bytes(tiny_disk(os.urandom(1024 * 1024)))
    (folder / "other.raw").write_bytes(tiny_disk(os.urandom(1024)))
    for name, sector in (("loop", _LOOP), ("deaf", _DEAF), ("fill", _FILL)):
        (folder / f"{name}.raw").write_bytes(disk(sector))
    with laboratory(folder, "fault", SPEC, XDG_CACHE_HOME=str(folder / "cache")) as lab:
        yield lab


@pytest.fixture(autouse=True)
def nothing(lab: Lab) -> Iterator[None]:
    """Each test ends with nothing there."""
    lab.write(SPEC)
    yield
    lab.virtkit("down", "--volumes", code=None)
    assert not lab.left()


def states_of(lab: Lab) -> dict[str, str]:
    """The states of all guests; status and plan must answer soon."""
    status = lab.virtkit("status", "--json")
    assert status.elapsed < SOON, status
    assert lab.virtkit("plan", "--json", code=None).elapsed < SOON
    return {each["name"]: each["state"] for each in status.data["guests"]}


def fails(lab: Lab, *words: str, verb: str = "up", **said: str) -> Any:
    """A run that fails; ``said`` is what each failed object's error has in it, by its name.

    All other guests are finished, but for those that are skipped (``said`` is "skipped").
    """
    report = lab.json(verb, *words, code=1)
    failed = {
        each["object"].partition("/")[2] or each["object"]: each["error"]
        for each in report["steps"]
        if each["outcome"] == "failed"
    }
    skipped = {e["object"].partition("/")[2] for e in report["steps"] if e["outcome"] == "skipped"}
    assert {*failed} == {name for name, words in said.items() if words != "skipped"}, failed
    assert skipped - {*failed} == {n for n, words in said.items() if words == "skipped"}
    for name, error in failed.items():
        text = " ".join(map(str, error.values()))
        assert all(word in text for word in said[name].split("|")), (name, error)
        assert error["cure"]
    return report


def converges(lab: Lab) -> None:
    """Now that it is mended."""
    report = lab.json("up")
    assert report["ok"], report
    lab.virtkit("plan", "--exit-code")


# --- disks that are full ---------------------------------------------------------------------


@contextmanager
def small(path: Path, size: str, free: int, *, empty: bool = False) -> Iterator[Callable[[], None]]:
    """A file system of ``size`` at ``path``, with what stood there and ``free`` bytes left over.

    Gives a function that frees the rest.
    """
    copy = path.with_name(f"{path.name}.copy")
    if empty:
        copy.mkdir()
    else:
        shutil.copytree(path, copy, symlinks=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", path)
    try:
        shutil.copytree(copy, path, symlinks=True, dirs_exist_ok=True)
        ballast = path / "ballast"
        with ballast.open("wb") as file:
            file.write(b"x" * (shutil.disk_usage(path).free - free))
        yield ballast.unlink
    finally:
        run("umount", "--lazy", path)
        shutil.rmtree(copy)


@contextmanager
def small_pool(free: int) -> Iterator[Callable[[], None]]:
    """An empty pool with ``free`` KiB, and a function that makes it large enough."""
    POOL.mkdir(exist_ok=True)
    with small(POOL, "16m", free * 1024, empty=True) as freed:
        if POOL_NAME in virsh("pool-list", "--name").split():
            virsh("pool-refresh", POOL_NAME)
        yield freed
    virsh("pool-refresh", POOL_NAME)


def test_the_pool_is_full_when_an_image_comes(lab: Lab) -> None:
    with small_pool(1792) as free:
        fails(lab, tiny="no room for image|No space left|free some space", a="skipped", c="skipped")
        assert states_of(lab) == {"a": "missing", "b": "running", "c": "missing"}
        free()
        converges(lab)
        lab.virtkit("down")


def test_the_pool_is_full_when_volumes_are_made(lab: Lab) -> None:
    with small_pool(3072 + 256) as free:
        report = lab.json("up", code=1)
        errors = [each["error"] for each in report["steps"] if each["error"]]
        assert errors
        for error in errors:
            assert "volume fault-" in error["what"], error
            assert "No space left" in error["why"], error
            assert "free some space" in error["cure"], error
        free()
        converges(lab)
        lab.virtkit("down")


def test_libvirts_own_folder_is_full(lab: Lab) -> None:
    with small(Path("/etc/libvirt"), "2m", 0) as free:
        lab.write(SPEC.replace("networks: [front]", "networks: []"))
        what = "define domain fault-{}|No space left|/etc/libvirt|free some space"
        fails(lab, a=what.format("a"), b=what.format("b"), c="define domain fault-c")
        lab.write(SPEC)
        fails(
            lab, front="define network fault-front|No space", a="skipped", b="skipped", c="skipped"
        )
        free()
        converges(lab)
        lab.virtkit("down")


@pytest.mark.parametrize(
    ("variable", "left", "said"),
    [
        ("TMPDIR", 8192, {"a": "a file system of|temporary files", "c": "skipped"}),
        ("HOME", 0, dict.fromkeys("abc", "No space left|on this machine|free some space")),
    ],
)
def test_a_folder_of_the_callers_is_full(
    lab: Lab, tmp_path: Path, variable: str, left: int, said: dict[str, str]
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    with small(full, "64k", left) as free:
        poor = Lab(lab.folder, lab.name, {**lab.settings, variable: str(full)})
        fails(poor, **said)
        free()
        converges(lab)


# --- what stands on the host and goes -----------------------------------------------------------


@contextmanager
def moved(path: Path) -> Iterator[None]:
    """A folder that is not there for a while, as one that isn't mounted."""
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)


@contextmanager
def pool_inactive() -> Iterator[None]:
    virsh("pool-destroy", POOL_NAME)
    yield


@contextmanager
def pool_undefined() -> Iterator[None]:
    virsh("pool-destroy", POOL_NAME)
    virsh("pool-undefine", POOL_NAME)
    yield


@contextmanager
def network_down() -> Iterator[None]:
    virsh("net-destroy", "fault-front")
    yield


@contextmanager
def network_undefined() -> Iterator[None]:
    virsh("net-destroy", "fault-front")
    virsh("net-undefine", "fault-front")
    yield


Fault = Callable[[], AbstractContextManager[None]]
#: What the plan says of each, as object and action; `up` then mends it.
GONE: tuple[tuple[Fault, str], ...] = (
    (pool_inactive, "pool/default start"),
    (pool_undefined, "pool/default create"),
    (network_down, "network/front start"),
    (network_undefined, "network/front create"),
)


def ports() -> int:
    """Interfaces that are plugged into a bridge."""
    return run("bridge", "link").count("master virbr")


def test_what_stands_on_the_host_goes_while_guests_run(lab: Lab) -> None:
    lab.virtkit("up")
    for fault, change in GONE:
        with fault():
            states = states_of(lab)
            assert set(states.values()) == {"running"}, fault
            if fault is pool_inactive:
                assert "pool default is not active" in lab.errors("logs", code=1)[0]
            planned = lab.json("plan")["changes"]
            assert [f"{each['object']} {each['action']}" for each in planned] == [change]
            converges(lab)
            assert ports() == 3, "a guest that ran on has its link again"
    for fault, _ in GONE:
        with fault():
            assert lab.json("down")["ok"], fault
            assert not lab.left()
        lab.virtkit("up", "b")


def test_the_pools_folder_is_not_there(lab: Lab) -> None:
    """Its volumes may only be unmounted: down must not forget them."""
    lab.virtkit("up")
    with moved(POOL):
        assert set(states_of(lab).values()) == {"running"}
        (error,) = lab.json("up", code=2)["errors"]
        assert "pool default" in error["what"]
        assert f"{POOL} is gone" in error["what"]
        assert "mount" in error["cure"]
        found = lab.json("down", code=1)
        (error,) = found.get("errors") or [e["error"] for e in found["steps"] if e["error"]]
        assert "pool default" in error["what"]
        assert "cannot open directory" in error["why"]
        assert "mount" in error["cure"]
        lab.write(SPEC.replace("name: fault", "name: other"))
        (error,) = lab.json("up", code=2)["errors"]
        assert f"{POOL} is gone" in error["what"]
        lab.write(SPEC)
        assert not POOL.exists(), "nobody makes it, and hides what will be mounted there"
        assert set(domains()) == {"fault-a", "fault-b", "fault-c"}
        lab.virtkit("stop", "b")
        fails(lab, "b", verb="start", b="start domain fault-b|No such file|mounted")
    converges(lab)


# --- images -------------------------------------------------------------------------------------


def cut_off(path: Path) -> None:
    os.truncate(path, 4096)


def grown(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 4096)


def test_an_image_in_the_pool_is_damaged(lab: Lab) -> None:
    """Where its size tells, `up` makes it again; the guests' own disks stay as they are."""
    qcow2(lab, "tiny")
    lab.write(SPEC.replace("tiny.raw", "tiny.qcow2").replace("  a:", "  d: {}\n  a:"))
    lab.virtkit("up", "b", "d")
    used = [each["content"][:20] for each in lab.json("image list")["images"] if each["users"]]
    images = {path: path.read_bytes() for path in (POOL / f"virtkit-{c}.root" for c in used)}
    assert len(images) == 2
    disks = {path: path.stat().st_ino for path in POOL.glob("fault-*-root")}
    for damage in (cut_off, Path.unlink, grown):
        lab.virtkit("stop", "b", "d", "--timeout", "0")
        for path in images:
            damage(path)
        plan = lab.json("plan", "b", "d")["changes"]
        made = {each["object"] for each in plan if each["action"] == "create"}
        assert made == {"image/tiny", "image/other"}, (damage, plan)
        assert lab.json("up", "b", "d")["ok"]
        assert {path: path.read_bytes() for path in images} == images, damage
    assert {path: path.stat().st_ino for path in POOL.glob("fault-*-root")} == disks


def test_an_image_is_damaged_and_its_size_does_not_tell(lab: Lab) -> None:
    qcow2(lab, "tiny")
    lab.write(SPEC.replace("tiny.raw", "tiny.qcow2"))
    lab.virtkit("up")
    lab.virtkit("stop", "--timeout", "0")
    for path in POOL.glob("virtkit-*.root"):
        with path.open("r+b") as file:
            if file.read(3) == b"QFI":
                file.seek(40)
                file.write(b"\xff" * 8)  # where its table of clusters is
    fails(lab, a=f"start domain fault-a|L1 table|image rm {lab.spec} tiny", c="skipped")
    assert states_of(lab) == {"a": "stopped", "b": "running", "c": "stopped"}
    lab.virtkit("down", "a", "c")  # as the cure says
    run(VIRTKIT, "image", "rm", "tiny", env=os.environ | lab.settings)
    converges(lab)


def qcow2(lab: Lab, name: str) -> None:
    source, target = (lab.folder / f"{name}.{end}" for end in ("raw", "qcow2"))
    run("qemu-img", "convert", "-O", "qcow2", source, target)


# --- guests -------------------------------------------------------------------------------------

GUESTS = """
name: fault
images: {other: {path: other.raw}, deaf: {path: deaf.raw}, loop: {path: loop.raw}}
networks: {front: {cidr: 10.94.21.0/24}, others: {existing: others}}
defaults: {type: qemu, memory: 32MiB, networks: [front], ready: {port: 22, timeout: 8s}}
guests:
  b: {image: other, ready: none}
  deaf: {image: deaf}
  loop: {image: loop}
  later: {image: other, after: [deaf], ready: none}
  lost: {image: deaf, networks: [others], ready: {timeout: 4s}}
"""
OTHERS = """
<network><name>others</name><bridge name='virbr77'/>
<ip address='10.94.22.1' netmask='255.255.255.0'>
<dhcp><range start='10.94.22.2' end='10.94.22.9'/></dhcp></ip></network>
"""


@pytest.fixture
def others(tmp_path: Path) -> Iterator[None]:
    """A network that virtkit did not make, so that it knows no addresses there."""
    (tmp_path / "others.xml").write_text(OTHERS)
    virsh("net-create", tmp_path / "others.xml")
    yield
    virsh("net-destroy", "others")


@pytest.mark.usefixtures("others")
def test_guests_that_never_get_ready(lab: Lab) -> None:
    lab.write(GUESTS)
    fails(
        lab,
        deaf="guest deaf is not ready|after 8 s: port 22|the last lines of its console|deaf: up",
        loop="guest loop is not ready|after 8 s: port 22|may be rebooting in a loop|loop: up",
        lost="guest lost is not ready|no address yet|DHCP leases: none|guest agent: |ARP: ",
        later="skipped",
    )
    running = dict.fromkeys(("b", "deaf", "loop", "lost"), "running")
    assert states_of(lab) == running | {"later": "stopped"}, "too late is not gone"
    stop = lab.virtkit("stop", "deaf", "loop", "--timeout", "1")
    assert stop.elapsed < SOON, "they ignore the power button"
    lab.write(GUESTS.replace("{port: 22, timeout: 8s}", "none").replace("{timeout: 4s}", "none"))
    converges(lab)
    lab.virtkit("down")


def test_a_guest_that_stops_instead_of_getting_ready(lab: Lab) -> None:
    lab.write(GUESTS.replace("timeout: 8s", "timeout: 2m"))
    with lab.starts("up", "deaf", "--json") as up:
        assert until(lambda: "deaf: up" in printed("fault-deaf"), 60)
        virsh("destroy", "fault-deaf")
        out, _ = up.communicate(timeout=30)
    assert up.returncode == 1
    assert "it is stopped" in out
    assert "forced it off" in out


def test_the_pool_gets_full_while_a_guest_writes(lab: Lab) -> None:
    """QEMU pauses it; it is told at once, and goes on when there is space."""
    spec = """
name: fault
images: {other: {path: other.raw}, fill: {path: fill.raw}}
networks: {front: {cidr: 10.94.21.0/24}}
defaults: {type: qemu, memory: 32MiB, networks: [front]}
guests:
  b: {image: other, ready: none}
  fill: {image: fill, disk: 8MiB, ready: {port: 22, timeout: 2m}}
"""
    lab.write(spec)
    with small_pool(4096) as free:
        began = time.monotonic()
        fails(lab, fill="guest fill is not ready|it is paused|no space left|free some space")
        assert time.monotonic() - began < 60, "it does not wait for what can't come"
        (found,) = lab.json("status", "fill")["guests"]
        assert found["state"] == "paused"
        lab.write(spec.replace("{port: 22, timeout: 2m}", "none"))
        free()
        converges(lab)
        assert states_of(lab) == {"b": "running", "fill": "running"}
        lab.virtkit("down")


def test_a_guest_that_its_disk_paused_is_stopped_and_that_is_told(lab: Lab) -> None:
    """It can't be asked: it would only pause again."""
    lab.write(
        "name: fault\nimages: {fill: {path: fill.raw}}\n"
        "guests: {fill: {type: qemu, memory: 32MiB, image: fill, disk: 8MiB, networks: [], "
        "ready: none}}\n"
    )
    with small_pool(3072):
        lab.virtkit("up")
        assert until(lambda: lab.status("fill")["state"] == "paused", 60)
        ran = lab.virtkit("stop", "fill", "--json")
        (step,) = ran.data["steps"]
        assert "no space left" in step["note"]
        assert "forced off" in step["note"]
        assert ran.elapsed < SOON
        assert lab.status("fill")["state"] == "stopped"
        lab.virtkit("down")


def process(domain: str) -> int:
    """The pid of a running guest's QEMU."""
    return int(Path(f"/run/libvirt/qemu/{domain}.pid").read_text())


def test_qemu_is_killed(lab: Lab) -> None:
    lab.virtkit("up", "a", "b")
    os.kill(process("fault-b"), signal.SIGKILL)
    assert until(lambda: lab.status("b")["state"] == "stopped", 10)
    assert "killed, or crashed" in lab.status("b")["why"]
    (change,) = lab.json("plan", "a", "b")["changes"]
    assert (change["object"], change["action"]) == ("guest/b", "start")
    converges(lab)


def test_qemu_is_stopped_by_a_signal(lab: Lab) -> None:
    """libvirt waits for it without end; virtkit does not."""
    lab.write(GUESTS).virtkit("up", "deaf", "--no-wait")
    os.kill(process("fault-deaf"), signal.SIGSTOP)
    assert states_of(lab)["deaf"] == "running"
    assert "SIGSTOP" in lab.status("deaf")["why"]
    assert lab.virtkit("restart", "deaf", "--no-wait", "--timeout", "1").elapsed < 60
    assert lab.status("deaf")["state"] == "running"
    with lab.starts("stop", "deaf", "--timeout", "20") as stop:
        virsh("qemu-monitor-event", "fault-deaf", "--event", "POWERDOWN", "--timeout", "15")
        os.kill(process("fault-deaf"), signal.SIGSTOP)
        _, said = stop.communicate(timeout=120)
    assert "it did not shut down in 20 s: it was forced off" in said, "it had all of its time"
    lab.virtkit("start", "deaf", "--no-wait")
    os.kill(process("fault-deaf"), signal.SIGSTOP)
    assert lab.virtkit("down").elapsed < 60


# --- downloads ----------------------------------------------------------------------------------


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A web server of the test's own; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}/far.raw"
        http.shutdown()


def test_a_download_that_fails(lab: Lab) -> None:
    """Refused, cut off for good, and another file: then it comes, from where it broke off."""
    content = tiny_disk(b"far" * 100000)
    now: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        start = int((request.headers["Range"] or "bytes=0-")[6:-1])
        if now[0] == "refused":
            request.send_error(403)
            return
        body = tiny_disk(b"new" * 100000) if now[0] == "another" else content[start:]
        request.send_response(206 if start and body is not content else 200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[:1000] if now[0] == "cut off" else body)
        request.close_connection = True

    with server(answer) as url:
        lab.settings = {**lab.settings, "no_proxy": "127.0.0.1"}
        digest = sha256(content).hexdigest()
        lab.write(
            f"name: fault\nimages: {{far: {{url: '{url}', sha256: {digest}}}, "
            "other: {path: other.raw}}\nnetworks: {front: {cidr: 10.94.21.0/24}}\n"
            "defaults: {type: qemu, memory: 32MiB, networks: [front], ready: none}\n"
            "guests: {a: {image: far}, b: {image: other}, c: {image: other, after: [a]}}\n"
        )
        for word, said in (
            ("refused", f"{url} can't be downloaded|403"),
            ("another", f"{url}|{digest}"),
            ("cut off", f"{url} can't be downloaded|the connection ended after"),
        ):
            now[:] = [word]
            fails(lab, far=said, a="skipped", c="skipped")
            cached = [*(lab.folder / "cache/virtkit/images").glob("*/image.json")]
            assert not cached, "nothing that isn't whole is taken for an image"
        now[:] = ["whole"]
        converges(lab)


# --- containers ---------------------------------------------------------------------------------


def processes(domain: str) -> tuple[int, int]:
    """The pids of a container's controller (libvirt_lxc) and of its init."""
    controller = int(virsh("domid", domain, uri=URIS[1]))
    children = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    return controller, int(children[0])


def test_containers_are_killed_stopped_and_cut_off(lab: Lab) -> None:
    built = {key: value for key, value in lab.settings.items() if key != "XDG_CACHE_HOME"}
    lab = Lab(lab.folder, lab.name, built)
    lab.write(
        "name: fault\nnetworks: {front: {cidr: 10.94.21.0/24}}\n"
        "defaults: {type: lxc, memory: 128MiB, networks: [front], ready: none}\n"
        "guests: {a: {}, b: {}, c: {}}\n"
    )
    lab.virtkit("up")
    os.kill(processes("fault-a")[0], signal.SIGKILL)
    os.kill(processes("fault-b")[1], signal.SIGKILL)
    virsh("net-destroy", "fault-front")
    stopped = {"a": "stopped", "b": "stopped", "c": "running"}
    assert until(lambda: states_of(lab) == stopped, 20)
    converges(lab)
    assert ports() == 3
    os.kill(processes("fault-a")[0], signal.SIGSTOP)
    os.kill(processes("fault-b")[1], signal.SIGSTOP)
    assert set(states_of(lab).values()) == {"running"}
    assert lab.virtkit("stop", "a", "--timeout", "2").elapsed < 40
    assert lab.virtkit("down").elapsed < 40
