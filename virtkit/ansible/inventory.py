"""What Ansible needs to reach the guests: an inventory, static or by the script protocol."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from virtkit.reach import Login


def variables(login: Login) -> dict[str, str]:
    """Ansible's connection variables for one guest."""
    own = ("HostName", "User")  # Ansible has words of its own for these
    answer = {
        "ansible_host": login.address,
        "ansible_user": login.user,
        "ansible_ssh_common_args": " ".join(
            f"-o {shlex.quote(f'{key}={value}')}"
            for key, value in login.options()
            if key not in own
        ),
        "ansible_python_interpreter": "auto_silent",
    }
    if login.identities:  # for plugins that don't go by ssh's own options
        answer["ansible_ssh_private_key_file"] = str(login.identities[0])
    return answer


def static(logins: Sequence[Login], groups: dict[str, list[str]]) -> str:
    """An inventory in INI form: Ansible takes it under any file name."""
    lines = [f"{each.guest} {_pairs(variables(each))}" for each in logins]
    for group, members in sorted(groups.items()):
        lines += ["", f"[{group}]", *members]
    return "\n".join(lines) + "\n"


def script(logins: Iterable[Login], groups: dict[str, list[str]]) -> dict[str, Any]:
    """The answer to ``--list`` of Ansible's inventory script protocol."""
    logins = list(logins)
    grouped = {member for members in groups.values() for member in members}
    return {
        "_meta": {"hostvars": {each.guest: variables(each) for each in logins}},
        "all": {"children": ["ungrouped", *sorted(groups)]},
        "ungrouped": {"hosts": [each.guest for each in logins if each.guest not in grouped]},
        **{group: {"hosts": members} for group, members in sorted(groups.items())},
    }


def _pairs(values: dict[str, str]) -> str:
    return " ".join(f"{key}={shlex.quote(value)}" for key, value in values.items())
