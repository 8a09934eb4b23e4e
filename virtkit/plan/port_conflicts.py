"""VLANs and portgroups of a guest's interfaces, against what the host's networks have. Pure.

libvirt takes a portgroup that a network lacks, and goes on without it.
"""

from __future__ import annotations

from collections.abc import Iterator

from virtkit.errors import RequestError
from virtkit.facts import HostFacts
from virtkit.spec import suggestion
from virtkit.state.desired import Guest, Interface


def errors(guest: Guest, facts: HostFacts) -> Iterator[RequestError]:
    """What a guest's interfaces ask of the host's networks, and these can't give."""
    for each in guest.interfaces:
        if each.options.vlan is not None and not _has_vlans(each, facts):
            yield RequestError(
                f"guest {guest.name}: {each.source} puts no interface into a VLAN",
                why="libvirt sets VLANs on Open vSwitch, and on a card's virtual functions, alone",
                cure="use a network of Open vSwitch, or a portgroup of one (`portgroup:`); or a "
                "bridge over a VLAN device of the host's, without `vlan:`",
                where=guest.where(),
            )
        group = each.options.portgroup
        # one that is not there at all has an error of its own
        groups = facts.portgroups.get(each.source)
        if group is not None and groups is not None and group not in groups:
            names = ", ".join(sorted(groups)) or "none"
            yield RequestError(
                f"guest {guest.name}: libvirt's network {each.source} has no portgroup {group}",
                why=f"it has: {names}",
                cure=f"correct `portgroup:` ({suggestion(group, sorted(groups))})"
                if groups
                else "remove `portgroup:`",
                where=guest.where(),
            )


def _has_vlans(interface: Interface, facts: HostFacts) -> bool:
    """Whether a network, or a bridge, puts interfaces into VLANs; True where nobody knows."""
    if interface.kind == "network":
        return interface.source in facts.vlan_networks or interface.source not in facts.networks
    kinds = facts.device_kinds
    return kinds is None or kinds.get(interface.source, "openvswitch") == "openvswitch"
