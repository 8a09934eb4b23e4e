"""The disk of a plain Debian host: systemd, AppArmor, libvirt, and an ordinary user with sudo.

It boots by itself. The tests' emulated host runs on it (realhost.py), and Vagrant's box is it in
Vagrant's packing (box.py). The user is Vagrant's, `vagrant`, who is let in by Vagrant's published
key. This checkout is in ~/virtkit, and the tests' image in the cache: building one takes a quarter
of an hour under emulation.

What of virtkit is there already: `ready` has all packages and the user's .venv; `bare` has neither
libvirt nor a .venv, and what these need is downloaded only, so that `scripts/up` there does all
that a new user sees.

No root is needed: packages are installed in a user namespace, and file system and boot loader are
written into a file.
"""

from __future__ import annotations

import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import machine
from machine import Tell

from virtkit.errors import VirtkitError
from virtkit.images import build, sandbox
from virtkit.progress import Progress

HERE = Path(__file__).parent
REPO = HERE.parents[1]
RELEASES = ("bookworm", "trixie")
Kind = Literal["ready", "bare"]

#: What Debian's installer would have put there, and a login by ssh.
SYSTEM = (
    *("apparmor", "apparmor-utils", "apt-utils", "ca-certificates", "dbus", "fdisk", "git"),
    *("grub-pc", "initramfs-tools", "iproute2", "iputils-ping", "kmod", "less"),
    *("libpam-systemd", "linux-image-amd64", "nftables", "openssh-server", "passwd", "procps"),
    *("python3", "sudo", "systemd-resolved", "systemd-sysv", "udev"),
)
#: Where what belongs to the network and not to the machine comes from: certificates, proxies.
NETWORK = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")

#: Its size, and what lies before the file system: partition table and boot loader.
SIZE_GIB, BEFORE_KIB = 16, 1024
#: How Linux is started on it. Checks and mitigations that only cost time on an emulated processor
#: are off, and the clock is the processor's: this is a machine to try things on.
LINUX = (
    "root=/dev/vda1 rw console=ttyS0 quiet mitigations=off no_timer_check tsc=reliable "
    "cryptomgr.notests=1 systemd.show_status=false"
)
#: What it is made of.
FILES = (
    *(Path(__file__), HERE / "compose", REPO / "scripts/setup"),
    REPO / "playbooks/roles/packages/files/Debian.list",
)
#: From here on pyproject.toml is the linters'; pip goes by what stands before, as scripts/setup.
LINTERS = "[tool.ruff]"


def key(release: str, kind: Kind) -> str:
    """What makes two disks alike."""
    installed = (REPO / "pyproject.toml").read_text().partition(LINTERS)[0]
    return machine.key_of(*FILES, words=(release, kind, installed))


def built(release: str = RELEASES[0], kind: Kind = "ready", *, say: bool = False) -> Path:
    """The folder with `base.raw`, and its kernel and initrd for who boots it without its loader."""

    def made(into: Path, tell: Tell) -> None:
        tell(f"installing Debian {release}")
        _compose(into, release, kind)
        tell("making the disk")
        _pack(into)

    return machine.kept(f"hostdisk-{release}-{kind}", key(release, kind), made, say=say)


def _compose(into: Path, release: str, kind: Kind) -> None:
    """The host's files (tree.tar), of packages that are installed without being started."""
    with tempfile.TemporaryDirectory(prefix="virtkit-realhost-", dir="/var/tmp") as name:
        room = Path(name)
        room.chmod(0o711)  # the ids of the user namespace have to pass through
        tree = room / "tree"
        tree.mkdir(mode=0o777)
        tree.chmod(0o777)
        with _given(room) as archive:
            line = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar"]
            line += [f"--include={','.join(SYSTEM)}"]
            line += [f"--customize-hook=tar-in {shlex.quote(str(archive))} /"]
            words = ["/in/compose", kind, f"{SIZE_GIB}G", LINUX, *_packages()]
            line += [f'--customize-hook=chroot "$1" /bin/sh {shlex.join(words)}']
            line += ['--customize-hook=rm -rf "$1/in"']
            line += [release, "-", *(build.mirrors(release) or _mirrors_of(release))]
            _run(line, tree, f"Debian {release} was not installed", into / "tree.tar")


def _pack(into: Path) -> None:
    """The disk of ``tree.tar``: what /out has of it goes before the file system."""
    size = SIZE_GIB * 1024 * 1024 - BEFORE_KIB
    cache = "tree/home/vagrant/.cache/virtkit/images"
    image = shlex.quote(str(Path(machine.tests_image()[1].root).parent))
    # what older boot loaders can't read
    options = f"-O ^orphan_file,^metadata_csum_seed -E offset={BEFORE_KIB * 1024}"
    lines = (
        "set -eu; trap 'rm -rf tree' EXIT; mkdir tree",
        "tar -xf tree.tar -C tree --numeric-owner -p --xattrs --exclude='./dev/*'; rm tree.tar",
        "cat tree/boot/vmlinuz-* >vmlinuz; cat tree/boot/initrd.img-* >initrd",
        "cat tree/out/head >base.raw; rm -r tree/out",
        # the image is large and sparse: it does not go through archives
        f"mkdir -p {cache}; cp -r --sparse=always {image} {cache}/",
        "chown -R --reference=tree/home/vagrant tree/home/vagrant/.cache",
        f"truncate -s {SIZE_GIB}G base.raw",
        f"mke2fs -q -t ext4 -L host {options} -d tree base.raw {size}k",
    )
    _run(["sh", "-c", "\n".join(lines)], into, "the host's disk was not made")


def _run(line: Sequence[str], work: Path, what: str, output: Path | None = None) -> None:
    def failed(lines: Sequence[str]) -> VirtkitError:
        last = "\n".join(list(lines)[-20:])
        return VirtkitError(f"{what}:\n{last}", cure="see its last lines")

    root: sandbox.Root = "subordinate" if output else "own"
    sandbox.run(line, root=root, work=work, failed=failed, progress=Progress(), output=output)


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


def checkout() -> list[str]:
    """The files of this checkout, as it is now."""
    names = subprocess.run(
        ["git", "-C", REPO, "ls-files", "-z", "-co", "--exclude-standard"],
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    return sorted(each.decode() for each in names if each and (REPO / each.decode()).exists())


@contextmanager
def _given(room: Path) -> Iterator[Path]:
    """An archive of what goes into the tree beside its packages, in the folder /in."""
    path = room / "in.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(HERE / "compose", "in/compose")
        tar.add(REPO / "vagrant/insecure.pub", "in/insecure.pub")
        for each in ("/etc/resolv.conf", *NETWORK):
            if Path(each).exists():
                tar.add(Path(each).resolve(), f"in/network{each}")
        for name in checkout():
            tar.add(REPO / name, f"in/checkout/{name}")
    path.chmod(0o644)
    yield path
