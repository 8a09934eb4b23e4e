"""Ansible's side: the inventory that reaches the guests, and playbooks that are run."""

from typing import TYPE_CHECKING

from virtkit._lazy import load_when_used

if TYPE_CHECKING:
    from virtkit.ansible.inventory import (
        InventoryGuest,
        facts,
        group_name,
        groups,
        script,
        static,
        through_hypervisor,
        tree,
        variables,
    )
    from virtkit.ansible.playbook_files import check, digest, installs_python
    from virtkit.ansible.runner import Failure, PlaybookResult, PlaybookRun, require, run

load_when_used(
    __name__,
    {
        "virtkit.ansible.inventory": (
            "InventoryGuest facts group_name groups script static through_hypervisor tree variables"
        ),
        "virtkit.ansible.playbook_files": "check digest installs_python",
        "virtkit.ansible.runner": "Failure PlaybookResult PlaybookRun require run",
    },
)

__all__ = [
    "Failure",
    "InventoryGuest",
    "PlaybookResult",
    "PlaybookRun",
    "check",
    "digest",
    "facts",
    "group_name",
    "groups",
    "installs_python",
    "require",
    "run",
    "script",
    "static",
    "through_hypervisor",
    "tree",
    "variables",
]
