"""Runs inside a container as its root and tries each way out; prints JSON, by way what came of it.

`open`, or the name of the kernel's error. What is written is what was read before, so that a way
that is open harms nobody. With `nested` as argument it first enters a user namespace of its own,
as any user may.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import json
import os
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
PLACE = "/run/ways-out"
MS_REMOUNT, MS_BIND = 32, 4096
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWPID = 1 << 28, 1 << 17, 1 << 25, 1 << 29

#: Numbers of system calls, x86_64.
SWAPOFF, INIT_MODULE, KEXEC_LOAD, IOPL, BPF, SYSLOG = 168, 175, 246, 172, 321, 103
OPEN_BY_HANDLE_AT = 304

WAYS: dict[str, Callable[[], object]] = {}


def way(function: Callable[[], object]) -> Callable[[], object]:
    WAYS[function.__name__.replace("_", " ")] = function
    return function


def call(number: int, *arguments: object) -> int:
    values = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return checked(LIBC.syscall(ctypes.c_long(number), *values))


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> str:
    os.makedirs(target, exist_ok=True)
    words = [each.encode() for each in (source, target, kind)]
    checked(LIBC.mount(*words, ctypes.c_ulong(flags), data.encode()))
    return target


def write_back(path: str) -> None:
    """Writes what is there."""
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text)


# --- mounts ------------------------------------------------------------------------------------


@way
def mount_tmpfs() -> None:
    mount("tmpfs", f"{PLACE}/tmpfs", "tmpfs")


@way
def mount_proc() -> None:
    mount("proc", f"{PLACE}/proc", "proc")


@way
def mount_sysfs() -> None:
    mount("sysfs", f"{PLACE}/sysfs", "sysfs")


@way
def mount_devtmpfs() -> None:
    mount("devtmpfs", f"{PLACE}/devtmpfs", "devtmpfs")


@way
def mount_memory_cgroup() -> None:
    mount("cgroup", f"{PLACE}/memory", "cgroup", data="memory")


@way
def remount_proc_sys() -> None:
    mount("", "/proc/sys", "", MS_REMOUNT | MS_BIND)


# --- the host's devices ------------------------------------------------------------------------


def host_block_devices() -> list[int]:
    with open("/proc/partitions") as file:
        rows = [line.split() for line in file.readlines()[2:]]
    return [os.makedev(int(row[0]), int(row[1])) for row in rows]


@way
def read_a_host_block_device() -> None:
    """Through a devtmpfs, or nodes that are there."""
    paths = [*glob.glob(f"{PLACE}/devtmpfs/*"), *glob.glob("/dev/*"), *glob.glob("/dev/block/*")]
    blocks = [each for each in paths if stat.S_ISBLK(os.stat(each).st_mode)]
    failed = OSError(errno.ENOENT, "")
    for each in blocks:
        try:
            with open(each, "rb") as file:
                file.read(512)
            return
        except OSError as error:
            failed = error
    raise failed


@way
def make_a_block_device() -> None:
    path = f"{PLACE}/disk"
    os.mknod(path, 0o600 | stat.S_IFBLK, host_block_devices()[0])
    os.unlink(path)


# --- the host's settings -----------------------------------------------------------------------


@way
def write_core_pattern() -> None:
    write_back("/proc/sys/kernel/core_pattern")


@way
def write_core_pattern_in_a_new_proc() -> None:
    write_back(f"{PLACE}/proc/sys/kernel/core_pattern")


@way
def write_sysctl_vm() -> None:
    write_back("/proc/sys/vm/swappiness")


@way
def open_sysrq_trigger() -> None:
    with open("/proc/sysrq-trigger", "w"):
        pass


@way
def write_sys() -> None:
    write_back(next(iter([*glob.glob("/sys/kernel/mm/ksm/run"), "/sys/kernel/rcu_normal"])))


@way
def write_sys_in_a_new_sysfs() -> None:
    write_back(f"{PLACE}/sysfs/kernel/mm/ksm/run")


@way
def set_the_clock() -> None:
    now = time.time()
    time.clock_settime(time.CLOCK_REALTIME, now)


@way
def set_the_host_name() -> None:
    import socket

    socket.sethostname(socket.gethostname())


# --- cgroups -----------------------------------------------------------------------------------


@way
def write_release_agent() -> None:
    found = glob.glob(f"{PLACE}/memory/release_agent") + glob.glob("/sys/fs/cgroup/*/release_agent")
    if not found:
        raise FileNotFoundError(errno.ENOENT, "")
    write_back(found[0])


def own_memory_limits() -> list[str]:
    return [
        *glob.glob(f"{PLACE}/memory/memory.limit_in_bytes"),
        *glob.glob("/sys/fs/cgroup/memory*/**/memory.limit_in_bytes", recursive=True),
        *glob.glob("/sys/fs/cgroup/memory.max"),
    ]


@way
def raise_the_memory_limit() -> None:
    found = own_memory_limits()
    if not found:
        raise FileNotFoundError(errno.ENOENT, "")
    write_back(found[0])


@way
def use_more_memory_than_allowed() -> None:
    """A child does: an eighth more than /proc/meminfo has, page by page."""
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) * 1024
    child = os.fork()
    if child == 0:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        held = []
        for _ in range(total // 2**20 * 9 // 8):
            held.append(bytearray(os.urandom(4096)) * 256)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        raise OSError(errno.ENOMEM, "")


# --- the kernel --------------------------------------------------------------------------------


@way
def read_the_kernel_log() -> None:
    call(SYSLOG, 3, ctypes.create_string_buffer(4096), 4096)


@way
def open_kmsg() -> None:
    with open("/dev/kmsg", "rb"):
        pass


@way
def swapoff() -> None:
    """Fails with EINVAL, on a file that is no swap space, for who may."""
    try:
        call(SWAPOFF, b"/etc/hosts")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


@way
def load_a_bpf_program() -> None:
    """Fails with EINVAL for who may."""
    attributes = struct.pack("=IIQQ", 5, 0, 0, 0).ljust(128, b"\0")  # BPF_PROG_TYPE_TRACEPOINT
    try:
        call(BPF, 5, attributes, len(attributes))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.E2BIG):
            raise


@way
def load_a_module() -> None:
    """Fails with ENOEXEC for who may."""
    try:
        call(INIT_MODULE, b"no module", 9, b"")
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise


@way
def load_another_kernel() -> None:
    call(KEXEC_LOAD, 0, 0, 0, 0)


@way
def use_io_ports() -> None:
    call(IOPL, 3)


@way
def open_any_file_by_its_handle() -> None:
    """Fails with EINVAL or ESTALE for who may."""
    handle = struct.pack("=Ii", 8, 1) + b"\2\0\0\0\0\0\0\0"
    root = os.open("/", os.O_RDONLY)
    try:
        os.close(call(OPEN_BY_HANDLE_AT, root, handle, 0))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ESTALE):
            raise
    finally:
        os.close(root)


@way
def read_kernel_memory() -> None:
    for path in ("/proc/kcore", "/dev/mem"):
        if os.path.exists(path) and os.stat(path).st_rdev != os.makedev(1, 3):
            with open(path, "rb") as file:
                file.read(1)
            return
    raise FileNotFoundError(errno.ENOENT, "")


# --- the host's processes ----------------------------------------------------------------------


@way
def see_other_processes() -> None:
    names = set()
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            with open(path) as file:
                names.add(file.read().strip())
        except OSError:
            continue
    if not names & {"libvirtd", "libvirt_lxc", "dnsmasq", "virtlogd"}:
        raise ProcessLookupError(errno.ESRCH, "")


@way
def enter_namespaces_of_another() -> None:
    """Of init's; whoever may could with the host's, had it a descriptor."""
    with open("/proc/1/ns/mnt") as file:
        checked(LIBC.setns(file.fileno(), CLONE_NEWNS))


def nest() -> None:
    """Goes on as root of a user namespace inside of the container's."""
    uid, gid = os.getuid(), os.getgid()
    checked(LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWPID))
    for path, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {uid} 1"),
        ("gid_map", f"0 {gid} 1"),
    ):
        with open(f"/proc/self/{path}", "w") as file:
            file.write(text)
    child = os.fork()
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def tried(function: Callable[[], object]) -> str:
    try:
        function()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "open"


if __name__ == "__main__":
    if "nested" in sys.argv:
        nest()
    os.makedirs(PLACE, exist_ok=True)
    print(json.dumps({name: tried(function) for name, function in WAYS.items()}))
