"""What a domain's machine is: type, memory, processor, firmware, and what it boots from."""

from __future__ import annotations

import posixpath
from typing import Any, get_args

from lxml import etree

from virtkit.drivers import DRIVERS, Driver
from virtkit.spec import sizes
from virtkit.spec.from_domain import memory as memory_keys
from virtkit.spec.from_domain.elements import drop, number, take, take_if, take_text
from virtkit.spec.from_domain.reading import Reading
from virtkit.spec.model import GuestFields
from virtkit.spec.problem import quote

#: Bytes of libvirt's units.
_UNITS = {
    "b": 1,
    "bytes": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    **dict.fromkeys(("KiB", "k", "K", ""), sizes.KIB),
    **dict.fromkeys(("MiB", "M"), sizes.MIB),
    **dict.fromkeys(("GiB", "G"), sizes.GIB),
    **dict.fromkeys(("TiB", "T"), sizes.TIB),
}
#: What libvirt boots from, in the spec's words.
_BOOT = {"hd": "disk", "cdrom": "cdrom", "network": "network"}
_BOOT_DEVICES = {"disk": "disk", "lun": "disk", "cdrom": "cdrom", "interface": "network"}


def driver_of(root: etree._Element) -> Driver | None:
    """The guest type that a domain is like."""
    kind = root.get("type", "")
    os_type = (root.findtext("os/type") or "").strip()
    os_type = "linux" if os_type == "xen" else os_type  # its older name
    same = (e for e in DRIVERS.values() if (e.domain_type, e.os_type) == (kind, os_type))
    return next(same, None)


def guest_type(reading: Reading) -> str | None:
    """The value of ``type``."""
    root, kind = reading.root, take(reading.root, "type")
    if reading.driver is None:
        reading.notes.append(f"its type, {quote(kind)}: virtkit has none like it")
        return None
    take_text(root, "os/type")
    take_if(root.find("os/type"), "arch", "x86_64")
    at = root.find("os/type")
    machine = "" if at is None else at.get("machine", "")
    if machine.startswith(("pc-q35", "q35", "xen")):
        take(at, "machine")
    return reading.driver.type


def description(reading: Reading) -> str | None:
    """The value of ``description``: what libvirt shows of it, in one line."""
    text = take_text(reading.root, "description") or take_text(reading.root, "title")
    return " ".join(text.split()) or None


def cpus(reading: Reading) -> int | None:
    """The value of ``cpus``. ``max`` is asked for before it."""
    vcpu = reading.root.find("vcpu")
    most = number(take_text(vcpu))
    take_if(vcpu, "placement", "static")
    drop(reading.root, "vcpus")
    return number(take(vcpu, "current")) or most


def memory(reading: Reading) -> str | None:
    """The value of ``memory``. ``max`` is asked for before it."""
    most = _bytes(reading.root, "memory")
    current = _bytes(reading.root, "currentMemory")
    for each in ("memory", "currentMemory"):
        take_text(reading.root, each)
        take(reading.root.find(each), "unit")
    size = min(current, most) or most
    if not size:
        return None
    if size % sizes.MIB:
        reading.notes.append(f"that its memory is {sizes.format_size(size)}: it is whole MiB here")
    return _in_mib(size)


def maximum(reading: Reading) -> dict[str, Any]:
    """The value of ``max``: how far it may grow while it runs."""
    root = reading.root
    answer: dict[str, Any] = {}
    vcpu = root.find("vcpu")
    most = number((root.findtext("vcpu") or "").strip()) or 1
    current = number(vcpu.get("current", "")) if vcpu is not None else None
    if current is not None and current < most:
        answer["cpus"] = most
    size, now = _bytes(root, "memory"), _bytes(root, "currentMemory")
    if 0 < now < size and _in_mib(now) != _in_mib(size):
        answer["memory"] = _in_mib(size)
    return answer


def _bytes(root: etree._Element, path: str) -> int:
    element = root.find(path)
    unit = "KiB" if element is None else element.get("unit", "KiB")
    return (number((root.findtext(path) or "").strip()) or 0) * _UNITS.get(unit, 0)


def _in_mib(size: int) -> str:
    """A size of memory as a spec has it, in whole MiB."""
    return sizes.format_size(-(-size // sizes.MIB) * sizes.MIB)


def cpu(reading: Reading) -> dict[str, Any]:
    """The value of ``cpu``: what the processor is, and which of the host's it runs on."""
    answer: dict[str, Any] = {}
    element = reading.root.find("cpu")
    if element is not None:
        mode, name = take(element, "mode"), take_text(element, "model")
        if model := name if mode in ("", "custom") else mode:
            answer["model"] = model
        for key in ("check", "migratable"):
            take(element, key)
        take_if(element, "match", "exact")
        take(element.find("model"), "fallback")
        features = {}
        for each in element.findall("feature"):
            features[take(each, "name")] = take(each, "policy") or "require"
        if features:
            answer["features"] = features
        answer |= _topology(element)
    answer |= memory_keys.threads(reading) | memory_keys.numa(reading)
    return answer | _pin(reading)


def _topology(element: etree._Element) -> dict[str, Any]:
    layout = element.find("topology")
    if layout is None:
        return {}
    for key in ("dies", "clusters"):
        take_if(layout, key, "1")
    if {*map(str, layout.attrib)} - {"sockets", "cores", "threads"}:
        return {}  # its other levels stand in no spec
    values = {key: number(take(layout, key)) or 1 for key in ("sockets", "cores", "threads")}
    return {"topology": values}


def _pin(reading: Reading) -> dict[str, Any]:
    """The host's CPU of each of its own, where it is one for each."""
    pins = reading.root.findall("cputune/vcpupin")
    places = {number(each.get("vcpu", "")): number(each.get("cpuset", "")) for each in pins}
    if not pins or None in places.values():
        return {}
    if {*places} != {*range(len(pins))}:
        return {}
    drop(reading.root, "cputune/vcpupin")
    return {"pin": [places[at] for at in range(len(pins))]}


def firmware(reading: Reading) -> str | None:
    """The value of ``firmware``."""
    root = reading.root
    loader, os = root.find("os/loader"), root.find("os")
    if os is None:
        return None
    kind = take(os, "firmware")
    flash = loader is not None and loader.get("type") == "pflash"
    secure = loader is not None and take(loader, "secure") == "yes"
    for each in os.findall("firmware/feature"):
        wanted = take(each, "enabled") == "yes"
        secure |= take(each, "name") == "secure-boot" and wanted
    if loader is not None:
        for key in ("type", "readonly", "stateless", "format"):
            take(loader, key)
        if kind == "efi" or (loader.text or "").endswith("/hvmloader"):
            take_text(loader)
    if secure and "secure" in get_args(GuestFields.model_fields["firmware"].annotation):
        drop(root, "features/smm")
        return "secure"
    if secure:
        reading.notes.append("that its firmware starts signed systems only (`firmware: secure`)")
    return "uefi" if kind == "efi" or flash or secure else None


def kernel(reading: Reading) -> dict[str, Any]:
    """The value of ``kernel``: what is booted directly."""
    os = reading.root.find("os")
    if take_text(os, "init") not in ("", "/sbin/init", "/bin/init", "/init"):
        reading.notes.append("the container's first process")
    keys = {"path": "kernel", "initrd": "initrd", "cmdline": "cmdline"}
    values = {key: take_text(os, tag) for key, tag in keys.items()}
    if os is not None and not values["path"]:
        drop(os, "kernel", "initrd")  # as Vagrant's provider writes them
        _loader(reading, values["cmdline"])
    return {key: each for key, each in values.items() if each} if values["path"] else {}


def _loader(reading: Reading, cmdline: str) -> None:
    """The boot loader that the type has itself, for a system on the first disk."""
    loader = reading.root.find("bootloader")
    name = posixpath.basename((loader.text if loader is not None else "") or "")
    if loader is not None and reading.driver is not None and name == reading.driver.loader:
        take_text(loader)
    if reading.driver is not None and cmdline not in ("", reading.driver.boot_args):
        reading.notes.append(f"what its kernel is told beside the disk's own words: {cmdline}")


def boot(reading: Reading) -> list[str] | None:
    """The value of ``boot``: what it boots from, in order; None where that is its disk."""
    order = [take(each, "dev") for each in reading.root.findall("os/boot")]
    answer = [_BOOT.get(each, each) for each in order]
    devices: list[tuple[int, str]] = []
    for element in reading.devices.iterchildren(etree.Element):
        place = element.find("boot")
        device = element.get("device", "disk") if element.tag == "disk" else str(element.tag)
        kind = _BOOT_DEVICES.get(device, "")
        if place is not None and kind:
            devices.append((number(take(place, "order")) or 0, kind))
    answer += [kind for _, kind in sorted(devices)]
    answer = list(dict.fromkeys(answer))
    return answer if answer not in ([], ["disk"]) else None


def system(reading: Reading) -> str | None:
    """The value of ``system``: Windows, as far as the domain tells."""
    root = reading.root
    names = [str(e.get("id", "")) for e in root.iterfind("metadata//{*}os")]
    drop(root, "metadata/{http://libosinfo.org/xmlns/libvirt/domain/1.0}libosinfo")
    hyperv = root.find("features/hyperv") is not None
    if not hyperv and not [each for each in names if "microsoft.com/win" in each]:
        return None
    drop(root, "features/hyperv")
    for each in root.findall("clock/timer[@name='hypervclock']"):
        take(each, "name")
        take_if(each, "present", "yes")
    take_if(root.find("clock"), "offset", "localtime")
    return "windows"
