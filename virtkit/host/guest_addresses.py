"""The addresses of a guest that its host learned: from DHCP leases, the guest agent and ARP."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

import libvirt

from virtkit.xml import tree


def learned(domain: libvirt.virDomain, macs: set[str]) -> tuple[list[str], list[str]]:
    """The addresses of a running guest's interfaces, and what was looked at.

    Leases, then the guest agent, then ARP; a source that fails means "not yet".
    """
    looked: list[str] = []
    sources = {
        "DHCP leases": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
        "guest agent": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
        "ARP": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
    }
    for name, source in sources.items():
        try:
            interfaces = domain.interfaceAddresses(source)
        except libvirt.libvirtError as error:
            looked.append(f"{name}: {error.get_error_message()}")
            continue
        addresses = usable(interfaces, macs)
        if addresses:
            return addresses, looked
        looked.append(f"{name}: none")
    return [], looked


def macs_of(domain: libvirt.virDomain) -> set[str]:
    """The MAC addresses of a domain's interfaces."""
    root = tree.parse(domain.XMLDesc(0), "a domain")
    return {each.get("address", "").lower() for each in root.iterfind(".//interface/mac")}


def usable(interfaces: Mapping[str, Mapping[str, object]], macs: set[str]) -> list[str]:
    """The addresses of the guest's own interfaces that somebody else can reach."""
    reachable: list[str] = []
    for each in interfaces.values():
        if str(each.get("hwaddr") or "").lower() not in macs:
            continue
        addresses = each.get("addrs") or []
        assert isinstance(addresses, list)
        for entry in addresses:
            try:
                address = ip_address(entry["addr"])
            except ValueError:  # the guest's agent may say anything
                continue
            scoped = "%" in str(address)  # behind the % any text may stand
            if not (address.is_loopback or address.is_link_local or scoped):
                reachable.append(str(address))
    return sorted(set(reachable), key=lambda each: (":" in each, each))
