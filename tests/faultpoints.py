"""virtkit, interrupted at one call into libvirt that is chosen by its number.

By hand, the calls of a run: ``python tests/faultpoints.py up SPEC``.

Every function of libvirt's C modules is wrapped, once, and its calls are numbered under a lock.
Not numbered is what never leaves the process, and so can't be a point where the host is left in
another state: errors, the event loop, names and keys that an object already holds, and freeing
and closing, which the garbage collector does when it likes.

A call either changes something on the host or only reads it (`changes`: what is not known to
read is taken to change). Of a run with N calls, each host state that a kill can leave behind is
the one before the first changing call or the one after a changing call: what only reads lies
between two of these and leaves neither. So killing *after* each changing call, and once before the
first, meets all states of the host; killing before and after each of all N calls meets, besides,
whatever virtkit itself does in between (files of its own), and is for where a run costs little.

virtkit starts in a fork of a process that has imported it, so that a run costs what it does and
not a second of imports. Threads would number the calls of a run anew each time: run it with
``--parallel 1``.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from lxml import etree

#: What never leaves the process.
_LOCAL = re.compile(
    r"Error|Event|Free$|Close$|IsAlive$|KeepAlive$|virInitialize$|virGetVersion$"
    r"|Get(Name|UUID|UUIDString|Key|Connect)$|virStreamNew$"
)
#: What reads the host and changes nothing.
_READS = re.compile(
    r"Get|List|NumOf|Lookup|XMLDesc|Is[A-Z]|Download$|Recv|Info$|Capabilities|virConnectOpen"
    r"|InterfaceAddresses$"
)
MODULES = ("libvirtmod", "libvirtmod_qemu", "libvirtmod_lxc")

#: ``kill``: virtkit itself, with -9. ``cut``: its connections to libvirt, which is for it as an end
#: of the daemon is. ``command``: a shell's is run. The others are done to the daemon whose pid is
#: given: ``end`` (kill -9), ``freeze`` (stopped until the run has ended) and ``pause`` (a second).
Do = Literal["none", "kill", "cut", "end", "freeze", "pause", "command"]


@dataclass(frozen=True)
class Fault:
    """What happens at one call.

    Attributes:
        changing: only calls that change something are numbered.
        name: only calls of this function are.
        pid: the daemon's.
        command: a shell's.
    """

    do: Do = "none"
    number: int = 0
    side: Literal["before", "after"] = "before"
    changing: bool = False
    name: str = ""
    pid: int = 0
    command: str = ""


NONE = Fault()


@dataclass(frozen=True)
class Ended:
    """How a run ended. ``calls``: the names of all that were numbered; ``code``: None if hung."""

    line: str
    code: int | None
    out: str
    err: str
    calls: tuple[str, ...]
    elapsed: float

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    def __str__(self) -> str:
        last = self.calls[-1] if self.calls else "none"
        return (
            f"{self.line}: {self.code} after {self.elapsed:.1f} s, {len(self.calls)} calls, "
            f"last {last}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"
        )


def changes(name: str) -> bool:
    """Whether a function of libvirt's may change something on the host."""
    return not _READS.search(name)


# --- the side of the tests ------------------------------------------------------------------


class Runner:
    """Runs virtkit in forks of one process. ``settings``: environment variables for it."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def run(
        self,
        *words: str | Path,
        fault: Fault = NONE,
        timeout: float = 120,
        settings: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> Ended:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        request = {
            "words": [str(each) for each in words],
            "fault": asdict(fault),
            "timeout": timeout,
            "settings": dict(settings or {}),
            "stdin": stdin,
        }
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer, "the process that virtkit is forked from has ended"
        found = json.loads(answer)
        return Ended(**found | {"calls": tuple(found["calls"])})


@contextmanager
def runner(settings: Mapping[str, str], *, toy: Path | None = None) -> Iterator[Runner]:
    """A Runner. ``toy``: the type `toy` on libvirt's test driver, with its volumes there."""
    line = [sys.executable, __file__, "--serve", *([str(toy)] if toy else [])]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        line, stdin=pipe, stdout=pipe, text=True, env=os.environ | settings
    ) as server:
        try:
            yield Runner(server)
        finally:
            assert server.stdin is not None
            server.stdin.close()


# --- the side of virtkit --------------------------------------------------------------------


def _serve(toy: str | None) -> None:
    """Answers each line with how a run ended. What goes on after the loop is a fork."""
    _prepare(toy)
    for line in sys.stdin:
        asked = json.loads(line)
        fault = Fault(**asked["fault"])
        files = [tempfile.TemporaryFile("a+", errors="replace") for _ in range(4)]
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            break
        code = _awaited(pid, asked["timeout"])
        if fault.do in ("freeze", "pause"):
            os.kill(fault.pid, signal.SIGCONT)
        elapsed = time.monotonic() - began
        out, err, calls, _ = (_read_all(each) for each in files)
        ended = {"line": " ".join(asked["words"]), "code": code, "out": out, "err": err}
        print(json.dumps(ended | {"calls": calls.split(), "elapsed": elapsed}), flush=True)
    else:
        sys.exit()
    os.environ.update(asked["settings"])
    tempfile.tempdir = None  # it may be another one now
    files[3].write(asked["stdin"])
    files[3].seek(0)
    for own, file in zip((1, 2, 0), (files[0], files[1], files[3]), strict=True):
        os.dup2(file.fileno(), own)
    _become(asked["words"], fault, files[2].fileno())


def _read_all(file: IO[str]) -> str:
    with file:
        file.seek(0)
        return file.read()


def _awaited(pid: int, timeout: float) -> int | None:
    """The exit code of a child; None for one that had to be ended."""
    descriptor = os.pidfd_open(pid)
    ended = select.select([descriptor], [], [], timeout)[0]
    os.close(descriptor)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if ended else None


def _prepare(toy: str | None) -> None:
    """Imports and reads all that every run does, and starts no thread and no connection."""
    if toy:
        _play(Path(toy))
    import rich.live
    import rich.table
    import rich.tree

    import virtkit.cli.output
    from virtkit import access, ansible, api, images, spec
    from virtkit.cli import commands
    from virtkit.errors import RequestError
    from virtkit.host import schemas
    from virtkit.xml import render

    for name in commands.VERBS:
        commands.function(name)
    for room in (access, ansible, api, images, spec):  # a run loads what it uses; here all of it
        for name in room.__all__:
            getattr(room, name)
    for kind in ("domain", "network"):
        with suppress(RequestError):
            schemas.check(kind, f"<{kind}/>", "nothing")
    templates = render._environment()  # compiling them is a quarter of a small run
    for each in templates.list_templates():
        templates.get_template(each)


def _become(words: list[str], fault: Fault, log: int) -> None:
    from virtkit.cli import main
    from virtkit.host import connection

    if fault.do == "freeze":  # nobody waits half a minute per call here
        connection.KEEPALIVE, connection.MISSED, connection.OPEN_TIMEOUT = 1, 1, 1.0
    _Points(fault, log).wrap()
    sys.argv[:] = ["virtkit", *words]
    main()


class _Points:
    """Numbers the calls, notes their names in ``log``, and does what is to be done at one."""

    def __init__(self, fault: Fault, log: int) -> None:
        self._fault = fault
        self._log = log
        self._lock = threading.Lock()
        self._calls = 0
        self._read: set[int] = set()

    def wrap(self) -> None:
        for module in _modules():
            for name in [each for each in dir(module) if each.startswith("vir")]:
                held = getattr(module, name)
                if callable(held) and (self._counts(name) or name == "virStorageVolDownload"):
                    setattr(module, name, self._numbered(name, held))

    def _counts(self, name: str) -> bool:
        if self._fault.name:
            return name == self._fault.name
        return not _LOCAL.search(name) and (changes(name) or not self._fault.changing)

    def _numbered(self, name: str, held: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self._only_read(name, arguments):
                return held(*arguments, **options)
            with self._lock:
                self._calls += 1
                here = self._calls == self._fault.number
                os.write(self._log, f"{name}\n".encode())
            if here and self._fault.side == "before":
                self._strike()
            answer = held(*arguments, **options)
            if here and self._fault.side == "after":
                self._strike()
            return answer

        return call

    def _only_read(self, name: str, arguments: tuple[Any, ...]) -> bool:
        """Whether a call is not numbered after all: the end of a stream that was read from."""
        if name == "virStorageVolDownload":
            self._read.add(id(arguments[1]))
            return not self._counts(name)
        if name == "virStreamFinish" and id(arguments[0]) in self._read:
            self._read.remove(id(arguments[0]))
            return self._fault.changing
        return False

    def _strike(self) -> None:
        pid = self._fault.pid
        if self._fault.do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._fault.do == "cut":
            _cut()
        elif self._fault.do == "end":
            os.kill(pid, signal.SIGKILL)
        elif self._fault.do == "command":
            subprocess.run(["sh", "-c", self._fault.command], stdin=subprocess.DEVNULL, check=True)
        elif self._fault.do in ("freeze", "pause"):
            os.kill(pid, signal.SIGSTOP)
            if self._fault.do == "pause":
                subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {pid}"])


def _cut() -> None:
    """Shuts down this process's connections to libvirt's daemons."""
    for each in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError), socket.socket(fileno=os.dup(int(each.name))) as held:
            if "libvirt" in str(held.getpeername()):
                held.shutdown(socket.SHUT_RDWR)


def _modules() -> Iterator[Any]:
    import libvirt_lxc
    import libvirt_qemu

    for name in MODULES:
        yield sys.modules[name]


# --- libvirt's test driver ------------------------------------------------------------------


def _play(folder: Path) -> None:
    """The guest type `toy`, whose `test:///system` is the daemon's one `test:///default`.

    libvirt's test driver keeps volumes without content and has no streams, so a file in
    ``folder`` is the content of each. No other driver answers.
    """
    sys.path.insert(0, str(Path(__file__).parent / "functional"))
    import libvirtmod
    from toy_driver import TOY

    import virtkit.drivers
    import virtkit.xml.render

    virtkit.drivers.DRIVERS["toy"] = TOY
    ours = virtkit.xml.render.templates_folder()
    mixed = folder.with_name("templates")
    mixed.mkdir(exist_ok=True)
    for each in (*ours.iterdir(), Path(__file__).parent / "functional" / "toy.xml.j2"):
        (mixed / each.name).symlink_to(each) if not (mixed / each.name).exists() else None
    virtkit.xml.render.templates_folder = lambda: mixed

    opens = libvirtmod.virConnectOpen
    daemon = {"test:///system": "test+unix:///default"}
    libvirtmod.virConnectOpen = lambda uri: opens(daemon.get(uri, "none:///"))
    for name, made in missing(folder):
        setattr(libvirtmod, name, made)


def missing(folder: Path) -> Iterator[tuple[str, Callable[..., Any]]]:
    """What libvirt's test driver lacks, by the name of the C function; files go to ``folder``."""
    for part in (_Streams(folder), _Networks(folder)):
        yield from ((name, getattr(part, name)) for name in dir(part) if name.startswith("vir"))


class _Streams:
    """Volumes with content for libvirt's test driver: what its C functions would do."""

    def __init__(self, folder: Path) -> None:
        import libvirtmod

        self._real = libvirtmod
        self._create = libvirtmod.virStorageVolCreateXML
        self._delete = libvirtmod.virStorageVolDelete
        self._info = libvirtmod.virStorageVolGetInfo
        self._folder = folder
        self._open: dict[int, int] = {}

    def _file(self, volume: Any) -> Path:
        return self._folder / self._real.virStorageVolGetName(volume)

    def virStorageVolCreateXML(self, pool: Any, xml: str, flags: int) -> Any:
        volume = self._create(pool, xml, flags)
        if volume is not None:
            self._file(volume).touch()
        return volume

    def virStorageVolDelete(self, volume: Any, flags: int) -> int:
        answer: int = self._delete(volume, flags)
        if answer == 0:
            self._file(volume).unlink(missing_ok=True)
            self._size(volume).unlink(missing_ok=True)
        return answer

    def _size(self, volume: Any) -> Path:
        """The file that holds a volume's capacity once it has grown."""
        return self._folder.with_name(f"{self._real.virStorageVolGetName(volume)}.size")

    def virStorageVolResize(self, volume: Any, capacity: int, _flags: int) -> int:
        self._size(volume).write_text(str(capacity))
        return 0

    def virStorageVolGetInfo(self, volume: Any) -> Any:
        info, size = self._info(volume), self._size(volume)
        return [info[0], int(size.read_text()), *info[2:]] if info and size.exists() else info

    def virStorageVolUpload(self, volume: Any, stream: Any, offset: int, *_: Any) -> int:
        self._open[id(stream)] = os.open(self._file(volume), os.O_WRONLY | os.O_CREAT)
        return int(os.lseek(self._open[id(stream)], offset, os.SEEK_SET) * 0)

    def virStorageVolDownload(self, volume: Any, stream: Any, offset: int, *_: Any) -> int:
        self._open[id(stream)] = os.open(self._file(volume), os.O_RDONLY | os.O_CREAT)
        return int(os.lseek(self._open[id(stream)], offset, os.SEEK_SET) * 0)

    def virStreamSend(self, stream: Any, data: bytes) -> int:
        return os.write(self._open[id(stream)], data)

    def virStreamSendHole(self, stream: Any, length: int, _flags: int) -> int:
        os.ftruncate(self._open[id(stream)], os.lseek(self._open[id(stream)], length, os.SEEK_CUR))
        return 0

    def virStreamRecv(self, stream: Any, size: int) -> bytes:
        return os.read(self._open[id(stream)], size)

    def virStreamFinish(self, stream: Any) -> int:
        os.close(self._open.pop(id(stream)))
        return 0

    virStreamAbort = virStreamFinish


class _Networks:
    """Definitions of networks, and names of bridges, for libvirt's test driver: it tells and starts
    the first definition only."""

    def __init__(self, folder: Path) -> None:
        import libvirtmod

        self._real = libvirtmod
        self._define = libvirtmod.virNetworkDefineXML
        self._define_flags = libvirtmod.virNetworkDefineXMLFlags
        self._xml = libvirtmod.virNetworkGetXMLDesc
        self._create = libvirtmod.virNetworkCreate
        self._undefine = libvirtmod.virNetworkUndefine
        self._lookup = libvirtmod.virNetworkLookupByName
        self._opened: Any = None
        self._folder = folder

    def _file(self, network: Any) -> Path:
        name: str = self._real.virNetworkGetName(network)
        return self._folder.with_name(f"{name}.network.xml")

    def virNetworkDefineXML(self, opened: Any, xml: str) -> Any:
        xml = self._bridged(xml)
        return self._kept(self._define(opened, xml), xml)

    def virNetworkDefineXMLFlags(self, opened: Any, xml: str, flags: int) -> Any:
        xml = self._bridged(xml)
        return self._kept(self._define_flags(opened, xml, flags), xml)

    def _bridged(self, xml: str) -> str:
        """With a name for the bridge."""
        root = etree.fromstring(xml)
        bridge = root.find("./bridge")
        bridge = etree.SubElement(root, "bridge") if bridge is None else bridge
        bridge.set("name", bridge.get("name") or f"br-{root.findtext('name')}"[:15])
        return str(etree.tostring(root, encoding="unicode"))

    def _kept(self, network: Any, xml: str) -> Any:
        if network is not None:
            self._file(network).write_text(xml)
        return network

    def virNetworkGetXMLDesc(self, network: Any, flags: int) -> Any:
        file = self._file(network)
        return file.read_text() if flags and file.exists() else self._xml(network, 0)

    def virNetworkLookupByName(self, opened: Any, name: str) -> Any:
        self._opened = opened
        return self._lookup(opened, name)

    def virNetworkCreate(self, network: Any) -> Any:
        if self._file(network).exists():
            self._define(self._opened, self._file(network).read_text())
        return self._create(network)

    def virNetworkUndefine(self, network: Any) -> Any:
        self._file(network).unlink(missing_ok=True)
        return self._undefine(network)


def _by_hand(words: list[str]) -> None:
    _prepare(None)
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        _become(words, NONE, write)
    os.close(write)
    with os.fdopen(read) as calls:
        for number, name in enumerate(calls.read().split(), start=1):
            sys.stderr.write(f"{number:5} {'changes' if changes(name) else '       '} {name}\n")
    os.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        _serve(sys.argv[2] if len(sys.argv) > 2 else None)
    else:
        _by_hand(sys.argv[1:])
