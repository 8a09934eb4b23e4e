"""What guests are given of their host, looked at there: for a plan, and for doctor."""

from __future__ import annotations

from collections.abc import Iterator

from virtkit.facts import HostFacts
from virtkit.host import Host
from virtkit.plan import shared
from virtkit.spec import Spec


def with_shared(facts: HostFacts, spec: Spec, host: Host) -> HostFacts:
    """The facts with what is known of what the spec's guests are given of the host."""
    folders = {shared.path_on_host(spec, e, None) for g in spec.guests.values() for e in g.folders}
    devices = {each for guest in spec.guests.values() for each in guest.host_devices}
    if not folders and not devices:
        return facts
    from virtkit.host import further_facts

    return further_facts.with_shared(facts, host.connections, folders, devices)


def shared_checks(host: Host) -> Iterator[tuple[str, bool | None, str, str]]:
    """Whether virtual machines can be given the host's folders and devices: name, whether it is
    well, what it is, and the cure."""
    answers = host.ask("virtiofsd", "iommu")
    program, iommu = answers["virtiofsd"], answers["iommu"]
    if program:
        yield "folders", True, f"virtual machines get the host's by virtiofs: {program}", ""
    else:
        what = "there is no virtiofsd: virtual machines get the host's by 9p, which Debian's "
        what += "kernel for virtual machines, in built images too, does not know"
        yield "folders", None, what, shared.INSTALL_VIRTIOFSD
    if iommu["groups"] and iommu["vfio"]:
        what = f"PCI devices can be given to guests: {iommu['groups']} IOMMU groups, and VFIO"
        yield "host devices", True, what, ""
        return
    missing = "no VFIO in the kernel" if iommu["groups"] else "no IOMMU group"
    cure = (
        "if guests are to get some: turn on VT-d or AMD-Vi in the firmware, and intel_iommu=on "
        "(Intel) on the kernel's command line; the kernel needs the module vfio-pci"
    )
    yield "host devices", None, f"no PCI device can be given to guests: {missing}", cure
