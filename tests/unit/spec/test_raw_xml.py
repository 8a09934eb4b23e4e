"""What in raw XML one guest alone may have; whatever the XML is, reading it is no error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtkit.errors import RequestError
from virtkit.spec import raw_xml, read_text

HOSTDEV = "<hostdev type='pci'><source><address {}/></source></hostdev>"


@pytest.mark.parametrize(
    "address",
    [
        "domain='0x0000' bus='0x0a' slot='0x00' function='0x0'",
        "bus='10' slot='0'",
        "type='pci' slot='0x0' bus='0xA'",
    ],
)
def test_one_device_is_one_however_it_is_written(address: str) -> None:
    assert [each.value for each in raw_xml.exclusive_resources(HOSTDEV.format(address))] == [
        "0000:0a:00.0"
    ]


@pytest.mark.parametrize(
    ("xml", "count"),
    [
        ("<interface type='network'><mac address='52:54:00:AA:00:01'/></interface>", 1),
        ("<interface type='bridge'><target dev='vnet3'/></interface>", 0),
        ("<disk type='file'><source file='/a'/></disk>", 1),
        ("<disk type='file'><source file='/a'/><readonly/></disk>", 0),
        ("<disk type='file' device='cdrom'><source file='/a'/></disk>", 0),
        ("<disk type='volume'><source pool='p' volume='v'/></disk>", 1),
        ("<graphics type='vnc' port='-1'/>", 0),
        ("<graphics type='spice' port='5901' autoport='no'/>", 1),
        ("<serial type='pty'><source path='/dev/pts/3'/></serial>", 0),
        ("<serial type='unix'><source mode='connect' path='/run/x'/></serial>", 0),
        ("<serial type='dev'><source path='/dev/ttyS0'/></serial>", 1),
        ("<watchdog model='i6300esb'/>", 0),
        ("<filesystem type='mount'><source dir='/srv'/><target dir='x'/></filesystem>", 0),
    ],
)
def test_what_is_for_one_guest(xml: str, count: int) -> None:
    assert len(list(raw_xml.exclusive_resources(xml))) == count
    domain = f"<domain><name>a</name><devices><!-- x -->{xml}</devices></domain>"
    assert list(raw_xml.exclusive_resources(domain)) == list(raw_xml.exclusive_resources(xml))


def test_several_elements_of_one_entry() -> None:
    """Each is looked at as if it stood alone; `test_render` has what an entry may be."""
    interface = "<interface type='network'><mac address='52:54:00:AA:00:01'/></interface>"
    pci = HOSTDEV.format("bus='10' slot='0'")
    entry = f"<watchdog model='i6300esb'/>\n<!-- x -->{interface}<!-- y -->{pci}"
    assert list(raw_xml.exclusive_resources(entry)) == [
        *raw_xml.exclusive_resources(interface),
        *raw_xml.exclusive_resources(pci),
    ]


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    assert list(raw_xml.exclusive_resources(text)) == []
    assert list(raw_xml.exclusive_resources(f"<disk>{text}")) == []


@pytest.mark.parametrize("tag", ["interface", "disk", "hostdev", "graphics", "tpm", "vsock"])
def test_empty_elements(tag: str) -> None:
    for xml in (f"<{tag}/>", f"<{tag}><source/></{tag}>", f"<{tag} type='hostdev'><mac/></{tag}>"):
        assert list(raw_xml.exclusive_resources(xml)) == []


@pytest.mark.parametrize("host", ["host: local, ", ""])
@pytest.mark.parametrize("hosts", ["", "hosts: {local: {}}\n"])
def test_the_only_host_is_one_whether_it_is_named_or_not(host: str, hosts: str) -> None:
    device = json.dumps(HOSTDEV.format("bus='10' slot='0'"))
    keys = f"type: qemu, allow: [hostdev], devices: [{device}]"
    text = f"name: lab\n{hosts}guests: {{a: {{{keys}}}, b: {{{host}{keys}}}}}\n"
    with pytest.raises(RequestError, match="'a' and 'b' would both have the host device"):
        read_text(text, source="lab.yaml", folder=Path("/"))
