"""virtkit: one spec, any virtualization type, through libvirt.

The public names, as docs/api.md tells of them. A name is loaded when it is used.
"""

from typing import TYPE_CHECKING

from virtkit._lazy import load_when_used

if TYPE_CHECKING:
    from virtkit.api import (
        Check,
        Event,
        Execution,
        GuestStatus,
        Inventory,
        Machine,
        Orphan,
        Plan,
        Preparation,
        Report,
        RunOptions,
        Spec,
        StoreEntry,
        Verb,
        Vnc,
        apply,
        change_state,
        close,
        console,
        copy,
        doctor,
        down,
        down_plan,
        execute,
        find_machine,
        follow,
        format_size,
        forwarded_vnc,
        image_list,
        image_make,
        image_remove,
        inventory,
        log_names,
        logs,
        needs_consent,
        needs_consent_to_go,
        orphans,
        plan,
        playbook_logs,
        prepare_host,
        provision,
        read,
        render_xml,
        schema,
        ssh,
        ssh_config,
        starter,
        status,
        vnc,
    )
    from virtkit.errors import Interrupted, RequestError, SpecErrors, VirtkitError

load_when_used(
    __name__,
    {
        "virtkit.api": (
            "Check Event Execution GuestStatus Inventory Machine Orphan Plan Preparation Report "
            "RunOptions Spec StoreEntry Verb Vnc apply change_state close console copy doctor down "
            "down_plan execute find_machine follow format_size forwarded_vnc image_list image_make "
            "image_remove inventory log_names logs needs_consent needs_consent_to_go orphans "
            "plan playbook_logs "
            "prepare_host provision read render_xml schema ssh ssh_config starter status vnc"
        ),
        "virtkit.errors": "Interrupted RequestError SpecErrors VirtkitError",
    },
)

__all__ = [
    "Check",
    "Event",
    "Execution",
    "GuestStatus",
    "Interrupted",
    "Inventory",
    "Machine",
    "Orphan",
    "Plan",
    "Preparation",
    "Report",
    "RequestError",
    "RunOptions",
    "Spec",
    "SpecErrors",
    "StoreEntry",
    "Verb",
    "VirtkitError",
    "Vnc",
    "apply",
    "change_state",
    "close",
    "console",
    "copy",
    "doctor",
    "down",
    "down_plan",
    "execute",
    "find_machine",
    "follow",
    "format_size",
    "forwarded_vnc",
    "image_list",
    "image_make",
    "image_remove",
    "inventory",
    "log_names",
    "logs",
    "needs_consent",
    "needs_consent_to_go",
    "orphans",
    "plan",
    "playbook_logs",
    "prepare_host",
    "provision",
    "read",
    "render_xml",
    "schema",
    "ssh",
    "ssh_config",
    "starter",
    "status",
    "vnc",
]
