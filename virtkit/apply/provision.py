"""Playbooks run in a guest: what is done is written into its record before and after."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from virtkit import access, ansible
from virtkit.apply.context import Context
from virtkit.errors import VirtkitError
from virtkit.host import Unreachable
from virtkit.progress import Progress
from virtkit.state.desired import Playbooks
from virtkit.state.record import GuestRecord, Provisioned

#: Seconds that a guest gets to tell whether it has Python.
_PYTHON_TIMEOUT = 30.0


def wait_login(
    context: Context, record: GuestRecord, progress: Progress, *, keys_follow: bool = False
) -> None:
    """Waits until ssh answers, in the time that the guest has to be ready."""
    ready = {"kind": "ssh", "timeout": record.requested["ready"].get("timeout")}
    record = replace(record, requested={**record.requested, "ready": ready})
    folder = context.options.folder
    access.wait_ready(context.host, record, folder, progress, keys_follow=keys_follow)


def provision(
    context: Context,
    record: GuestRecord,
    playbooks: Playbooks,
    variables: Mapping[str, Any],
    progress: Progress,
) -> GuestRecord:
    """Runs a guest's playbooks; its record as it is afterwards.

    Args:
        variables: the guest's own, which the inventory has too.

    Raises:
        VirtkitError: one failed; the record says so.
    """
    inventory = context.options.inventory
    assert inventory is not None
    where = f"{context.host.name} guest/{record.guest}"
    _check_python(context, record, playbooks, variables, where)
    domains = context.host.domains
    begun = Provisioned(playbooks.names, playbooks.digest, at=_now())
    record = replace(record, provisioned=begun)
    domains.write_record(record)
    log = access.playbook_log(record.environment, record.guest)
    playbook_run = ansible.PlaybookRun(
        playbooks=tuple(map(Path, playbooks.paths)),
        inventory=inventory.tree(),
        folder=context.options.folder,
        limit=record.guest,
        environment={"ANSIBLE_VAULT_PASSWORD_FILE": context.options.vault}
        if context.options.vault
        else {},
        log=log,
    )
    result = ansible.run(playbook_run, progress)
    changed = sum(result.changed.values())
    ended = replace(begun, ended="ok" if result.code == 0 else "failed", changed=changed, at=_now())
    record = replace(record, provisioned=ended)
    domains.write_record(record)
    if result.code != 0:
        raise _failed(context, record, result, log, where)
    return record


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _failed(
    context: Context, record: GuestRecord, result: ansible.PlaybookResult, log: Path, where: str
) -> VirtkitError:
    assert record.provisioned is not None
    names = ", ".join(record.provisioned.playbooks)
    command = context.options.command
    return VirtkitError(
        f"guest {record.guest}: playbook {names} failed",
        why=result.why,
        cure=f"see {command('logs', '--playbooks', record.guest)} (in {log}); fix "
        f"it, and {command('up', record.guest)} runs it again",
        where=where,
    )


def _check_python(
    context: Context,
    record: GuestRecord,
    playbooks: Playbooks,
    variables: Mapping[str, Any],
    where: str,
) -> None:
    """Looks whether Ansible finds Python in the guest, where its first task needs it."""
    if "ansible_python_interpreter" in variables:
        return
    line = ["sh", "-c", "command -v python3 || command -v python"]
    try:
        ran = access.run(context.host, record, context.options.folder, line, _PYTHON_TIMEOUT)
    except Unreachable:  # Ansible says why, by its own way
        return
    if ran.code == 0 or ansible.installs_python(map(Path, playbooks.paths)):
        return
    raise VirtkitError(
        f"guest {record.guest} has no Python, and Ansible needs it there",
        why=f"{shlex.join(line)} finds none",
        cure="add python3 to its image (`build: {packages: [python3]}`), or begin the playbook "
        "with a task of ansible.builtin.raw that installs it and `gather_facts: false`",
        where=where,
    )
