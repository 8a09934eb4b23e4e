"""Runs a command that ends together with who started it, and with it all that it has started.

Ansible's workers leave its session and outlive it, and a killed virtkit would leave them at work in
guests. So two processes stand between: the first dies with virtkit's thread (setpriv), or when it
is killed; the second is told of that by the kernel, is the parent of all that lost theirs, and
kills until nothing is left. A separate program: it must never import virtkit.

usage: python reaper.py /PATH/OF/PROGRAM ARGUMENT…
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

#: prctl(2)'s words.
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
#: Blocked, and waited for: a handler would not run for one that comes just before waitpid(2).
_SIGNALS = (signal.SIGTERM, signal.SIGCHLD)


def main(command: list[str]) -> int:
    """Runs the command, and returns its exit code."""
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    second = os.fork()
    if second == 0:
        os._exit(_supervise(command, parent))
    while True:
        if signal.sigwait(_SIGNALS) == signal.SIGTERM:  # one for us is one for the command
            os.kill(second, signal.SIGTERM)
        pid, status = os.waitpid(second, os.WNOHANG)
        if pid:
            return _exit_code(status)


def _supervise(command: list[str], parent: int) -> int:
    """Runs the command as a child of this process, in a session of its own.

    Returns its exit code.
    """
    os.setsid()
    prctl = ctypes.CDLL(None).prctl
    prctl(_SET_CHILD_SUBREAPER, 1)
    prctl(_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed before we asked to be told
        return 1
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.execve(command[0], command, os.environ)
    while True:
        if signal.sigwait(_SIGNALS) == signal.SIGTERM:
            _kill_all()
        pid = -1
        while pid:  # one signal may stand for several that ended
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                return _exit_code(status)


def _kill_all() -> NoReturn:
    """Kills all that is below, and then what comes up from below that."""
    while below := Path("/proc/self/task", str(os.getpid()), "children").read_text().split():
        for each in below:
            with suppress(ProcessLookupError):
                os.kill(int(each), signal.SIGKILL)
        with suppress(ChildProcessError):
            os.wait()
    os._exit(128 + signal.SIGTERM)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
