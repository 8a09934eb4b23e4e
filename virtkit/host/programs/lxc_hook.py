#!/bin/sh
""":"
# libvirt's hook for virtkit's containers: installed as /etc/libvirt/hooks/lxc.d/virtkit and, to
# tell that libvirtd knows it, as daemon.d/virtkit beside it. A shell comes first because libvirtd's
# AppArmor profile lets its hooks mount nothing, and lets programs of /usr/bin out of it.
case $1:$2 in
-:start | *:prepare | *:started | *:release) exec /usr/bin/python3 -IS "$0" "$@" ;;
*:start) # few containers have anything to be done here, and Python takes time
    xml=$(cat)
    case $xml in
    *"<mtu "*) printf "%s" "$xml" | /usr/bin/python3 -IS "$0" "$@" ;;
    esac
    ;;
esac
exit 0
"""

# A container in a user namespace can mount no image itself. So its volumes are mounted here, on the
# host, with their ids mapped to the container's own, before it starts, and unmounted after it
# stopped; and its cgroup is made here. File systems whose files were grown are grown here as well,
# also those that libvirt mounts itself: only now does nobody have them mounted. And its network
# cards get the MTU that the XML says, which libvirt itself gives virtual machines only.
#
# libvirt gives the domain's name, the operation, and the domain's XML on standard input. Only
# domains with virtkit's record are touched; of these, only volumes that the record lists are
# mounted, and only where the XML has a source folder that is named after the volume; and folders of
# the host that the record lists, by their tag. It must never
# call libvirt (which waits for us) or import virtkit (which may lie where others can write; this is
# root's).
#
# It is one file, and so longer than others may be: hosts get it as one, and root can read what it
# runs in one place.
#
# Source: mount_setattr(2), move_mount(2), loop(4), e2fsck(8), resize2fs(8), ext4's superblock in
# https://docs.kernel.org/filesystems/ext4/, https://libvirt.org/hooks.html.

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from xml.etree import ElementTree

#: Where volumes are mounted, in a folder for each container, named by its UUID.
FOLDER = "/run/virtkit/lxc"
#: Where libvirt keeps the state of running containers.
STATES = "/run/libvirt/lxc"
#: Says that libvirtd knows this hook: its INTERFACE, written when libvirtd starts.
READY = "/run/virtkit/hook"
#: Where libvirt logs what becomes of a container, in a file for each.
LOGS = "/var/log/libvirt/lxc"
#: Goes up when virtkit writes domains that an older hook would not understand.
INTERFACE = 3
#: A folder of this name has nothing in it: the root of a container that makes its own.
EMPTY = "empty"
RECORD = "./metadata/{urn:virtkit:1}guest"
#: What virtkit gives containers; no id of the host's or of a user's is among them.
FIRST_ID, LAST_ID, IDS = 0x78000000, 0x7FFFFFFF, 65536
#: Nobody's: who reads the file systems of containers that have the host's ids.
NOBODY = FIRST_ID - 1
#: Fewer blocks than these are not worth a look at the whole file system: resize2fs leaves out a
#: group that is smaller than what describes it, and would be asked again at each start.
MIN_GROWTH = 2048
#: How long e2fsck and resize2fs may each take, in seconds; libvirt waits for them.
PROGRAM_TIMEOUT = 300.0

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYSCALLS = {  # the same numbers on all of Linux's processors
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "openat2": 437,
    "mount_setattr": 442,
}
_AT_EMPTY_PATH = 0x1000
_CLONE_NEWUSER = 0x10000000
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CREATE = 0, 1, 6
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV, _MOUNT_ATTR_IDMAP = 1, 2, 4, 0x100000
_OPEN_TREE_CLONE, _RESOLVE_NO_SYMLINKS, _MS_PRIVATE = 1, 4, 1 << 18
_MOVE_MOUNT_F_EMPTY_PATH = 4
_UMOUNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_READ_ONLY, _LO_AUTOCLEAR = 1, 4
_SIOCSIFMTU = 0x8922


#: A range of ids: the first, the one of the host that it stands for, and how many.
Ids = tuple[int, int, int]


class Refused(Exception):
    """The domain is virtkit's, and something in it is not as virtkit makes it."""


class Mount:
    """One volume of a container: the file, the folder that it goes to, and how; or a folder of the
    host's.

    Without either it is an empty file system in memory.
    """

    def __init__(self, file: str, target: str, readonly: bool, folder: str = "") -> None:
        self.file = file
        self.folder = folder
        self.target = target
        self.readonly = readonly


class Container:
    """What the hook has to know of a domain. ``volumes`` are not looked at yet."""

    def __init__(
        self, root: ElementTree.Element, record: str, ids: int, volumes: list[tuple[str, bool]]
    ) -> None:
        self.uuid = uuid_of(root)
        self.folder = f"{FOLDER}/{self.uuid}"
        self.controller = int(root.get("id") or 0)
        self.name = root.findtext("./name") or ""
        self.ids = ids
        self.record = record
        self.volumes = volumes


def uuid_of(root: ElementTree.Element) -> str:
    """A domain's UUID, which is safe in a path."""
    uuid = root.findtext("./uuid") or ""
    if not re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uuid):
        raise Refused(f"{uuid!r} is no UUID")
    return uuid


def read(root: ElementTree.Element) -> Container | None:
    """The container that a domain's XML describes; None where it is none of ours.

    Raises:
        Refused: it is, and asks for what virtkit never would.
    """
    record, idmap, volumes = root.find(RECORD), root.find("./idmap"), list(_volumes(root))
    if root.get("type") != "lxc" or record is None or idmap is None or not volumes:
        return None
    return Container(root, record.text or "", _ids(idmap), volumes)


def _volumes(root: ElementTree.Element) -> Iterator[tuple[str, bool]]:
    """The folders in ours that a domain has file systems from, and which of them are read-only."""
    for each in root.iterfind("./devices/filesystem[@type='mount']"):
        source = each.find("source")
        path = (source.get("dir") or "") if source is not None else ""
        if path.startswith(f"{FOLDER}/"):  # else a folder of the host that the spec allowed
            yield path, each.find("readonly") is not None


def mounts(container: Container) -> Iterator[Mount]:
    """What the container needs mounted.

    Raises:
        Refused: its record does not list it.
    """
    files, folders = _listed(container.record, container.name), _folders(container.record)
    for path, readonly in container.volumes:
        above, name = os.path.split(path)
        if above != container.folder or name not in {*files, *folders, EMPTY}:
            raise Refused(f"no volume in its record belongs to {path}")
        yield Mount(files.get(name, ""), path, readonly, folders.get(name, ""))


def _folders(text: str) -> dict[str, str]:
    """The folders of the host that a record lists, by their tag (state/shared.py)."""
    answer = {}
    try:
        for each in json.loads(text)["requested"].get("folders") or ():
            source, target = each["source"], each["target"]
            mode = "ro" if each["readonly"] else "rw"
            if os.path.normpath(source) != source or not source.startswith("/") or source == "/":
                raise Refused(f"{source} is no plain path of a folder")
            for way in ("bind", "hostfs"):
                parts = "\0".join((source, target, way, mode))
                answer[f"folder-{hashlib.sha256(parts.encode()).hexdigest()[:8]}"] = source
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"the folders in its record can't be read: {error!r}") from error
    return answer


def _listed(text: str, domain: str) -> dict[str, str]:
    """The files that a record lists, by their name."""
    try:
        data = json.loads(text)
        own = [each["key"] for each in data["volumes"]]
        shared = [data["image"]["root"]] if data["image"] else []
        named = f"{data['environment']}-{data['guest']}"
        folders = {os.path.dirname(each) for each in own + shared}
        files = {os.path.basename(each): each for each in own + shared}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"its record can't be read: {error!r}") from error
    if named != domain:
        raise Refused(f"its record is that of {named}")
    if len(folders) != 1:
        raise Refused("its volumes are not in one folder")
    for path in own + shared:
        right = f"{domain}-" if path in own else "virtkit-"
        if os.path.normpath(path) != path or not path.startswith("/"):
            raise Refused(f"{path} is no plain path")
        if not os.path.basename(path).startswith(right):
            raise Refused(f"{path} has no name that virtkit gives")
    return files


def _ids(idmap: ElementTree.Element) -> int:
    """The first of the host's ids that the container has."""
    ranges = {
        tuple(int(each.get(key) or 0) for key in ("start", "target", "count"))
        for kind in ("uid", "gid")
        for each in idmap.findall(kind) or [ElementTree.Element("none")]
    }
    start, first, count = next(iter(ranges))
    if len(ranges) != 1 or (start, count) != (0, IDS):
        raise Refused("its idmap is not one range of ids")
    if not FIRST_ID <= first <= LAST_ID - IDS + 1:
        raise Refused(f"{first} is no first id that virtkit gives")
    return first


# --- before the start, and after the end ------------------------------------------------------


def prepare(container: Container) -> None:
    """Mounts what the container needs. What a crash left is removed first: of two that have the
    same file systems, neither would keep them whole."""
    wanted = list(mounts(container))
    remove_cgroup(container.uuid)
    clean(container.folder)
    os.makedirs(FOLDER, mode=0o711, exist_ok=True)
    os.mkdir(container.folder, 0o700)
    # nobody but the container's own root passes through: its set-uid programs are nobody else's
    os.chown(container.folder, container.ids, container.ids)
    for each in wanted:
        if each.file and not each.readonly:
            grow_filesystem(each.file, container.ids, container.name)
    own = [(0, container.ids, IDS)]
    with user_namespace(own, own) as namespace:
        for each in wanted:
            os.mkdir(each.target, 0o700)
            if each.file:
                _mount(each, namespace)
            elif each.folder:
                _mount_folder(each, container.ids)
            else:
                _mount_empty(each.target, container.ids)


def clean(folder: str) -> None:
    """Unmounts and removes what stands in a container's folder; there may be nothing."""
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            path = f"{folder}/{name}".encode()
            while _LIBC.umount2(path, _UMOUNT_DETACH | _UMOUNT_NOFOLLOW) == 0:
                pass  # one over the other, where a run before was cut off
            os.rmdir(path)
        os.rmdir(folder)


@contextmanager
def user_namespace(uids: list[Ids], gids: list[Ids]) -> Iterator[int]:
    """A descriptor of a user namespace with these ids; for a mount that has it, the first of each
    range stand on the disk."""
    to_parent, to_child = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(to_child[1])
        failed = _LIBC.unshare(_CLONE_NEWUSER)
        os.write(to_parent[1], b"!" if failed else b".")
        os.read(to_child[0], 1)  # ends with the parent
        os._exit(0)
    try:
        os.close(to_child[0])
        if os.read(to_parent[0], 1) != b".":
            raise OSError(errno.EPERM, "the kernel makes no user namespace")
        for kind, ranges in (("uid", uids), ("gid", gids)):
            with open(f"/proc/{child}/{kind}_map", "w") as file:
                file.write("".join(f"{first} {host} {count}\n" for first, host, count in ranges))
        descriptor = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(to_child[1])
        os.close(to_parent[0])
        os.close(to_parent[1])
        os.waitpid(child, 0)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mount(mount: Mount, namespace: int) -> None:
    """Mounts a volume's file system, its ids mapped, out of anybody's reach until it is."""
    with ExitStack() as stack:

        def opened(descriptor: int) -> int:
            stack.callback(os.close, descriptor)
            return descriptor

        device = opened(_loop_device(mount.file, mount.readonly))
        context = opened(_call("fsopen", b"ext4", 1))
        source = os.readlink(f"/proc/self/fd/{device}").encode()
        _call("fsconfig", context, _FSCONFIG_SET_STRING, b"source", source, 0)
        if mount.readonly:
            _call("fsconfig", context, _FSCONFIG_SET_FLAG, b"ro", None, 0)
        _call("fsconfig", context, _FSCONFIG_CREATE, None, None, 0)
        # libvirt, in the container's namespace, could not mount a `nodev` one read-only anew
        flags = _MOUNT_ATTR_RDONLY if mount.readonly else _MOUNT_ATTR_NODEV
        tree = opened(_call("fsmount", context, 1, flags))
        attributes = struct.pack("QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, namespace)
        _call("mount_setattr", tree, b"", _AT_EMPTY_PATH, attributes, len(attributes))
        target = mount.target.encode()
        _call("move_mount", tree, b"", -1, target, _MOVE_MOUNT_F_EMPTY_PATH)


def _mount_folder(mount: Mount, ids: int) -> None:
    """Mounts a folder of the host: the container's root is its owner there, and no link leads to
    another folder. The container's other ids are the host's, as they are."""
    how = struct.pack("QQQ", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    with ExitStack() as stack:
        try:
            folder = _call("openat2", -1, mount.folder.encode(), how, len(how))
        except OSError as error:
            raise Refused(f"the folder {mount.folder} can't be opened: {error}") from error
        stack.callback(os.close, folder)
        owner = os.fstat(folder)
        flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH
        tree = _call("open_tree", folder, b"", flags)
        stack.callback(os.close, tree)
        uids, gids = _owned_by(owner.st_uid, ids), _owned_by(owner.st_gid, ids)
        namespace = stack.enter_context(user_namespace(uids, gids))
        limits = _MOUNT_ATTR_NODEV | _MOUNT_ATTR_NOSUID
        rights = _MOUNT_ATTR_RDONLY if mount.readonly else limits  # as of volumes
        wanted = struct.pack("QQQQ", _MOUNT_ATTR_IDMAP | rights, 0, _MS_PRIVATE, namespace)
        try:
            _call("mount_setattr", tree, b"", _AT_EMPTY_PATH, wanted, len(wanted))
        except OSError as error:
            what = f"the ids of the file system that {mount.folder} is on can't be mapped"
            raise Refused(f"{what}: {error}") from error
        _call("move_mount", tree, b"", -1, mount.target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)


def _owned_by(owner: int, ids: int) -> list[Ids]:
    """The ids of a folder's mount, with its owner in the place of the container's root."""
    if ids <= owner < ids + IDS:
        return [(ids, ids, IDS)]  # somebody gave it to the container
    return [(owner, ids, 1), (ids + 1, ids + 1, IDS - 1)]


def _mount_empty(target: str, ids: int) -> None:
    """Mounts a file system in memory that the container's root may write to, with nothing in it
    but what libvirt asks for; a small one, since what it holds counts as libvirtd's."""
    context = _call("fsopen", b"tmpfs", 1)
    try:
        options = {
            "size": "64k",
            "nr_inodes": "64",
            "mode": "755",
            "uid": f"{ids}",
            "gid": f"{ids}",
        }
        for name, value in options.items():
            _call("fsconfig", context, _FSCONFIG_SET_STRING, name.encode(), value.encode(), 0)
        _call("fsconfig", context, _FSCONFIG_CREATE, None, None, 0)
        tree = _call("fsmount", context, 1, _MOUNT_ATTR_NODEV)
    finally:
        os.close(context)
    try:
        _call("move_mount", tree, b"", -1, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)
    # Asked to shut a container down, libvirt writes to this. It sends SIGTERM where it can't, as
    # nobody reads here, and nothing at all where there is no such file.
    os.mkdir(f"{target}/run")
    os.chown(f"{target}/run", ids, ids)
    os.mkfifo(f"{target}/run/initctl", 0o600)


def _loop_device(path: str, readonly: bool) -> int:
    """A descriptor of a loop device over a regular file; the device goes with its last user."""
    access = (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC
    with ExitStack() as stack:
        file = _plain_file(path, access)
        stack.callback(os.close, file)
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, control)
        flags = _LO_AUTOCLEAR | (_LO_READ_ONLY if readonly else 0)
        # struct loop_config: fd, block size, then struct loop_info64 up to its flags
        config = struct.pack("=II52xI", file, 0, flags).ljust(304, b"\0")
        for _ in range(100):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = os.open(f"/dev/loop{number}", access)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
                return device
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # another took it in between
                    raise
        raise OSError(errno.EBUSY, "no free loop device")


def _plain_file(path: str, access: int) -> int:
    """A descriptor of a file that is neither a link nor a device."""
    file = os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise Refused(f"{path} is not a regular file")
    return file


def _call(name: str, *arguments: int | bytes | None) -> int:
    values = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_LIBC.syscall(ctypes.c_long(_SYSCALLS[name]), *values))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


# --- file systems grow with their files --------------------------------------------------------


class Failed(Exception):
    """A program of e2fsprogs did not do what it was to do."""


def mounted_by_libvirt(root: ElementTree.Element) -> Iterator[str]:
    """The files of a container without ids of its own that it writes to; they are its record's."""
    record = root.find(RECORD)
    if root.get("type") != "lxc" or record is None or root.find("./idmap") is not None:
        return
    for each in root.iterfind("./devices/filesystem[@type='file']"):
        source = each.find("source")
        path = (source.get("file") or "") if source is not None else ""
        listed = _listed(record.text or "", root.findtext("./name") or "")
        if path in listed.values() and each.find("readonly") is None:
            yield path


def grow_filesystem(path: str, ids: int, domain: str) -> None:
    """Grows a file system whose file was grown. It never fails: what did not grow works as it was.

    That is done while nobody has it mounted. ext4 would grow while it is, too, but only for those
    who have CAP_SYS_RESOURCE.
    """
    try:
        volume = _plain_file(path, os.O_RDWR)
        try:
            missing = missing_blocks(volume)
            if missing < MIN_GROWTH:
                return
            began = time.monotonic()
            _wait_unused(volume)
            _grow(volume, ids)
            blocks, seconds = missing - missing_blocks(volume), time.monotonic() - began
        finally:
            os.close(volume)
        tell(domain, f"the file system in {path} grew by {blocks} blocks in {seconds:.1f} s")
    except (Refused, Failed, OSError) as error:
        tell(domain, f"the file system in {path} did not grow: {error}")


def missing_blocks(volume: int) -> int:
    """By how many blocks an ext4 file system is smaller than its file; 0 where there is none."""
    block = os.pread(volume, 1024, 1024).ljust(1024, b"\0")
    if block[0x38:0x3A] != b"\x53\xef":
        return 0
    count, shift, incompatible, high = (
        struct.unpack_from("<I", block, each)[0] for each in (0x04, 0x18, 0x60, 0x150)
    )
    if incompatible & 0x80:  # 64bit
        count |= high << 32
    size = os.fstat(volume).st_size
    return max(0, (size >> 10 + shift) - count) if shift <= 6 else 0


def _wait_unused(volume: int) -> None:
    """Waits until no loop device has the file: the kernel is slow to end what was killed."""
    for _ in range(100):
        if not any(_same(each, volume) for each in _names("/sys/block")):
            return
        time.sleep(0.05)
    raise OSError(errno.EBUSY, "it is in use")


def _same(device: str, volume: int) -> bool:
    """Whether a block device is a loop device over the file."""
    with suppress(OSError), open(f"/sys/block/{device}/loop/backing_file") as file:
        return os.path.samestat(os.stat(file.read().rstrip("\n")), os.fstat(volume))
    return False


def _grow(volume: int, ids: int) -> None:
    """Checks the file system, as resize2fs asks for, and grows it.

    The file is lent to who reads it: nobody else has these ids while the container doesn't run.
    """
    owner = os.fstat(volume)
    os.fchown(volume, ids, ids)
    try:
        _run(volume, ids, "e2fsck", "-f", "-p")  # replays the journal, mends what is safe to mend
        try:
            _run(volume, ids, "resize2fs")
        except Failed:
            # cut off in between, it leaves things to be mended that only `-y` mends; as all was
            # well right before, it is these
            _run(volume, ids, "e2fsck", "-f", "-y")
            raise
    finally:
        os.fchown(volume, owner.st_uid, owner.st_gid)


def _run(volume: int, ids: int, name: str, *options: str) -> None:
    """Runs a program of e2fsprogs over the file, with no right but to that.

    A container's root had a hand in what is read.
    """
    line = ["/usr/bin/setpriv", f"--reuid={ids}", f"--regid={ids}", "--clear-groups"]
    line += ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"]
    line += [f"/usr/sbin/{name}", *options, f"/proc/self/fd/{volume}"]
    try:
        done = subprocess.run(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[volume],
            env={"LC_ALL": "C"},
            cwd="/",
            timeout=PROGRAM_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{name} took more than {PROGRAM_TIMEOUT:g} s") from error
    # e2fsck says 1 where it mended something
    if done.returncode not in ((0, 1) if name == "e2fsck" else (0,)):
        said = " ".join(done.stdout.decode("ascii", "replace").split())[-400:]
        raise Failed(f"{name} ended with {done.returncode}: {said}")


def tell(domain: str, text: str) -> None:
    """Says something in the container's log: libvirt shows a hook's words only where it failed."""
    text = "".join(each if each.isprintable() else "?" for each in text)
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        log = os.open(f"{LOGS}/{domain}.log", flags, 0o600)
        with open(log, "w") as file:
            file.write(f"{now}+0000: virtkit: {text}\n")
    with suppress(OSError):
        sys.stderr.write(f"virtkit: {text}\n")


# --- cgroups ----------------------------------------------------------------------------------


def delegate(container: Container) -> None:
    """Gives the container's init a version 2 cgroup of its own; it waits for that.

    In it systemd is its own master, and finds no controller through which to change libvirt's
    limits: those are in its parents, or in version 1 hierarchies.
    """
    init = _init_of(container.controller)
    _take_back(init, container.ids)
    with _hierarchy() as root:
        folder = f"{root}{_cgroup(init, '').rstrip('/')}/virtkit-lxc-{container.uuid}"
        os.makedirs(folder, exist_ok=True)
        for name in ("", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"):
            os.chown(folder + name, container.ids, container.ids)
        with open(f"{folder}/cgroup.procs", "w") as file:
            file.write(str(init))


def _init_of(controller: int) -> int:
    """The child of libvirt's controller, whose pid is the domain's id."""
    for _ in range(100):
        with open(f"/proc/{controller}/task/{controller}/children") as file:
            children = file.read().split()
        if children:
            return int(children[0])
        time.sleep(0.05)
    raise OSError(errno.ESRCH, "the container has no init")


def _cgroup(pid: int | str, controllers: str) -> str:
    """The path of a process's cgroup in one hierarchy; version 2 has no name."""
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            if names == controllers:
                return path
    return ""


@contextmanager
def _hierarchy() -> Iterator[str]:
    """A path to the version 2 hierarchy, which need not be mounted anywhere."""
    context = _call("fsopen", b"cgroup2", 1)
    try:
        _call("fsconfig", context, _FSCONFIG_CREATE, None, None, 0)
        tree = _call("fsmount", context, 1, 0)
    finally:
        os.close(context)
    try:
        yield f"/proc/self/fd/{tree}"
    finally:
        os.close(tree)


def _take_back(pid: int, ids: int) -> None:
    """libvirt gives the container systemd's version 1 cgroup: without systemd-machined, that is
    the hierarchy's root, which all containers share."""
    folder = f"/sys/fs/cgroup/systemd{_cgroup(pid, 'name=systemd')}"
    if os.path.isdir(folder):
        for path in (folder, *(f"{folder}/{name}" for name in os.listdir(folder))):
            if os.lstat(path).st_uid == ids:
                os.chown(path, 0, 0, follow_symlinks=False)


def remove_cgroup(uuid: str) -> None:
    """Removes the container's cgroup, with what libvirt, killed, may have left running in it."""
    with _hierarchy() as root:
        folder = f"{root}{_cgroup('self', '').rstrip('/')}/virtkit-lxc-{uuid}"
        if not os.path.isdir(folder):
            return
        with open(f"{folder}/cgroup.kill", "w") as file:
            file.write("1")
        for _ in range(100):
            for path, _, _ in os.walk(folder, topdown=False):
                with suppress(OSError):
                    os.rmdir(path)
            if not os.path.isdir(folder):
                return
            time.sleep(0.05)
        raise OSError(errno.EBUSY, "processes of an earlier run don't end")


# --- network cards ----------------------------------------------------------------------------


def set_mtus(name: str, root: ElementTree.Element) -> None:
    """Gives both ends of each card the MTU that the XML says; the container's is still out here."""
    for interface in root.iterfind("./devices/interface"):
        guest, mtu = interface.find("guest"), interface.find("mtu")
        card = guest.get("actual") if guest is not None else ""
        if not card or mtu is None:
            continue
        try:
            with open(f"/sys/class/net/{os.path.basename(card)}/iflink") as file:
                other_end = socket.if_indextoname(int(file.read()))
            for each in (card, other_end):
                _set_mtu(each, int(mtu.get("size") or 0))
        except (OSError, ValueError, struct.error) as error:
            tell(name, f"its card {card} keeps its MTU: {error}")


def _set_mtu(device: str, size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", device.encode(), size))


# --- libvirt's calls --------------------------------------------------------------------------


def sweep() -> None:
    """Removes what containers left whose end libvirtd, killed, did not see."""
    running = set()
    for name in _names(STATES):
        if name.endswith(".xml"):
            with suppress(OSError, ElementTree.ParseError):
                root = ElementTree.parse(f"{STATES}/{name}").getroot()
                with open(f"{STATES}/{name[:-4]}.pid") as file:
                    os.kill(int(file.read()), 0)
                running.add(root.findtext("./domain/uuid"))
    for uuid in _names(FOLDER):
        if uuid not in running:
            remove_cgroup(uuid)
            clean(f"{FOLDER}/{uuid}")


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def ready() -> None:
    """libvirtd starts, and looked for hooks just now."""
    os.makedirs(os.path.dirname(READY), exist_ok=True)
    with open(f"{READY}.new", "w") as file:
        file.write(str(INTERFACE))
    os.replace(f"{READY}.new", READY)


def main(name: str, operation: str, text: str) -> int:
    """Does what libvirt's ``operation`` needs; 1 keeps the container from starting."""
    os.umask(0o022)
    try:
        if name == "-":
            if operation == "start":
                ready()
                sweep()
            return 0
        if operation not in ("prepare", "start", "started", "release"):
            return 0
        root = ElementTree.fromstring(text)
        if operation == "start":
            if root.find(RECORD) is not None:
                set_mtus(name, root)
            return 0
        if operation == "release":
            # whatever became of its record: these are ours, and have its UUID
            clean(f"{FOLDER}/{uuid_of(root)}")
            remove_cgroup(uuid_of(root))
            return 0
        container = read(root)
        if container is None:
            if operation == "prepare":
                _grow_mounted_by_libvirt(name, root)
            return 0
        if operation == "started":
            delegate(container)
            return 0
        try:
            prepare(container)
        except BaseException:
            clean(container.folder)
            raise
    except (Refused, OSError, ElementTree.ParseError, ValueError) as error:
        sys.stderr.write(f"virtkit: {name}, {operation}: {error}\n")
        return 1
    return 0


def _grow_mounted_by_libvirt(name: str, root: ElementTree.Element) -> None:
    """Grows what libvirt mounts itself. Whatever is wrong with it, libvirt's start decides."""
    try:
        files = list(mounted_by_libvirt(root))
    except Refused as error:
        sys.stderr.write(f"virtkit: {name}: no file system grows: {error}\n")
        return
    for each in files:
        grow_filesystem(each, NOBODY, name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.stdin.read()))
