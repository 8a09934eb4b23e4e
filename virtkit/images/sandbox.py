"""Runs the programs that build an image, in namespaces that end with us.

mmdebstrap mounts, starts many others and doesn't obey TERM. In a process namespace all of them are
killed with its first process, which is killed with unshare, which is killed with the thread that
waits for it here: by ctrl-c, by TERM, and by a kill that nobody hears. Nothing that was started is
left, and no mount.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal

from virtkit.errors import VirtkitError
from virtkit.progress import Progress
from virtkit.system import commands

#: Who the namespaces' root is outside of them. ``own``: the caller, who can read and write the
#: caller's files. ``subordinate``: the first of the caller's ids in /etc/subuid, so that what
#: packages run has no right to any file of the caller's. Both are root where the caller is.
Root = Literal["own", "subordinate"]

#: Printed by the first process once it is bound to die with its parent. Only then does it go on:
#: had we been killed before, its input would have ended.
_BOUND = "virtkit: bound"
_START = f'echo "{_BOUND}" >&2; read -r _ && exec "$@" </dev/null'

#: Variables that programs go by to reach servers.
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
#: The last lines of a command that are kept for its error.
_MAX_LINES = 400
#: Seconds that a namespace gets to end in, once it was killed.
_ENDING = 10.0


def namespaces(root: Root) -> list[str]:
    """The beginning of a command line that runs the rest in new namespaces."""
    arguments = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() == 0:
        if not _private():
            arguments += ["--propagation", "unchanged"]
    elif root == "own":
        arguments += ["--user", "--map-root-user", "--map-auto"]
    else:
        arguments += ["--user", "--map-auto", "--setuid", "0", "--setgid", "0"]
    return commands.command_line("unshare", *arguments, "--")


@cache
def _private() -> bool:
    """Whether mounts can be made private: in a chroot / is no mount point, and they can't."""
    return commands.run("unshare", "--mount", "--", "true").returncode == 0


def run(
    command: Sequence[str],
    *,
    root: Root,
    work: Path,
    failed: Callable[[Sequence[str]], VirtkitError],
    progress: Progress,
    say: Callable[[str], None] = lambda _: None,
    output: Path | None = None,
) -> None:
    """Runs a command in ``work`` and hands each line of its errors to ``say``.

    It ends as soon as the work should end. All that it started has ended when this returns.

    Args:
        root: who its root is outside of the namespaces.
        failed: makes the error of the last lines that were printed.
        work: its folder, also for temporary files.
        output: gets its standard output; without one that counts as errors.

    Raises:
        VirtkitError: what ``failed`` made, as it exited with an error.
        Interrupted: the work should end.
    """
    lines: deque[str] = deque(maxlen=_MAX_LINES)
    with _started(command, root, work, output) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            with progress.on_cancel(lambda: _end(process)):
                for line in map(str.rstrip, process.stderr):
                    if line == _BOUND:
                        with suppress(BrokenPipeError):
                            os.write(process.stdin.fileno(), b"go\n")
                        continue
                    lines.append(line)
                    say(line)
        except KeyboardInterrupt:
            progress("interrupted: ending the build; interrupt again to end it at once")
            raise
    progress.check_cancelled()  # it was ended, and did not fail
    if process.returncode != 0:
        raise failed(lines)


@contextmanager
def _started(
    command: Sequence[str], root: Root, work: Path, output: Path | None
) -> Iterator[subprocess.Popen[str]]:
    """The process, which has ended after the block with all that it started."""
    start = _START if output else f"exec >&2; {_START}"
    line = commands.die_with_parent(["sh", "-c", start, "sh", *command])
    with (
        Path(output or os.devnull).open("wb") as answer,
        subprocess.Popen(
            commands.die_with_parent([*namespaces(root), *line]),
            cwd=work,
            env=environment(TMPDIR=str(work)),
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,  # the terminal's ctrl-c reaches us alone, and we end it
        ) as process,
    ):
        try:
            yield process
        except BaseException:
            _end(process)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING)
            process.kill()
            raise


def environment(**more: str) -> dict[str, str]:
    """What a build gets of the caller's environment: where programs are, and proxies that need no
    login. Packages' scripts see it, and may write it into an image."""
    variables = {"PATH": commands.search_path(), "HOME": "/root", "LC_ALL": "C.UTF-8", **more}
    for name in _PROXIES:
        value = os.environ.get(name)
        if value and not holds_login(value):
            variables[name] = value
    return variables


def holds_login(proxy: str) -> bool:
    """Whether a proxy's address has a user or a password in it."""
    return "@" in proxy


def _end(process: subprocess.Popen[str]) -> None:
    """Kills the namespace's first process: unshare waits for it, and it ends after all others."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except OSError:
        children = []
    for each in children:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(int(each), signal.SIGKILL)
    if not children:  # not there yet, or a kernel that doesn't tell
        process.kill()


def removal_command(folder: Path) -> str:
    """The shell command that removes a folder in which builds were, for the caller to type."""
    arguments = ["rm", "-rf", str(folder)]
    if os.geteuid() != 0:  # files of subordinate ids are in it
        arguments = ["unshare", "--map-root-user", "--map-auto", *arguments]
    return shlex.join(arguments)


def remove(folder: Path) -> None:
    """Removes a folder and all in it, files of subordinate ids too, but nothing that is mounted."""
    if not folder.exists():
        return
    line = commands.command_line("rm", "-rf", "--one-file-system", "--", str(folder))
    commands.run(*(line if os.geteuid() == 0 else [*namespaces("own"), *line]))
    if os.geteuid() != 0:  # where no namespace can be had, what is the caller's goes
        shutil.rmtree(folder, ignore_errors=True)
