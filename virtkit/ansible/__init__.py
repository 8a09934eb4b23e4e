"""Ansible's side: the inventory that reaches the guests, and playbooks that are run."""

from typing import TYPE_CHECKING

from virtkit._lazy import load_when_used

if TYPE_CHECKING:
    from virtkit.ansible.inventory import (
        InventoryGuest,
        group_name,
        groups,
        guest_variables,
        hypervisor_variables,
        script,
        ssh_variables,
        static,
        tree,
    )
    from virtkit.ansible.playbook_files import check, digests, installs_python
    from virtkit.ansible.runner import PlaybookResult, PlaybookRun, require, run

load_when_used(
    __name__,
    {
        "virtkit.ansible.inventory": (
            "InventoryGuest group_name groups guest_variables hypervisor_variables script "
            "ssh_variables static tree"
        ),
        "virtkit.ansible.playbook_files": "check digests installs_python",
        "virtkit.ansible.runner": "PlaybookResult PlaybookRun require run",
    },
)

__all__ = [
    "InventoryGuest",
    "PlaybookResult",
    "PlaybookRun",
    "check",
    "digests",
    "group_name",
    "groups",
    "guest_variables",
    "hypervisor_variables",
    "installs_python",
    "require",
    "run",
    "script",
    "ssh_variables",
    "static",
    "tree",
]
