"""A domain's display and its other devices, as a spec has them."""

from __future__ import annotations

from typing import Any

from lxml import etree

from virtkit.spec.from_domain.elements import drop, remove, shown, take, take_if
from virtkit.spec.from_domain.reading import Reading

#: Displays that a spec can name.
_DISPLAYS = ("vnc", "spice")
#: What a display's address is where the spec says nothing.
_LOOPBACK = ("127.0.0.1", "::1")
#: The card of a display that says none.
_OWN_VIDEO = "vga"
#: Devices that reach nothing of the host, and that no key says: they go into ``devices`` as they
#: are. XPaths below ``<devices>``.
_AS_THEY_ARE = (
    "watchdog",
    "panic",
    "redirdev[@type='spicevmc']",
    "channel[@type='spicevmc']",
    "input[@type='keyboard'][@bus='usb']",
    "input[@type='mouse'][@bus='usb']",
    "input[@type='keyboard'][@bus='virtio']",
    "input[@type='mouse'][@bus='virtio']",
    "input[@type='tablet'][@bus='virtio']",
)
#: What libvirt itself chose of a device, and would choose again.
_LIBVIRTS = ("address", "alias")


def graphics(reading: Reading) -> Any:
    """The value of ``graphics``: its first display that a spec can name, and its card."""
    displays = [e for e in reading.devices.findall("graphics") if e.get("type") in _DISPLAYS]
    video = _video(reading)
    if not displays:
        return {"kind": "none", "video": video} if video else None
    first = displays[0]
    answer: dict[str, Any] = {"kind": take(first, "type")}
    if take(first, "autoport") == "yes":
        take(first, "port")
        take(first, "tlsPort")
    take_if(first, "port", "-1", "0")
    address = _address(first)
    if address and address not in _LOOPBACK:
        answer["listen"] = address
    if video and video != _OWN_VIDEO:
        answer["video"] = video
    if drop(reading.devices, "input[@type='tablet'][@bus='usb']"):
        answer["tablet"] = True
    return answer["kind"] if answer.keys() == {"kind"} else answer


def _address(display: etree._Element) -> str:
    """Where a display listens."""
    address = take(display, "listen")
    listens = display.findall("listen")
    if len(listens) == 1 and listens[0].get("type") == "address":
        address = listens[0].get("address", "") or address
        remove(listens[0])
    return address


def _video(reading: Reading) -> str:
    """The guest's graphics card; empty where it has none."""
    model = reading.devices.find("video/model")
    if model is None:
        return ""
    for key in ("heads", "primary", "ram", "vram", "vram64", "vgamem"):
        take(model, key)
    name = take(model, "type")
    drop(reading.devices, *(f"video/{each}" for each in _LIBVIRTS))
    return "" if name == "none" else name


def sound(reading: Reading) -> bool | None:
    """The value of ``sound``. Cards of another model than virtkit's are told."""
    first = reading.devices.find("sound")
    if first is None:
        return None
    drop(first, *_LIBVIRTS, "audio")
    take_if(first, "model", "ich9")
    return True


def tpm(reading: Reading) -> bool | None:
    """The value of ``tpm``: one that is emulated."""
    first = reading.devices.find("tpm")
    if first is None or first.find("backend[@type='emulator']") is None:
        return None
    remove(first)
    return True


def host_devices(reading: Reading) -> list[str]:
    """The value of ``host_devices``: PCI by address, USB by its numbers, others by path."""
    answer = []
    for each in reading.devices.findall("hostdev"):
        source = each.find("source")
        name = _host_device(each, source) if source is not None else ""
        if name:
            answer.append(name)
            remove(each)
    return answer


def _host_device(device: etree._Element, source: etree._Element) -> str:
    kind, address = device.get("type", ""), source.find("address")
    if kind == "misc":
        return (source.findtext("char") or "").strip()
    if kind == "usb":
        ids = [e.get("id", "") for e in source if e.tag in ("vendor", "product")]
        return ":".join(["usb", *(each.removeprefix("0x") for each in ids)]) if ids[1:] else ""
    if kind != "pci" or address is None:
        return ""
    try:
        parts = [int(address.get(e, "0"), 0) for e in ("domain", "bus", "slot", "function")]
    except ValueError:
        return ""
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)


def devices(reading: Reading) -> list[str]:
    """The value of ``devices``: what no key says, and a spec may have as it is."""
    answer = []
    for path in _AS_THEY_ARE:
        for each in reading.devices.findall(path):
            drop(each, *_LIBVIRTS)
            take(each, "managed")
            text = shown(each)
            if not text.endswith("…"):
                answer.append(text)
                remove(each)
    return answer


def drop_usual(reading: Reading) -> None:
    """Takes what virtkit's guests have too, and what libvirt adds by itself."""
    devices = reading.devices
    for each in devices.findall("controller"):
        if each.get("model") in (None, "auto", "virtio-scsi", "lsilogic") or each.get("type") in (
            *("pci", "usb", "ide", "sata", "fdc", "ccid"),
        ):
            for key in ("type", "index", "model", "ports", "vectors", "maxGrantFrames"):
                take(each, key)
            drop(each, *_LIBVIRTS, "model", "target", "master")
    for path in ("serial[@type='pty']", "console[@type='pty']"):
        for each in devices.findall(path):
            drop(each, *_LIBVIRTS, "source", "target")
            for key in ("type", "tty"):
                take(each, key)
    for each in devices.findall("channel[@type='unix']"):
        if each.find("target[@name='org.qemu.guest_agent.0']") is not None:
            remove(each)
    drop(devices, *(f"input[@type='{a}'][@bus='{b}']" for a in _POINTERS for b in ("ps2", "xen")))
    drop(devices, "rng[@model='virtio']/backend[@model='random']", "audio")
    usual = ("rng[@model='virtio']", "memballoon[@model='virtio']", "memballoon[@model='xen']")
    for each in (each for path in usual for each in devices.findall(path)):
        drop(each, *_LIBVIRTS)
        take(each, "model")
    for each in devices.findall("emulator"):
        if (each.text or "").strip().startswith("/usr/"):
            remove(each)
    drop(reading.root, *_USUAL)
    drop(reading.root, *(f"features/{name}" for name in ("acpi", "apic", "pae", "privnet")))
    take_if(reading.root.find("clock"), "offset", "utc")
    take_if(reading.root.find("os/bootmenu"), "enable", "no")
    drop(reading.root, "os/bios")


_POINTERS = ("mouse", "keyboard")
#: What a domain has below its root where nothing is said, in any type.
_USUAL = (
    *("name", "uuid", "resource[partition='/machine']", "seclabel[@type='dynamic']"),
    *("on_poweroff[.='destroy']", "on_reboot[.='restart']", "on_crash[.='destroy']"),
    *("pm/suspend-to-mem[@enabled='no']", "pm/suspend-to-disk[@enabled='no']"),
)
