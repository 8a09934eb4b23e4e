"""What passes the policy, as libvirt itself understands it: nothing of the host is in there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

import hostile_xml
import libvirt
import pytest
import samples
from hypothesis import HealthCheck, given, settings

from virtkit.errors import RequestError
from virtkit.xml import policy, tree

GUEST = samples.guest_of(json.dumps({"name": "lab", "guests": {"web": {"type": "qemu"}}}))
OWN = {each.key for each in GUEST.volumes}
(ROOT,) = (each.key for each in GUEST.volumes if each.role == "root")
READ = {GUEST.files.root, GUEST.files.kernel, GUEST.files.initrd}
FRAME = (
    f"<domain type='test'><name>{GUEST.domain}</name><uuid>{GUEST.uuid}</uuid>"
    "<memory>65536</memory><os><type>hvm</type></os>{}</domain>"
)
Read = Callable[[str], str | None]


@pytest.fixture(scope="module")
def read() -> Iterator[Read]:
    """What libvirt makes of a domain's XML, unchecked by a schema; None where it takes none."""
    connection = libvirt.open("test:///default")
    libvirt.registerErrorHandler(lambda *_: None, None)
    yield partial(_read, connection)
    connection.close()


def _read(connection: libvirt.virConnect, xml: str) -> str | None:
    try:
        domain = connection.defineXML(xml)
    except libvirt.libvirtError:
        return None
    text: str = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    domain.undefine()
    # the driver's own addition to each domain
    return text.replace("<emulator>/usr/bin/test-hv</emulator>", "")


def passes(xml: str) -> bool:
    try:
        root = tree.parse_plain(xml, "a domain")
        policy.check(GUEST, root)
    except RequestError:
        return False
    return True


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(devices=hostile_xml.devices, beside=hostile_xml.beside)
def test_what_passes_names_nothing_of_the_host(read: Read, devices: str, beside: str) -> None:
    xml = FRAME.format(f"{beside}<devices>{devices}</devices>")
    xml = xml.replace(hostile_xml.OWN, ROOT).replace(hostile_xml.IMAGE, GUEST.files.root)
    if passes(xml) and (understood := read(xml)):
        assert hostile_xml.faults(understood, OWN, READ) == [], xml


NBD = "<disk type='network'><source {}>{}</source><target dev='vda'/></disk>"
TPM = (
    "<tpm model='tpm-crb'><backend type='emulator' version='2.0'>"
    "<encryption secret='6dd3e4a5-1d76-44ce-961f-f119f5aad935'/></backend></tpm>"
)
DISK = "<disk type='file'><source file='OWN'/>{}<target dev='vda'/></disk>"


@pytest.mark.parametrize(
    "devices",
    [
        "<disk type='volume'><source y:pool='p' y:volume='v'/><target dev='vda'/></disk>",
        "<rng model='virtio'><backend model='random'><serial>/dev/sda</serial></backend></rng>",
        "<rng model='virtio'><backend model='random'>/dev/urandom<x>x</x></backend></rng>",
        NBD.format("protocol='nbd' y:protocol='' name='x'", "<host name='localhost'/>"),
        NBD.format("protocol='nbd' name='x'", "<host name='localhost' y:name='a.b'/>"),
        NBD.format("protocol='http' name='x'", "<host name='x@127.0.0.1'/>"),
        DISK.format(
            "<backingStore type='nvme'><format type='raw'/><source type='pci' managed='yes' "
            "namespace='1'><address domain='0' bus='1' slot='0' function='0'/></source>"
            "</backingStore>"
        ),
        "<serial type='file'><source path='IMAGE'/><readonly/></serial>",
        TPM,
        "<graphics type='spice'><gl enable='yes'/></graphics>",
        "<interface y:type='direct' type='user'><source dev='eth0'/></interface>",
    ],
)
def test_what_libvirt_understands_is_refused(read: Read, devices: str) -> None:
    """Each of these passed the policy once, but for the last, or misled it."""
    xml = FRAME.format(f"<devices xmlns:y='urn:y'>{devices}</devices>")
    xml = xml.replace("OWN", ROOT).replace("IMAGE", GUEST.files.root)
    understood = read(xml)
    assert understood, "libvirt takes it"
    assert hostile_xml.faults(understood, OWN, READ) != [], "and acts on it"
    assert not passes(xml)
