"""The spec that describes a libvirt domain: tests/domains has XML as other tools make it, and what
comes of each, which `pytest --regen` writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError
from virtkit.plan.resolve import resolve
from virtkit.spec import read_text
from virtkit.spec.from_domain.describe import describe
from virtkit.spec.from_domain.keys import KEYS
from virtkit.spec.from_domain.reading import DomainFacts, guest_has
from virtkit.state.desired import Decided
from virtkit.xml import render

DOMAINS = Path(__file__).parents[2] / "domains"
XML = sorted(DOMAINS.glob("*.xml"))
SIZES = {"vda": 20 << 30, "sda": 40 << 30, "vdb": 11 << 30, "hda": 8 << 30, "sdb": 10 << 30}
SIZES |= {"xvda": 4 << 30, "xvda1": 1 << 30, "xvda2": 4 << 30, "/srv/data": 1 << 30}
#: What libvirt chooses itself, or virtkit's guests have too: what is in it need not be told.
DROPPED = re.compile(
    r".*/(address|alias|backingStore|audio)(/.*)?|.*/metadata/.*|.*libosinfo.*|domain/(name|uuid)"
    r"|.*/sysinfo/.*|.*commandline.*|.*/input.*|.*/tpm.*|.*/hostdev.*|.*/channel.*|.*/rng/backend"
    r"|.*/memballoon|.*/emulator|domain/(on_.*|pm/.*|resource.*)|.*/hyperv.*"
    r"|domain/features/(acpi|apic|pae|privnet|smm)|.*/graphics/listen|.*/filesystem/driver"
    r"|.*/controller/(model|target)|.*/(serial|console)/(source|target.*)|.*/script|.*/vcpupin"
    r"|domain/(devices|metadata|sysinfo|os/kernel|os/initrd)|.*/readonly|.*/interface/target|.*/redirdev"
)


def facts(path: Path, **fields: object) -> DomainFacts:
    xml = path.read_text()
    name = etree.fromstring(xml.encode()).findtext("name")
    known = {"uri": "qemu:///system", "disk_sizes": SIZES, **fields}
    return DomainFacts(name=name, xml=xml, **known)


def spec_of(text: str) -> object:
    return read_text(text, source="virtkit.yaml", folder=Path("/specs"))


@pytest.mark.parametrize("path", XML, ids=lambda path: path.stem)
def test_what_comes_of_a_domain(path: Path, regen: bool) -> None:
    text = describe(facts(path))
    expected = path.with_suffix(".yaml")
    if regen:
        expected.write_text(text)
    assert text == expected.read_text()


@pytest.mark.parametrize("path", XML, ids=lambda path: path.stem)
def test_its_spec_can_be_made(path: Path) -> None:
    spec = read_text(describe(facts(path)), source="virtkit.yaml", folder=Path("/specs"))
    spec.check_references()
    desired = resolve(spec, samples.WITH_KVM, Decided())
    (guest,) = desired.guests or [None]
    if guest is not None:  # no Xen and no prepared host is among the facts
        assert render.domain_xml(samples.with_image(guest)).startswith("<domain")
    else:
        assert desired.refused


@pytest.mark.parametrize("path", XML, ids=lambda path: path.stem)
def test_nothing_is_passed_over(path: Path) -> None:
    """Whatever more stands in an element is in the spec, or in its comments."""
    root = etree.parse(path).getroot()
    places = {}
    for index, element in enumerate(root.iter(etree.Element)):
        where = re.sub(r"\[\d+\]", "", etree.ElementTree(root).getelementpath(element))
        places[f"unheard-of-{index}."] = "domain" if where == "." else f"domain/{where}"
        element.set("zz", f"unheard-of-{index}.")
    known = facts(path)
    xml = etree.tostring(root, encoding="unicode")
    text = describe(DomainFacts(name=known.name, uri=known.uri, xml=xml, disk_sizes=SIZES))
    untold = [place for marker, place in places.items() if marker not in text]
    assert [place for place in untold if not DROPPED.fullmatch(place)] == []


HOSTILE = st.text(max_size=30) | st.sampled_from(
    [
        'web"\nguests: {evil: {}}\n',
        "a\n# b",
        "x: {y: z}",
        "- &a *a",
        "!!python/object",
        "\x85name: x",
        "\u2028allow: [hostdev]",
        "{{ 7*7 }}",
        "${HOME}",
        "yes",
        "0x10",
        "null",
        "../../etc/passwd",
        "-f",
        "\ufeff",
        "}]",
        "'",
        "web' --yes",
        "\U0001f600",
    ]
)


@given(texts=st.lists(HOSTILE, min_size=10, max_size=10))
def test_a_hostile_domain_makes_a_spec_of_one_guest(texts: list[str]) -> None:
    root = etree.fromstring((DOMAINS / "virt-install.xml").read_bytes())
    names = iter(texts)

    def put(path: str, attribute: str = "") -> str:
        text = "".join(c for c in next(names) if c.isprintable() or c in "\n\t\x85\u2028\ufeff")
        element = root.find(path)
        assert element is not None
        if attribute:
            element.set(attribute, text)
        else:
            element.text = text
        return text

    etree.SubElement(root, "description")
    description = put("description")
    for place in ("disk/source/@file", "disk/target/@dev", "disk/driver/@cache"):
        path, _, attribute = place.partition("/@")
        put(f"devices/{path}", attribute)
    put("devices/interface/source", "network")
    put("devices/interface/model", "type")
    put("devices/video/model", "type")
    put("cpu", "mode")
    put("os/type", "machine")
    xml = etree.tostring(root, encoding="unicode")
    given_facts = DomainFacts(name=next(names), uri="qemu:///system", xml=xml)
    text = describe(given_facts)
    spec = read_text(text, source="virtkit.yaml", folder=Path("/specs"))
    (guest,) = spec.guests.values()
    assert guest.allow == ()
    assert guest.template is None
    line = " ".join(description.split())
    assert guest.description in (line or None, None)
    keys = {line.partition(":")[0] for line in text.splitlines() if line[:1] not in ("", "#", " ")}
    assert keys <= {"name", "networks", "images", "guests"}


def test_a_doctype_is_refused() -> None:
    xml = "<!DOCTYPE domain [<!ENTITY a 'b'>]><domain type='kvm'><name>web</name></domain>"
    with pytest.raises(RequestError, match="DOCTYPE"):
        describe(DomainFacts(name="web", uri="qemu:///system", xml=xml))


def test_a_domain_that_says_nothing_has_a_spec() -> None:
    text = describe(DomainFacts(name="???", uri="test:///default", xml="<domain/>"))
    spec = read_text(text, source="virtkit.yaml", folder=Path("/specs"))
    assert [*spec.guests] == ["domain"]


def test_where_a_domain_is() -> None:
    path = DOMAINS / "virt-install.xml"
    there = read_text(
        describe(facts(path, uri="qemu+ssh://ops@rack1.example.org:2222/system")),
        source="virtkit.yaml",
        folder=Path("/specs"),
    )
    (host,) = there.hosts.items()
    assert (host[0], host[1].address, host[1].ssh.port) == ("rack1", "ops@rack1.example.org", 2222)
    assert there.guests["debian"].image != "root"  # its disk is there, not here
    secure = describe(facts(path, uri="qemu+tls://rack1.example.org/system?pkipath=/secret"))
    assert "secret" not in secure
    assert "add `hosts:`" in secure


def test_what_is_known_of_it_beside_its_xml() -> None:
    path = DOMAINS / "virt-install.xml"
    text = describe(facts(path, autostart=True, persistent=False))
    assert "autostart: true" in text
    assert "gone once it stops" in text


def test_more_disks_than_a_spec_has_are_told() -> None:
    disk = (
        "<disk type='file'><source file='/srv/{0}.img'/><target dev='vd{0}' bus='virtio'/></disk>"
    )
    names = [chr(ord("a") + index) for index in range(20)]
    devices = "".join(map(disk.format, names))
    xml = f"<domain type='kvm'><os><type>hvm</type></os><devices>{devices}</devices></domain>"
    sizes = {f"vd{each}": 1 << 30 for each in names}
    text = describe(DomainFacts(name="many", uri="qemu:///system", xml=xml, disk_sizes=sizes))
    spec = read_text(text, source="virtkit.yaml", folder=Path("/specs"))
    assert len(spec.guests["many"].disks) == 16
    assert "#   guests.many.disks[18]: " in text


def test_keys_that_there_are_not_yet_are_known_to_the_table() -> None:
    """What the table has and this version's model has not is a comment; see the contract."""
    later = {key for key in KEYS if not guest_has(key)}
    assert later <= {"system", "tpm", "cdroms", "folders", "boot", "host_devices"}


def test_each_driver_says_its_kind_of_domain() -> None:
    kinds = {name: (each.domain_type, each.os_type) for name, each in DRIVERS.items()}
    for name in ("kvm", "qemu", "lxc", "xen-pv", "xen-pvh", "xen-hvm", "uml"):
        template = (Path(__file__).parents[3] / "templates" / DRIVERS[name].template).read_text()
        assert f">{kinds[name][1]}</type>" in template or "<type>exe</type>" in template


def test_one_key_that_is_refused_takes_no_others_with_it() -> None:
    xml = (
        "<domain type='kvm'><os><type>hvm</type></os><devices><disk type='block'>"
        "<driver io='native'/><source dev='/dev/vg/a'/><target dev='sda' bus='scsi'/>"
        "</disk></devices></domain>"
    )
    known = DomainFacts(name="a", uri="qemu:///system", xml=xml, disk_sizes={"sda": 1 << 30})
    text = describe(known)
    guest = read_text(text, source="virtkit.yaml", folder=Path("/specs")).guests["a"]
    assert (guest.disk.bus, guest.disk.io) == ("scsi", None)
    assert "#   guests.a.disk.io: native\n" in text
