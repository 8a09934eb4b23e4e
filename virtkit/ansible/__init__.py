"""Ansible's side: the inventory that reaches the guests, and playbooks that are run."""

from virtkit.ansible.inventory import script, static, variables

__all__ = ["script", "static", "variables"]
