"""A folder with a spec, the command line run on it, and what libvirt then has.

virtkit runs in forks of a process that has imported it (faultpoints.py), as importing it is most of
what a run costs. `Lab.program` and `Lab.starts` start the program itself.
"""

from __future__ import annotations

import atexit
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from faultpoints import Ended, Runner, runner

from virtkit.host import Host

VIRTKIT = Path(sys.executable).with_name("virtkit")
POOL = Path("/var/lib/libvirt/images")
URIS = ("qemu:///system", "lxc:///system")
#: Seconds that a run may take; less than a test may.
RUN_TIMEOUT = 900

Answer = TypeVar("Answer")

#: A boot sector in real mode, so that it runs under any KVM. On COM1 it says that it is up, then
#: ticks about once a second; at the power button it says so and powers off (q35's ACPI registers):
#:      cli; ds = ss = 0; sp = 0x7c00; print "tiny: up"; out 0x602, 0x100; sti
#:   1: hlt; in 0x600; test ah, 1; jnz 2f
#:      test byte [0x46c], 15; jnz 1b; print "tiny: tick"; jmp 1b
#:   2: print "tiny: off"; out 0x604, 0x2000; hlt
_TINY = bytes.fromhex(
    "fa31c08ed88ed0bc007cbe4d7ce83100ba0206b80001effbf4ba0006edf6c401750ff6066c040f75efbe587ce812"
    "00ebe7be657ce80a00ba0406b80020eff4ebfdbaf803ac84c07403eeebf8c374696e793a2075700d0a0074696e79"
    "3a207469636b0d0a0074696e793a206f66660d0a00"
)


def tiny_disk(filler: bytes = b"") -> bytes:
    """A disk of 1 MiB and more that boots in a second."""
    return (_TINY.ljust(510, b"\0") + b"\x55\xaa").ljust(1024 * 1024, b"\0") + filler


def until(what: Callable[[], Answer], timeout: float, pause: float = 0.2) -> Answer:
    """The first answer that counts as true, or the last one when time is up."""
    end = time.monotonic() + timeout
    while not (answer := what()) and time.monotonic() < end:
        time.sleep(pause)
    return answer


def run(*line: str | Path, **options: Any) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(line, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def virsh(*words: str | Path, uri: str = URIS[0]) -> str:
    """What virsh answers."""
    return run("virsh", "-q", "-c", uri, *words).strip()


def restart_libvirtd() -> None:
    """Guests run on meanwhile."""
    os.kill(int(Path("/run/libvirt/libvirtd.pid").read_text()), signal.SIGTERM)
    # as long as the old one's threads end, its pid file is locked
    line = ["libvirtd", "-d", "-p", "/run/libvirt/libvirtd.pid"]
    assert until(lambda: subprocess.run(line, check=False).returncode == 0, 30)
    assert until(
        lambda: subprocess.run(["virsh", "-q", "-c", URIS[0], "uri"], check=False).returncode == 0,
        30,
    )


def obey(cure: str) -> None:
    """Runs the command that a cure names, as its reader would."""
    path = f"{VIRTKIT.parent}:{os.environ['PATH']}"
    line = cure.partition(" (")[0]
    subprocess.run(["sh", "-c", line], check=True, cwd="/", env=os.environ | {"PATH": path})


_OPEN = ExitStack()
atexit.register(_OPEN.close)


@cache
def forks() -> Runner:
    """The process that all labs fork virtkit from; it ends with the tests."""
    return _OPEN.enter_context(runner({}))


@dataclass
class Ran:
    """How a run of virtkit ended."""

    line: str
    code: int
    out: str
    err: str
    elapsed: float

    @property
    def data(self) -> Any:
        """The JSON document that it answered."""
        return json.loads(self.out)

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Object and step of a report, in the order in which they ended."""
        return [(each["object"], each["step"]) for each in self.data["steps"]]

    def __str__(self) -> str:
        with suppress(ValueError, KeyError, TypeError):
            steps = [each for each in self.data["steps"] if each["outcome"] == "failed"]
            return f"{self.line}: {self.code} after {self.elapsed:.1f} s, {steps}\n{self.err}"
        return (
            f"{self.line}: {self.code} after {self.elapsed:.1f} s\n"
            f"--- stdout\n{self.out}\n--- stderr\n{self.err}"
        )


@dataclass
class Lab:
    """A spec in a folder of its own.

    Attributes:
        settings: environment variables for virtkit.
        program: each run starts the program, as users do, and is no fork.
        timeout: seconds that a run may take.
    """

    folder: Path
    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    program: bool = False
    timeout: float = RUN_TIMEOUT

    @property
    def spec(self) -> Path:
        return self.folder / f"{self.name}.yaml"

    def line(self, verb: str, *words: str | Path) -> list[str]:
        """The command line ``virtkit VERB SPEC WORDS…``."""
        return [str(each) for each in (VIRTKIT, *verb.split(), self.spec, *words)]

    def write(self, spec: str) -> Lab:
        """Writes the spec; its name is the environment's."""
        self.spec.write_text(spec)
        return self

    def virtkit(self, verb: str, *words: str | Path, code: int | None = 0, stdin: str = "") -> Ran:
        """Runs ``virtkit VERB SPEC WORDS…``, which must exit with ``code`` (None: any)."""
        done = (
            self._program(verb, *words, stdin=stdin)
            if self.program
            else forks().run(
                *self.line(verb, *words)[1:],
                settings=self.settings,
                stdin=stdin,
                timeout=self.timeout,
            )
        )
        text = " ".join(["virtkit", verb, *map(str, words)])
        assert done.code is not None, f"{done} hung"
        ran = Ran(text, done.code, done.out, done.err, done.elapsed)
        assert code is None or ran.code == code, str(ran)
        assert "Traceback" not in ran.err, str(ran)
        return ran

    def _program(self, verb: str, *words: str | Path, stdin: str) -> Ended:
        line = self.line(verb, *words)
        began = time.monotonic()
        done = subprocess.run(
            line,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | self.settings,
        )
        elapsed = time.monotonic() - began
        return Ended(" ".join(line), done.returncode, done.stdout, done.stderr, (), elapsed)

    def starts(self, verb: str, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Starts virtkit and returns at once."""
        return subprocess.Popen(
            self.line(verb, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | self.settings,
            **options,
        )

    def json(self, verb: str, *words: str, code: int = 0) -> Any:
        """The JSON that a verb answers."""
        return self.virtkit(verb, "--json", *words, code=code).data

    def sh(self, guest: str, script: str) -> str:
        """What a shell script prints that runs as root in a guest."""
        return self.virtkit("exec", guest, "--", "sh", "-c", script).out.strip()

    def status(self, guest: str) -> dict[str, Any]:
        (found,) = self.json("status", guest)["guests"]
        return found

    def errors(self, verb: str, *words: str, code: int = 2) -> list[str]:
        """What a verb says is wrong, with why; each error has a cure."""
        found = self.json(verb, *words, code=code)["errors"]
        assert all(each["cure"] for each in found), found
        return [f"{each['what']}: {each['why']}" for each in found]

    def virsh(self, *words: str, scheme: str = "qemu") -> str:
        """What virsh answers on the guests' host."""
        return virsh(*words, uri=f"{scheme}:///system")

    def guests_host(self) -> Host:
        """The guests' host, as virtkit has it."""
        return Host()

    def domains(self) -> set[str]:
        """The names of all domains of the guests' host."""
        return set(domains())

    def printed(self, guest: str) -> list[str]:
        """What a guest's console has in its log on the host."""
        return printed(f"{self.name}-{guest}")

    def mode(self, volume: str) -> int:
        """The permissions of a volume's file."""
        return (POOL / f"{self.name}-{volume}").stat().st_mode & 0o777

    def read(self, volume: str, path: str) -> str:
        """What a file holds on a volume's file system, whose guest is off; nothing without one."""
        image = self.folder / f"{volume}.raw"
        run("qemu-img", "convert", "-O", "raw", POOL / f"{self.name}-{volume}", image)
        text = run("debugfs", "-R", f"cat /{path}", image).strip()
        image.unlink()
        return text

    def volumes(self) -> set[str]:
        """The pool's volumes with our name, without it."""
        return {each.removeprefix(f"{self.name}-") for each in _volumes(f"{self.name}-")}

    def left(self) -> list[str]:
        """All that is there in the environment's name: nothing after `down --volumes`."""
        # the kernel lets go of a loop device some time after the last mount has gone
        until(lambda: not _loops(f"{self.name}-"), 10)
        return sorted(_left(f"{self.name}-", self.name))


def terminal(lab: Lab, guest: str) -> None:
    """Types at a guest's console until it asks who logs in, and leaves it."""
    child, end = pty.fork()
    if child == 0:
        line = lab.line("console", guest)
        os.execv(line[0], line)
    said = b""

    def typed(key: bytes) -> None:
        nonlocal said
        os.write(end, key)
        if select.select([end], [], [], 1)[0]:
            with suppress(OSError):  # the other end has gone
                said += os.read(end, 65536)

    def prompt() -> bool:
        typed(b"\r")
        return b"login:" in said

    def left() -> bool:
        typed(b"\x1d")
        return os.waitpid(child, os.WNOHANG)[0] == child

    try:
        assert until(prompt, 60), said
        assert until(left, 20), said
    finally:
        os.close(end)


def printed(domain: str) -> list[str]:
    """What a virtual machine's console has in its log so far."""
    log = POOL / f"{domain}-console"
    return log.read_text(errors="replace").splitlines() if log.exists() else []


def domains() -> dict[str, str]:
    """The names of all domains, with their URI."""
    return {name: uri for uri in URIS for name in virsh("list", "--all", "--name", uri=uri).split()}


def networks() -> set[str]:
    return set(virsh("net-list", "--all", "--name").split())


def _volumes(prefix: str) -> Iterator[str]:
    if "default" not in virsh("pool-list", "--name").split():
        return
    virsh("pool-refresh", "default")
    for line in virsh("vol-list", "default").splitlines():
        if line.split()[0].startswith(prefix):
            yield line.split()[0]


def _loops(prefix: str) -> list[str]:
    devices = json.loads(run("losetup", "--list", "--json") or '{"loopdevices": []}')
    files = (str(each["back-file"]) for each in devices["loopdevices"])
    return [each for each in files if f"/{prefix}" in each]


def _left(prefix: str, name: str) -> Iterator[str]:
    yield from (f"domain {each}" for each in domains() if each.startswith(prefix))
    yield from (f"network {each}" for each in networks() if each.startswith(prefix))
    yield from (f"volume {each}" for each in _volumes(prefix))
    yield from (f"loop device of {each}" for each in _loops(prefix))
    # in /run libvirt itself leaves empty folders and the pids of networks
    for folder in ("/var/lib/libvirt", "/etc/libvirt"):
        yield from (f"file {path}" for path in Path(folder).rglob(f"{prefix}*"))
    yield from (f"file {path}" for path in Path.home().rglob(f"{prefix}*"))
    for path in Path("/var/lib/libvirt/dnsmasq").glob("*"):
        if path.is_file() and prefix in path.read_text():
            yield f"line in {path}"
    data = Path.home() / ".local/share/virtkit" / name
    if data.exists():
        yield f"folder {data}"
    bridges = {virsh("net-info", each).partition("Bridge:")[2].strip() for each in networks()}
    for link in json.loads(run("ip", "-json", "link")):
        if link["ifname"].startswith("virbr") and link["ifname"] not in bridges:
            yield f"bridge {link['ifname']}"


@contextmanager
def laboratory(folder: Path, name: str, spec: str, **settings: str) -> Iterator[Lab]:
    """A Lab whose guests are gone in the end, whatever happened."""
    lab = Lab(folder, name, settings).write(spec)
    try:
        yield lab
    finally:
        lab.virtkit("down", "--volumes", "--yes", code=None)
