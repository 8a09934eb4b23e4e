"""Ansible's side: the inventory that reaches the guests, and playbooks that are run."""

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
from virtkit.ansible.reads import check, digest, installs_python
from virtkit.ansible.runner import Failure, Play, Played, require, run

__all__ = [
    "Failure",
    "InventoryGuest",
    "Play",
    "Played",
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
