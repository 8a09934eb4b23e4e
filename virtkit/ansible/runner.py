"""Runs playbooks through ansible-runner: its tasks as progress, its failures as an error's reason.

Ansible is a program here, in a process that ends with virtkit. Everything that goes to
it is in a folder of the caller's alone, which is gone afterwards; what it printed stays, where that
is asked for. It must never be started by what PATH says, nor be given a secret as an argument.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Any

from virtkit._dataclass import dataclass
from virtkit.errors import RequestError, VirtkitError
from virtkit.progress import Progress
from virtkit.system import commands, temporary

#: What brings Ansible to where virtkit is installed.
INSTALL = f"{shlex.quote(sys.executable)} -m pip install ansible-core"
#: What Ansible runs below of, so that its workers end with it.
_REAPER = Path(__file__).with_name("reaper.py")
#: What runs ansible-runner.
_RUNNER = Path(__file__).with_name("runner_process.py")
#: Seconds after which ansible-runner looks whether it is to end.
_POLL_INTERVAL = 1
#: Characters of a failed task's message that an error shows.
_MAX_MESSAGE = 2000
#: Actions of Ansible's own that take no time: no progress tells of them.
_QUIET_ACTIONS = ("validate_argument_spec", "include_role", "include_tasks", "set_fact")
#: Folders beside an inventory in which Ansible looks for variables.
_VARIABLE_FOLDERS = ("group_vars", "host_vars")


@dataclass(frozen=True)
class PlaybookRun:
    """Playbooks, and what they are run with.

    Attributes:
        playbooks: their files; they are run in turn, until one fails.
        inventory: an inventory, as Ansible's YAML files have it.
        folder: where Ansible is started: its ansible.cfg counts, and the variables beside it.
        limit: the hosts they are for; empty for all.
        variables: extra variables; they win over all others.
        check: tells what would change, and changes nothing.
        environment: variables of the environment that Ansible gets beside the caller's.
        log: the file that gets what it prints (0600); None for none.
    """

    playbooks: tuple[Path, ...]
    inventory: Mapping[str, Any]
    folder: Path
    limit: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    check: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None


@dataclass(frozen=True)
class Failure:
    """A task that failed on a host, and its message."""

    host: str
    task: str
    message: str

    def __str__(self) -> str:
        return f"{self.task} ({self.host}): {self.message}"


@dataclass(frozen=True)
class PlaybookResult:
    """How playbooks ended.

    Attributes:
        code: Ansible's exit code.
        changed: how many tasks changed something, by host.
        failures: what failed, in the order in which it did.
        message: Ansible's own where it failed without a task, as at a mistake in the playbook.
    """

    code: int
    changed: Mapping[str, int]
    failures: tuple[Failure, ...]
    message: str = ""

    @property
    def why(self) -> str:
        """Why it failed."""
        return "\n".join(map(str, self.failures)) or self.message or f"it exited with {self.code}"


def require() -> None:
    """Checks that Ansible is installed.

    Raises:
        RequestError: it is not installed where virtkit is.
    """
    if importlib.util.find_spec("ansible") is None:
        raise RequestError(
            "Ansible is missing: playbooks can't be run",
            why=f"ansible-core is not installed for {sys.executable}",
            cure=INSTALL,
        )


def run(playbook_run: PlaybookRun, progress: Progress) -> PlaybookResult:
    """Runs playbooks, and waits until they have ended.

    Raises:
        RequestError: Ansible is not installed.
        VirtkitError: it could not be started.
        Interrupted: the work should end.
    """
    require()
    events = _Events(progress)
    with temporary.folder() as private:
        _write_files(playbook_run, private)
        try:
            code = _run_watched(playbook_run, private, events, progress)
        finally:
            printed = private / "artifacts" / "run" / "stdout"
            if playbook_run.log is not None and printed.exists():
                temporary.write(playbook_run.log, printed.read_text(errors="replace"))
    return events.result(code)


def _run_watched(
    playbook_run: PlaybookRun, private: Path, events: _Events, progress: Progress
) -> int:
    """Starts Ansible, hands its events on, and ends it where the work should end.

    Returns its exit code.
    """
    line = commands.die_with_parent(_command(playbook_run, private))
    arguments = {
        "private_data_dir": str(private),
        "project_dir": str(playbook_run.folder),
        "ident": "run",
        "binary": line[0],
        "cmdline": shlex.join(line[1:]),
        "envvars": _environment(playbook_run, private),
        "settings": {"pexpect_timeout": _POLL_INTERVAL},
    }
    answer: dict[str, Any] = {}
    with (
        (private / "stderr").open("w+") as errors,
        subprocess.Popen(
            commands.die_with_parent([sys.executable, "-P", str(_RUNNER)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=commands.environment(),
            process_group=0,  # the terminal's ctrl-c reaches us alone, and we end it
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with progress.on_cancel(process.kill):
                # where it has ended before it read them, its end tells why
                with suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(json.dumps(arguments) + "\n")
                for text in process.stdout:
                    if not text.endswith("\n"):  # it was killed in the middle of an event
                        break
                    answer = json.loads(text)
                    if "event" in answer:
                        events.take(answer)
        except BaseException:
            process.kill()
            raise
        process.wait()
        progress.check_cancelled()
        if "code" not in answer:
            errors.seek(0)
            raise VirtkitError(
                f"playbook {', '.join(map(str, playbook_run.playbooks))} could not be run",
                why=str(answer.get("failed") or errors.read()[-_MAX_MESSAGE:]),
                cure=f"{INSTALL} --upgrade ansible-runner",
            )
    return int(answer["code"])


def _write_files(playbook_run: PlaybookRun, private: Path) -> None:
    """What Ansible is to read; the folder is the caller's alone."""
    (private / "hosts.json").write_text(json.dumps(playbook_run.inventory))
    (private / "variables.json").write_text(json.dumps(dict(playbook_run.variables)))
    for name in _VARIABLE_FOLDERS:
        if (playbook_run.folder / name).is_dir():
            (private / name).symlink_to(playbook_run.folder / name)


def _command(playbook_run: PlaybookRun, private: Path) -> list[str]:
    """The command line, by the Python that runs virtkit: not what PATH has first, and not a folder
    `ansible` where it is started (-P)."""
    line = [sys.executable, "-I", "-S", str(_REAPER), sys.executable, "-P", "-m", "ansible"]
    line += ["playbook", "-i", str(private / "hosts.json")]
    line += ["-e", f"@{private / 'variables.json'}"] if playbook_run.variables else []
    line += ["--limit", playbook_run.limit] if playbook_run.limit else []
    line += ["--check", "--diff"] if playbook_run.check else []
    return [*line, "--", *map(str, playbook_run.playbooks)]


def _environment(playbook_run: PlaybookRun, private: Path) -> dict[str, str]:
    """What Ansible gets beside the caller's environment; ansible-runner would turn the check of
    host keys off."""
    words = (os.environ.get(each) for each in ("LC_ALL", "LC_CTYPE", "LANG"))
    utf8 = re.search(r"utf-?8", next(filter(None, words), ""), re.IGNORECASE)
    return {
        "PATH": commands.search_path(),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        # connections are shared within this run alone: a recreated guest is another one
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private / "cp"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_NOCOWS": "1",
        **({} if utf8 else {"LC_ALL": "C.UTF-8"}),  # Ansible starts in no other locale
        **playbook_run.environment,
    }


class _Events:
    """Ansible's events as they come: progress is told, failures are kept."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._changed: dict[str, int] = {}
        self._failures: list[Failure] = []
        self._messages: list[str] = []

    def take(self, event: Mapping[str, Any]) -> None:
        """Tells or keeps what an event says."""
        data = event.get("event_data") or {}
        handler = getattr(self, f"_{event.get('event')}", None)
        if handler is not None:
            handler(data)
        elif event.get("event") in ("verbose", "error", "warning") and event.get("stdout"):
            self._messages.append(str(event["stdout"]))

    def result(self, code: int) -> PlaybookResult:
        """How it ended."""
        message = "\n".join(self._messages).strip()[-_MAX_MESSAGE:] if code else ""
        return PlaybookResult(code, self._changed, tuple(self._failures), message)

    # --- by the names of Ansible's events -----------------------------------------------------

    def _playbook_on_task_start(self, data: Mapping[str, Any]) -> None:
        quiet = str(data.get("task_action")).endswith(_QUIET_ACTIONS)
        if not quiet and not self._progress.cancelled:
            self._progress(_name(data))

    _playbook_on_handler_task_start = _playbook_on_task_start

    def _playbook_on_stats(self, data: Mapping[str, Any]) -> None:
        self._changed = dict(data.get("changed") or {})

    def _playbook_on_no_hosts_matched(self, _data: Mapping[str, Any]) -> None:
        self._messages.append("no host of the inventory matches a play's `hosts:`")

    def _runner_on_failed(self, data: Mapping[str, Any]) -> None:
        if not data.get("ignore_errors"):
            self._fail(data)

    def _runner_on_unreachable(self, data: Mapping[str, Any]) -> None:
        self._fail(data)

    def _fail(self, data: Mapping[str, Any]) -> None:
        message = _message(data.get("res") or {})
        self._failures.append(Failure(str(data.get("host", "")), _name(data), message))


def _name(data: Mapping[str, Any]) -> str:
    """A task's name, after its role's."""
    task = str(data.get("task") or data.get("name") or "a task")
    role = data.get("role")
    return f"{role} : {task}" if role and not task.startswith(f"{role} : ") else task


def _message(result: Mapping[str, Any]) -> str:
    """What a failed task says. One with `no_log` says nothing."""
    if "censored" in result:
        return "its message is hidden by `no_log: true`"
    failed = [e for e in result.get("results", ()) if isinstance(e, dict) and e.get("failed")]
    if failed:
        return "; ".join(dict.fromkeys(map(_message, failed)))[:_MAX_MESSAGE]
    keys = ("msg", "stderr", "module_stderr")
    messages = [str(result[key]).strip() for key in keys if result.get(key)]
    return "\n".join(dict.fromkeys(messages))[:_MAX_MESSAGE] or "it failed without a message"
