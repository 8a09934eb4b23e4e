"""What each field of a network is: one row a field, as fields.py has them for guests.

A field without a row makes another network of it: the old one is removed first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from virtkit._dataclass import dataclass
from virtkit.drivers.effects import Effect


@dataclass(frozen=True, kw_only=True)
class NetworkField:
    """One field of a network.

    Attributes:
        effect: what its change costs a network that guests use. ``live``: libvirt changes it while
            the network is active; ``restart``: its definition changes at once, and what is active
            when it starts again; ``recreate``: not while guests use it.
        xml_paths: where it stands in the network's XML.
    """

    effect: Effect = "recreate"
    xml_paths: tuple[str, ...] = ()


#: libvirt updates DNS names and reservations of an active network (virNetworkUpdate), and nothing
#: else of what virtkit gives it.
NETWORK_FIELDS: Mapping[str, NetworkField] = {
    # of networks that virtkit does not make: its guests are plugged in elsewhere when they start
    **dict.fromkeys(("bridge", "device", "existing", "macvtap"), NetworkField(effect="restart")),
    "bootfile": NetworkField(effect="restart", xml_paths=("ip/dhcp/bootp",)),
    "forward": NetworkField(effect="restart", xml_paths=("dns/forwarder",)),
    "mtu": NetworkField(effect="restart", xml_paths=("mtu",)),
    "names": NetworkField(effect="live", xml_paths=("dns/host",)),
    "tftp": NetworkField(effect="restart", xml_paths=("ip/tftp",)),
}
_NO_FIELD = NetworkField()


def network_effect(field: str) -> Effect:
    """What a change of a network's field costs while guests use it."""
    return NETWORK_FIELDS.get(field, _NO_FIELD).effect


def network_field_at(path: str) -> str:
    """The field that stands at a place in a network's XML; empty where none does."""
    plain = re.sub(r"\[[^\]]*\]", "", path)
    return next(
        (
            name
            for name, row in NETWORK_FIELDS.items()
            for place in row.xml_paths
            if f"{plain}/".startswith(f"{place}/")
        ),
        "",
    )
