"""Hardware-assisted, kernel-level virtualization: QEMU with Linux's KVM."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from virtkit.drivers.base import Blocker
from virtkit.drivers.qemu import QEMU

if TYPE_CHECKING:
    from virtkit.facts import HostFacts

_TURN_ON = (
    "use `type: qemu` (or `auto`), or turn on hardware virtualization: VT-x or AMD-V in the "
    "firmware, or nested virtualization where this machine is a guest"
)
_LOOK_AGAIN = (
    "run `virtkit doctor` again when the host is less busy; if the result is the same, use "
    "`type: qemu` (or `auto`)"
)


def check(facts: HostFacts) -> list[Blocker]:
    """As for emulation, and the probe guest must have run under KVM."""
    reasons = QEMU.check(facts)
    if not reasons and facts.kvm is not None and not facts.kvm.works:
        cure = _LOOK_AGAIN if facts.kvm.temporary else _TURN_ON
        reasons.append(Blocker(facts.kvm.why, cure, facts.kvm.temporary))
    return reasons


KVM = replace(
    QEMU,
    type="kvm",
    virtualization="hardware-assisted (kernel-level)",
    domain_type="kvm",
    needs_kvm=True,
    unsupported={key: why for key, why in QEMU.unsupported.items() if key != "cpu.hidden"},
    cpu_modes=("host-passthrough", "host-model", "maximum"),
    cpu_mode="host-passthrough",
    cpu_model="",
    tb_cache=0,
    # all but those for nested hypervisors and for migration; emulation has none, and QEMU refuses
    # to start with some of them
    hyperv=(
        "relaxed",
        "vapic",
        "spinlocks",
        "vpindex",
        "runtime",
        "synic",
        "stimer",
        "reset",
        "frequencies",
        "tlbflush",
        "ipi",
    ),
    effects={**QEMU.effects, "cpus": "live", "cpus.less": "restart"},
    boot_args="console=ttyS0",
    timeout_factor=1.0,
    check=check,
)
