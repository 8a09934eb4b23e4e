"""A lock by name, for all users and programs of one machine: flock(2), so it dies with its holder.

The files lie where everybody may make some and are never written to: a descriptor that can only
read will do, and who holds one is asked of the kernel (/proc/locks). Nobody's file is followed,
truncated or removed.
"""

from __future__ import annotations

import fcntl
import math
import os
import pwd
import select
import shlex
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from virtkit._dataclass import dataclass
from virtkit.errors import RUN_AGAIN, RequestError, VirtkitError
from virtkit.host.ssh import Remote
from virtkit.system import commands

#: Where locks lie: the first of these where all may make files and nobody may remove another's.
#: All users see the same modes, so all choose the same.
FOLDERS = (Path("/run/lock"), Path("/tmp"))  # noqa: S108 - guarded as the module's text says
#: Seconds that one waits: an ``up`` that builds an image and boots emulated guests takes minutes.
TIMEOUT = 600.0
#: Seconds between two tries.
_RETRY_INTERVAL = 0.05
#: Not a symlink's target, and no waiting for the other end of a pipe that somebody put there.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_MAX_COMMAND = 200


@dataclass(frozen=True)
class Holder:
    """A process that has a lock. ``since`` is when it began: the kernel keeps no better time."""

    pid: int
    user: str
    command: str
    since: datetime

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} ({self.command}), since {self.since:%F %T}"


class Lock:
    """One lock of this machine.

    Args:
        name: tells it from the machine's other locks.
        what: what it stands for, as ``environment lab``, for messages.
        folder: where its file lies; left out, the first of FOLDERS that will do.
    """

    def __init__(self, name: str, what: str, folder: Path | None = None) -> None:
        self._name = name
        self._what = what
        self._folder = folder

    @contextmanager
    def acquire(
        self,
        timeout: float = TIMEOUT,
        on_wait: Callable[[str], None] = lambda _: None,
        *,
        shared: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[str]:
        """Holds the lock while the block runs; yields who held it before, empty if nobody did.

        Args:
            timeout: seconds to wait for it.
            on_wait: gets one line, where others hold it: who, and since when.
            shared: hold it together with others that share it.
            sleep: how to wait; may raise to give up.

        Raises:
            RequestError: others still have it when the time is up, or it can't be taken at all.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        descriptor, waited_for = self._take(timeout, on_wait, kind, sleep)
        try:
            yield waited_for
        finally:
            os.close(descriptor)

    def holder(self) -> str:
        """Who has the lock, as far as it can be seen from here; empty where nobody is seen."""
        try:
            return str(_holder(self._path()) or "")
        except RequestError:  # nobody can have it
            return ""

    def _take(
        self,
        timeout: float,
        on_wait: Callable[[str], None],
        kind: int,
        sleep: Callable[[float], None],
    ) -> tuple[int, str]:
        """A descriptor that has the lock, and whom one waited for."""
        path = self._path()
        end = time.monotonic() + timeout
        waited_for = ""
        while (descriptor := _try_lock(path, kind, self._what)) is None:
            late = time.monotonic() >= end
            if late or not waited_for:
                holder = str(_holder(path) or "a process that can't be seen from here")
            if late:
                raise RequestError(
                    f"{self._what} is in use",
                    why=f"after {timeout:.0f} s of waiting it is still held by {holder}",
                    cure="run again when that has ended, or wait longer with --lock-timeout; if "
                    "it hangs, kill it: its lock goes with it",
                )
            if not waited_for:
                on_wait(f"{self._what}: waiting at most {timeout:.0f} s for {holder}")
                waited_for = holder
            sleep(_RETRY_INTERVAL)
        return descriptor, waited_for

    def _path(self) -> Path:
        for folder in FOLDERS if self._folder is None else (self._folder,):
            if self._folder is not None or _open_to_all(folder):
                return folder / f"virtkit-{quote(self._name, safe='')}.lock"
        raise RequestError(
            f"no folder for locks: none of {', '.join(map(str, FOLDERS))} is open to all users",
            cure=f"sudo chmod 1777 {FOLDERS[0]}",
        )


class RemoteLock:
    """One lock of another machine: the file that ``Lock`` there would take, too.

    A shell on the host has it, for as long as its standard input is open: that ends with us.
    """

    def __init__(self, remote: Remote, name: str, what: str) -> None:
        self._remote = remote
        self._name = f"virtkit-{quote(name, safe='')}.lock"
        self._what = what
        self._shell: subprocess.Popen[bytes] | None = None

    def check(self) -> None:
        """Looks whether a lock that is held was lost with the connection.

        Raises:
            VirtkitError: it was; another run may hold it by now.
        """
        if self._shell is not None and self._shell.poll() is not None:
            raise VirtkitError(
                f"{self._what} is not locked any more on host {self._remote.name}",
                why="the connection to the host was cut, and another run may be working on "
                "it by now",
                cure=RUN_AGAIN,
                where=self._remote.name,
            )

    @contextmanager
    def acquire(
        self,
        timeout: float = TIMEOUT,
        on_wait: Callable[[str], None] = lambda _: None,
        *,
        shared: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[str]:
        """As ``Lock.acquire``."""
        script = f"file={shlex.quote(self._name)}; kind={'-s' if shared else '-x'}\n{_HOLD}"
        pipe = subprocess.PIPE
        line = self._remote.command_line(script)
        with subprocess.Popen(
            line, stdin=pipe, stdout=pipe, stderr=pipe, env=commands.environment()
        ) as shell:
            try:
                waited = self._wait(shell, timeout, on_wait, sleep)
                self._shell = shell
                yield f"another run, on host {self._remote.name}" if waited else ""
            finally:
                self._shell = None
                assert shell.stdin is not None
                shell.stdin.close()
                shell.terminate()  # one that waits still hears nothing of its input

    def holder(self) -> str:
        """As ``Lock.holder``."""
        line = self._remote.command_line(f"file={shlex.quote(self._name)}\n{FIND_HOLDER}")
        return commands.run(*line).stdout.strip()

    def _wait(
        self,
        shell: subprocess.Popen[bytes],
        timeout: float,
        on_wait: Callable[[str], None],
        sleep: Callable[[float], None],
    ) -> bool:
        """Until the shell has the lock; whether others had it before.

        The way to the host does not count: time runs once the shell there waits.
        """
        assert shell.stdout is not None
        os.set_blocking(shell.stdout.fileno(), False)
        end, output = math.inf, b""
        while not output.endswith(b"held\n"):
            if shell.poll() is not None:
                assert shell.stderr is not None
                raise self._remote.unreachable(shell.stderr.read())
            if end == math.inf and output.endswith(b"waiting\n"):
                end = time.monotonic() + timeout
                if timeout > 0:
                    on_wait(
                        f"{self._what}: waiting at most {timeout:.0f} s for another run, on host "
                        f"{self._remote.name}"
                    )
            if time.monotonic() >= end:
                raise RequestError(
                    f"{self._what} is in use",
                    why=f"after {timeout:.0f} s of waiting another run still holds it, on host "
                    f"{self._remote.name}",
                    cure="run again when that has ended, or wait longer with --lock-timeout",
                )
            select.select([shell.stdout], [], [], _RETRY_INTERVAL)
            output += shell.stdout.read() or b""
            sleep(0)  # it may raise
        return b"waiting\n" in output


_FIND_FILE = f"""
for folder in {shlex.join(map(str, FOLDERS))}; do
    [ -d "$folder" ] && [ ! -L "$folder" ] && [ -k "$folder" ] && [ -w "$folder" ] && break
done
file=$folder/$file
"""
#: What the shell of a RemoteLock does, with the same folders and care as a Lock.
_HOLD = f"""{_FIND_FILE}
if [ ! -e "$file" ]; then (umask 0222; set -C; : >"$file") 2>/dev/null; fi
if [ -L "$file" ] || [ ! -f "$file" ]; then echo "$file is not a regular file" >&2; exit 1; fi
exec 9<"$file" || exit 1
if ! flock -n "$kind" 9; then
    echo waiting
    flock "$kind" 9 || exit 1
fi
echo held
exec cat >/dev/null
"""
#: Who has a lock there; it takes none. What stat(1) calls a device has its parts as in stat(2).
FIND_HOLDER = f"""{_FIND_FILE}
[ -f "$file" ] && [ ! -L "$file" ] || exit 0
set -- $(stat -c '%d %i' "$file")
id=$(printf '%02x:%02x:%d' $(($1 >> 8 & 4095)) $(($1 & 255 | $1 >> 12 & 1048320)) "$2")
while read -r _ kind _ _ pid place _; do
    [ "$kind $place" = "FLOCK $id" ] || continue
    echo "process $pid of $(stat -c %U "/proc/$pid")"
    exit
done </proc/locks
"""


def _open_to_all(folder: Path) -> bool:
    try:
        mode = folder.lstat().st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) and mode & 0o1007 == 0o1007


def _try_lock(path: Path, kind: int, what: str) -> int | None:
    """A descriptor that has the lock; None where others have it."""
    while True:
        descriptor = _open_file(path, what)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_same_file(descriptor, path):
            return descriptor
        os.close(descriptor)


def _open_file(path: Path, what: str) -> int:
    """A descriptor of the lock's file, which is made where there is none."""
    try:
        descriptor = _open_or_make(path)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        why = "it is not a regular file"
    except OSError as error:
        why = error.strerror or str(error)
    raise RequestError(
        f"the lock of {what} can't be taken",
        why=f"{path}: {why}",
        cure=f"check who owns it (ls -l {path}), then remove it; virtkit makes a new one",
    )


def _open_or_make(path: Path) -> int:
    """Without O_CREAT where the file exists: fs.protected_regular forbids that for another's."""
    try:
        return os.open(path, _FLAGS)
    except FileNotFoundError:
        pass
    except PermissionError:  # its maker hasn't got to its mode yet
        time.sleep(_RETRY_INTERVAL)
        return os.open(path, _FLAGS)
    try:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o444)
    except FileExistsError:
        return _open_or_make(path)
    os.fchmod(descriptor, 0o444)  # whatever the umask says
    return descriptor


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Whether the file is still the one by that name: somebody may have cleared the folder."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> Holder | None:
    """Who has the lock on a file, as far as it can be seen from here."""
    try:
        file = path.lstat()
    except FileNotFoundError:
        return None
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5] == device:
            try:
                return _describe_process(int(fields[4]))
            except (OSError, ValueError, IndexError):  # it has just ended
                return None
    return None


def _describe_process(pid: int) -> Holder:
    folder = Path("/proc", str(pid))
    arguments = (folder / "cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    command = "".join(each if each.isprintable() else "?" for each in shlex.join(arguments))
    owner = folder.stat().st_uid
    try:
        user = pwd.getpwuid(owner).pw_name
    except KeyError:
        user = str(owner)
    # proc(5): after the name, which may hold anything, the 20th field is the start in clock ticks
    ticks = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    began = time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
    return Holder(pid, user, command[:_MAX_COMMAND], datetime.fromtimestamp(began).astimezone())
