"""What a spec says, as frozen data: sizes in bytes, durations in seconds, profiles merged.

The same models read the file, give the JSON Schema and reach every later stage. Pure.
"""

from virtkit.spec.model.base import (
    DEFAULT_IMAGE,
    DEFAULT_NETWORK,
    FROM_FILE,
    LOCAL,
    MAX_GUESTS,
    NO_IMAGE,
    Label,
    Model,
    without,
)
from virtkit.spec.model.boot import BOOT_DISK
from virtkit.spec.model.catalogue import CATALOGUE, Catalogue, Published
from virtkit.spec.model.cpu import CPU_MODES, Cpu, Topology
from virtkit.spec.model.disk import Disk, DiskDevice, RootDisk, drive_name, drive_number
from virtkit.spec.model.display import Graphics
from virtkit.spec.model.environment import Spec
from virtkit.spec.model.folder import Folder, device_kind, device_parts
from virtkit.spec.model.guest import (
    GuestEntry,
    GuestFields,
    GuestSpec,
    InterfaceSpec,
    Kernel,
    Max,
    Place,
)
from virtkit.spec.model.guest_file import MAX_FILES_SIZE, Content, GuestFile
from virtkit.spec.model.host import HostSpec, Ssh
from virtkit.spec.model.image import Build, Image
from virtkit.spec.model.network import DHCP_RANGE, Dhcp, NetworkSpec, why_no_guest_address
from virtkit.spec.model.numa import NumaCell, number_ranges
from virtkit.spec.model.ready import Ready
from virtkit.spec.model.secret import Password

__all__ = [
    "BOOT_DISK",
    "CATALOGUE",
    "CPU_MODES",
    "DEFAULT_IMAGE",
    "DEFAULT_NETWORK",
    "DHCP_RANGE",
    "FROM_FILE",
    "LOCAL",
    "MAX_FILES_SIZE",
    "MAX_GUESTS",
    "NO_IMAGE",
    "Build",
    "Catalogue",
    "Content",
    "Cpu",
    "Dhcp",
    "Disk",
    "DiskDevice",
    "Folder",
    "Graphics",
    "GuestEntry",
    "GuestFields",
    "GuestFile",
    "GuestSpec",
    "HostSpec",
    "Image",
    "InterfaceSpec",
    "Kernel",
    "Label",
    "Max",
    "Model",
    "NetworkSpec",
    "NumaCell",
    "Password",
    "Place",
    "Published",
    "Ready",
    "RootDisk",
    "Spec",
    "Ssh",
    "Topology",
    "device_kind",
    "device_parts",
    "drive_name",
    "drive_number",
    "number_ranges",
    "why_no_guest_address",
    "without",
]
