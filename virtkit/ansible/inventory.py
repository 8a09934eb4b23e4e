"""The inventory: how Ansible reaches guests, their groups and their variables.

Static, as a file in INI form, by the script protocol, and as a file in YAML; all say the same.
"""

from __future__ import annotations

import ast
import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from virtkit._dataclass import dataclass
from virtkit.access import Login
from virtkit.drivers import Driver
from virtkit.errors import RequestError
from virtkit.state.record import GuestRecord

#: What Ansible's JSON has for the tags that a variable's text may have in YAML.
_VAULT, _UNSAFE = "__ansible_vault", "__ansible_unsafe"


@dataclass(frozen=True)
class InventoryGuest:
    """A guest as Ansible sees it. The values of ``variables`` may be nested."""

    name: str
    variables: Mapping[str, Any]
    groups: tuple[str, ...]


def ssh_variables(login: Login) -> dict[str, str]:
    """The variables that lead Ansible to a guest by ssh."""
    omitted = ("HostName", "User", "ControlPath")  # Ansible has its own words for these
    answer = {
        "ansible_host": login.address,
        "ansible_user": login.user,
        "ansible_ssh_common_args": " ".join(
            f"-o {shlex.quote(f'{key}={value}')}"
            for key, value in login.options()
            if key not in omitted
        ),
        "ansible_python_interpreter": "auto_silent",
    }
    if (
        login.proxy
    ):  # Ansible names a connection by the address, and other hosts' guests may have it
        way = hashlib.sha256(f"{login.proxy} {login.alias}".encode()).hexdigest()
        answer["ansible_control_path"] = f"%(directory)s/{way[:10]}"
    if login.identities:  # for plugins that don't go by ssh's own options
        answer["ansible_ssh_private_key_file"] = str(login.identities[0])
    return answer


def hypervisor_variables(
    record: GuestRecord, driver: Driver, uri: str, spec: str, *, remote: bool = False
) -> dict[str, str] | None:
    """The variables that lead Ansible to a guest without a network; None where its hypervisor has
    no way in.

    Args:
        spec: the spec's path; empty where it has none.
        remote: it is on another host, where Ansible's own plugins for libvirt do not get.
    """
    answer = {"ansible_user": "root", "ansible_python_interpreter": "auto_silent"}
    if "agent" in driver.exec and not remote:
        plugin = "community.libvirt.libvirt_qemu"
        return answer | {
            "ansible_connection": plugin,
            "ansible_host": record.domain,
            "ansible_libvirt_uri": uri,
        }
    if "namespaces" not in driver.exec:
        return None
    if not record.ids and not remote:
        plugin = "community.libvirt.libvirt_lxc"
        return answer | {"ansible_connection": plugin, "ansible_host": record.domain}
    if not spec:
        return None
    # that plugin does not become root in a container with its own ids
    return answer | {"ansible_connection": "virtkit.core.exec", "ansible_host": record.guest}


def guest_variables(
    record: GuestRecord, driver: Driver | None, host: str, spec: str
) -> dict[str, str]:
    """The variables that tell what a guest is.

    Args:
        driver: None where only its host knows its type, and does not answer.
    """
    answer = {
        "virtkit_environment": record.environment,
        "virtkit_guest": record.guest,
        "virtkit_type": driver.type if driver else "",
        "virtkit_model": driver.virtualization if driver else "",
        "virtkit_host": host,
        "virtkit_domain": record.domain,
        "virtkit_spec": spec,
    }
    return {key: value for key, value in answer.items() if value}


def groups(record: GuestRecord, driver: Driver | None, host: str) -> tuple[str, ...]:
    """The groups that a guest is in: the spec's, and those by what it is, as far as it is known."""
    kinds = {
        "environment": record.environment,
        "type": driver.type if driver else "",
        "model": driver.virtualization if driver else "",
        "host": host,
    }
    known = [f"{kind}_{each}" for kind, each in kinds.items() if each]
    names = [*record.requested["groups"], *known]
    return tuple(dict.fromkeys(map(group_name, names)))


def group_name(text: str) -> str:
    """A group's name as Ansible takes it: what is no letter, digit or ``_`` becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).rstrip("_") or "_"


def static(guests: Sequence[InventoryGuest]) -> str:
    """An inventory in INI form: Ansible takes it under any file name.

    Raises:
        RequestError: a variable is encrypted, which this form can't hold.
    """
    lines = [f"{each.name} {_pairs(each)}" for each in guests]
    for group, members in _members(guests).items():
        lines += ["", f"[{group}]", *members]
    return "\n".join(lines) + "\n"


def script(guests: Sequence[InventoryGuest]) -> dict[str, Any]:
    """The answer to ``--list`` of Ansible's inventory script protocol."""
    members = _members(guests)
    return {
        "_meta": {"hostvars": {each.name: dict(each.variables) for each in guests}},
        "all": {"children": ["ungrouped", *members]},
        "ungrouped": {"hosts": [each.name for each in guests if not each.groups]},
        **{group: {"hosts": names} for group, names in members.items()},
    }


def tree(guests: Sequence[InventoryGuest]) -> dict[str, Any]:
    """An inventory as Ansible's YAML files have it."""
    return {
        "all": {
            "hosts": {each.name: dict(each.variables) for each in guests},
            "children": {
                group: {"hosts": dict.fromkeys(names)} for group, names in _members(guests).items()
            },
        }
    }


def _members(guests: Iterable[InventoryGuest]) -> dict[str, list[str]]:
    """The guests of each group, by its name."""
    answer: dict[str, list[str]] = {}
    for each in guests:
        for group in each.groups:
            answer.setdefault(group, []).append(each.name)
    return dict(sorted(answer.items()))


def _pairs(guest: InventoryGuest) -> str:
    """A guest's variables in one line of INI. Ansible reads a value that is a literal of Python's
    as that, and every other as text."""
    try:
        pairs = {key: _ini_value(value) for key, value in guest.variables.items()}
    except _Encrypted:
        raise RequestError(
            f"guest {guest.name}: a file in INI form can't hold encrypted variables",
            why="Ansible decrypts them only in YAML and in what --list prints",
            cure="use the inventory plugin virtkit.core.virtkit instead, or put them into "
            "host_vars/",
        ) from None
    return " ".join(f"{key}={shlex.quote(value)}" for key, value in pairs.items())


class _Encrypted(Exception):
    """A value of a variable is text for Ansible's vault."""


def _ini_value(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, str) and value.isprintable():
        try:
            ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return repr(value)


def _plain(value: Any) -> Any:
    """A value without what only Ansible's JSON has: text that is no template is marked as such by
    Jinja's own means."""
    if isinstance(value, Mapping):
        if _VAULT in value:
            raise _Encrypted
        if _UNSAFE in value:
            text = str(value[_UNSAFE]).replace("{%", "{% endraw %}{{ '{%' }}{% raw %}")
            return f"{{% raw %}}{text}{{% endraw %}}"
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
