"""The spec: its model, and the reader that turns YAML into it with every error placed."""

from typing import TYPE_CHECKING

from virtkit._lazy import load_when_used

if TYPE_CHECKING:
    from virtkit.spec.model import (
        CATALOGUE,
        DEFAULT_IMAGE,
        DEFAULT_NETWORK,
        LOCAL,
        Build,
        Catalogue,
        Dhcp,
        Disk,
        GuestSpec,
        HostSpec,
        Image,
        InterfaceSpec,
        Kernel,
        NetworkSpec,
        Published,
        Ready,
        Spec,
    )
    from virtkit.spec.problem import Problem, escaped, suggestion
    from virtkit.spec.reader import load, read_text
    from virtkit.spec.schema import json_schema
    from virtkit.spec.sizes import (
        format_duration,
        format_size,
        parse_duration,
        parse_size,
        writable_size,
    )
    from virtkit.spec.values import mount_point, ssh_address

load_when_used(
    __name__,
    {
        "virtkit.spec.model": (
            "CATALOGUE DEFAULT_IMAGE DEFAULT_NETWORK LOCAL Build Catalogue Dhcp Disk GuestSpec "
            "HostSpec Image InterfaceSpec Kernel NetworkSpec Published Ready Spec"
        ),
        "virtkit.spec.reader": "load read_text",
        "virtkit.spec.schema": "json_schema",
        "virtkit.spec.sizes": "format_duration format_size parse_duration parse_size writable_size",
        "virtkit.spec.problem": "Problem escaped suggestion",
        "virtkit.spec.values": "mount_point ssh_address",
    },
)

__all__ = [
    "CATALOGUE",
    "DEFAULT_IMAGE",
    "DEFAULT_NETWORK",
    "LOCAL",
    "Build",
    "Catalogue",
    "Dhcp",
    "Disk",
    "GuestSpec",
    "HostSpec",
    "Image",
    "InterfaceSpec",
    "Kernel",
    "NetworkSpec",
    "Problem",
    "Published",
    "Ready",
    "Spec",
    "escaped",
    "format_duration",
    "format_size",
    "json_schema",
    "load",
    "mount_point",
    "parse_duration",
    "parse_size",
    "read_text",
    "ssh_address",
    "suggestion",
    "writable_size",
]
