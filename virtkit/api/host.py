"""Machines made into libvirt hosts, by Ansible and the playbook host.yml."""

from __future__ import annotations

import os
import re
import shlex
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from virtkit import ansible
from virtkit._dataclass import dataclass
from virtkit.api._defaults import HOST_TYPES
from virtkit.api._hosts import Tell, host_named, quiet
from virtkit.apply import Report, Step, engine
from virtkit.errors import RequestError, VirtkitError
from virtkit.host import Host, Remote, daemon_access
from virtkit.progress import Progress
from virtkit.spec import Spec
from virtkit.system import commands, temporary

#: Where a machine's Python is, and how the one who logs in becomes root there.
_PROBE = """command -v python3 || echo none
if [ "$(id -u)" = 0 ]; then echo root
elif ! command -v sudo >/dev/null; then echo nobody
elif sudo -n true 2>/dev/null; then echo sudo
else echo password; fi
"""
_ANSWER = re.compile(rb"(none|/[^\n]+)\n(root|nobody|sudo|password)\n")


@dataclass(frozen=True)
class PreparationTarget:
    """A machine that can be prepared.

    Attributes:
        remote: how ssh gets there; None is this machine.
        python: the path of its Python.
        needs_password: whether its sudo asks for one.
        prepare_command: the command that prepares it; left out, the one for its name.
    """

    name: str
    remote: Remote | None
    python: str
    needs_password: bool
    prepare_command: str = ""

    def command(self, types: Sequence[str] = ()) -> str:
        """The command that prepares it for guests of ``types``."""
        command = self.prepare_command or f"virtkit host prepare {shlex.quote(self.name)}"
        return f"{command} --types {shlex.quote(','.join(types))}" if types else command


@dataclass
class Preparation:
    """How it went, and how many of the playbook's tasks changed something."""

    report: Report
    changed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The document of ``host prepare --json``."""
        document = self.report.as_dict()
        host = document.pop("environment")
        return {"host": host, "changed": self.changed, **document}


def probe_machine(name: str, spec: Spec | None = None) -> PreparationTarget:
    """Looks at the machine that ``name`` stands for: a host of the spec, ``local``, or as for ssh.

    Raises:
        RequestError: ``name`` stands for none, Ansible is missing here, Python or a way to become
            root there; nothing was touched.
        VirtkitError: ssh does not get there, or its shell prints more than the answer.
    """
    ansible.require()
    host = host_named(name, spec)
    python, privilege = _probe(host.remote)
    return _target(host, python, privilege)


def _target(host: Host, python: str, privilege: str) -> PreparationTarget:
    """The machine, by what the probe says of it.

    Raises:
        RequestError: Python or a way to become root is missing.
    """
    remote = host.remote
    where = "this machine" if remote is None else host.name
    by_hand = "" if remote is None else f"{remote.ssh_command} -t "
    if python == "none":
        cure = f"{by_hand}sudo apt-get install python3"
        raise RequestError(f"python3 is missing on {where}, and Ansible needs it", cure=cure)
    if privilege == "nobody":
        cure = "be root here, or install sudo"
        if remote is not None:
            cure = f"log in as root@{remote.address.rpartition('@')[2]}, or let the user have sudo"
        raise RequestError(f"you can't become root on {where}: it has no sudo", cure=cure)
    prepare_command = host.connections.prepare_command
    return PreparationTarget(host.name, remote, python, privilege == "password", prepare_command)


def _probe(remote: Remote | None) -> tuple[str, str]:
    """What `_PROBE` prints: a path or ``none``, and how one becomes root."""
    if remote is None:
        python, privilege = commands.run("sh", "-c", _PROBE).stdout.splitlines()
        return python, privilege
    output = remote.run(_PROBE)
    answer = _ANSWER.fullmatch(output)
    if answer is None:
        raise remote.unexpected_output(output)
    return os.fsdecode(answer[1]), answer[2].decode()


def prepare_host(
    machine: PreparationTarget,
    types: Sequence[str] = (),
    *,
    password: str = "",
    tell: Tell = quiet,
    stop: threading.Event | None = None,
) -> Preparation:
    """Makes a machine a libvirt host, by the playbook host.yml.

    Args:
        types: of guests that it is to run; left out, what the playbook takes.
        password: for sudo, where the machine needs one.
        stop: set from any thread, it ends the run as ctrl-c does.

    Raises:
        RequestError: a type is none of ``HOST_TYPES``; nothing was touched.
    """
    unknown = sorted({*types} - {*HOST_TYPES})
    if unknown:
        raise RequestError(
            f"{unknown[0]!r} is not a type that hosts are prepared for",
            why="QEMU comes with kvm" if unknown[0] == "qemu" else "",
            cure=f"--types takes {', '.join(HOST_TYPES)}, with commas between",
        )
    answer = Preparation(Report(machine.name))

    def run(progress: Progress) -> None:
        answer.changed = _run_playbook(machine, types, password, progress)
        if machine.remote is not None:
            machine.remote.disconnect()  # the user may be in libvirt's group with the next login
        elif daemon_access.awaits_login():
            progress.note(daemon_access.cure())

    step = Step(f"host/{machine.name}", "prepare", machine.name, run)
    answer.report = engine.run(machine.name, [step], parallel=1, tell=tell, stop=stop)
    return answer


def _run_playbook(
    machine: PreparationTarget, types: Sequence[str], password: str, progress: Progress
) -> int:
    """Runs the playbook, and returns how many tasks changed something."""
    playbook = _playbooks() / "host.yml"
    with temporary.folder() as private:
        environment = {"ANSIBLE_PIPELINING": "1"}
        if password:
            file = private / "password"
            file.touch(mode=0o600)
            file.write_text(password)
            environment["ANSIBLE_BECOME_PASSWORD_FILE"] = str(file)
        result = ansible.run(
            ansible.PlaybookRun(
                playbooks=(playbook,),
                inventory=_inventory(machine),
                folder=playbook.parent,
                variables={"virtkit_types": list(types)} if types else {},
                environment=environment,
            ),
            progress,
        )
    if result.code != 0:
        raise VirtkitError(
            f"host {machine.name} was not prepared",
            why=result.why,
            cure=f"fix what it says, then go on: {machine.command(types)}",
            where=machine.name,
        )
    return sum(result.changed.values())


def _playbooks() -> Path:
    """The playbooks: inside an installed virtkit, else beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "playbooks"
    return installed if installed.is_dir() else package.parent / "playbooks"


def _inventory(machine: PreparationTarget) -> dict[str, Any]:
    """An inventory of one machine, which Ansible reaches by the ssh that virtkit itself uses."""
    variables = {"ansible_python_interpreter": machine.python}
    if machine.remote is None:
        variables["ansible_connection"] = "local"
    else:
        user, _, host = machine.remote.address.rpartition("@")
        variables |= {"ansible_user": user} if user else {}
        variables |= {
            "ansible_host": host,
            "ansible_ssh_executable": str(machine.remote.ssh_program()),
            "ansible_ssh_transfer_method": "piped",  # by that program, too
        }
    return {"all": {"hosts": {machine.name.rpartition("@")[2]: variables}}}
