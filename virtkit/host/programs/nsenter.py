"""Runs one command inside a container of libvirt's LXC driver, as the container's root.

A program of its own (``nsenter.py [--over-ssh] PID DOMAIN COMMAND…``, with the pid of libvirt's
controller): entering namespaces needs a process without threads. Other hosts get it with
``python3 -c``, so it needs the standard library alone. It joins the namespaces and cgroups of the
container's init and takes no capability that init has not. Exit code: the command's own.

sshd ends no command whose caller is gone, unless that has a terminal: with ``--over-ssh`` it ends
once nobody is left to read what it prints.

Source: setns(2), namespaces(7), capabilities(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_KINDS = {  # setns(2); user last: after it nothing else may be entered
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "net": 0x40000000,
    "pid": 0x20000000,
    "mnt": 0x00020000,
    "cgroup": 0x02000000,
    "user": 0x10000000,
}
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
#: Seconds between two checks that the caller is still there, and what a command gets to end itself.
_CALLER_CHECK_INTERVAL, _END_TIMEOUT = 1.0, 5.0
_LIBC = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def init_of(controller: int) -> int:
    """The pid of a container's init: the child of libvirt's controller."""
    end = time.monotonic() + 5
    while True:
        children = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
        if children or time.monotonic() > end:
            return int(children[0])
        time.sleep(0.05)


def _namespaces(init: int) -> list[int]:
    """Descriptors of a container's namespaces.

    libvirt's lxcOpenNamespace is not asked: on a busy host libvirt misses the pid of a container's
    init, keeps that of the run before, and leaves out, without an error, what it can't open.
    """
    return [os.open(f"/proc/{init}/ns/{kind}", os.O_RDONLY) for kind in _KINDS]


def _bounding_set(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0


def _join_cgroups(pid: int) -> None:
    """So that the container's limits hold for the command; v1 hierarchies and v2."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        base = controllers.removeprefix("name=") if controllers else ""
        for root in (f"/sys/fs/cgroup/{base}", "/sys/fs/cgroup/unified" if not base else ""):
            procs = Path(f"{root}{path}/cgroup.procs")
            if root and path != "/" and procs.exists():
                try:
                    procs.write_text(str(os.getpid()))
                except OSError as error:
                    sys.stderr.write(f"virtkit: {procs}: {error.strerror}\n")


def _join_namespaces(descriptors: list[int]) -> bool:
    """Joins the namespaces; True where the container has a user namespace of its own."""
    by_kind = {os.readlink(f"/proc/self/fd/{fd}").split(":")[0]: fd for fd in descriptors}
    for kind in ("mnt", "pid"):  # else the command would run on the host
        if kind not in by_kind or _is_ours(by_kind[kind], kind):
            raise OSError(errno.ESRCH, f"no {kind} namespace of its own was found")
    own_user = "user" in by_kind and not _is_ours(by_kind["user"], "user")
    for kind, flag in _KINDS.items():
        if kind in by_kind and (kind != "user" or own_user):
            _checked(_LIBC.setns(by_kind[kind], flag), f"setns {kind}")
    for descriptor in descriptors:
        os.close(descriptor)
    return own_user


def _is_ours(descriptor: int, kind: str) -> bool:
    return os.readlink(f"/proc/self/ns/{kind}") == os.readlink(f"/proc/self/fd/{descriptor}")


def _exec(command: list[str], bounding: int, own_user: bool) -> None:
    """The command, in the child that the new pid namespace needs. Never returns."""
    if own_user:
        os.setgroups([])
        os.setgid(0)
        os.setuid(0)
    for capability in range(64):
        if not bounding >> capability & 1:
            _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    # it ends with us, even by a kill; only now, since a change of ids takes this back
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.chdir("/")
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "TERM": os.environ.get("TERM", "dumb"),
    }
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def main(controller: int, name: str, command: list[str], *, over_ssh: bool = False) -> int:
    """Runs ``command`` in the domain ``name``; its exit code, 255 where it wasn't reached."""
    try:
        init = init_of(controller)
        descriptors = _namespaces(init)
        bounding = _bounding_set(init)
        _join_cgroups(init)
        if Path(f"/proc/{init}/root").samefile("/"):
            raise OSError(errno.ESRCH, "it has not left the host's files yet")
        own_user = _join_namespaces(descriptors)
    except (OSError, IndexError) as error:
        sys.stderr.write(f"error: {name} was not entered: {error}\n")
        return 255
    except KeyboardInterrupt:
        return 130
    return _run(command, bounding, own_user, over_ssh=over_ssh)


def _run(command: list[str], bounding: int, own_user: bool, *, over_ssh: bool = False) -> int:
    """The command's exit code. It gets the signals that we get; ctrl-c comes from the terminal."""
    # blocked, and waited for: a handler would not run for one that comes just before waitpid(2)
    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    own_session = over_ssh and not os.isatty(0)  # a terminal has one session
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        if own_session:
            os.setsid()
        _exec(command, bounding, own_user)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pid = 0
    while not pid:
        received = (
            signal.sigtimedwait(signals, _CALLER_CHECK_INTERVAL)
            if over_ssh
            else signal.sigwaitinfo(signals)
        )
        if received is not None and received.si_signo != signal.SIGCHLD:
            os.kill(child, received.si_signo)
        pid, status = os.waitpid(child, os.WNOHANG)
        if not pid and over_ssh and _caller_is_gone():
            _end(child, own_session)
            return 128 + signal.SIGHUP
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _caller_is_gone() -> bool:
    """Whether nobody is left who gives the command its input and reads what it prints.

    sshd lets go of both pipes then; that of the errors it keeps.
    """
    poll = select.poll()
    for descriptor in (0, 1):
        poll.register(descriptor, 0)  # POLLERR and POLLHUP are told in any case
    return len(poll.poll(0)) == 2


def _end(child: int, own_session: bool) -> None:
    """Ends the command as if its terminal had gone, and then by force.

    With its session all that it started goes, but for what has one of its own by now.
    """
    send = os.killpg if own_session else os.kill
    for number in (signal.SIGHUP, signal.SIGKILL):
        end = time.monotonic() + _END_TIMEOUT
        try:
            send(child, number)
            while time.monotonic() < end:
                with suppress(ChildProcessError):
                    os.waitpid(child, os.WNOHANG)
                send(child, 0)
                time.sleep(0.1)
        except ProcessLookupError:  # nothing is left
            return


if __name__ == "__main__":
    _over_ssh = sys.argv[1] == "--over-ssh"
    _pid, _name, *_command = sys.argv[1 + _over_ssh :]
    sys.exit(main(int(_pid), _name, _command, over_ssh=_over_ssh))
