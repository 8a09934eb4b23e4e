"""Why a guest is in the state it is in, where libvirt knows, and what cures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import libvirt

from virtkit._dataclass import dataclass
from virtkit.host.timeouts import HypervisorUnresponsive, call_with_timeout

#: Seconds for a look at a running guest's hypervisor process.
_LOOK_TIMEOUT = 2.0


@dataclass(frozen=True)
class StateReason:
    """What libvirt knows beyond the state. ``cure`` is empty where nothing is wrong."""

    why: str = ""
    cure: str = ""


_LOGS = "its log on the host (as root, below /var/log/libvirt/)"
_UP = "`virtkit up SPEC GUEST` starts it again"
_RESTART = "see `virtkit logs SPEC GUEST`; `virtkit restart SPEC GUEST` starts it again"
_REASONS: Mapping[tuple[int, int], StateReason] = {
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER): StateReason("somebody paused it"),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED): StateReason(
        "its kernel panicked", _RESTART
    ),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_WATCHDOG): StateReason(
        "its watchdog fired", _RESTART
    ),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED): StateReason(
        "its hypervisor process ended without being asked: killed, or crashed",
        f"see the host's kernel log (out of memory?) and {_LOGS}; {_UP}",
    ),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED): StateReason(
        "its hypervisor process failed", f"see {_LOGS}; {_UP}"
    ),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN): StateReason(
        "it ended by itself"  # a container also where it was killed: libvirt sees no difference
    ),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED): StateReason(
        "somebody forced it off"
    ),
}
_DISK_ERRORS = {
    libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE: "no space left on the host",
    libvirt.VIR_DOMAIN_DISK_ERROR_UNSPEC: "input/output error",
}
_FULL = (
    "free some space where the host keeps its disks (df -h), then `virtkit up SPEC GUEST`: it "
    "continues where it was paused, nothing is lost"
)
_BROKEN = "see the host's kernel log and disks; then `virtkit up SPEC GUEST` resumes it"


def reason_of(find: Callable[[], libvirt.virDomain], where: str) -> StateReason:
    """Why a domain is in its state; empty where libvirt has no reason, or a usual one.

    Of a running one it is asked whether its hypervisor process answers.
    """
    state, reason = find().state()
    paused_by_disk = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)
    if state != libvirt.VIR_DOMAIN_RUNNING and (state, reason) != paused_by_disk:
        return _REASONS.get((state, reason), StateReason())
    try:
        errors = call_with_timeout(find, _disk_errors, where, _LOOK_TIMEOUT)
    except HypervisorUnresponsive as silent:
        return StateReason(silent.why, silent.cure)
    if state == libvirt.VIR_DOMAIN_RUNNING:
        return StateReason()
    disk_errors = ", ".join(
        f"{disk}: {_DISK_ERRORS.get(code, code)}" for disk, code in errors.items()
    )
    full = libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE in errors.values()
    return StateReason(
        f"QEMU paused it, because a disk can't be written ({disk_errors})",
        _FULL if full else _BROKEN,
    )


def _disk_errors(domain: libvirt.virDomain) -> dict[str, int]:
    try:
        return dict(domain.diskErrors())
    except libvirt.libvirtError:  # containers have none, and a guest that just ended has no more
        return {}
