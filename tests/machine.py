"""An emulated machine for tests and for trying things out: a whole host that a machine of any kind
can run, without privileges and without hardware for it.

Built once of packages from the machine's own sources, booted once under QEMU's emulation and kept
as a snapshot of the whole machine; each start is a copy of that, which answers seconds later.
Nothing of it is seen outside of this machine: its one port, ssh, listens on loopback.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import platformdirs

from virtkit import images
from virtkit.progress import Progress
from virtkit.spec import CATALOGUE
from virtkit.spec.model import DEFAULT_IMAGE
from virtkit.state.desired import ImageRef, image_identity

#: Seconds that the first boot, and the way back from a snapshot, may take on a busy machine.
BOOT, RETURN = 900, 180
#: The name of the snapshot that all starts go on from.
SNAPSHOT = "ready"

Answer = TypeVar("Answer")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Machine:
    """A machine that runs. ``folder`` has all of it: its disk, its key, its process's id."""

    folder: Path
    port: int

    def ssh_line(self, user: str = "root") -> list[str]:
        """The command line that logs in; what is run there follows it."""
        options = {
            "UserKnownHostsFile": self.folder / "known_hosts",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            # it may be busy for long; what it does is waited for
            "ConnectTimeout": 120,
            "ServerAliveInterval": 30,
            "LogLevel": "ERROR",
        }
        line = ["ssh", "-F", "/dev/null", "-i", str(self.folder / "id"), "-p", str(self.port)]
        return [*line, *(f"-o{key}={value}" for key, value in options.items()), f"{user}@127.0.0.1"]

    def run(
        self, command: str, user: str = "root", *, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """How a shell command on it ended, and what it printed."""
        empty = subprocess.DEVNULL if stdin is None else None
        line = [*self.ssh_line(user), command]
        return subprocess.run(line, capture_output=True, check=False, stdin=empty, input=stdin)

    def ssh(self, command: str, user: str = "root", *, check: bool = True) -> str:
        """What a shell command prints on it."""
        done = self.run(command, user)
        if check and done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise RuntimeError(f"{command!r} on the emulated machine: {said[-3000:]}")
        return done.stdout.decode(errors="replace")

    def monitor(self, command: str) -> str:
        """What QEMU's monitor answers to a command of its human language."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(self.folder / "monitor"))
            with stream.makefile("rw") as lines:
                lines.readline()
                requests = (
                    {"execute": "qmp_capabilities"},
                    {"execute": "human-monitor-command", "arguments": {"command-line": command}},
                )
                for request in requests:
                    lines.write(json.dumps(request))
                    lines.flush()
                    while "return" not in (answer := json.loads(lines.readline())):
                        if "error" in answer:
                            raise RuntimeError(f"{command}: {answer['error']['desc']}")
        return str(answer["return"])

    def boot(self, arguments: Sequence[str], *more: str) -> None:
        """Starts it in the background; the same devices each time, else no snapshot fits."""
        net = f"user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:{self.port}-:22"
        line = ["qemu-system-x86_64", *arguments]
        line += ["-nodefaults", "-no-user-config", "-display", "none"]
        line += ["-netdev", net]
        line += ["-device", "virtio-net-pci,netdev=net,mac=52:54:00:12:34:57,romfile="]
        line += ["-chardev", f"file,id=serial,path={self.folder}/serial.log"]
        line += [
            "-serial",
            "chardev:serial",
            "-qmp",
            f"unix:{self.folder}/monitor,server=on,wait=off",
        ]
        run([*line, "-pidfile", str(self.folder / "qemu.pid"), "-daemonize", *more])

    def takes_login(self) -> bool:
        """Whether it takes a login; it gets the time, which stood still in a snapshot."""
        return bool(self.ssh(f"date -s @{int(time.time())}", check=False))

    def save(self) -> None:
        """Keeps its state for all later starts, and ends it."""
        self.monitor(f"savevm {SNAPSHOT}")
        self.monitor("quit")
        until(lambda: not (self.folder / "qemu.pid").exists(), 30)
        (self.folder / "port").unlink()

    def stop(self) -> None:
        """Ends the machine that the folder's pid file names, and removes its disk."""
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int((self.folder / "qemu.pid").read_text())
            if str(self.folder) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
                until(lambda: not Path(f"/proc/{pid}").exists(), 10)
        for name in ("disk.qcow2", "qemu.pid", "monitor", "serial.log", "port"):
            (self.folder / name).unlink(missing_ok=True)


def new_machine(image: Path, folder: Path) -> Machine:
    """A machine to be, at a free port, with what one needs to log in to it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    machine = Machine(folder, free_port())
    if image != folder:
        shutil.copy(image / "id", folder / "id")
    key = " ".join((image / "hostkey.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{machine.port} {key}\n")
    (folder / "port").write_text(str(machine.port))
    return machine


def from_snapshot(
    image: Path, folder: Path, arguments: Callable[[Path, Path], list[str]]
) -> Machine:
    """A fresh machine in ``folder``.

    Args:
        image: the folder that has the snapshot.
        arguments: QEMU's, for an image's folder and a machine's.
    """
    Machine(folder, 0).stop()
    machine = new_machine(image, folder)
    run(["cp", "--reflink=auto", "--sparse=always", image / "disk.qcow2", folder / "disk.qcow2"])
    machine.boot(arguments(image, folder), "-loadvm", SNAPSHOT)
    if not until(machine.takes_login, RETURN):
        machine.stop()
        raise RuntimeError("the machine came back from its snapshot and does not answer by ssh")
    return machine


def running(folder: Path) -> Machine | None:
    """The machine that was started in a folder, where it still runs."""
    try:
        pid = int((folder / "qemu.pid").read_text())
        port = int((folder / "port").read_text())
        if str(folder) in Path(f"/proc/{pid}/cmdline").read_text():
            return Machine(folder, port)
    except (OSError, ValueError):
        pass
    return None


def built(name: str, key: str, build: Callable[[Path, Tell], None], *, say: bool = False) -> Path:
    """The folder with a machine's snapshot; made as by `kept`, with the keys to log in by.

    Args:
        build: makes it in a folder that has the keys, and tells what it does.
    """

    def build_with_keys(into: Path, tell: Tell) -> None:
        for each in ("id", "hostkey"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", into / each])
        build(into, tell)

    return kept(name, key, build_with_keys, say=say)


def kept(name: str, key: str, build: Callable[[Path, Tell], None], *, say: bool = False) -> Path:
    """The folder in the cache with what ``build`` makes; made where there is none for ``key``, and
    others of that name go.

    Args:
        build: makes it in an empty folder, and tells what it does.
    """
    began = time.monotonic()

    def report(what: str) -> None:
        if say:
            print(f"{time.monotonic() - began:6.1f} s  {what}", file=sys.stderr, flush=True)

    base = platformdirs.user_cache_path("virtkit-tests", ensure_exists=True) / name
    base.mkdir(exist_ok=True)
    final = base / key
    with _locked(base / "lock"):
        if (final / "done").exists():
            return final
        for old in base.iterdir():
            if old.is_dir():
                shutil.rmtree(old)
        final.mkdir(mode=0o700)
        build(final, report)
        (final / "done").touch()
        report("done")
        return final


def key_of(*files: Path, words: Sequence[str] = ()) -> str:
    """What makes two builds alike: these files, the QEMU whose snapshot it is, and the tests'
    image."""
    texts = [each.read_bytes() for each in (Path(__file__), *files)]
    texts += [each.encode() for each in words]
    texts.append(run(["qemu-system-x86_64", "--version"]).encode())
    texts.append(tests_image()[1].content.encode())
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:20]


def tests_image() -> tuple[ImageRef, images.LocalImage]:
    """The image of the tests' guests, which is built where there is none."""
    entry = CATALOGUE[DEFAULT_IMAGE]
    ref = ImageRef(DEFAULT_IMAGE, entry, image_identity(entry))
    return ref, images.local_image(ref, Path(), Progress())


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run(line: Sequence[str | Path]) -> str:
    """What a program prints; it must end well."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PATH": path},
    )
    if done.returncode != 0:
        raise RuntimeError(f"{line[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def until(what: Callable[[], Answer], timeout: float, pause: float = 0.2) -> Answer:
    """The first answer that counts as true, or the last one when time is up."""
    end = time.monotonic() + timeout
    while not (answer := what()) and time.monotonic() < end:
        time.sleep(pause)
    return answer


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
