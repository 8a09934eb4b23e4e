"""Ansible's side: the inventory that reaches the guests, and playbooks that are run."""

from virtkit.ansible.inventory import (
    InventoryGuest,
    facts,
    group_name,
    groups,
    script,
    static,
    through_hypervisor,
    variables,
)

__all__ = [
    "InventoryGuest",
    "facts",
    "group_name",
    "groups",
    "script",
    "static",
    "through_hypervisor",
    "variables",
]
