"""Builds a guest image of a distribution's packages: root file system, kernel and initrd.

It writes into the folder it is given and one for temporary files, and knows neither libvirt nor the
image store.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from grp import getgrgid
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from pwd import getpwuid

from virtkit._dataclass import dataclass
from virtkit.errors import RequestError, VirtkitError
from virtkit.images import apt, build_errors, build_folder, sandbox, userns_check
from virtkit.progress import Progress
from virtkit.system import commands

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

# Beginnings of mmdebstrap's messages, in their order, and the line of progress for each.
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
    """A digest of all that virtkit itself puts into an image, whatever the recipe.

    It has no more in it than that: where it changes, everybody's images are rebuilt.
    """
    ours = [os.uname().machine, _options(()), _customize_hooks("GUEST"), _pack_script()]
    return hashlib.sha256(json.dumps(ours).encode() + guest_files()).hexdigest()


def check(recipe: Recipe, into: Path) -> None:
    """Checks in a second whether a build can work here; nothing is built.

    Args:
        into: a folder that is there, on the disk that the image is built on.

    Raises:
        RequestError: it can't; the error says what fixes it.
    """
    if recipe.distribution != "debian":
        raise RequestError(
            f"virtkit can't build an image of {recipe.distribution!r}",
            cure="use distribution: debian, or a url or path image",
        )
    check_machine(into)


def check_machine(into: Path) -> None:
    """The same, whatever the recipe."""
    machine = os.uname().machine
    if machine not in KERNELS:
        raise RequestError(
            f"no kernel is known for images on {machine}",
            cure=f"build on one of {', '.join(sorted(KERNELS))}, or use a url image",
        )
    commands.require(*_tools(), purpose="to build an image")
    check_namespaces()
    build_folder.check_work(into)
    with build_folder.tree_folder(into):
        pass


def _tools() -> Sequence[str]:
    """The programs that a build starts."""
    tools = ("mmdebstrap", "apt-get", "apt-config", "mke2fs", "tar", "setpriv", "unshare")
    return tools if os.geteuid() == 0 else (*tools, "newuidmap", "newgidmap")


def check_namespaces() -> None:
    """Looks whether this user can have the namespaces that images are made in.

    Raises:
        RequestError: not here; the error says what fixes it.
    """
    user = _user()
    error = userns_check.missing_ids(user) if user.uid else None
    if error is not None:
        raise error
    done = commands.run(*sandbox.namespaces("own"), "true")
    if done.returncode != 0:
        raise userns_check.no_namespaces(" ".join(done.stderr.split())[-300:], user)


def _user() -> userns_check.User:
    uid = os.geteuid()
    try:
        account = getpwuid(uid)
    except KeyError:
        return userns_check.User(str(uid), uid)
    if account.pw_gid == os.getegid():
        return userns_check.User(account.pw_name, uid)
    return userns_check.User(account.pw_name, uid, _group_name(account.pw_gid))


def _group_name(gid: int) -> str:
    try:
        return getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def build(recipe: Recipe, into: Path, *, progress: Progress) -> None:
    """Builds ``root.img``, ``vmlinuz`` and ``initrd`` into an empty folder.

    ``root.img`` is raw and sparse: one ext4 file system labelled ``virtkit-root``, without a
    partition table. As root it works as root; as another user in a user namespace, for which the
    user needs ids in /etc/subuid and /etc/subgid. However it ends, nothing that it started is left.

    Args:
        recipe: what to build.
        into: an empty folder.
        progress: gets a short line for each stage.

    Raises:
        RequestError: it can't work here, and was not begun.
        VirtkitError: a package could not be had or installed, or a folder is full.
    """
    progress("checking whether it can be built here")
    check(recipe, into)
    build_folder.sweep()
    with _work(into) as work:
        with build_folder.tree_folder(work) as folder:
            _bootstrap(recipe, work, folder, progress)
        progress("making the file system")
        _pack(recipe, work, progress)
        for result in (ROOT, KERNEL, INITRD):
            (work / result).rename(into / result)


@contextmanager
def _work(into: Path) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix=".build-", dir=into))
    try:
        yield work
    finally:
        sandbox.remove(work)


def _options(packages: Sequence[str]) -> list[str]:
    """mmdebstrap's options that decide what is in an image; ``packages`` are the recipe's."""
    every = [KERNELS.get(os.uname().machine, ""), *PACKAGES, *packages]
    return [
        "--variant=minbase",
        f"--include={','.join(every)}",
        *(f"--dpkgopt={option}" for option in EXCLUDED),
    ]


def _customize_hooks(archive: str) -> list[str]:
    """What is done to the installed system; ``archive`` has our files for it."""
    # mmdebstrap splits what begins with tar-in as a shell does, and lets a shell run the rest
    return [
        f"--customize-hook=tar-in {shlex.quote(archive)} /",
        f'--customize-hook=chroot "$1" sh /{_WORKSHOP}/configure.sh /{_WORKSHOP}',
        f'--customize-hook=rm -rf "$1/{_WORKSHOP}"',
    ]


def _bootstrap(recipe: Recipe, work: Path, folder: Path, progress: Progress) -> None:
    """Has mmdebstrap install and configure the system in ``folder``, and pack ``work/tree.tar``."""
    own_sources = apt.sources(recipe.release, progress)
    with _archive(folder) as archive:
        command = [
            *commands.command_line("mmdebstrap", "--mode=root", "--format=tar"),
            *_options(recipe.packages),
            *apt.setup_hooks(folder.parent / "apt", own_sources, progress),
            *_customize_hooks(str(archive)),
            recipe.release,
            "-",
            *(each.line for each in own_sources),
        ]
        stages = _Stages(progress)

        def failed(lines: Sequence[str]) -> VirtkitError:
            what = f"the packages of {recipe.distribution} {recipe.release} were not installed"
            return build_errors.failure(what, lines, folder=work if stages.packing else folder)

        sandbox.run(
            command,
            root="subordinate",
            work=folder,
            failed=failed,
            progress=progress,
            say=stages,
            output=work / "tree.tar",
        )


@contextmanager
def _archive(folder: Path) -> Iterator[Path]:
    """Our files for the image, where the root of its namespaces can read them."""
    # not in ``folder`` itself, which is not the caller's
    with tempfile.NamedTemporaryFile(dir=folder.parent, prefix="guest-", suffix=".tar") as file:
        file.write(guest_files())
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        yield Path(file.name)


class _Stages:
    """Tells the stages of a build as mmdebstrap comes to them."""

    def __init__(self, progress: Progress) -> None:
        self._say = progress
        self._remaining = list(_STAGES)

    @property
    def packing(self) -> bool:
        """Whether it has come to the last: what it writes then is the archive."""
        return not self._remaining

    def __call__(self, line: str) -> None:
        for at, (beginning, stage) in enumerate(self._remaining):
            if line.startswith(f"I: {beginning}"):
                del self._remaining[: at + 1]
                self._say(stage)
                return


def mirrors(release: str, progress: Progress | None = None) -> list[str]:
    """This machine's own sources of a Debian release, as lines of a sources.list without logins
    and keyrings: what an image gets.

    Without any, mmdebstrap takes the distribution's own servers.
    """
    return [each.line for each in apt.sources(release, progress)]


def _pack(recipe: Recipe, work: Path, progress: Progress) -> None:
    """Makes root.img, vmlinuz and initrd of ``work/tree.tar``."""

    def failed(lines: Sequence[str]) -> VirtkitError:
        return build_errors.failure("the file system was not made", lines, folder=work)

    command = commands.command_line(
        "sh", "-c", _pack_script(), "pack.sh", "tree.tar", str(recipe.size)
    )
    sandbox.run(command, root="own", work=work, failed=failed, progress=progress)


def _pack_script() -> str:
    return (files("virtkit.images") / "guest" / "pack.sh").read_text()


def guest_files() -> bytes:
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
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
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
