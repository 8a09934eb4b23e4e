"""The host's programs that virtkit starts: where they are looked for, what each is for, and which
package brings it.

Debian's users have no /sbin in their PATH, and mke2fs is there. So all programs are found here, and
nothing may be started with the caller's PATH alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import nullcontext

from virtkit._dataclass import dataclass
from virtkit.errors import RequestError
from virtkit.progress import Progress

#: Searched after the caller's own PATH, here and on other hosts.
SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


@dataclass(frozen=True)
class Program:
    """What a program does for virtkit, and the Debian package that brings it.

    ``users``: only a user other than root needs it.
    """

    purpose: str
    package: str
    users: bool = False


#: All that virtkit starts by name: doctor looks for them, and errors name their packages.
PROGRAMS = {
    "qemu-img": Program("looks at images", "qemu-utils"),
    "mke2fs": Program("formats disks and seeds of containers", "e2fsprogs"),
    "debugfs": Program("reads seeds of containers", "e2fsprogs"),
    "mmdebstrap": Program("builds images", "mmdebstrap"),
    "apt-get": Program("tells where packages of images come from", "apt"),
    "apt-config": Program("tells how apt reaches its mirrors", "apt"),
    "newuidmap": Program("builds images for a user other than root", "uidmap", users=True),
    "newgidmap": Program("builds images for a user other than root", "uidmap", users=True),
    "unshare": Program("isolates builds of images", "util-linux"),
    "setpriv": Program("ends programs together with virtkit", "util-linux"),
    "tar": Program("packs images", "tar"),
    "ssh": Program("virtkit ssh, other hosts", "openssh-client"),
    "ssh-keygen": Program("virtkit host trust", "openssh-client"),
    "scp": Program("virtkit cp", "openssh-client"),
    "ssh-add": Program("asks the caller's agent for its keys", "openssh-client"),
    "virsh": Program("virtkit console", "libvirt-clients"),
}

#: What unpacks images: only who has a packed one needs it, so doctor does not look for it.
UNPACKERS = {
    "gzip": Program("unpacks images", "gzip"),
    "xz": Program("unpacks images", "xz-utils"),
    "bzip2": Program("unpacks images", "bzip2"),
    "zstd": Program("unpacks images", "zstd"),
}


def search_path() -> str:
    """The caller's PATH, then the system's folders that it lacks."""
    path = os.environ.get("PATH") or os.defpath
    return os.pathsep.join(dict.fromkeys(f"{path}:{SYSTEM}".split(os.pathsep)))


def environment(**more: str) -> dict[str, str]:
    """The caller's environment, in which all programs are found that we find."""
    return {**os.environ, "PATH": search_path(), **more}


def find(name: str) -> str | None:
    """A program's path; None where it is not on this machine."""
    return shutil.which(name, path=search_path())


def require(*names: str, purpose: str = "") -> None:
    """Refuses work that would fail for want of a program.

    Raises:
        RequestError: one is missing; the cure names the packages that bring what is.
    """
    missing = [each for each in names if find(each) is None]
    if not missing:
        return
    known = PROGRAMS | UNPACKERS
    programs = [known[each] for each in missing if each in known]
    packages = dict.fromkeys(each.package for each in programs)
    purposes = dict.fromkeys([purpose] if purpose else [each.purpose for each in programs])
    raise RequestError(
        f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing on this machine",
        why=f"not found in {search_path()}; needed for: {', '.join(purposes) or 'to be run'}",
        cure=f"sudo apt-get install {' '.join(packages)}" if programs else f"install {missing[0]}",
    )


def command_line(name: str, *arguments: str) -> list[str]:
    """The command line that starts a program by its path.

    Raises:
        RequestError: it is not on this machine.
    """
    require(name)
    return [find(name) or name, *arguments]


def die_with_parent(command: Sequence[str], signal: str = "KILL") -> list[str]:
    """A command line that ends when the thread ends that starts it, even by a kill."""
    return command_line("setpriv", "--pdeathsig", signal, "--", *command)


def run(
    name: str, *arguments: str, progress: Progress | None = None
) -> subprocess.CompletedProcess[str]:
    """What a program answers. It ends with us, and where the work should end.

    In its own process group: the terminal's ctrl-c reaches us alone, and we end it.

    Raises:
        RequestError: it is not on this machine.
        Interrupted: the work should end.
    """
    pipe = subprocess.PIPE
    command = die_with_parent(command_line(name, *arguments))
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        text=True,
        errors="replace",
        env=environment(LC_ALL="C.UTF-8"),
        process_group=0,
    ) as process:
        try:
            with progress.on_cancel(process.kill) if progress else nullcontext():
                out, err = process.communicate()
        except BaseException:
            process.kill()
            raise
    if progress:
        progress.check_cancelled()
    return subprocess.CompletedProcess(command, process.returncode, out, err)
