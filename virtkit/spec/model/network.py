"""A network, as a spec describes it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    StrictInt,
    Tag,
    model_serializer,
    model_validator,
)

from virtkit.spec.model.base import (
    Address,
    BootFile,
    BridgeName,
    DomainName,
    ForeignName,
    HostName,
    HostPath,
    Ipv6Cidr,
    MachineAddress,
    Model,
    ServerAddress,
)
from virtkit.spec.model.name_addresses import NameAddresses
from virtkit.spec.problem import Problem
from virtkit.spec.values import cidr

#: What pydantic puts into the path of an error inside ``dhcp``.
DHCP_RANGE = "<range>"
#: What no record mentions of a network that does without it.
NETWORK_OPTIONS = ("bootfile", "device", "forward", "macvtap", "mtu", "names", "tftp")
#: The key that says where in the host a network is that virtkit does not make, by its mode.
_PLACES = {"bridge": "bridge", "macvtap": "device"}
_EXAMPLES = {"bridge": "br0", "device": "eth0"}
#: Bytes of the smallest packet that IPv6 takes everywhere (RFC 8200).
_IPV6_MTU = 1280


class Dhcp(Model):
    """The range that DHCP gives addresses from, ends included."""

    start: Address = Field(description="The first address.")
    end: Address = Field(description="The last address.")


def _dhcp(value: object) -> object:
    if value is None or value is False or isinstance(value, (dict, Dhcp)):
        return value
    raise Problem(
        "dhcp is neither a range nor false",
        cure="set `dhcp: {start: …, end: …}`, or `dhcp: false` for none, or leave it out",
    )


def _dhcp_kind(value: object) -> str:
    return "<off>" if value is False else DHCP_RANGE


DhcpRange = Annotated[
    Annotated[Dhcp, Tag(DHCP_RANGE)] | Annotated[Literal[False], Tag("<off>")],
    Discriminator(_dhcp_kind),
]


def _cidr(value: object) -> object:
    if value is None or value is False:
        return value
    if isinstance(value, str):
        return cidr(value)
    raise Problem(
        "cidr is neither an IPv4 network nor false",
        cure="set `cidr: 10.20.0.0/24`, or `cidr: false` with `ipv6:` for IPv6 only, or leave it "
        "out",
    )


class NetworkSpec(Model):
    """A network of an environment, or one of libvirt's that is there already."""

    mode: Literal["nat", "isolated", "routed", "bridge", "macvtap"] = Field(
        default="nat", description="How the network reaches others."
    )
    cidr: Annotated[str | Literal[False] | None, BeforeValidator(_cidr)] = Field(
        default=None,
        description="Its IPv4 network; left out, a free /24; false, with `ipv6`: IPv6 only; false, "
        "with `mode: isolated`: a wire, on which nobody but guests has an address.",
    )
    ipv6: Ipv6Cidr | None = Field(default=None, description="Its IPv6 network, a /64.")
    domain: DomainName | None = Field(
        default=None, description="Guests resolve each other as NAME.DOMAIN."
    )
    dhcp: Annotated[DhcpRange | None, BeforeValidator(_dhcp)] = Field(
        default=None, description="The range that DHCP gives out, or false for no DHCP."
    )
    bridge: BridgeName | None = Field(
        default=None, description="The host's bridge, for mode bridge."
    )
    device: BridgeName | None = Field(
        default=None,
        description="The host's network card, for mode macvtap: guests are on its network, and "
        "their host and they can't reach each other there.",
    )
    macvtap: Literal["bridge", "private", "vepa"] | None = Field(
        default=None,
        description="How guests on the same card reach each other: `bridge` (left out) at once, "
        "`vepa` by a switch outside that sends back what comes from it, `private` not at all.",
    )
    gateway: ServerAddress | None = Field(
        default=None, description="The guests' gateway where no DHCP provides it."
    )
    dns: tuple[ServerAddress, ...] = Field(
        default=(), description="The guests' name servers where no DHCP provides them."
    )
    existing: ForeignName | None = Field(
        default=None, description="A libvirt network that is there already; never changed."
    )

    mtu: Annotated[StrictInt, Field(ge=576, le=65535)] | None = Field(
        default=None,
        description="The largest packet of the network and of its guests, in bytes.",
    )
    names: dict[HostName, NameAddresses] = Field(
        default_factory=dict,
        description="More names that the network's DNS answers: an address, or a list of several.",
    )
    forward: dict[DomainName, MachineAddress] = Field(
        default_factory=dict,
        description="Domains that the network's DNS asks another name server for.",
    )

    tftp: HostPath | None = Field(
        default=None,
        description="A folder of this machine that the network serves by TFTP, read-only: for "
        "guests that boot from the network.",
    )
    bootfile: BootFile | None = Field(
        default=None, description="The file in `tftp` that DHCP tells such a guest to boot."
    )

    @property
    def subnet(self) -> IPv4Network | None:
        """The IPv4 network, where the spec says it."""
        return IPv4Network(self.cidr) if self.cidr else None

    @property
    def managed(self) -> bool:
        """Whether virtkit makes it on its hosts."""
        return self.existing is None and self.mode not in _PLACES

    @property
    def is_wire(self) -> bool:
        """Whether it joins its guests and is nothing more: the host has no address on it."""
        return self.managed and self.cidr is False and self.ipv6 is None

    @property
    def static(self) -> bool:
        """Whether guests' fixed addresses go into their seed, for want of virtkit's DHCP."""
        return self.mode in _PLACES or self.dhcp is False

    @model_validator(mode="after")
    def _agrees(self) -> NetworkSpec:
        if self.existing is not None:
            self._only_existing()
        else:
            self._place()
        self._addresses()
        self._options()
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped = serialize(self)
        return {k: each for k, each in dumped.items() if each or k not in NETWORK_OPTIONS}

    def _options(self) -> None:
        if self.mtu is not None and self.mtu < _IPV6_MTU and self.ipv6:
            raise Problem(
                f"the mtu {self.mtu} is too small for IPv6",
                why=f"IPv6 takes packets of {_IPV6_MTU} bytes everywhere",
                cure=f"use {_IPV6_MTU} or more, or remove `ipv6:`",
            )
        if self.bootfile and self.tftp is None:
            raise Problem(
                "bootfile is a file in `tftp`, and the network has none",
                cure="set `tftp: ./pxe`, the folder that it is in",
            )
        if self.tftp and (self.dhcp is False or self.cidr is False):
            raise Problem(
                "a network without DHCP for IPv4 can't have tftp",
                why="guests that boot from it learn by DHCP where the files are",
                cure="remove `tftp:`, or "
                + ("`cidr: false`" if self.cidr is False else "`dhcp: false`"),
            )
        if self.domain in self.forward:
            raise Problem(
                f"the network's own domain {self.domain} is asked elsewhere",
                why="the network's DNS answers for it, with the names of the guests",
                cure="remove it from `forward:`, or give the network another `domain:`",
            )

    def _only_existing(self) -> None:
        others = sorted(self.model_fields_set - {"existing"})
        if others:
            raise Problem(
                f"a network with existing has {', '.join(others)} too",
                why="virtkit never changes a network that was there already",
                cure=f"remove {', '.join(f'`{key}:`' for key in others)}",
            )

    def _place(self) -> None:
        """The bridge or the card, of a network that has one; and what virtkit can't do there."""
        for mode, key in _PLACES.items():
            if getattr(self, key) is not None and mode != self.mode:
                raise Problem(
                    f"{key} goes with mode {mode}, this network's is {self.mode}",
                    cure=f"set `mode: {mode}`, or remove `{key}:`",
                )
        if self.macvtap is not None and self.mode != "macvtap":
            raise Problem(
                f"macvtap goes with mode macvtap, this network's is {self.mode}",
                cure="set `mode: macvtap`, or remove `macvtap:`",
            )
        place = _PLACES.get(self.mode)
        if place is None:
            return
        if getattr(self, place) is None:
            raise Problem(
                f"a network of mode {self.mode} does not say which {place}",
                cure=f"set `{place}: {_EXAMPLES[place]}`",
            )
        for key in ("domain", "ipv6", "dhcp", "names", "forward", "tftp", "bootfile"):
            if getattr(self, key):
                raise Problem(
                    f"{key} can't be set with mode {self.mode}",
                    why=f"virtkit makes no network there; the {place}'s own network decides",
                    cure=f"remove `{key}:`",
                )
        if self.mode == "macvtap" and self.mtu is not None:
            raise Problem(
                "mtu can't be set with mode macvtap",
                why="a guest's card there has the mtu of the host's",
                cure="remove `mtu:`, or set it on the host's card",
            )

    def _addresses(self) -> None:
        subnet = self.subnet
        if self.cidr is False:
            self._without_ipv4()
        if self.dhcp:
            self._range(self.dhcp, subnet)
        if (self.gateway or self.dns) and not self.static:
            raise Problem(
                "gateway and dns go with mode bridge or macvtap, or `dhcp: false`",
                why="elsewhere libvirt's DHCP gives guests both",
                cure="remove them",
            )
        if self.gateway:
            if subnet is None:
                raise Problem("a gateway needs a cidr", cure="give `cidr:` too")
            reason = why_no_guest_address(self.gateway, subnet)
            if reason:
                raise Problem(
                    f"the gateway {self.gateway} is {reason}",
                    cure=f"use an address such as {subnet[1]}",
                )

    def _without_ipv4(self) -> None:
        if not self.managed or (self.is_wire and self.mode != "isolated"):
            raise Problem(
                "a network without IPv4 needs IPv6",
                why="`cidr: false` means that its guests have IPv6 addresses only",
                cure="give `ipv6:` too, such as fd00:21::/64; or leave `cidr:` out; or use `mode: "
                "isolated` for a wire, on which nobody but guests has an address",
            )
        served = [
            key for key in ("domain", "names", "forward") if self.is_wire and getattr(self, key)
        ]
        if served:
            raise Problem(
                f"{served[0]} can't be set on a network without addresses",
                why="the host is not on it, so nobody answers for names there",
                cure=f"remove `{served[0]}:`, or give it a `cidr:`",
            )

    def _range(self, dhcp: Dhcp, subnet: IPv4Network | None) -> None:
        if subnet is None:
            raise Problem("a dhcp range needs a cidr", cure="give `cidr:` too")
        if IPv4Address(dhcp.end) < IPv4Address(dhcp.start):
            raise Problem(
                f"the dhcp range ends at {dhcp.end}, before its start", cure="swap the two"
            )
        for address in (dhcp.start, dhcp.end):
            reason = why_no_guest_address(address, subnet)
            if not reason and address == str(subnet[1]):
                reason = "the host's own on this network"
            if reason:
                raise Problem(
                    f"the dhcp range's {address} is {reason}",
                    cure=f"keep it within {subnet[2]} to {subnet[-2]}",
                )


def why_no_guest_address(address: str, subnet: IPv4Network) -> str:
    """Why no machine of ``subnet`` can have ``address``; empty where one can."""
    ip = IPv4Address(address)
    if ip not in subnet:
        return f"outside {subnet}"
    if ip == subnet.network_address:
        return f"the address of the network {subnet} itself"
    if ip == subnet.broadcast_address:
        return f"the broadcast address of {subnet}"
    return ""
