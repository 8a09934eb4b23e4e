"""XML that tries to reach the host, and an oracle that says whether it does.

The oracle is written from libvirt's documentation of the domain XML, with another parser, and
shares no word with virtkit/xml/policy.py: what one of them overlooks the other one may see.
"""

from __future__ import annotations

import ipaddress
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator

from hypothesis import strategies as st

# --- the oracle ----------------------------------------------------------------------------

#: Places, as PATH or PATH@ATTRIBUTE, where a slash is no path of the host.
_NO_PATH = re.compile(
    r"domain/(title|description)|domain/os/(cmdline|init|initarg|initdir|initenv)"
    r"|domain/devices/disk/serial|domain/sysinfo(/\w+)?/entry(@name)?|domain/clock@timezone"
    r"|.*/target@dir"
)
#: Places where anything is a path of the host, with a slash or without.
_PATH = re.compile(
    r"domain/os/(kernel|initrd|loader|nvram|dtb|shim|acpi/table|nvram@template|varstore@\w+)"
    r"|domain/blkiotune/device/path|.*/devices/memory/source/path|.*/devices/rng/backend"
    r"|.*/disk/(.*/)?source@(file|dev|dir)|.*/filesystem/source@(file|dev|dir|socket)"
    r"|.*/(serial|console|parallel|channel|rng/backend|smartcard)/(source@path|log@file)"
    r"|.*/graphics(/listen)?@(socket|xauth)|.*/(graphics/gl|video/driver)@rendernode"
    r"|.*/input/source@(dev|evdev)|.*/tpm/backend/(device|source)@path"
    r"|.*/interface/backend@(tap|vhost|logFile)|.*/source/identity@(keyfile|agentsock)"
)
_STORE = re.compile(r".*/(disk|backingStore|dataStore|mirror|nvram)/source")
_REACHING = {
    "emulator": "an emulator",
    "bootloader": "a boot loader",
    "seclabel": "a label",
    "hostdev": "a device of the host",
    "shmem": "memory of the host",
    "secret": "a secret of libvirt's",
    "script": "a program of the host",
    "downscript": "a program of the host",
}
_TYPES = {
    "interface@type": {"direct", "hostdev", "ethernet", "vdpa"},
    "graphics@type": {"sdl", "egl-headless", "desktop"},
    "audio@type": {"alsa", "oss", "pulseaudio", "pipewire", "jack", "coreaudio", "sdl"},
    "smartcard@mode": {"host", "host-certificates"},
    "backend@type": {"passthrough"},
    "gl@enable": {"yes"},
    "disk@rawio": {"yes"},
    **{f"{each}@type": {"nvme"} for each in ("disk", "backingStore", "dataStore", "mirror")},
}


def faults(document: str, own: Collection[str], read: Collection[str]) -> list[str]:
    """What of the host a domain names.

    Args:
        own: files that it may write.
        read: files that it may have where nothing is written.
    """
    root = ET.fromstring(document)
    return [each for it in _walk((root,)) for each in _of_element(it, {*own}, {*read})]


def _walk(line: tuple[ET.Element, ...]) -> Iterator[tuple[ET.Element, ...]]:
    """Each element, with those around it before it."""
    yield line
    for child in line[-1]:
        if len(line) > 1 or child.tag != "metadata":
            yield from _walk((*line, child))


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _of_element(line: tuple[ET.Element, ...], own: set[str], read: set[str]) -> Iterator[str]:
    element, place = line[-1], "/".join(_local(each.tag) for each in line)
    tag = _local(element.tag)
    if element.tag.startswith("{http://libvirt.org/schemas/domain/"):
        yield f"a command line: {element.tag}"
    if tag in _REACHING:
        yield f"{_REACHING[tag]}: {place}"
    network = bool(_STORE.fullmatch(place)) and any(
        value for key, value in element.attrib.items() if _local(key) == "protocol"
    )
    if network:
        yield from _of_servers(element)
    allowed = {"/dev/urandom", "/dev/random", *own, *(read if _is_only_read(line) else ())}
    values = [(f"{place}@{_local(key)}", value) for key, value in element.attrib.items()]
    whole = "".join(element.itertext()).strip()
    alone = "".join([element.text or "", *(each.tail or "" for each in element)]).strip()
    for at, value in [*values, (place, whole if _PATH.fullmatch(place) else alone)]:
        key = at.removeprefix(place)
        if value in _TYPES.get(f"{tag}{key}", ()):
            yield f"a device of the host: {at}={value}"
        if re.fullmatch(r".*/graphics@listen|.*/graphics/listen@address", at) and value:
            yield from _of_display(at, value)
        if (tag, at, value) == ("listen", f"{place}@type", "network") and "/graphics/" in place:
            yield f"a display on a network: {at}"
        if key == "@secret" or (tag, key) == ("source", "@pool"):
            yield f"a thing of libvirt's: {at}={value}"
        if network and key in ("@name", "@query"):
            continue
        path = (value and _PATH.fullmatch(at)) or ("/" in value and not _NO_PATH.fullmatch(at))
        if path and value not in allowed:
            yield f"a path: {at}={value}"


def _of_display(at: str, value: str) -> Iterator[str]:
    """Other addresses than loopback, as QEMU would read them."""
    local = re.fullmatch(r"localhost[46]?|127(\.\d{1,3}){1,3}|\[?::1\]?|::ffff:127\.0\.0\.1", value)
    if local is None:
        yield f"a display that others see: {at}={value}"


def _is_only_read(line: tuple[ET.Element, ...]) -> bool:
    names = [_local(each.tag) for each in line]
    if names[-2:] in (["os", "kernel"], ["os", "initrd"], ["backingStore", "source"]):
        return True
    marked = len(line) > 1 and any(each.tag == "readonly" for each in line[-2])
    return marked and names[-2:] in (["disk", "source"], ["filesystem", "source"])


def _of_servers(source: ET.Element) -> Iterator[str]:
    names = [each.get("name", "") for each in source if each.tag == "host"]
    for name in names:
        plain = name.strip("[]. ").lower()
        try:
            address = ipaddress.ip_address(plain)
        except ValueError:
            if not re.fullmatch(r"[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)*", plain):
                yield f"a server that is no plain name: {name}"
            elif plain.split(".")[-1].startswith("localhost"):
                yield f"the host as server: {name}"
        else:
            if address.is_loopback or address.is_unspecified or address.is_link_local:
                yield f"the host as server: {name}"
    if not names:
        yield "a server of the host's configuration"


# --- XML that tries ------------------------------------------------------------------------

OWN, IMAGE = "OWN", "IMAGE"  # put in place by whoever knows the guest
_PATHS = st.sampled_from(
    [
        *("/etc/shadow", "vmlinuz", "etc/x", f"{OWN}/../x", " /etc/shadow", "//etc", "/dev/sda"),
        *("&#47;etc&#x2f;shadow", "json:{}", "/dev/urandom", "/dev/urandomx", OWN, OWN, OWN),
        *(IMAGE, IMAGE, "", "plain"),
    ]
)
_SERVERS = st.sampled_from(
    [
        *("mon.example.org", "192.0.2.7", "localhost", "127.0.0.1", "x@127.0.0.1", "[::1]", ""),
        *("0.0.0.0", "::", "127.1", "10.0.0.5"),
        *("%31%32%37.0.0.1", "localhost ", "LOCALHOST.", "0", "::ffff:127.0.0.1", "a.localhost"),
    ]
)
_SPREAD = st.sampled_from(
    [*("yes", "no", "on", "off", "default", "none", "user", "network", "file", "unix", "pty")]
)
_VALUES = {
    "type": st.sampled_from(
        [
            *("file", "block", "dir", "network", "volume", "nvme", "unix", "pty", "dev", "mount"),
            *("direct", "ethernet", "user", "passthrough", "emulator", "vnc", "spice", "sdl"),
            *("egl-headless", "alsa", "virtio", "null", "tcp"),
        ]
    ),
    "protocol": st.sampled_from(["nbd", "rbd", "http", "iscsi", "ssh", "nfs", ""]),
    "mode": st.sampled_from(["connect", "bind", "host", "passthrough", "subsystem"]),
    "model": st.sampled_from(["random", "virtio", "builtin", "tpm-crb", "i6300esb", "dac"]),
    "bus": st.sampled_from(["virtio", "scsi", "usb"]),
    "device": st.sampled_from(["disk", "cdrom", "lun"]),
}
#: Elements, what may stand on each and what may stand in it.
_GRAMMAR: dict[str, tuple[str, str]] = {
    "disk": (
        "type device rawio",
        "source source source target readonly backingStore serial driver mirror auth seclabel",
    ),
    "source": (
        "file dev dir path protocol name pool volume mode type host",
        "host host seclabel path identity reservations dataStore cookies",
    ),
    "backingStore": ("type file", "format source source backingStore"),
    "dataStore": ("type", "format source"),
    "mirror": ("type file", "source"),
    "host": ("name port transport socket", ""),
    "target": ("dev bus dir port name type", ""),
    "driver": ("name type rendernode", ""),
    "format": ("type", ""),
    "identity": ("keyfile agentsock username", ""),
    "reservations": ("managed", "source"),
    "auth": ("username", "secret"),
    "secret": ("type uuid", ""),
    "serial": ("type", "source log target readonly"),
    "console": ("type tty", "source log target readonly"),
    "channel": ("type", "source target log"),
    "log": ("file append", ""),
    "rng": ("model", "backend backend"),
    "backend": ("model type tap vhost version", "serial source device encryption x"),
    "device": ("path", ""),
    "encryption": ("secret", ""),
    "tpm": ("model", "backend"),
    "interface": ("type managed", "source target script backend mac"),
    "mac": ("address", ""),
    "script": ("path", ""),
    "filesystem": ("type", "source source target readonly binary"),
    "binary": ("path", ""),
    "graphics": ("type socket port listen", "gl listen listen"),
    "gl": ("enable rendernode", ""),
    "listen": ("type socket address network", ""),
    "video": ("", "driver"),
    "audio": ("id type", ""),
    "input": ("type", "source"),
    "smartcard": ("mode type", "source"),
    "memory": ("model", "source path"),
    "hostdev": ("mode type", "source"),
    "emulator": ("", ""),
    "seclabel": ("type model", ""),
    "shmem": ("name", ""),
    "watchdog": ("model action", ""),
    "x": ("", "serial"),
    "path": ("", ""),
    "readonly": ("", ""),
    "cookies": ("", ""),
    "os": ("", "loader kernel initrd nvram cmdline table"),
    "loader": ("readonly type", "serial x"),
    "kernel": ("", "x"),
    "initrd": ("", ""),
    "nvram": ("template type", "source"),
    "cmdline": ("", ""),
    "table": ("type", ""),
    "title": ("", ""),
    "seclabels": ("", "seclabel"),
    "bootloader": ("", ""),
    "commandline": ("", "arg"),
    "arg": ("value", ""),
    "devices": ("", "emulator disk serial"),
}
_TEXTS = {"backend", "path", "loader", "kernel", "initrd", "nvram", "cmdline", "table", "emulator"}
_TEXTS |= {"serial", "x", "title", "bootloader"}
_DEVICES = "disk disk disk serial console channel rng tpm interface filesystem graphics video audio"
_DEVICES += " input smartcard memory hostdev emulator shmem watchdog commandline"
_BESIDE = "os os title seclabel bootloader commandline devices metadata"
_GRAMMAR["metadata"] = ("", "emulator source")
_ODD = ["&e;", "<!DOCTYPE a>", "<![CDATA[<emulator/>]]>", "<?x?>"]
_NAMESPACES = ["urn:x", "http://libvirt.org/schemas/domain/qemu/1.0", "http://libvirt.org/x"]


def _value(key: str, draw: st.DrawFn, tag: str) -> str:
    if (tag, key) in (("host", "name"), ("graphics", "listen"), ("listen", "address")):
        return draw(_SERVERS)
    if key in ("enable", "managed", "readonly", "append", "rawio"):
        return draw(_SPREAD)
    if key in _VALUES:
        return draw(_VALUES[key])
    return draw(_PATHS)


def _quoted(value: str) -> str:
    return value.replace("<", "&lt;").replace("'", "&apos;")


@st.composite
def _text(draw: st.DrawFn) -> str:
    """A path, perhaps with something in it that a careless reader stops at."""
    value = draw(_PATHS)
    trick = draw(st.sampled_from(["", "", "comment", "instruction", "cdata", "child"]))
    if trick == "cdata" and "&" not in value:
        return f"<![CDATA[{value}]]>"
    at = draw(st.integers(0, len(value))) if "&" not in value else 0
    middle = {"comment": "<!-- c -->", "instruction": "<?p i?>", "child": "<x/>"}.get(trick, "")
    return value[:at] + middle + value[at:]


@st.composite
def _element(draw: st.DrawFn, tag: str, depth: int = 0) -> str:
    keys, children = (each.split() for each in _GRAMMAR[tag])
    name, parts = tag, []
    odd = draw(st.integers(0, 30))
    prefixed = odd == 1
    if odd == 2:
        name = tag.upper()
    if prefixed or tag in ("commandline", "arg"):
        name = f"n:{tag}"
        parts.append(f"xmlns:n='{draw(st.sampled_from(_NAMESPACES))}'")
    if odd == 3 and not prefixed:
        parts.append(f"xmlns='{draw(st.sampled_from(_NAMESPACES))}'")
    count = min(len(keys), 4)
    for key in draw(st.lists(st.sampled_from(keys), max_size=count, unique=True)) if keys else ():
        parts.append(f"{key}='{_quoted(_value(key, draw, tag))}'")
        if draw(st.integers(0, 20)) == 1:  # the same once more, where a namespace hides it
            parts += ["xmlns:y='urn:y'"] * ("xmlns:y='urn:y'" not in parts)
            other = f"y:{key}='{_quoted(_value(key, draw, tag))}'"
            parts.insert(draw(st.integers(0, len(parts))), other)
    content = draw(_text()) if tag in _TEXTS else ""
    if children and depth < 5:
        for child in draw(st.lists(st.sampled_from(children), max_size=3)):
            content += draw(_element(child, depth + 1))
    if draw(st.integers(0, 40)) == 1:
        content += draw(
            st.sampled_from(["&e;", "<!DOCTYPE a>", "<![CDATA[<emulator/>]]>", "<?x?>"])
        )
    return f"<{' '.join([name, *parts])}>{content}</{name}>"


#: One device, or several in a row.
devices = st.lists(st.sampled_from(_DEVICES.split()).flatmap(_element), min_size=1, max_size=2).map(
    "".join
)
#: What a template may have beside its name, size and devices.
beside = st.lists(st.sampled_from(_BESIDE.split()).flatmap(_element), max_size=2).map("".join)
