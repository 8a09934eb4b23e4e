"""What virtkit can do, as functions. The command line and all others show what these return.

``up`` is ``apply(spec, plan(spec))`` of what ``read(path)`` returns, and nothing else. A name is
loaded when it is used.
"""

from typing import TYPE_CHECKING

from virtkit._lazy import load_when_used

if TYPE_CHECKING:
    from virtkit.api._defaults import HOST_TYPES, LOCK_TIMEOUT, STOP_TIMEOUT
    from virtkit.api._hosts import Tell, close
    from virtkit.api._observation import Answer, unanswered_line
    from virtkit.api.access import (
        Execution,
        Vnc,
        console,
        copy,
        execute,
        forwarded_vnc,
        ssh,
        ssh_refusal,
        vnc,
    )
    from virtkit.api.catalogue import AvailableImage, image_available, image_import
    from virtkit.api.describe import describe_domain
    from virtkit.api.doctor import Check, HostChecks, check_hosts, doctor
    from virtkit.api.host import Preparation, PreparationTarget, prepare_host, probe_machine
    from virtkit.api.host_keys import HostKeys, find_host_keys, trust_host
    from virtkit.api.host_status import HostStatus, host_status
    from virtkit.api.images import StoreEntry, image_list, image_make, image_remove
    from virtkit.api.inventory import Inventory, inventory, ssh_config
    from virtkit.api.lifecycle import (
        apply,
        down,
        down_plan,
        down_refusal,
    )
    from virtkit.api.logs import Logs, follow, log_names, logs, playbook_logs
    from virtkit.api.orphans import Orphan, orphans
    from virtkit.api.plan import plan, render_xml
    from virtkit.api.power import Verb, change_state
    from virtkit.api.provision import provision
    from virtkit.api.run_options import RunOptions
    from virtkit.api.spec import read, schema, starter
    from virtkit.api.status import GuestStatus, status
    from virtkit.apply import Event, Report
    from virtkit.plan import Plan, apply_refusal
    from virtkit.spec import Spec, format_size

load_when_used(
    __name__,
    {
        "virtkit.api._defaults": "HOST_TYPES LOCK_TIMEOUT STOP_TIMEOUT",
        "virtkit.api._hosts": "Tell close",
        "virtkit.api._observation": "Answer unanswered_line",
        "virtkit.api.access": (
            "Execution Vnc console copy execute forwarded_vnc ssh ssh_refusal vnc"
        ),
        "virtkit.api.describe": "describe_domain",
        "virtkit.api.doctor": "Check HostChecks check_hosts doctor",
        "virtkit.api.catalogue": "AvailableImage image_available image_import",
        "virtkit.api.host": "Preparation PreparationTarget prepare_host probe_machine",
        "virtkit.api.host_keys": "HostKeys find_host_keys trust_host",
        "virtkit.api.host_status": "HostStatus host_status",
        "virtkit.api.images": "StoreEntry image_list image_make image_remove",
        "virtkit.api.inventory": "Inventory inventory ssh_config",
        "virtkit.api.lifecycle": "apply down down_plan down_refusal",
        "virtkit.api.logs": "Logs follow log_names logs playbook_logs",
        "virtkit.api.orphans": "Orphan orphans",
        "virtkit.api.plan": "plan render_xml",
        "virtkit.api.power": "Verb change_state",
        "virtkit.api.provision": "provision",
        "virtkit.api.run_options": "RunOptions",
        "virtkit.api.spec": "read schema starter",
        "virtkit.api.status": "GuestStatus status",
        "virtkit.apply": "Event Report",
        "virtkit.plan": "Plan apply_refusal",
        "virtkit.spec": "Spec format_size",
    },
)

__all__ = [
    "HOST_TYPES",
    "LOCK_TIMEOUT",
    "STOP_TIMEOUT",
    "Answer",
    "AvailableImage",
    "Check",
    "Event",
    "Execution",
    "GuestStatus",
    "HostChecks",
    "HostKeys",
    "HostStatus",
    "Inventory",
    "Logs",
    "Orphan",
    "Plan",
    "Preparation",
    "PreparationTarget",
    "Report",
    "RunOptions",
    "Spec",
    "StoreEntry",
    "Tell",
    "Verb",
    "Vnc",
    "apply",
    "apply_refusal",
    "change_state",
    "check_hosts",
    "close",
    "console",
    "copy",
    "describe_domain",
    "doctor",
    "down",
    "down_plan",
    "down_refusal",
    "execute",
    "find_host_keys",
    "follow",
    "format_size",
    "forwarded_vnc",
    "host_status",
    "image_available",
    "image_import",
    "image_list",
    "image_make",
    "image_remove",
    "inventory",
    "log_names",
    "logs",
    "orphans",
    "plan",
    "playbook_logs",
    "prepare_host",
    "probe_machine",
    "provision",
    "read",
    "render_xml",
    "schema",
    "ssh",
    "ssh_config",
    "ssh_refusal",
    "starter",
    "status",
    "trust_host",
    "unanswered_line",
    "vnc",
]
