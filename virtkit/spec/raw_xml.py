"""What in raw libvirt XML only one guest may have: MAC addresses, devices and files of the host.

Pure. XML that can't be read holds nothing; whoever renders it reports what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from virtkit.spec.model import device_kind, device_parts
from virtkit.spec.problem import Problem, escaped, quote

if TYPE_CHECKING:
    from lxml import etree

#: How interfaces are named that libvirt names itself, whatever the XML says.
_LIBVIRTS = ("vnet", "vif", "macvtap", "macvlan")
#: What takes a connection, or makes one.
_CHARACTERS = {"serial", "parallel", "console", "channel"}


class ExclusiveResource(NamedTuple):
    """One thing that only one guest may have. ``element``: the XML that names it."""

    kind: str
    value: str
    element: str


def elements(xml: str) -> list[etree._Element]:
    """The devices of a whole domain, or of an entry of ``devices``, which may have several."""
    from lxml import etree  # most specs have none of it

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    for text in (xml.strip(), f"<domain><devices>{xml}</devices></domain>"):
        with suppress(etree.XMLSyntaxError):
            root = etree.fromstring(text.encode(), parser)
            devices = root.iterfind("devices/*") if root.tag == "domain" else [root]
            return [each for each in devices if isinstance(each.tag, str)]
    return []


def exclusive_resources(xml: str) -> Iterator[ExclusiveResource]:
    """What in an entry of ``devices``, or in a whole domain, only one guest may have."""
    for each in elements(xml):
        yield from (resource for resource in _of_device(each) if resource.value)


def conflict(first: str, second: str, resource: ExclusiveResource) -> Problem:
    """The error where two guests would have it, or one of them twice."""
    cures = {
        "MAC address": "leave it out, and each guest gets its own",
        "host device": "give each guest another one, in a separate entry",
        "disk": "give each guest its own; or write <shareable/> or <readonly/> in it",
        "vsock CID": "use auto='yes' instead",
        "display's port": "leave it out, and write autoport='yes'",
    }
    value = escaped(resource.value)
    what = f"{quote(first)} and {quote(second)} would both have the {resource.kind} {value}"
    if first == second:
        what = f"{quote(first)} would have the {resource.kind} {value} twice"
    place = f"it stands in {resource.element} of raw XML, and " if resource.element else ""
    return Problem(
        what,
        why=f"{place}only one guest can have it at a time",
        cure=cures.get(
            resource.kind, "write a separate entry for each guest, with a different one"
        ),
    )


def pci_address(name: str) -> str:
    """A PCI device of the host's, as `_address` writes it."""
    domain, bus, slot, function = (int(each, 16) for each in device_parts(name))
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def usb_address(name: str) -> str:
    """A device on USB of the host's, as `_address` writes it."""
    vendor, product = (int(each, 16) for each in device_parts(name))
    return f"vendor id={vendor} product id={product}"


def exclusive_devices(names: Sequence[str]) -> Iterator[tuple[int, ExclusiveResource]]:
    """The devices of ``host_devices`` that only one guest may have, with the place of each."""
    addresses = {"pci": pci_address, "usb": usb_address}
    for index, name in enumerate(names):
        kind = device_kind(name)
        if kind in addresses:
            yield index, ExclusiveResource("host device", addresses[kind](name), "")


def _of_device(device: etree._Element) -> Iterator[ExclusiveResource]:
    tag, kind = str(device.tag), device.get("type", "")
    source, target = device.find("source"), device.find("target")
    if tag == "interface":
        mac = device.find("mac")
        if mac is not None and mac.get("address"):
            yield ExclusiveResource("MAC address", mac.get("address", "").lower(), "<mac>")
        name = "" if target is None else target.get("dev", "")
        if name and not name.startswith(_LIBVIRTS):
            yield ExclusiveResource("network device", name, "<target>")
    if source is not None and (tag == "hostdev" or (tag, kind) == ("interface", "hostdev")):
        yield ExclusiveResource("host device", _address(source), f"<{tag}>")
    if tag == "tpm":
        for each in device.iterfind("backend[@type='passthrough']/device"):
            yield ExclusiveResource("host device", each.get("path", ""), "<tpm>")
    if source is not None and tag == "disk" and _written(device):
        yield ExclusiveResource("disk", _named(source), "<disk>")
    if tag == "vsock":
        for each in device.iterfind("cid[@address]"):
            if each.get("auto") != "yes":
                yield ExclusiveResource("vsock CID", each.get("address", ""), "<vsock>")
    port = device.get("port", "") if tag == "graphics" else ""
    if port not in ("", "-1", "0") and device.get("autoport") != "yes":
        yield ExclusiveResource("display's port", port, "<graphics>")
    if tag in _CHARACTERS and source is not None:
        yield from _of_character(source, kind)


def _of_character(source: etree._Element, kind: str) -> Iterator[ExclusiveResource]:
    """A console or channel that listens, or that is a device of the host's."""
    listens, path = source.get("mode") == "bind", source.get("path", "")
    if path and path != "/dev/null" and (kind == "dev" or (kind == "unix" and listens)):
        yield ExclusiveResource("path", path, "<source>")
    elif kind == "tcp" and listens:
        yield ExclusiveResource(
            "port", f"{source.get('host', '')}:{source.get('service', '')}", "<source>"
        )


def _written(disk: etree._Element) -> bool:
    """Whether what a disk has is written by its guest, and by nobody else."""
    shares = [
        each for each in ("readonly", "shareable", "transient") if disk.find(each) is not None
    ]
    return not shares and disk.get("device", "disk") not in ("cdrom", "floppy")


def _named(source: etree._Element) -> str:
    """The file, device, volume or network disk that a ``<source>`` names."""
    protocol = source.get("protocol")
    if protocol:
        hosts = ",".join(sorted(each.get("name", "") for each in source.iterfind("host")))
        return f"{protocol}:{hosts}/{source.get('name', '')}"
    if source.get("pool"):
        return f"{source.get('pool')}:{source.get('volume')}"
    keys = ("file", "dev", "dir", "path")
    return next((source.get(each, "") for each in keys if source.get(each)), _address(source))


def _address(source: etree._Element) -> str:
    """A device of the host's as text that is the same for the same one: numbers may be written as
    0x0a or 10."""
    parts = []
    for each in source.iter("*"):
        values = {str(key): _plain(str(value)) for key, value in each.attrib.items()}
        if each.tag == "address" and {"bus", "slot"} <= {*values}:
            keys = ("domain", "bus", "slot", "function")
            numbers = [n for n in (values.get(key, 0) for key in keys) if isinstance(n, int)]
            if len(numbers) == len(keys):
                parts.append("{:04x}:{:02x}:{:02x}.{:x}".format(*numbers))
                continue
        name = "" if each is source or each.tag == "address" else f"{each.tag} "
        parts += [f"{name}{key}={value}" for key, value in sorted(values.items()) if key != "type"]
        parts += [each.text.strip()] if each.text and each.text.strip() else []
    return " ".join(parts)


def _plain(value: str) -> str | int:
    try:
        return int(value, 0)
    except ValueError:
        return value
