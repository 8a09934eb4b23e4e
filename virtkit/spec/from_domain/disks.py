"""A domain's disks, CD drives and shared folders, as a spec has them."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from lxml import etree

from virtkit.spec.from_domain.elements import drop, number, take, take_if, take_text, unique
from virtkit.spec.from_domain.reading import Reading, has_key
from virtkit.spec.model import Disk, RootDisk
from virtkit.spec.problem import quote
from virtkit.spec.sizes import writable_size
from virtkit.spec.values import DISK_PATTERN, RESERVED_DISKS, suggest_label

#: Where the XML says what a disk is, by the disk's ``type``.
_SOURCES = {"file": ("file",), "block": ("dev",), "volume": ("pool", "volume")}
#: Where a folder of the host is put whose name in the guest is no path.
_MOUNTS = "/mnt"


def image(reading: Reading) -> str | None:
    """The value of ``image``: a copy of what is on the root disk, or none where that disk can be
    taken itself."""
    root = _root(reading)
    if root is None:
        return None
    if has_key(RootDisk, "existing"):
        return "none" if _source(root) else None
    source = root.find("source")
    path = "" if source is None else source.get("file", "")
    if not path.startswith("/") or not reading.is_local:
        return None
    reading.images["root"] = {"path": path}
    return "root"


def root_disk(reading: Reading) -> Any:
    """The value of ``disk``: of the disk that the domain boots from, else of its first."""
    root = _root(reading)
    if root is None:
        return None
    existing, size = _existing(root), _size(reading, root)
    options = _options(reading, root)
    if "root" not in reading.images:
        options = {**existing, **options}
    if size and not (existing and has_key(RootDisk, "existing")):
        options = {"size": size, **options}
    return size if options.keys() == {"size"} else options


def _root(reading: Reading) -> etree._Element | None:
    return min(_of_kind(reading, "disk"), key=_boot_order, default=None)


def disks(reading: Reading) -> list[dict[str, Any]]:
    """The value of ``disks``: all others, and what a container has mounted of volumes."""
    root = _root(reading)
    answer: list[dict[str, Any]] = []
    for each in _of_kind(reading, "disk"):
        if each is not root:
            _add(reading, answer, each, {})
    for each in reading.devices.findall("filesystem"):
        target = each.find("target")
        folder = "" if target is None else target.get("dev", target.get("dir", ""))
        if each.get("type") in ("file", "block") and folder != "/":
            drop(each, "driver")
            _add(reading, answer, each, {"mount": folder})
            take(target, "dir")
    return answer


def _add(
    reading: Reading, disks: list[dict[str, Any]], element: etree._Element, options: dict[str, Any]
) -> None:
    """Adds a disk, where the spec can have it."""
    entry: dict[str, Any] = {"name": unique(_name(element, options), [e["name"] for e in disks])}
    existing, size = _existing(element), _size(reading, element)
    if size and not (existing and has_key(Disk, "existing")):
        entry["size"] = size
    disks.append({**entry, **existing, **_options(reading, element), **options})


def cdroms(reading: Reading) -> list[str]:
    """The value of ``cdroms``: what is in the CD drives."""
    answer = []
    for each in _of_kind(reading, "cdrom"):
        drop(each, "readonly")
        take_if(each.find("target"), "tray", "closed")
        _options(reading, each)
        if path := _source(each, take_it=True):
            answer.append(path)
        elif each.find("source") is None:
            reading.notes.append("a CD drive with nothing in it")
    return answer


def folders(reading: Reading) -> list[dict[str, Any]]:
    """The value of ``folders``: folders of the host that the guest sees."""
    answer = []
    for each in reading.devices.findall("filesystem"):
        source, target = each.find("source"), each.find("target")
        if each.get("type", "mount") != "mount" or source is None or target is None:
            continue
        if target.get("dir") == "/":
            continue  # a container's root
        take(each, "type")
        take(each, "accessmode")
        drop(each, "driver", "binary", "address", "alias")
        name = take(target, "dir")
        folder = name if name.startswith("/") else posixpath.join(_MOUNTS, suggest_label(name))
        if folder != name:
            reading.notes.append(f"that the guest mounts the folder {quote(name)} itself, by name")
        readonly = {"readonly": True} if drop(each, "readonly") else {}
        answer.append({"source": take(source, "dir"), "target": folder, **readonly})
    return answer


def _of_kind(reading: Reading, device: str) -> list[etree._Element]:
    return [e for e in reading.devices.findall("disk") if e.get("device", "disk") == device]


def _boot_order(disk: etree._Element) -> int:
    """Where a disk stands among those that the domain boots from; far down where it is not."""
    boot = disk.find("boot")
    return (number(boot.get("order", "")) if boot is not None else None) or 10**6


def _options(reading: Reading, disk: etree._Element) -> dict[str, Any]:
    """How the guest sees a disk. What every disk has is taken, too."""
    driver, target = disk.find("driver"), disk.find("target")
    drop(disk, "address", "alias", "backingStore")
    take_if(driver, "name", "qemu", "tap2", "tap", "phy", "loop", "file")
    take(driver, "type")
    answer: dict[str, Any] = {}
    bus = take(target, "bus")
    if bus and bus != reading.default_bus:
        answer["bus"] = bus
    place = re.fullmatch(r"xvda([1-9]|1[0-5])", target.get("dev", "") if target is not None else "")
    if place is not None:
        answer["partition"] = int(place[1])
    take_if(driver, "cache", "default")
    for key in ("cache", "io"):
        if text := take(driver, key):
            answer[key] = text
    discard = take(driver, "discard")
    if discard in ("ignore", "unmap"):
        answer["discard"] = discard == "unmap"
    return answer


def _existing(disk: etree._Element) -> dict[str, Any]:
    """A disk of the host's, and how it is taken, as far as this version can say it; empty for what
    no spec can name."""
    path = _source(disk, take_it=True)
    if not path:
        return {}
    answer: dict[str, Any] = {"existing": path}
    driver = disk.find("driver")
    kind = "" if driver is None else driver.get("type", "")
    is_qcow2 = path.endswith(".qcow2")
    if has_key(Disk, "format") and kind in ("raw", "qcow2") and is_qcow2 is not (kind == "qcow2"):
        answer["format"] = kind
    for key, flag in (("readonly", "readonly"), ("shared", "shareable")):
        if has_key(Disk, key) and drop(disk, flag):
            answer[key] = True
    return answer


def _source(disk: etree._Element, *, take_it: bool = False) -> str:
    """The file, device or volume that a disk is; empty for what no spec can name.

    Args:
        take_it: it is then said.
    """
    kind, source = disk.get("type", "file"), disk.find("source")
    keys = _SOURCES.get(kind, ())
    names = [] if source is None else [source.get(key, "") for key in keys]
    if not names or not all(names):
        return ""
    if take_it:
        take_if(source, "index", *map(str, range(100)))
        take_if(source, "mode", "host")
        for key in keys:
            take(source, key)
    return "/".join(names)


def _size(reading: Reading, disk: etree._Element) -> str:
    """A disk's size as a spec has it; empty where libvirt does not know it."""
    target = disk.find("target")
    name = "" if target is None else target.get("dev", target.get("dir", ""))
    size = reading.facts.disk_sizes.get(name, 0)
    return writable_size(size) if size > 0 else ""


def _name(disk: etree._Element, options: dict[str, Any]) -> str:
    """A name for a disk: its serial, where it mounts, or its target's name."""
    target = disk.find("target")
    serial = take_text(disk, "serial")
    mount = posixpath.basename(str(options.get("mount", "")))
    for each in (serial, mount, "" if target is None else target.get("dev", "")):
        near = each if each == serial else suggest_label(each)
        if re.fullmatch(DISK_PATTERN, near, re.ASCII) and near not in RESERVED_DISKS:
            return near
    return "disk"
