"""Our XML against libvirt's: what it rewrites and what others add is no difference."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from types import FrameType

import pytest
import samples
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from virtkit.xml import diff, render
from virtkit.xml.diff import Difference, differences, merged, removed
from virtkit.xml.tree import parse


def tree(xml: str) -> etree._Element:
    return parse(xml, "the XML")


def paths(wanted: str, current: str) -> list[str]:
    return [each.path for each in differences(tree(wanted), tree(current))]


def domain(inner: str, devices: str = "") -> str:
    return f"<domain><name>a</name>{inner}<devices>{devices}</devices></domain>"


# --- what is the same -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "current"),
    [
        ('<memory unit="b">1073741824</memory>', '<memory unit="KiB">1048576</memory>'),
        ('<memory unit="b">1073741824</memory>', "<memory>1048576</memory>"),
        ('<memory unit="GiB">1</memory>', '<memory unit="KiB">1048576</memory>'),
        ('<memory unit="b">1000001</memory>', '<memory unit="KiB">977</memory>'),
        ("<tb-cache unit='MiB'>128</tb-cache>", "<tb-cache unit='KiB'>131072</tb-cache>"),
        ("<tseg>48</tseg>", "<tseg unit='KiB'>49152</tseg>"),
        (
            "<numa><cell memory='256' unit='MiB'/></numa>",
            "<numa><cell memory='262144' unit='KiB'/></numa>",
        ),
        ("<numa><cell memory='9'/></numa>", "<numa><cell memory='9' unit='KiB'/></numa>"),
        ("<page size='1' unit='G'/>", "<page size='1048576' unit='KiB'/>"),
        ("<hard_limit>1024</hard_limit>", "<hard_limit unit='MiB'>1</hard_limit>"),
        (
            "<shmem name='a'><size>4194304</size></shmem>",
            "<shmem name='a'><size unit='M'>4</size></shmem>",
        ),
        (
            "<memory><target><size>1000</size></target></memory>",
            "<memory><target><size unit='kB'>1024</size></target></memory>",
        ),
        (
            "<filesystem><source usage='1' units='GiB'/></filesystem>",
            "<filesystem><source usage='1048576' units='KiB'/></filesystem>",
        ),
        ("<lease expiry='2' unit='hours'/>", "<lease expiry='2' unit='hours'/>"),
        ('<vcpu current="2">2</vcpu>', "<vcpu>2</vcpu>"),
        ('<vcpu current="2">2</vcpu>', '<vcpu placement="static" cpuset="0">2</vcpu>'),
        ('<type machine="q35">hvm</type>', '<type machine="pc-q35-8.2">hvm</type>'),
        ('<type machine="virt">hvm</type>', '<type machine="virt-9.1">hvm</type>'),
        ('<os firmware="efi"/>', '<os><loader type="pflash">/usr/share/x.fd</loader></os>'),
        ("<features><acpi/></features>", "<features><pae/><acpi/><apic/></features>"),
        ("<on_crash> destroy </on_crash>", "<on_crash>destroy</on_crash>"),
    ],
)
def test_what_libvirt_writes_otherwise_is_the_same(wanted: str, current: str) -> None:
    assert paths(domain(wanted), domain(current)) == []


@pytest.mark.parametrize(
    ("wanted", "current", "expected"),
    [
        (
            '<memory unit="b">1073741824</memory>',
            '<memory unit="KiB">524288</memory>',
            Difference("memory", "1073741824", "536870912"),
        ),
        (
            '<vcpu current="1">2</vcpu>',
            "<vcpu>2</vcpu>",
            Difference("vcpu/@current", "1", "2"),
        ),
        (
            '<os><type machine="q35">hvm</type></os>',
            '<os><type machine="pc-i440fx-8.2">hvm</type></os>',
            Difference("os/type/@machine", "q35", "pc-i440fx-8.2"),
        ),
        (
            "<numa><cell memory='256' unit='MiB'/></numa>",
            "<numa><cell memory='256' unit='KiB'/></numa>",
            Difference("numa/cell/@memory", "256 MiB", "256 KiB"),
        ),
        (
            "<hard_limit unit='MiB'>256</hard_limit>",
            "<hard_limit>256</hard_limit>",
            Difference("hard_limit", "256 MiB", "256"),
        ),
        (
            "<space_hard_limit unit='b'>256</space_hard_limit>",
            "<space_hard_limit unit='b'>300</space_hard_limit>",
            Difference("space_hard_limit", "256 b", "300 b"),
        ),
        ("<lease unit='hours'/>", "<lease/>", Difference("lease/@unit", "hours", None)),
        ('<os firmware="efi"/>', "<os/>", Difference("os/@firmware", "efi", None)),
        ("<on_crash>destroy</on_crash>", "", Difference("on_crash", "destroy", None)),
        ("<features><acpi/></features>", "<features/>", Difference("features/acpi", "yes", None)),
    ],
)
def test_what_differs(wanted: str, current: str, expected: Difference) -> None:
    assert differences(tree(domain(wanted)), tree(domain(current))) == [expected]


DISK = '<disk type="file"><source file="/p/{0}"/><target dev="{1}"/><serial>{0}</serial></disk>'
INTERFACE = '<interface type="network"><mac address="{}"/><source network="{}"/></interface>'
ROOT, DATA = DISK.format("root", "vda"), DISK.format("data", "vdb")


def test_devices_are_told_apart_by_what_they_are() -> None:
    mac = "52:54:00:aa:bb:cc"
    both = domain("", ROOT + DATA + INTERFACE.format(mac, "front"))
    other = domain("", INTERFACE.format(mac.upper(), "front") + DATA + ROOT)
    assert paths(both, other) == [], "another order and another case"
    assert paths(both, domain("", ROOT)) == [
        "devices/disk[vdb]",
        f"devices/interface[{mac}]",
    ]
    assert paths(both, domain("", ROOT + DATA + INTERFACE.format(mac, "back"))) == [
        f"devices/interface[{mac}]/source/@network"
    ]
    assert paths(domain("", DATA), both) == [], "more is no difference"


def test_devices_without_a_name_are_matched_as_well_as_they_can() -> None:
    wanted = domain("", '<video><model type="none"/></video><watchdog model="itco"/>')
    current = domain("", '<watchdog model="itco"/><video><model type="none"/></video>')
    assert paths(wanted, current) == []
    assert paths(wanted, domain("", '<watchdog model="ib700"/><video/>')) == [
        "devices/video/model",
        "devices/watchdog/@model",
    ]
    twice = domain("", "<hub type='usb'/><hub type='usb'/>")
    assert paths(twice, domain("", "<hub type='usb'/>")) == ["devices/hub"]


@pytest.mark.parametrize(
    ("ours", "theirs", "path"),
    [
        ('<input type="tablet" bus="usb"/>', '<input type="mouse" bus="ps2"/>', "input[tablet]"),
        (
            '<input type="tablet" bus="usb"/>',
            '<input type="tablet" bus="virtio"/>',
            "input[tablet]",
        ),
        ('<sound model="ac97"/>', '<sound model="ich9"/>', "sound[ac97]"),
        (
            '<rng model="virtio"><backend model="random">/dev/urandom</backend></rng>',
            '<rng model="virtio"><backend model="builtin"/></rng>',
            "rng[random]",
        ),
        ('<controller type="scsi"/>', '<controller type="usb" index="0"/>', "controller"),
    ],
)
def test_a_device_of_others_is_not_taken_for_ours(ours: str, theirs: str, path: str) -> None:
    """Where ours is gone it is missing, and it comes back beside theirs."""
    wanted, current = tree(domain("", ours)), tree(domain("", theirs))
    assert paths(domain("", ours), domain("", theirs)) == [f"devices/{path}"]
    assert paths(domain("", ours), domain("", theirs + ours)) == []
    after = diff.merged(wanted, wanted, current)
    devices = after.find("devices")
    assert devices is not None
    texts = [etree.tostring(each, encoding="unicode").strip() for each in devices]
    assert texts == [*(each for each in [theirs]), ours]
    away = diff.merged(wanted, tree(domain("", "")), tree(domain("", theirs + ours)))
    assert diff.differences(current, away) == []
    assert diff.differences(wanted, away), "and goes alone"


def test_what_libvirt_chooses_tells_nothing() -> None:
    """An input without a bus gets one; so does a controller its index."""
    chosen = '<input type="tablet" bus="usb"/><controller type="scsi" index="3"/>'
    assert (
        paths(domain("", '<input type="tablet"/><controller type="scsi"/>'), domain("", chosen))
        == []
    )


def test_metadata_is_never_looked_at() -> None:
    assert paths("<domain><metadata><a/></metadata></domain>", "<domain/>") == []


def test_a_reservation_is_its_mac_and_a_name_its_address() -> None:
    wanted = (
        '<network><dns><host ip="10.0.0.1"><hostname>a</hostname></host></dns>'
        '<ip address="10.0.0.254"><dhcp><host mac="52:54:00:00:00:01" ip="10.0.0.2"/></dhcp></ip>'
        "</network>"
    )
    assert paths(wanted, wanted.replace('ip="10.0.0.2"', 'ip="10.0.0.9"')) == [
        "ip[10.0.0.254]/dhcp/host[52:54:00:00:00:01]/@ip"
    ]
    assert paths(wanted, wanted.replace('ip="10.0.0.1"', 'ip="10.0.0.9"')) == ["dns/host[10.0.0.1]"]
    edited = tree(wanted.replace('ip="10.0.0.2"', 'ip="10.0.0.9"'))
    after = merged(tree(wanted), tree(wanted), edited)
    assert [each.get("ip") for each in after.iterfind("./ip/dhcp/host")] == ["10.0.0.2"]


# --- places ---------------------------------------------------------------------------------

FOLDER = '<filesystem><source file="/p/{0}"/><target dir="/.virtkit/mounts/{0}"/></filesystem>'


def test_every_place_is_found_again() -> None:
    """A container's file systems have slashes in their names."""
    extra = '<x:commandline xmlns:x="http://libvirt.org/schemas/domain/qemu/1.0"><x:arg/>'
    wanted = domain(f"{extra}</x:commandline>", ROOT + FOLDER.format("data") + FOLDER.format("b"))
    places = differences(tree(wanted), tree("<domain/>"))
    assert len(places) == 3
    every = [
        *places,
        *differences(
            tree(wanted), tree(domain(f"{extra}</x:commandline>".replace("<x:arg/>", "")))
        ),
    ]
    assert len(every) == 7
    for each in every:
        assert diff.element_at(tree(wanted), each.path) is not None, each.path
    assert diff.element_at(tree(wanted), "devices/filesystem[/.virtkit/mounts/c]") is None
    assert diff.split_path("devices/filesystem[/a/b]/source/@file") == [
        "devices",
        "filesystem[/a/b]",
        "source",
        "@file",
    ]


def test_values() -> None:
    current = tree(domain('<currentMemory unit="KiB">1024</currentMemory><vcpu>2</vcpu>'))
    assert diff.value_at(current, "currentMemory") == "1048576"
    assert diff.value_at(current, "vcpu") == "2"
    assert diff.value_at(current, "devices") == "yes"
    assert diff.value_at(current, "memory") is None


# --- what is no longer wanted ---------------------------------------------------------------


def test_removed() -> None:
    before = domain("<title>x</title><os a='1' b='2'/>", ROOT + DATA)
    wanted = domain("<os b='2'/>", ROOT)
    current = tree(domain("<title>x</title><os a='1' b='2' c='3'/>", ROOT + DATA + "<sound/>"))
    assert removed(tree(before), tree(wanted), current) == [
        Difference("title", None, "x"),
        Difference("os/@a", None, "1"),
        Difference("devices/disk[vdb]", None, "vdb"),
    ]
    assert removed(tree(before), tree(before), current) == []
    assert removed(tree(before), tree(wanted), tree(wanted)) == [], "it is gone already"
    others = tree(domain("<os a='9' b='2'/>", ROOT))
    assert removed(tree(before), tree(wanted), others) == [], "somebody gave it another value"


# --- the merge ------------------------------------------------------------------------------

LIBVIRTS = """
<domain type="qemu" id="3">
  <name>lab-web</name>
  <metadata><x:app xmlns:x="urn:x">theirs</x:app></metadata>
  <memory unit="KiB">1048576</memory>
  <vcpu placement="static" cpuset="0-1">2</vcpu>
  <os><type arch="x86_64" machine="pc-q35-8.2">hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" cache="none"/>
      <source file="/p/root"/><target dev="vda" bus="virtio"/>
      <address type="pci" bus="0x04"/>
    </disk>
    <disk type="file"><source file="/p/data"/><target dev="vdb"/></disk>
    <controller type="usb" index="0"/>
    <watchdog model="itco" action="reset"/>
  </devices>
</domain>
"""
OLD = """
<domain type="qemu">
  <name>lab-web</name>
  <memory unit="b">1073741824</memory>
  <vcpu placement="static" current="2">2</vcpu>
  <os><type machine="q35">hvm</type></os>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2"/>
      <source file="/p/root"/><target dev="vda" bus="virtio"/>
    </disk>
    <disk type="file"><source file="/p/data"/><target dev="vdb"/></disk>
  </devices>
</domain>
"""
NEW = OLD.replace(
    '<disk type="file"><source file="/p/data"/><target dev="vdb"/></disk>',
    '<disk type="file"><source file="/p/more"/><target dev="vdc"/></disk>',
).replace("1073741824", "2147483648").replace('current="2">2<', 'current="1">4<')  # fmt: skip


def test_merged_keeps_what_others_added() -> None:
    after = merged(tree(OLD), tree(NEW), tree(LIBVIRTS))
    assert after.findtext("./metadata/{urn:x}app") == "theirs"
    assert after.findtext("./devices/emulator") == "/usr/bin/qemu-system-x86_64"
    assert after.find("./devices/watchdog[@model='itco']") is not None
    assert after.find("./devices/disk/address[@bus='0x04']") is not None
    assert after.find("./devices/disk/driver[@cache='none']") is not None
    assert after.find("./os/type[@machine='pc-q35-8.2']") is not None, "an alias stays pinned"
    assert after.find("./vcpu[@cpuset='0-1']") is not None


def test_merged_has_our_changes() -> None:
    after = merged(tree(OLD), tree(NEW), tree(LIBVIRTS))
    assert [each.get("dev") for each in after.iter("target")] == ["vda", "vdc"]
    assert diff.value_at(after, "memory") == str(2 * samples.GIB)
    vcpu = after.find("vcpu")
    assert vcpu is not None
    assert (vcpu.text, vcpu.get("current")) == ("4", "1")


def test_merged_changes_no_argument() -> None:
    trees = [tree(each) for each in (OLD, NEW, LIBVIRTS)]
    copies = [copy.deepcopy(each) for each in trees]
    merged(*trees)
    assert [etree.tostring(each) for each in trees] == [etree.tostring(each) for each in copies]


def test_merged_without_a_before_takes_nothing_out() -> None:
    after = merged(None, tree(NEW), tree(LIBVIRTS))
    assert [each.get("dev") for each in after.iter("target")] == ["vda", "vdb", "vdc"]


@pytest.mark.parametrize(
    ("old", "new"),
    [('<type machine="q35">', '<type machine="pc">'), (">hvm</type>", ">xenpvh</type>")],
)
def test_merged_for_another_machine_has_none_of_the_old_ones_devices(old: str, new: str) -> None:
    assert old in NEW
    wanted = tree(NEW.replace(old, new))
    after = merged(tree(OLD), wanted, tree(LIBVIRTS))
    assert after.findtext("./metadata/{urn:x}app") == "theirs"
    metadata = after.find("metadata")
    assert metadata is not None
    after.remove(metadata)
    assert etree.tostring(after) == etree.tostring(wanted)


def test_merged_of_nothing_new_is_what_was_there() -> None:
    after = merged(tree(OLD), tree(OLD), tree(LIBVIRTS))
    assert etree.tostring(after) == etree.tostring(tree(LIBVIRTS))


UNITS = {"": 1024, "b": 1, "bytes": 1, "K": 1024, "KiB": 1024, "KB": 1000, "kb": 1000}
UNITS |= {"m": 1024**2, "MiB": 1024**2, "MB": 10**6, "GiB": 1024**3, "t": 1024**4, "PiB": 1024**5}
PLACES = {
    "memory": "<memory{0}>{1}</memory>",
    "currentMemory": "<currentMemory{0}>{1}</currentMemory>",
    "maxMemory": "<maxMemory slots='4'{0}>{1}</maxMemory>",
    "memtune/hard_limit": "<memtune><hard_limit{0}>{1}</hard_limit></memtune>",
    "cpu/numa/cell": "<cpu><numa><cell id='0' memory='{1}'{0}/></numa></cpu>",
    "features/hpt/maxpagesize": "<features><hpt><maxpagesize{0}>{1}</maxpagesize></hpt></features>",
    "page": "<page size='{1}'{0}/>",
    "cachetune/cache": "<cachetune><cache id='0' size='{1}'{0}/></cachetune>",
    "devices/memory/target/size": "<devices><memory><target><size{0}>{1}</size></target></memory>"
    "</devices>",
    "devices/filesystem/source": "<devices><filesystem><source usage='{1}'{0}/></filesystem>"
    "</devices>",
}


@given(
    place=st.sampled_from(sorted(PLACES)),
    mine=st.tuples(st.integers(1, 10**6), st.sampled_from(sorted(UNITS))),
    theirs=st.tuples(st.integers(1, 10**6), st.sampled_from(sorted(UNITS))),
)
def test_a_quantity_is_put_in_with_its_unit(
    place: str, mine: tuple[int, str], theirs: tuple[int, str]
) -> None:
    """Whatever stood there, the merge has the bytes that we want, as libvirt rounds them."""
    key = "units" if "usage" in PLACES[place] else "unit"

    def written(number: int, unit: str) -> etree._Element:
        text = PLACES[place].format(f" {key}='{unit}'" if unit else "", number)
        return tree(f"<domain>{text}</domain>")

    def kib(root: etree._Element) -> int:
        element = root.find(f"./{place}")
        assert element is not None
        numbers = [element.text, *(element.get(each) for each in ("memory", "size", "usage"))]
        number = next(int(each) for each in numbers if each)
        return -(-number * UNITS[element.get(key, "")] // 1024)

    wanted, current = written(*mine), written(*theirs)
    before = kib(current)
    for old in (None, current, wanted):
        assert kib(merged(old, wanted, current)) == kib(wanted)
    assert bool(differences(wanted, current)) == (before != kib(wanted))
    assert differences(wanted, merged(None, wanted, current)) == []


# --- whatever they are ----------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c"])


def elements(
    children: st.SearchStrategy[list[etree._Element]],
) -> st.SearchStrategy[etree._Element]:
    def made(
        tag: str, attributes: dict[str, str], text: str, below: list[etree._Element]
    ) -> etree._Element:
        element = etree.Element(tag, attributes)
        if below:
            element.extend([copy.deepcopy(each) for each in below])
        elif text:
            element.text = text
        return element

    values = st.sampled_from(["1", "2", "x"])
    attributes = st.dictionaries(names, values, max_size=2)
    return st.builds(made, names, attributes, values | st.just(""), children)


def under(tag: str, children: list[etree._Element]) -> etree._Element:
    root = etree.Element(tag)
    root.extend([copy.deepcopy(each) for each in children])
    return root


def siblings(
    below: st.SearchStrategy[etree._Element], most: int
) -> st.SearchStrategy[list[etree._Element]]:
    """Elements that can be told apart: libvirt has several of a tag where they have a name."""
    return st.lists(below, max_size=most, unique_by=lambda each: each.tag)


leaves = elements(st.just([]))
domains = siblings(elements(siblings(leaves, 3)), 3).map(lambda below: under("domain", below))


@settings(max_examples=200, deadline=None)
@given(domains, domains, domains)
def test_after_a_merge_nothing_of_ours_is_missing(
    before: etree._Element, wanted: etree._Element, current: etree._Element
) -> None:
    once = merged(before, wanted, current)
    assert differences(wanted, once) == []
    again = merged(wanted, wanted, once)
    assert etree.tostring(again) == etree.tostring(once)


@settings(max_examples=100, deadline=None)
@given(domains)
def test_nothing_differs_from_itself(document: etree._Element) -> None:
    assert differences(document, document) == []
    assert removed(document, document, document) == []
    assert etree.tostring(merged(document, document, document)) == etree.tostring(document)


fields = st.fixed_dictionaries(
    {"type": st.sampled_from(["qemu", "lxc"])},
    optional={
        "cpus": st.integers(1, 4),
        "memory": st.sampled_from(["512MiB", "1GiB", "2GiB"]),
        "max": st.just({"cpus": 4, "memory": "4GiB"}),
        "networks": st.lists(st.sampled_from(["one", "two"]), max_size=2, unique=True),
        "disks": st.lists(
            st.sampled_from([
                {"name": "data", "size": "1GiB", "mount": "/srv/data"},
                {"name": "more", "size": "1GiB", "mount": "/srv/more"},
            ]),
            max_size=2,
            unique_by=lambda each: each["name"],
        ),
    },
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(fields, fields, st.integers(1, 9))
def test_what_virtkit_renders_merges(
    old: dict[str, object], new: dict[str, object], seed: int
) -> None:
    """From one spec to another over libvirt's XML, to which others added something everywhere."""
    spec = {"name": "lab", "networks": {"one": {}, "two": {}}}
    before, wanted = (
        tree(render.domain_xml(samples.guest_of(json.dumps({**spec, "guests": {"web": each}}))))
        for each in (old, {**new, "type": old["type"]})
    )
    current = copy.deepcopy(before)
    for index, each in enumerate(list(current.iter(etree.Element))):
        if index % seed == 0:
            each.set("others", "x")
        if each.tag in ("devices", "disk", "interface", "features"):
            etree.SubElement(each, "foreign").text = str(index)
    foreign = len(list(current.iter("foreign")))
    gone = {each.path for each in removed(before, wanted, current)}
    lost = sum(
        len(list(d.iter("foreign"))) for p in gone if (d := diff.element_at(current, p)) is not None
    )
    after = merged(before, wanted, current)
    assert differences(wanted, after) == []
    assert removed(before, wanted, after) == []
    assert len(list(after.iter("foreign"))) == foreign - lost, "but for devices that go as a whole"


# --- how it grows ------------------------------------------------------------------------------


def reservations(count: int, more: str = "") -> etree._Element:
    hosts = "".join(f"<host mac='52:54:00:00:00:{each:06x}' {more}/>" for each in range(count))
    return etree.fromstring(f"<network><ip address='10.0.0.1'><dhcp>{hosts}</dhcp></ip></network>")


def calls(work: Callable[..., object], *arguments: object) -> int:
    """How many functions of Python it calls: a count is the same on a busy machine."""
    count = 0

    def counted(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        work(*arguments)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("work", [diff.differences, lambda *two: diff.removed(two[0], *two)])
def test_its_work_grows_with_what_is_compared(
    work: Callable[[etree._Element, etree._Element], object],
) -> None:
    few, many = (
        calls(work, reservations(count), reservations(count, "name='web'")) for count in (50, 500)
    )
    assert many < 11 * few
