"""A real Xen host for tests and for trying things out: dom0 of Debian 12 on an emulated machine.

Built once of packages from the machine's own sources, booted once under QEMU's emulation and kept
as a snapshot of the whole machine; each start is a copy of that, which answers seconds later.
Nothing of it is seen outside of this machine: its one port, ssh, listens on loopback.

usage: xenhost.py build | start FOLDER | stop FOLDER
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from virtkit import images
from virtkit.errors import VirtkitError
from virtkit.host import Host, Remote
from virtkit.images import build, failures, leash
from virtkit.resources import ImageRef, image_identity
from virtkit.spec import CATALOGUE
from virtkit.spec.model import DEFAULT_IMAGE
from virtkit.voice import Voice

HERE = Path(__file__).parent
RELEASE = "bookworm"
#: What dom0 is made of. None of it is configured, so none of it needs another's maintainer script.
PACKAGES = (
    *("base-files", "base-passwd", "bash", "bridge-utils", "busybox-static", "coreutils", "dash"),
    *("dmidecode", "dnsmasq-base", "e2fsprogs", "findutils", "gawk", "grep", "gzip", "iproute2"),
    *("iptables", "kmod", "libc-bin", "libvirt-clients", "libvirt-daemon"),
    *("libvirt-daemon-driver-xen", "linux-image-amd64", "mount", "openssh-server", "procps"),
    *("qemu-system-xen", "seabios", "sed", "tar", "util-linux", "xen-hypervisor-4.17-amd64"),
    *("xen-utils-4.17", "xenstore-utils", "xfsprogs"),
)
#: What goes into the tree beside its packages.
PARTS = ("block", "compose", "init", "vif-bridge")

MEMORY, DOM0_MEMORY, DISK = 2560, 1024, "24G"
#: The processor has what Xen needs for PVH and HVM guests, emulated too. One, since Xen's wait for
#: each other by spinning, and here threads of QEMU have to take turns.
MACHINE = ["-machine", "pc,usb=off", "-cpu", "qemu64,+svm,+npt", "-smp", "1", "-m", str(MEMORY)]
#: Nobody attacks this host from its guests: without defences against that they run a sixth faster.
#: A guest that has the processor keeps it for 50 ms, not for Xen's 1, since with each change QEMU
#: forgets what it knew of addresses and code: two that boot together need two thirds of the time.
XEN = (
    "console=com1 com1=115200,8n1 bootscrub=0 dom0_max_vcpus=1 spec-ctrl=no,bti-thunk=jmp "
    f"sched_ratelimit_us=50000 dom0_mem={DOM0_MEMORY}M,max:{DOM0_MEMORY}M"
)
LINUX = "console=hvc0 quiet audit=0 apparmor=0 mitigations=off cryptomgr.notests=1"
#: Seconds that the first boot, and the way back from a snapshot, may take on a busy machine.
BOOT, RETURN = 600, 120


@dataclass(frozen=True)
class XenHost:
    """A host that runs. ``folder`` has all of it: its disk, its key, its process's id."""

    folder: Path
    port: int

    @property
    def address(self) -> str:
        return "root@127.0.0.1"

    @property
    def spec(self) -> str:
        """The lines of a spec that make it the host of its guests."""
        at = self.folder
        return (
            "hosts:\n"
            "  xen1:\n"
            f"    address: {self.address}\n"
            f"    ssh: {{port: {self.port}, key: {at}/id, known_hosts: {at}/known_hosts}}\n"
        )

    def ssh(self, command: str, *, check: bool = True) -> str:
        """What a shell command prints on it."""
        options = {
            "UserKnownHostsFile": self.folder / "known_hosts",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": 10,
            "LogLevel": "ERROR",
        }
        line = ["ssh", "-F", "/dev/null", "-i", str(self.folder / "id"), "-p", str(self.port)]
        line += [f"-o{key}={value}" for key, value in options.items()]
        done = subprocess.run(
            [*line, self.address, command], capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{command!r} on the Xen host: {done.stderr.strip()}")
        return done.stdout

    def stop(self) -> None:
        """Ends the machine that the folder's pid file names, and removes its disk."""
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int((self.folder / "qemu.pid").read_text())
            if str(self.folder) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
                _until(lambda: not Path(f"/proc/{pid}").exists(), 10)
        for name in ("disk.qcow2", "qemu.pid", "monitor", "serial.log", "port"):
            (self.folder / name).unlink(missing_ok=True)


# --- running --------------------------------------------------------------------------------


def running(folder: Path) -> XenHost | None:
    """The host that was started in a folder, where it still runs."""
    try:
        pid = int((folder / "qemu.pid").read_text())
        port = int((folder / "port").read_text())
        if str(folder) in Path(f"/proc/{pid}/cmdline").read_text():
            return XenHost(folder, port)
    except (OSError, ValueError):
        pass
    return None


def start(folder: Path) -> XenHost:
    """A fresh host in ``folder``, from the snapshot; that is built where there is none."""
    image = built()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    XenHost(folder, 0).stop()
    _run(["cp", "--reflink=auto", "--sparse=always", image / "disk.qcow2", folder / "disk.qcow2"])
    shutil.copy(image / "id", folder / "id")
    host = _known(image, folder)
    _boot(image, folder, host.port, "-loadvm", "ready")
    # its clock stood still since the snapshot
    answer = _until(lambda: host.ssh(f"date -s @{int(time.time())}", check=False), RETURN)
    if not answer:
        host.stop()
        raise RuntimeError("the Xen host came back from its snapshot and does not answer by ssh")
    return host


def _known(image: Path, folder: Path) -> XenHost:
    """A host at a free port, with what one needs to log in to it."""
    host = XenHost(folder, _free_port())
    key = " ".join((image / "hostkey.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{host.port} {key}\n")
    (folder / "port").write_text(str(host.port))
    return host


def _boot(image: Path, folder: Path, port: int, *more: str) -> None:
    """Starts the machine in the background; the same devices each time, else no snapshot fits."""
    line = ["qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=512", *MACHINE]
    line += ["-nodefaults", "-no-user-config", "-display", "none"]
    line += ["-kernel", str(image / "xen"), "-append", XEN]
    line += ["-initrd", f"{image}/vmlinuz {LINUX},{image}/dom0.cpio"]
    line += ["-netdev", f"user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:22"]
    line += ["-device", "virtio-net-pci,netdev=net,mac=52:54:00:12:34:57,romfile="]
    line += ["-drive", f"file={folder}/disk.qcow2,format=qcow2,if=virtio,cache=unsafe"]
    line += ["-chardev", f"file,id=serial,path={folder}/serial.log", "-serial", "chardev:serial"]
    line += ["-qmp", f"unix:{folder}/monitor,server=on,wait=off"]
    line += ["-pidfile", str(folder / "qemu.pid"), "-daemonize", *more]
    _run(line)


def _monitor(folder: Path, command: str) -> str:
    """What QEMU's monitor answers to a command of its human language."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(folder / "monitor"))
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


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# --- building -------------------------------------------------------------------------------


def built(say: bool = False) -> Path:
    """The folder with the host's snapshot; made where there is none for these scripts and QEMU."""
    base = platformdirs.user_cache_path("virtkit-tests", ensure_exists=True) / "xenhost"
    base.mkdir(exist_ok=True)
    with _locked(base / "lock"):
        final = base / _key()
        if not (final / "disk.qcow2").exists():
            for old in base.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            part = base / "part"
            part.mkdir(mode=0o700)
            _build(part, say)
            part.rename(final)
        return final


def _key() -> str:
    """What makes two builds alike: all that stands here, the QEMU whose snapshot it is, and the
    image in its pool."""
    texts = [(HERE / name).read_bytes() for name in (*PARTS, Path(__file__).name)]
    texts.append(_run(["qemu-system-x86_64", "--version"]).encode())
    texts.append(images.prepare(_image(), Path(), Voice()).content.encode())
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:20]


def _build(part: Path, say: bool) -> None:
    def told(what: str) -> None:
        if say:
            print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)

    began = time.monotonic()
    for name in ("id", "hostkey"):
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "xenhost", "-f", part / name])
    told("unpacking dom0's packages")
    _compose(part)
    told("booting it")
    _run(["qemu-img", "create", "-f", "qcow2", part / "disk.qcow2", DISK])
    host = _known(part, part)
    _boot(part, part, host.port)
    try:
        serial = part / "serial.log"
        ready = _until(lambda: "XENHOST READY" in serial.read_text(errors="replace"), BOOT, 0.5)
        if not ready:
            raise RuntimeError(f"no Xen host within {BOOT} s:\n{serial.read_text()[-2000:]}")
        told("putting the image of the tests' guests into its pool")
        _fill(part, host)
        told("saving the machine")
        _monitor(part, "savevm ready")
        _monitor(part, "quit")
        _until(lambda: not (part / "qemu.pid").exists(), 30)
        told("done")
    except BaseException:
        host.stop()
        raise


def _compose(part: Path) -> None:
    """dom0's initramfs, kernel and hypervisor, of packages that are unpacked and not configured."""
    with tempfile.TemporaryDirectory(prefix="virtkit-xenhost-") as name:
        room = Path(name)
        room.chmod(0o711)  # the ids of the user namespace have to pass through
        files = {"id.pub": part / "id.pub", "hostkey": part / "hostkey"}
        files |= {each: HERE / each for each in PARTS}
        archive = room / "in.tar"
        with tarfile.open(archive, "w") as tar:
            for each, path in files.items():
                info = tarfile.TarInfo(f"in/{each}")
                data = path.read_bytes()
                info.size, info.mode = len(data), 0o755
                tar.addfile(info, io.BytesIO(data))
        excluded = ("doc", "locale", "man", "i18n", "info", "zoneinfo", "perl", "perl5")
        line = ["mmdebstrap", "--mode=root"]
        line += ["--variant=extract", "--format=null", f"--include={','.join(PACKAGES)}"]
        line += [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in excluded]
        line += [f"--extract-hook=tar-in {shlex.quote(str(archive))} /"]
        line += ['--extract-hook=chroot "$1" /bin/dash /in/compose']
        for each in ("xen", "vmlinuz", "dom0.cpio"):
            line.append(f"--extract-hook=download /out/{each} {shlex.quote(str(part / each))}")
        line += [RELEASE, "/dev/null", *build.mirrors(RELEASE)]

        def failed(lines: Sequence[str]) -> VirtkitError:
            what = "dom0's packages were not unpacked"
            return failures.failure(what, lines, folder=room)

        leash.run(line, root="own", work=room, failed=failed, say=Voice())


def _fill(part: Path, xen: XenHost) -> None:
    """Uploads the image that tests use; without ssh, which is slow on an emulated processor."""
    port = _free_port()
    _monitor(part, f"hostfwd_add net tcp:127.0.0.1:{port}-:16509")
    remote = Remote("xen1", xen.address, xen.port, str(part / "id"), str(part / "known_hosts"))
    host = Host("xen1", uris={"xen": f"xen+tcp://127.0.0.1:{port}/system"}, remote=remote)
    host.storage.ensure()
    ref = _image()
    images.put(host, ref, images.prepare(ref, Path(), Voice()), Voice())
    host.connections.any().close()
    _monitor(part, f"hostfwd_remove net tcp:127.0.0.1:{port}")


def _image() -> ImageRef:
    entry = CATALOGUE[DEFAULT_IMAGE]
    return ImageRef(DEFAULT_IMAGE, entry, image_identity(entry))


def _run(line: Sequence[str | Path]) -> str:
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


def _until(what: object, timeout: float, pause: float = 0.2) -> object:
    end = time.monotonic() + timeout
    assert callable(what)
    while not (answer := what()) and time.monotonic() < end:
        time.sleep(pause)
    return answer


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(words: list[str]) -> None:
    match words:
        case ["build"]:
            print(built(say=True))
        case ["start", folder]:
            at = Path(folder).absolute()
            print((running(at) or start(at)).spec, end="")
        case ["stop", folder]:
            at = Path(folder).absolute()
            XenHost(at, 0).stop()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
