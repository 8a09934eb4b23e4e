"""A plain Debian host for tests and for trying things out, on an emulated machine: systemd, cgroup
v2, AppArmor, and KVM that works.

The processor is an AMD one whose SVM and nested paging are emulated, too: in it kvm_amd loads by
itself and runs Linux guests. Its disk is the one of Vagrant's box (disk.py). Users: alice, who has
what the disk's user has, may become root by sudo, bob may not.

usage: python -m realhost.realhost build | start FOLDER | stop FOLDER [RELEASE [KIND]]  (in tests/)
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import machine
from machine import BOOT, Machine, Tell
from realhost import disk
from realhost.disk import LINUX, RELEASES, REPO, Kind

HERE = Path(__file__).parent

#: One processor: with two, the machine died within minutes of a KVM guest's life (QEMU 7.2). It has
#: AVX, though that costs much to emulate: without, signals fail in its KVM guests ("bad frame").
MACHINE = ("-machine", "q35,usb=off", "-cpu", "EPYC,+svm,+npt", "-smp", "1", "-m", "4096")


class RealHost(Machine):
    """A Debian host that runs."""

    def give(self, user: str = "alice", folder: str = "virtkit") -> None:
        """Gives a user this checkout as it is now, beside what is in .venv."""
        names = "\0".join(disk.checkout()).encode()
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
    started = machine.from_snapshot(built(release, kind), folder, arguments)
    return RealHost(started.folder, started.port)


def arguments(image: Path, folder: Path) -> list[str]:
    """QEMU's arguments for a machine in ``folder``: its disk lies over the image's."""
    # systemd writes it where root has none yet
    public = (image / "id.pub").read_text().strip()
    root_key = f"systemd.set_credential=ssh.authorized_keys.root:{public}"
    below = f"backing.driver=raw,backing.file.driver=file,backing.file.filename={image}/base.raw"
    drive = f"file={folder}/disk.qcow2,format=qcow2,if=virtio,cache=unsafe,discard=unmap"
    return [
        *("-accel", "tcg,thread=multi,tb-size=1024", *MACHINE),
        *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd")),
        *("-append", f'{LINUX} "{root_key}"'),
        *("-drive", f"{drive},{below}", "-device", "virtio-rng-pci"),
    ]


# --- building -------------------------------------------------------------------------------


def built(release: str = RELEASES[0], kind: Kind = "ready", *, say: bool = False) -> Path:
    """The folder with a host's snapshot; made where there is none for what it is made of."""
    base = disk.built(release, kind, say=say)
    key = machine.key_of(Path(__file__), HERE / "people", words=(base.name,))
    name = f"realhost-{release}-{kind}"
    return machine.built(name, key, lambda into, tell: _build(into, base, tell), say=say)


def _build(into: Path, base: Path, tell: Tell) -> None:
    tell("booting it")
    for each in ("base.raw", "vmlinuz", "initrd"):
        (into / each).hardlink_to(base / each)
    below = ("-b", "base.raw", "-F", "raw")
    machine.run(["qemu-img", "create", "-q", "-f", "qcow2", *below, into / "disk.qcow2"])
    new = machine.new_machine(into, into)
    host = RealHost(new.folder, new.port)
    host.boot(arguments(into, into))
    try:
        _first_login(host)
        host.ssh("systemctl is-system-running --wait", check=False)
        # what a new login loads is in memory then
        host.ssh("sudo -n true; python3 -c 'import json'; git --version", "alice")
        tell("saving the machine")
        host.save()
    except BaseException:
        host.stop()
        raise


def _first_login(host: RealHost) -> None:
    """Waits until a fresh disk takes logins, learns the key by which it is known, and gives it its
    users."""
    scan = ["ssh-keyscan", "-t", "ed25519", "-p", str(host.port), "127.0.0.1"]

    def key() -> str:
        return subprocess.run(scan, capture_output=True, text=True, check=False).stdout

    line = machine.until(key, BOOT, 1)
    (host.folder / "hostkey.pub").write_text(" ".join(line.split()[1:]))
    (host.folder / "known_hosts").write_text(line)
    if not machine.until(host.takes_login, BOOT, 1):
        log = (host.folder / "serial.log").read_text(errors="replace")
        raise RuntimeError(f"no login within {BOOT} s:\n{log[-2000:]}")
    done = host.run("sh -s", stdin=(HERE / "people").read_bytes())
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode(errors="replace"))


def main(words: list[str]) -> None:
    verb, *rest = words or [""]
    folder = [Path(rest.pop(0)).absolute()] if verb in ("start", "stop") and rest else []
    release, kind = [*rest, *(RELEASES[0], "ready")[len(rest) :]][:2]
    if release not in RELEASES or kind not in ("ready", "bare"):
        sys.exit(__doc__)
    match verb, *folder:
        case ["build"]:
            print(built(release, kind, say=True))  # type: ignore[arg-type]  # looked at above
        case ["start", at]:
            there = machine.running(at)
            host = RealHost(at, there.port) if there else start(at, release, kind)  # type: ignore[arg-type]  # looked at above
            print(shlex.join(host.ssh_line("alice")))
        case ["stop", at]:
            Machine(at, 0).stop()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
