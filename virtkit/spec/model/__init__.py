"""What a spec says, as frozen data: sizes in bytes, durations in seconds, profiles merged.

The same models read the file, give the JSON Schema and reach every later stage. Pure.
"""

from virtkit.spec.model.base import (
    DEFAULT_IMAGE,
    DEFAULT_NETWORK,
    FROM_FILE,
    LOCAL,
    MAX_GUESTS,
    Label,
    Model,
    without,
)
from virtkit.spec.model.catalogue import CATALOGUE, Catalogue, Published
from virtkit.spec.model.cpu import CPU_MODES, Cpu, Topology
from virtkit.spec.model.disk import Disk, DiskDevice, RootDisk
from virtkit.spec.model.display import Graphics
from virtkit.spec.model.environment import Spec
from virtkit.spec.model.guest import (
    GuestEntry,
    GuestFields,
    GuestSpec,
    InterfaceSpec,
    Kernel,
    Max,
    Place,
    Ready,
)
from virtkit.spec.model.host import HostSpec, Ssh
from virtkit.spec.model.image import Build, Image
from virtkit.spec.model.network import DHCP_RANGE, Dhcp, NetworkSpec, why_no_guest_address
from virtkit.spec.model.secret import Password

__all__ = [
    "CATALOGUE",
    "CPU_MODES",
    "DEFAULT_IMAGE",
    "DEFAULT_NETWORK",
    "DHCP_RANGE",
    "FROM_FILE",
    "LOCAL",
    "MAX_GUESTS",
    "Build",
    "Catalogue",
    "Cpu",
    "Dhcp",
    "Disk",
    "DiskDevice",
    "Graphics",
    "GuestEntry",
    "GuestFields",
    "GuestSpec",
    "HostSpec",
    "Image",
    "InterfaceSpec",
    "Kernel",
    "Label",
    "Max",
    "Model",
    "NetworkSpec",
    "Password",
    "Place",
    "Published",
    "Ready",
    "RootDisk",
    "Spec",
    "Ssh",
    "Topology",
    "why_no_guest_address",
    "without",
]
