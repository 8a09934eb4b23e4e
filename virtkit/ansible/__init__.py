"""Ansible's side: the inventory that reaches the guests, and playbooks that are run."""

from virtkit.ansible.inventory import script, static, variables
from virtkit.ansible.reads import check, digest, installs_python
from virtkit.ansible.runner import Failure, Play, Played, require, run

__all__ = [
    "Failure",
    "Play",
    "Played",
    "check",
    "digest",
    "installs_python",
    "require",
    "run",
    "script",
    "static",
    "variables",
]
