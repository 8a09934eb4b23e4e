"""A plain Debian host for tests and for trying things out, on an emulated machine: systemd, cgroup
v2, AppArmor, and KVM that works.

The processor is an AMD one whose SVM and nested paging are emulated, too: in it kvm_amd loads by
itself and runs Linux guests. Users: alice may become root by sudo, bob may not. alice has this
checkout in ~/virtkit, and the tests' image in her cache: building one takes a quarter of an hour
under emulation.

What of virtkit is there already: `ready` has all packages, and alice's .venv; `bare` has neither
libvirt nor a .venv, and what these need is downloaded only, so that `scripts/up` there does all
that a new user sees.

usage: python -m realhost.realhost build | start FOLDER | stop FOLDER [RELEASE [KIND]]  (in tests/)
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import machine
from machine import BOOT, Machine, Tell

from virtkit.errors import VirtkitError
from virtkit.images import build, leash
from virtkit.voice import Voice

HERE = Path(__file__).parent
REPO = HERE.parents[1]
RELEASES = ("bookworm", "trixie")
Kind = Literal["ready", "bare"]

#: What Debian's installer would have put there, and a login by ssh.
SYSTEM = (
    *("apparmor", "apparmor-utils", "apt-utils", "ca-certificates", "dbus", "git"),
    *("initramfs-tools", "iproute2", "iputils-ping", "kmod", "less", "libpam-systemd"),
    *("linux-image-amd64", "nftables", "openssh-server", "passwd", "procps", "sudo"),
    *("systemd-resolved", "systemd-sysv", "udev"),
)
#: Where what belongs to the network and not to the machine comes from: certificates, proxies.
NETWORK = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")

#: One processor: with two, the machine died within minutes of a KVM guest's life (QEMU 7.2).
MACHINE = ("-machine", "q35,usb=off", "-cpu", "EPYC,+svm,+npt", "-smp", "1", "-m", "4096")
LINUX = (
    "root=/dev/vda rw console=ttyS0 quiet mitigations=off no_timer_check cryptomgr.notests=1 "
    "systemd.show_status=false"
)
DISK = "16G"


class RealHost(Machine):
    """A Debian host that runs."""

    def give(self, user: str = "alice", folder: str = "virtkit") -> None:
        """Gives a user this checkout as it is now, beside what is in .venv."""
        names = subprocess.run(
            ["git", "-C", REPO, "ls-files", "-z", "-co", "--exclude-standard"],
            capture_output=True,
            check=True,
        ).stdout
        packed = subprocess.run(
            ["tar", "-C", REPO, "--null", "--ignore-failed-read", "-T", "-", "-cf", "-"],
            input=names,
            capture_output=True,
            check=True,
        ).stdout
        at = shlex.quote(folder)
        clear = f"find {at} -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {{}} +"
        done = self.run(f"mkdir -p {at} && {clear} && tar -C {at} -xf -", user, stdin=packed)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode(errors="replace"))

    def reboot(self) -> None:
        """Reboots it, and waits until it takes logins again."""
        boot = self.ssh("cat /proc/sys/kernel/random/boot_id")
        self.ssh("systemctl reboot", check=False)
        again = "cat /proc/sys/kernel/random/boot_id"
        if not machine.until(lambda: self.ssh(again, check=False) not in ("", boot), BOOT, 2):
            raise RuntimeError("the host did not come back from its reboot")


def start(folder: Path, release: str = RELEASES[0], kind: Kind = "ready") -> RealHost:
    """A fresh host in ``folder``, from the snapshot; that is built where there is none."""
    started = machine.from_snapshot(built(release, kind), folder, _arguments)
    return RealHost(started.folder, started.port)


def _arguments(image: Path, folder: Path) -> list[str]:
    """QEMU's arguments for a machine in ``folder``: its disk lies over the image's."""
    below = f"backing.driver=raw,backing.file.driver=file,backing.file.filename={image}/base.raw"
    drive = f"file={folder}/disk.qcow2,format=qcow2,if=virtio,cache=unsafe,discard=unmap"
    return [
        *("-accel", "tcg,thread=multi,tb-size=1024", *MACHINE),
        *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd"), "-append", LINUX),
        *("-drive", f"{drive},{below}", "-device", "virtio-rng-pci"),
    ]


# --- building -------------------------------------------------------------------------------


def built(release: str = RELEASES[0], kind: Kind = "ready", *, say: bool = False) -> Path:
    """The folder with a host's snapshot; made where there is none for what it is made of."""
    files = (Path(__file__), HERE / "compose", REPO / "pyproject.toml", REPO / "scripts/setup")
    files += (REPO / "playbooks/roles/packages/files/Debian.list",)
    key = machine.key_of(*files, words=(release, kind))
    name = f"realhost-{release}-{kind}"
    return machine.built(name, key, lambda into, tell: _build(into, release, kind, tell), say=say)


def _build(into: Path, release: str, kind: Kind, tell: Tell) -> None:
    tell(f"installing Debian {release}")
    _compose(into, release, kind)
    tell("booting it")
    disk = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw")
    machine.run([*disk, into / "disk.qcow2"])
    prepared = machine.prepared(into, into)
    host = RealHost(prepared.folder, prepared.port)
    host.boot(_arguments(into, into))
    try:
        if not machine.until(host.answers, BOOT, 1):
            log = (into / "serial.log").read_text(errors="replace")
            raise RuntimeError(f"no login within {BOOT} s:\n{log[-2000:]}")
        host.ssh("systemctl is-system-running --wait", check=False)
        # what a new login loads is in memory then
        host.ssh("sudo -n true; python3 -c 'import json'; git --version", "alice")
        tell("saving the machine")
        host.save()
    except BaseException:
        host.stop()
        raise


def _compose(into: Path, release: str, kind: Kind) -> None:
    """The host's disk, kernel and initrd, of packages that are installed without being started."""
    with tempfile.TemporaryDirectory(prefix="virtkit-realhost-", dir="/var/tmp") as name:
        room = Path(name)
        room.chmod(0o711)  # the ids of the user namespace have to pass through
        tree = room / "tree"
        tree.mkdir(mode=0o777)
        tree.chmod(0o777)
        with _given(into, room) as archive:
            line = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar"]
            line += [f"--include={','.join(SYSTEM)}"]
            line += [f"--customize-hook=tar-in {shlex.quote(str(archive))} /"]
            words = shlex.join(["/in/compose", kind, *_packages()])
            line += [f'--customize-hook=chroot "$1" /bin/sh {words}']
            line += ['--customize-hook=rm -rf "$1/in"']
            line += [release, "-", *(build.mirrors(release) or _mirrors_of(release))]
            _run(line, tree, f"Debian {release} was not installed", into / "tree.tar")
    pack = "".join(
        f"{each}\n"
        for each in (
            "set -eu; trap 'rm -rf tree' EXIT; mkdir tree",
            "tar -xf tree.tar -C tree --numeric-owner -p --xattrs --exclude='./dev/*'; rm tree.tar",
            "cat tree/boot/vmlinuz-* >vmlinuz; cat tree/boot/initrd.img-* >initrd",
            f"mke2fs -q -t ext4 -L host -d tree base.raw {DISK}",
        )
    )
    _run(["sh", "-c", pack], into, "the host's disk was not made")


def _run(line: Sequence[str], work: Path, what: str, output: Path | None = None) -> None:
    def failed(lines: Sequence[str]) -> VirtkitError:
        last = "\n".join(list(lines)[-20:])
        return VirtkitError(f"{what}:\n{last}", cure="see its last lines")

    root: leash.Root = "subordinate" if output else "own"
    leash.run(line, root=root, work=work, failed=failed, say=Voice(), room=work, output=output)


def _mirrors_of(release: str) -> list[str]:
    """This machine's sources, for a release that is not its own."""
    own = Path("/etc/os-release").read_text().partition("VERSION_CODENAME=")[2].split()[0]
    return [each.replace(f" {own}", f" {release}", 1) for each in build.mirrors(own)]


def _packages() -> list[str]:
    """What scripts/up would install on such a machine."""
    script = ". scripts/setup; echo $BUILD_PACKAGES $(host_packages)"
    line = ["sh", "-c", script, "scripts/setup"]
    done = subprocess.run(line, cwd=REPO, capture_output=True, text=True, check=True)
    return sorted(set(done.stdout.split()))


@contextmanager
def _given(into: Path, room: Path) -> Iterator[Path]:
    """An archive of what goes into the tree beside its packages, in the folder /in."""
    _, image = machine.tests_image()
    names = subprocess.run(
        ["git", "-C", REPO, "ls-files", "-z", "-co", "--exclude-standard"],
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    path = room / "in.tar"
    cache = Path(image.root).parent
    with tarfile.open(path, "w") as tar:
        tar.add(HERE / "compose", "in/compose")
        for each in ("id.pub", "hostkey", "hostkey.pub"):
            tar.add(into / each, f"in/{each}")
        for each in ("/etc/resolv.conf", *NETWORK):
            if Path(each).exists():
                tar.add(Path(each).resolve(), f"in/network{each}")
        for name in sorted(filter(None, names)):
            if (REPO / name.decode()).exists():
                tar.add(REPO / name.decode(), f"in/checkout/{name.decode()}")
    # the image is sparse, and Python's tar does not see that
    subprocess.run(
        ["tar", "-rSf", path, "-C", cache.parent, "--transform", "s|^|in/images/|", cache.name],
        check=True,
    )
    path.chmod(0o644)
    yield path


def main(words: list[str]) -> None:
    verb, *rest = words or [""]
    folder = [Path(rest.pop(0)).absolute()] if verb in ("start", "stop") and rest else []
    release, kind = [*rest, *(RELEASES[0], "ready")[len(rest) :]][:2]
    if release not in RELEASES or kind not in ("ready", "bare"):
        sys.exit(__doc__)
    match verb, *folder:
        case ["build"]:
            print(built(release, kind, say=True))  # type: ignore[arg-type]
        case ["start", at]:
            there = machine.running(at)
            host = RealHost(at, there.port) if there else start(at, release, kind)  # type: ignore[arg-type]
            print(shlex.join(host.ssh_line("alice")))
        case ["stop", at]:
            Machine(at, 0).stop()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
