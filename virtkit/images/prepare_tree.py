"""Makes the tree of a root file system one that virtkit's containers start from.

usage: prepare_tree.py TREE ARCHIVE

It runs as root of a namespace, by itself. The tree may come from anybody: nothing of it is run, and
no link in it leads out of it, since all happens with the tree as the root folder. ARCHIVE has
virtkit's own files. What the tree lacks is printed as `MISSING:` and the names; exit code 3.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile

#: Programs that virtkit's first process and its first boot need, and what has them in Debian.
PROGRAMS = {
    "bash": "bash",
    "find": "findutils",
    "findmnt": "util-linux",
    "grep": "grep",
    "mount": "mount",
    "mountpoint": "util-linux",
    "pivot_root": "util-linux",
    "sed": "sed",
    "setpriv": "util-linux",
    "sh": "dash",
    "unshare": "util-linux",
    "useradd": "passwd",
}
#: Units, as files below a folder of systemd's, and the same.
UNITS = {"systemd-networkd.service": "systemd"}
_PATH = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
_SYSTEMD = ("/usr/lib/systemd", "/lib/systemd")
_ENABLED = {
    "virtkit-seed.service": "sysinit.target.wants",
    "systemd-networkd.service": "multi-user.target.wants",
    "systemd-resolved.service": "multi-user.target.wants",
}
#: Units that cost time or fail in a container, and other managers of the network.
_MASKED = (
    *("dev-hugepages.mount", "dev-mqueue.mount", "proc-sys-fs-binfmt_misc.automount"),
    *("sys-fs-fuse-connections.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("systemd-networkd-wait-online.service", "systemd-random-seed.service"),
    *("NetworkManager.service", "networking.service", "firstboot.service"),
)
_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


def main() -> None:
    """The program."""
    tree, archive = sys.argv[1:]
    with open(archive, "rb") as file:
        own_files = file.read()
    own_machine = machine(sys.executable)
    os.chroot(tree)
    os.chdir("/")
    # nothing is imported any more: it would be the tree's
    sys.path.clear()
    sys.meta_path.clear()
    missing = [*without()]
    if missing:
        sys.stderr.write(f"MISSING: {' '.join(missing)}\n")
        raise SystemExit(3)
    if machine("/bin/sh") != own_machine:
        sys.stderr.write("MACHINE: its programs are for another processor\n")
        raise SystemExit(3)
    add(own_files)
    enable()
    empty()


def machine(path: str) -> bytes:
    """The processor that an ELF program is for, as its header has it."""
    with open(path, "rb") as file:
        return file.read(20)[18:]


def without() -> list[str]:
    """What the tree lacks."""
    answer = [
        name
        for name in PROGRAMS
        if not any(os.path.isfile(f"/{folder}/{name}") for folder in _PATH)
    ]
    if not os.path.isfile("/sbin/init") or not any(
        os.path.isfile(f"{folder}/systemd") for folder in _SYSTEMD
    ):
        answer.append("systemd")
    return answer + [name for name in UNITS if not unit(name)]


def unit(name: str) -> str:
    """A unit's file; empty where there is none."""
    paths = (f"{folder}/system/{name}" for folder in _SYSTEMD)
    return next((path for path in paths if os.path.isfile(path)), "")


def add(archive: bytes) -> None:
    """Writes virtkit's own files."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None and not member.name.startswith("var/"):
                write(f"/{member.name}", file.read(), member.mode)


def write(path: str, content: bytes, mode: int = 0o644) -> None:
    """Writes a file of root's, whatever is in its place."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "xb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)


def enable() -> None:
    """Enables and masks units, as systemctl does."""
    etc = "/etc/systemd/system"
    os.makedirs(etc, exist_ok=True)
    for name, target in _ENABLED.items():
        if path := unit(name):
            os.makedirs(f"{etc}/{target}", exist_ok=True)
            make_link(path, f"{etc}/{target}/{name}")
    for name in _MASKED:
        make_link("/dev/null", f"{etc}/{name}")
    if unit("systemd-resolved.service"):
        make_link("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")


def make_link(target: str, path: str) -> None:
    """Makes a symbolic link, whatever is in its place."""
    if os.path.lexists(path):
        os.unlink(path)
    os.symlink(target, path)


def empty() -> None:
    """Folders that virtkit mounts on; and nothing that would be the same on every guest."""
    for path in (
        *("/.oldroot", "/.virtkit", "/var/lib/cloud/seed/nocloud", "/etc/ssh", "/etc/sudoers.d"),
        *("/dev", "/proc", "/sys", "/run", "/tmp", "/lib/modules"),  # noqa: S108
    ):
        os.makedirs(path, exist_ok=True)
    for name in os.listdir("/etc/ssh"):
        if name.startswith("ssh_host_"):
            os.unlink(f"/etc/ssh/{name}")
    write("/etc/machine-id", b"", 0o444)
    write("/etc/fstab", b"")
    write("/etc/hosts", _HOSTS.encode())
    for path in ("/etc/hostname", "/var/lib/dbus/machine-id"):
        if os.path.lexists(path):
            os.unlink(path)
    with open("/etc/group", "rb") as file:
        groups = file.read()
    if not groups.startswith(b"adm:") and b"\nadm:" not in groups:  # the login is in it
        write("/etc/group", groups.rstrip(b"\n") + b"\nadm:x:4:\n")


if __name__ == "__main__":
    main()
