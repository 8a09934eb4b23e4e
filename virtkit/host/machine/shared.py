"""What a machine has that guests may be given: folders and devices, and what serves them.

Reads files only, and never needs root: what the caller may not see is left open.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

#: Where programs of vhost-user devices are described; QEMU's vhost-user.json says so.
_VHOST_USER = ("etc/qemu/vhost-user", "usr/share/qemu/vhost-user")
#: Whom QEMU runs as: on Debian, and on others.
_QEMU_USERS = ("libvirt-qemu", "qemu")
_ACL = "system.posix_acl_access"
#: The first two digits of a PCI device's class, and what it is.
_CLASSES = {
    "01": "storage",
    "02": "network card",
    "03": "graphics card",
    "04": "sound or video",
    "06": "bridge",
    "0c": "USB or other bus",
}
_ROOT = Path("/")


def virtiofsd(root: Path = _ROOT) -> str:
    """The path of the program that serves folders by virtiofs; empty where there is none."""
    for folder in _VHOST_USER:
        for file in sorted((root / folder).glob("*.json")):
            try:
                described = json.loads(file.read_text())
                if described["type"] == "fs" and (root / described["binary"][1:]).is_file():
                    return str(described["binary"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
    return ""


# --- folders --------------------------------------------------------------------------------


def folders(*quoted: str) -> dict[str, dict[str, Any]]:
    """What is at each path, as `virtkit.facts.FolderFacts` has it.

    Args:
        quoted: paths as in a URL, so that one may have a comma.
    """
    return {path: _folder(path) for path in map(unquote, quoted)}


def _folder(path: str) -> dict[str, Any]:
    real = os.path.realpath(path)
    try:
        status = Path(real).stat()
    except PermissionError:
        return {"path": real, "kind": "unseen"}
    except OSError:
        return {"path": real, "kind": "missing"}
    if not stat.S_ISDIR(status.st_mode):
        return {"path": real, "kind": "other"}
    user = _qemu_user()
    return {
        "path": real,
        "kind": "folder",
        "owner": status.st_uid,
        "qemu_user": user.pw_name if user else "",
        "blocked": _blocked(real, user) if user else "",
        "writable": user is None or _may(real, user, 3) is not False,
    }


def _qemu_user() -> pwd.struct_passwd | None:
    for name in _QEMU_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _blocked(path: str, user: pwd.struct_passwd) -> str:
    """The first folder on the way to a path, and at its end, that QEMU's user can't look into."""
    above = [str(each) for each in reversed(Path(path).parents)]
    for each in above:
        if _may(each, user, 1) is False:
            return each
    return path if _may(path, user, 5) is False else ""


def _may(path: str, user: pwd.struct_passwd, rights: int) -> bool | None:
    """Whether a user has rights (4 read, 2 write, 1 enter); None where an access list says so."""
    try:
        if _ACL in os.listxattr(path):
            return None
        status = Path(path).stat()
    except OSError:
        return None
    mode = status.st_mode
    if status.st_uid == user.pw_uid:
        return mode >> 6 & rights == rights
    if status.st_gid in os.getgrouplist(user.pw_name, user.pw_gid):
        return mode >> 3 & rights == rights
    return mode & rights == rights


# --- devices --------------------------------------------------------------------------------


def devices(*names: str) -> dict[str, dict[str, Any]]:
    """What is known of each device, as `virtkit.facts.DeviceFacts` has it."""
    return {name: _device(name) for name in names}


def _device(name: str, root: Path = _ROOT) -> dict[str, Any]:
    if name.startswith("/"):
        try:
            mode = Path(name).stat().st_mode
        except OSError:
            return {"exists": False}
        kind = "" if stat.S_ISCHR(mode) else "block device" if stat.S_ISBLK(mode) else "file"
        return {"exists": True, "other_kind": kind}
    if name.startswith("usb:"):
        ports = list(_usb(name, root))
        return {"exists": bool(ports), "loses": sorted(set(_used_as(ports)))}
    return _pci(name, root)


def _pci(name: str, root: Path) -> dict[str, Any]:
    folder = root / "sys/bus/pci/devices" / name
    if not folder.is_dir():
        return {"exists": False}
    group = folder / "iommu_group"
    others = [each.name for each in group.glob("devices/*")] if group.exists() else []
    return {
        "exists": True,
        "loses": sorted(_used_as([folder])),
        "what": _CLASSES.get(_text(folder / "class")[2:4], ""),
        "driver": (folder / "driver").resolve().name if (folder / "driver").exists() else "",
        "iommu": group.exists(),
        "beside": sorted(e for e in others if e != name and not _is_bridge(root, e)),
    }


def _is_bridge(root: Path, name: str) -> bool:
    return _text(root / "sys/bus/pci/devices" / name / "class")[2:4] == "06"


def _usb(name: str, root: Path) -> Iterator[Path]:
    vendor, product = name.removeprefix("usb:").split(":")
    for each in sorted((root / "sys/bus/usb/devices").glob("*")):
        if (_text(each / "idVendor"), _text(each / "idProduct")) == (vendor, product):
            yield each


def _used_as(paths: Sequence[Path]) -> Iterator[str]:
    """What the host has of a device: network devices and disks, by their names."""
    for path in paths:
        for folder, _, _ in os.walk(path):
            above, kind = Path(folder), Path(folder).name
            if kind in ("net", "block") and above != path:
                yield from (f"{kind} {each.name}" for each in above.iterdir() if each.is_dir())


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""


def iommu(root: Path = _ROOT) -> dict[str, Any]:
    """How many IOMMU groups there are, and whether the kernel has VFIO."""
    groups = len(list((root / "sys/kernel/iommu_groups").glob("*")))
    modules = root / "lib/modules" / os.uname().release
    listed = [_text(modules / each) for each in ("modules.dep", "modules.builtin")]
    vfio = (root / "sys/module/vfio_pci").is_dir() or any("/vfio-pci.ko" in e for e in listed)
    return {"groups": groups, "vfio": vfio}
