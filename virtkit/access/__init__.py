"""How one gets into a guest: keys, addresses, ssh, commands, readiness, logs."""

from typing import TYPE_CHECKING

from virtkit._lazy import load_when_used

if TYPE_CHECKING:
    from virtkit.access.exec import attached, by_agent, log, run, takes_agent
    from virtkit.access.keys import (
        authorized_keys,
        folders,
        forget,
        has_folder,
        identity_files,
        key_files,
        new_key_pair,
        own_keys,
        playbook_log,
    )
    from virtkit.access.login import (
        Login,
        addresses,
        as_root,
        host_of,
        hosts,
        login,
        scp_command,
        ssh_command,
        write_known_hosts,
    )
    from virtkit.access.readiness import unready_reason, wait_ready
    from virtkit.access.ssh import (
        OTHER_KEY,
        OTHER_KEY_CURE,
        denied_reason,
        has_other_host_key,
        lets_in,
    )

load_when_used(
    __name__,
    {
        "virtkit.access.exec": "attached by_agent log run takes_agent",
        "virtkit.access.keys": (
            "authorized_keys folders forget has_folder identity_files key_files new_key_pair "
            "own_keys playbook_log"
        ),
        "virtkit.access.login": (
            "Login addresses as_root host_of hosts login scp_command ssh_command write_known_hosts"
        ),
        "virtkit.access.readiness": "unready_reason wait_ready",
        "virtkit.access.ssh": "OTHER_KEY OTHER_KEY_CURE has_other_host_key lets_in denied_reason",
    },
)

__all__ = [
    "OTHER_KEY",
    "OTHER_KEY_CURE",
    "Login",
    "addresses",
    "as_root",
    "attached",
    "authorized_keys",
    "by_agent",
    "denied_reason",
    "folders",
    "forget",
    "has_folder",
    "has_other_host_key",
    "host_of",
    "hosts",
    "identity_files",
    "key_files",
    "lets_in",
    "log",
    "login",
    "new_key_pair",
    "own_keys",
    "playbook_log",
    "run",
    "scp_command",
    "ssh_command",
    "takes_agent",
    "unready_reason",
    "wait_ready",
    "write_known_hosts",
]
