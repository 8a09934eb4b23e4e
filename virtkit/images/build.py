"""Builds a guest image of a distribution's packages: root file system, kernel and initrd.

It writes into the folder it is given and nowhere else, and knows neither libvirt nor the image
store.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from virtkit.errors import RequestError, VirtkitError
from virtkit.voice import Voice

ROOT = "root.img"
KERNEL = "vmlinuz"
INITRD = "initrd"

# What every image has; a recipe's packages come on top.
PACKAGES = (
    "busybox-static",  # the initrd's shell and commands
    "ca-certificates",
    "cloud-init",
    "dbus",  # logind, and so the power button, needs it
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "less",
    "libpam-systemd",
    "netbase",
    "openssh-server",
    "procps",
    "python3",  # Ansible
    "qemu-guest-agent",
    "sudo",
    "systemd-resolved",
    "systemd-sysv",
)

# By processor architecture (uname -m): Debian's kernel for virtual machines.
KERNELS = {
    "x86_64": "linux-image-cloud-amd64",
    "aarch64": "linux-image-cloud-arm64",
}

# Files that dpkg leaves out, now and whenever the guest installs something. Without the hook no
# initramfs is made with each kernel; the guest would never boot it.
EXCLUDED = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/etc/kernel/postinst.d/initramfs-tools",
)

# Where our files lie inside the image while it is configured.
_WORKSHOP = "var/tmp/virtkit-build"

# Beginnings of mmdebstrap's messages, in their order, and what is told of them.
_STAGES = (
    ("running apt-get update", "reading the package lists"),
    ("downloading packages", "downloading packages"),
    ("extracting archives", "unpacking the base system"),
    ("installing essential packages", "installing the base system"),
    ("installing remaining packages", "installing packages"),
    ("running --customize-hook", "configuring"),
    ("creating tarball", "collecting files"),
)


@dataclass(frozen=True)
class Recipe:
    """What a spec's ``images: {NAME: {build: …}}`` asks for.

    Attributes:
        distribution: ``debian``.
        release: the release's code name, such as ``bookworm``.
        packages: names of packages beside virtkit's own.
        size: bytes of the root file system, a multiple of 1024.
    """

    distribution: str
    release: str
    packages: tuple[str, ...]
    size: int


def fingerprint() -> str:
    """What makes two builds of one recipe alike on our side: this module and the guest's files."""
    return hashlib.sha256(Path(__file__).read_bytes() + _guest_files()).hexdigest()


def build(recipe: Recipe, into: Path, *, say: Voice) -> None:
    """Build ``root.img``, ``vmlinuz`` and ``initrd`` into an empty folder.

    ``root.img`` is raw and sparse: one ext4 file system labelled ``virtkit-root``, without a
    partition table. As root it works as root; as another user in a user namespace, for which the
    user needs ids in /etc/subuid and /etc/subgid.

    Args:
        recipe: what to build.
        into: an empty folder; needs about three times the size of the installed packages, for a
            user other than root a part of that in the system's folder for temporary files.
        say: gets a short line for each stage.

    Raises:
        RequestError: the distribution is not one that virtkit builds.
        VirtkitError: a tool is missing, or a package could not be had or installed.
    """
    if recipe.distribution != "debian":
        raise RequestError(
            f"no way is known to build an image of {recipe.distribution!r}",
            cure="use distribution: debian, or a url or path image",
        )
    rootless = os.geteuid() != 0
    _require_tools(rootless)
    with (
        tempfile.TemporaryDirectory(prefix=".build-", dir=into) as name,
        _room(Path(name), rootless) as room,
    ):
        work = Path(name)
        _bootstrap(recipe, work, room, rootless, say)
        say("making the file system")
        _pack(recipe, work, rootless, say)
        for result in (ROOT, KERNEL, INITRD):
            (work / result).rename(into / result)


@contextmanager
def _room(work: Path, rootless: bool) -> Iterator[Path]:
    """A folder in which mmdebstrap can make its tree.

    In a user namespace the tree belongs to ids that may not pass through a home folder of mode
    0700, so there it is one in the system's folder for temporary files.
    """
    if not rootless:
        yield work
        return
    # After a kill, files of the namespace's ids are left that this user may not remove.
    with tempfile.TemporaryDirectory(prefix="virtkit-build-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _require_tools(rootless: bool) -> None:
    """Refuse at once what would fail minutes later for want of a tool."""
    wanted = [("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs"), ("setpriv", "util-linux")]
    if rootless:
        wanted += [("newuidmap", "uidmap"), ("unshare", "util-linux")]
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = [(tool, package) for tool, package in wanted if not shutil.which(tool, path=path)]
    if missing:
        tools = ", ".join(tool for tool, _ in missing)
        packages = " ".join(dict.fromkeys(package for _, package in missing))
        raise VirtkitError(
            f"building an image needs {tools}",
            cure=f"apt-get install {packages}",
            why="not found in PATH",
        )


def _bootstrap(recipe: Recipe, work: Path, room: Path, rootless: bool, say: Voice) -> None:
    """Have mmdebstrap install and configure the system in ``room``, and make ``work/tree.tar``."""
    machine = os.uname().machine
    if machine not in KERNELS:
        raise VirtkitError(
            f"no kernel is known for images on {machine}",
            cure=f"build on one of {', '.join(sorted(KERNELS))}, or use a url image",
        )
    (work / "guest.tar").write_bytes(_guest_files())
    packages = [KERNELS[machine], *PACKAGES, *recipe.packages]
    command = [
        "mmdebstrap",
        f"--mode={'unshare' if rootless else 'root'}",
        "--variant=minbase",
        "--format=tar",
        f"--include={','.join(packages)}",
        *(f"--dpkgopt={option}" for option in EXCLUDED),
        f"--customize-hook=tar-in {work / 'guest.tar'} /",
        f'--customize-hook=chroot "$1" sh /{_WORKSHOP}/configure.sh /{_WORKSHOP}',
        f'--customize-hook=rm -rf "$1/{_WORKSHOP}"',
        recipe.release,
        str(work / "tree.tar"),
        *_mirrors(recipe.release),
    ]
    untold = list(_STAGES)

    def stage(line: str) -> None:
        for at, (beginning, words) in enumerate(untold):
            if line.startswith(f"I: {beginning}"):
                del untold[: at + 1]
                say(words)
                return

    failed = f"the packages of {recipe.distribution} {recipe.release} were not installed"
    _run(command, work, room, say, stage, failed=failed)


def _mirrors(release: str) -> list[str]:
    """This machine's own sources of a Debian release, as lines of a sources.list.

    Without any, mmdebstrap takes the distribution's own servers.
    """
    wanted = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", wanted, "Created-By: Packages", "Origin: Debian"],
        capture_output=True,
        text=True,
        check=False,
    )
    suites = (release, f"{release}-updates", f"{release}-security")
    lines = []
    for line in found.stdout.splitlines():
        uri, suite, component = line.split()
        if suite in suites and component == "main" and uri.startswith(("http://", "https://")):
            lines.append(f"deb {uri} {suite} {component}")
    # Without the release itself the rest is of no use.
    return sorted(set(lines)) if any(f" {release} " in line for line in lines) else []


def _pack(recipe: Recipe, work: Path, rootless: bool, say: Voice) -> None:
    """Make root.img, vmlinuz and initrd of ``work/tree.tar``."""
    script = work / "pack.sh"
    script.write_text((files("virtkit.images") / "guest" / "pack.sh").read_text())
    command = ["sh", str(script), "tree.tar", str(recipe.size)]
    if rootless:
        command = ["unshare", "--map-root-user", "--map-auto", "--", *command]
    _run(command, work, work, say, failed="the file system was not made")


def _guest_files() -> bytes:
    """A tar archive of what virtkit adds to an image; modes don't rest on how it was installed."""
    guest = files("virtkit.images") / "guest"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, entry in _walk(guest / "files", ""):
            # A folder of our tree that the system has too keeps the system's own mode.
            _add(tar, path, entry, executable=path.startswith("usr/lib/virtkit/"))
        for name in ("configure.sh", "initrd-init"):
            _add(tar, f"{_WORKSHOP}/{name}", guest / name, executable=True)
    return archive.getvalue()


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{path}/")
        else:
            yield path, entry


def _add(tar: tarfile.TarFile, path: str, entry: Traversable, *, executable: bool) -> None:
    content = entry.read_bytes()
    info = tarfile.TarInfo(path)
    info.size = len(content)
    info.mode = 0o755 if executable else 0o644
    tar.addfile(info, io.BytesIO(content))


def _run(
    command: Sequence[str],
    work: Path,
    room: Path,
    say: Voice,
    tell: Callable[[str], None] = lambda _: None,
    *,
    failed: str,
) -> None:
    """Run a command in ``work`` and hand each line it prints to ``tell``; ``room`` is its TMPDIR.

    Raises:
        VirtkitError: ``failed``, with the last lines printed as the why.
    """
    environment = {
        **os.environ,
        "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
        "TMPDIR": str(room),
        "LC_ALL": "C.UTF-8",
    }
    last: deque[str] = deque(maxlen=12)
    with _stopped_at_end(
        subprocess.Popen(
            [*_leash(), *command],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # the terminal's ctrl-c reaches us alone, and we end it
        )
    ) as process:
        assert process.stdout is not None
        with say.ending(lambda: _end(process)):
            for line in process.stdout:
                last.append(line.rstrip())
                tell(line)
    say.look()  # it was ended, and did not fail
    if process.returncode != 0:
        raise VirtkitError(
            failed,
            cure="check that `apt-get update` works here and that the packages exist, run it again",
            why="\n".join(last),
        )


def _leash() -> list[str]:
    """What a command is started with so that no kill of this process leaves it running.

    As root mmdebstrap mounts proc and sys into its tree. In a mount and a process namespace these
    end with it; otherwise they could be left in the tree that somebody then removes, host's files
    and all. In a user namespace it makes its own.
    """
    if os.geteuid() != 0:
        return ["setpriv", "--pdeathsig", "TERM", "--"]
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    # In a chroot / is no mount point, and there is nothing to make private.
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        unshare += ["--propagation", "unchanged"]
    return ["setpriv", "--pdeathsig", "KILL", "--", *unshare, "--"]


@contextmanager
def _stopped_at_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Wait for the process at the end; on an error or interrupt, stop it and all it started."""
    with process:
        try:
            yield process
        except BaseException:
            _end(process)
            assert process.stdout is not None
            process.stdout.read()  # ends when the last of them has gone
            raise


def _end(process: subprocess.Popen[str]) -> None:
    if os.geteuid() == 0:
        process.kill()  # unshare holds TERM back; its namespaces go with it
    else:
        process.terminate()
