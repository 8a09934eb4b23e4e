"""What of its host a guest is given: folders, and devices. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal

from virtkit._dataclass import dataclass
from virtkit.spec.model import device_kind, device_parts

#: How a guest sees a folder: file systems that it mounts itself, or ``bind``, which is there.
Way = Literal["virtiofs", "9p", "bind", "hostfs"]
#: Options of the guest's mount beside those that all have. A folder can't be seen before its kernel
#: has the driver, and a guest starts without it.
_OPTIONS: Mapping[Way, str] = {"9p": "trans=virtio,version=9p2000.L,msize=262144"}
#: Where the container of a User-Mode Linux has folders.
CONTAINER_FOLDER = "/virtkit"


@dataclass(frozen=True)
class SharedFolder:
    """A folder of the host as a guest has it.

    Attributes:
        source: its path on the host, without links.
        target: where the guest has it.
    """

    source: str
    target: str
    readonly: bool
    way: Way

    @property
    def tag(self) -> str:
        """Its name between host and guest; another one where anything of it differs."""
        return folder_tag(self.source, self.target, self.way, "ro" if self.readonly else "rw")

    @property
    def mount(self) -> dict[str, str]:
        """What its guest has in fstab(5): ``tag``, ``path``, ``type`` and ``options``."""
        own = f"{CONTAINER_FOLDER}/{self.tag}" if self.way == "hostfs" else _OPTIONS.get(self.way)
        parts = ["ro" if self.readonly else "rw", "nofail", "x-virtkit", own]
        options = ",".join(each for each in parts if each)
        return {"tag": self.tag, "path": self.target, "type": self.way, "options": options}


def folder_tag(*parts: str) -> str:
    """The tag of what a folder is; the container's hook makes the same of a record."""
    return f"folder-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:8]}"


def is_folder_tag(text: str) -> bool:
    """Whether a text is a folder's tag."""
    return re.fullmatch("folder-[0-9a-f]{8}", text) is not None


def device(name: str) -> dict[str, Any]:
    """A device of the host for its XML: ``kind``, and what it is made of."""
    kind, parts = device_kind(name), device_parts(name)
    keys = {"pci": ("domain", "bus", "slot", "function"), "usb": ("vendor", "product")}
    return {"kind": kind, **dict(zip(keys.get(kind or "", ("path",)), parts, strict=True))}
