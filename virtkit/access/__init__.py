"""How one gets into a guest: keys, addresses, ssh, commands, readiness, logs."""

from typing import TYPE_CHECKING

from virtkit._lazy import load_when_used

if TYPE_CHECKING:
    from virtkit.access.exec import attached_command, by_agent, can_use_agent, log, run
    from virtkit.access.keys import (
        authorized_keys,
        environment_folders,
        has_folder,
        identity_files,
        key_files,
        new_key_pair,
        own_keys,
        playbook_log,
        remove_folder,
    )
    from virtkit.access.login import (
        Login,
        addresses,
        as_root,
        hosts_with_guests,
        last_host,
        login,
        scp_command,
        ssh_command,
        write_known_hosts,
    )
    from virtkit.access.readiness import unready_reason, wait_ready
    from virtkit.access.ssh import (
        OTHER_KEY,
        denied_reason,
        has_other_host_key,
        lets_in,
        other_key_cure,
    )

load_when_used(
    __name__,
    {
        "virtkit.access.exec": "attached_command by_agent can_use_agent log run",
        "virtkit.access.keys": (
            "authorized_keys environment_folders has_folder identity_files key_files new_key_pair "
            "own_keys playbook_log remove_folder"
        ),
        "virtkit.access.login": (
            "Login addresses as_root hosts_with_guests last_host login scp_command ssh_command "
            "write_known_hosts"
        ),
        "virtkit.access.readiness": "unready_reason wait_ready",
        "virtkit.access.ssh": "OTHER_KEY denied_reason has_other_host_key lets_in other_key_cure",
    },
)

__all__ = [
    "OTHER_KEY",
    "Login",
    "addresses",
    "as_root",
    "attached_command",
    "authorized_keys",
    "by_agent",
    "can_use_agent",
    "denied_reason",
    "environment_folders",
    "has_folder",
    "has_other_host_key",
    "hosts_with_guests",
    "identity_files",
    "key_files",
    "last_host",
    "lets_in",
    "log",
    "login",
    "new_key_pair",
    "other_key_cure",
    "own_keys",
    "playbook_log",
    "remove_folder",
    "run",
    "scp_command",
    "ssh_command",
    "unready_reason",
    "wait_ready",
    "write_known_hosts",
]
