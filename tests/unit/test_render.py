"""Objects to XML: nothing breaks out of its place, nothing reaches the host unasked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError
from virtkit.facts import Pool
from virtkit.host import schemas
from virtkit.plan.resolve import resolve
from virtkit.spec import Spec, read_text
from virtkit.state import record, record_text
from virtkit.state.desired import Confinement, Decided, Guest, Network
from virtkit.xml import policy, render, tree

EVIL = "<b a='\"'>&amp;]]>--> $(id) `id` ;|'\"\\ {{ 7*7 }} {% raw %} é \U0001f600"
SHELL = "a b\";$(id)`id`'|&<>{{7*7}}"


def guest_xml(guest: Guest, own: str = "") -> str:
    body = render.guest(guest, render.own(guest, own) if own else "")
    element = record_text.guest_element(record.of_guest(guest, "/s.yaml", body))
    return tree.with_record(body, element)


def shape(xml: str) -> list[str]:
    """The document without its values: what nobody may change from inside one."""
    return [f"{each.tag} {sorted(each.attrib)}" for each in etree.fromstring(xml).iter()]


def guest_of(**keys: object) -> Guest:
    return world.guest_of(json.dumps({"name": "lab", "guests": {"web": keys}}))


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize("type", sorted(DRIVERS))
def test_evil_values_stay_values(type: str) -> None:
    """Every text of a guest, also those that the spec's own checks would never let through."""
    plain = guest_of(type=type, networks=[])
    (interface,) = guest_of(type=type).interfaces
    evil = replace(
        plain,
        environment=EVIL,
        folder=f"/{EVIL}",
        interfaces=(replace(interface, source=EVIL, mac=EVIL),),
        spec=plain.spec.model_copy(update={"name": EVIL, "base": EVIL}),
    )
    tame = replace(plain, interfaces=(interface,))
    xml = guest_xml(evil)
    assert shape(xml) == shape(guest_xml(tame))
    root = etree.fromstring(xml)
    assert root.findtext("name") == f"{EVIL}-{EVIL}"
    source = root.find("./devices/interface/source")
    assert source is not None
    assert source.get("network") == EVIL
    told = record_text.find(root, "guest")
    assert told is not None
    assert told["environment"] == EVIL
    assert record_text.read_guest(root) is None, "nobody acts on a record with such names"


def test_evil_kernel_line() -> None:
    line = f"root=/dev/vda init={EVIL}"
    plain = guest_of(type="qemu", kernel={"path": "vmlinuz", "cmdline": "x"})
    assert plain.spec.kernel is not None
    kernel = plain.spec.kernel.model_copy(update={"cmdline": line})
    evil = replace(plain, spec=plain.spec.model_copy(update={"kernel": kernel}))
    root = etree.fromstring(guest_xml(evil))
    assert root.findtext("./os/cmdline") == line
    assert shape(guest_xml(evil)) == shape(guest_xml(plain))


def test_evil_network() -> None:
    (network,) = world.desired_of(
        "name: lab\nnetworks: {front: {cidr: 10.0.0.0/24, domain: lab.test}}\n"
        "guests: {web: {networks: [front]}}\n"
    ).networks
    reservation = replace(network.reservations[0], name=EVIL, mac=EVIL, ip=EVIL, dhcp=False)
    more = replace(network.reservations[0], name=EVIL, mac=EVIL, ip=EVIL)
    evil = replace(
        network, name=EVIL, environment=EVIL, domain=EVIL, reservations=(reservation, more)
    )
    xml = network_xml(evil)
    root = etree.fromstring(xml)
    assert root.findtext("name") == f"{EVIL}-{EVIL}"
    assert [each.text for each in root.iter("hostname")] == [EVIL, f"{EVIL}.{EVIL}"]
    assert [each.tag for each in root.iterfind("./ip/dhcp/*")] == ["range", "host"]
    assert "49" not in xml.replace("1049", ""), "no template ran inside a value"


def network_xml(network: Network) -> str:
    body = render.network(network)
    element = record_text.network_element(record.of_network(network, "/s.yaml", body))
    return tree.with_record(body, element)


def test_evil_volumes_and_pools() -> None:
    root = etree.fromstring(render.volume(EVIL, 1, "qcow2", backing=EVIL, backing_format=EVIL))
    assert root.findtext("name") == EVIL
    assert root.findtext("./backingStore/path") == EVIL
    assert etree.fromstring(render.pool(Pool(EVIL, EVIL))).findtext("./target/path") == EVIL


texts = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20) | st.just(SHELL)


def read(data: object) -> Spec | None:
    try:
        return read_text(json.dumps(data), source="lab.yaml", folder=Path("/specs"))
    except RequestError:
        return None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "user": texts,
            "ssh_keys": st.lists(texts, max_size=2),
            "groups": st.lists(texts, max_size=2),
            "cloud_init": st.dictionaries(texts, texts, max_size=2),
            "ready": st.fixed_dictionaries({"command": texts}),
            "kernel": st.fixed_dictionaries({"path": texts, "cmdline": texts}),
            "disks": st.lists(
                st.fixed_dictionaries({"name": texts, "size": st.just("1GiB"), "mount": texts}),
                max_size=1,
            ),
            "networks": st.lists(st.fixed_dictionaries({"name": texts}), max_size=1),
            "template": texts,
        },
    ),
    st.sampled_from(sorted(DRIVERS)),
)
def test_whatever_a_spec_gets_through_is_rendered_well(keys: dict[str, object], type: str) -> None:
    spec = read({"name": "lab", "guests": {"web": {**keys, "type": type}}})
    if spec is None:
        return
    guest = world.with_image(resolve(spec, world.WITH_KVM, Decided()).guests[0])
    xml = guest_xml(guest)
    schemas.check("domain", xml, "a guest")
    found = record_text.read_guest(etree.fromstring(xml))
    assert found is not None
    assert found.asked == guest.asked


# --- what reaches the host ------------------------------------------------------------------

NS = "xmlns:x='http://libvirt.org/schemas/domain"


@pytest.mark.parametrize(
    ("xml", "word"),
    [
        ("<hostdev mode='subsystem' type='usb'/>", "hostdev"),
        ("<interface type='hostdev'><source><address type='pci'/></source></interface>", "hostdev"),
        ("<disk type='nvme'><source type='pci'><address bus='1'/></source></disk>", "hostdev"),
        ("<disk type='block'><source dev='/dev/sda'/><target dev='vdz'/></disk>", "host-paths"),
        ("<disk type='volume'><source pool='p' volume='v'/></disk>", "host-paths"),
        ("<filesystem><source dir='/etc'/><target dir='/mnt'/></filesystem>", "host-paths"),
        ("<filesystem type='mount'><source dir='/'/><target dir='/'/></filesystem>", "host-paths"),
        ("<serial type='file'><source path='/etc/cron.d/x'/></serial>", "host-paths"),
        ("<serial type='pty'><log file='/etc/cron.d/x' append='off'/></serial>", "host-paths"),
        ("<channel type='unix'><source mode='connect' path='/run/x'/></channel>", "host-paths"),
        ("<rng model='virtio'><backend model='random'>/dev/sda</backend></rng>", "host-paths"),
        ("<memory model='nvdimm'><source><path>/dev/sda</path></source></memory>", "host-paths"),
        ("<tpm><backend><device path='/dev/tpm0'/></backend></tpm>", "host-paths"),
        ("<interface type='vdpa'><source dev='vhost-vdpa-0'/></interface>", "hostdev"),
        ("<interface type='ethernet'><target dev='eth0' managed='no'/></interface>", "hostdev"),
        ("<tpm><backend type='passthrough'/></tpm>", "hostdev"),
        ("<smartcard mode='host'/>", "hostdev"),
        ("<graphics type='egl-headless'/>", "hostdev"),
        ("<audio id='1' type='alsa'/>", "hostdev"),
        ("<audio id='1' type='file' path='out.wav'/>", "host-paths"),
        ("<input type='evdev'><source dev='dev/input/event0'/></input>", "host-paths"),
        ("<serial type='file'><source path='etc/cron.d/x'/></serial>", "host-paths"),
        ("<serial type='file'><source path=' /etc/cron.d/x'/></serial>", "host-paths"),
        ("<serial type='file'><source path='vmlinuz'/></serial>", "host-paths"),
        ("<serial type='file'><source x:path='vmlinuz' xmlns:x='urn:x'/></serial>", "host-paths"),
        ("<disk type='file'><source xmlns='urn:x' file='shadow'/></disk>", "host-paths"),
        ("<disk type='block'><source dev='initrd.img'/></disk>", "host-paths"),
        ("<disk type='network'><source name='file:///etc/shadow'/></disk>", "host-paths"),
        ("<rng model='virtio'><backend model='random'>initrd.img</backend></rng>", "host-paths"),
        ("<rng><backend model='random'><x/>/dev/sda</backend></rng>", "host-paths"),
        ("<video><driver><x rendernode='/dev/dri/renderD128'/></driver></video>", "host-paths"),
        ("<lease><target path='/x'/></lease>", "host-paths"),
        ("<filesystem><binary path='virtiofsd'/></filesystem>", "host-paths"),
        ("<i:include xmlns:i='http://www.w3.org/2001/XInclude' href='a/b'/>", "host-paths"),
        ("<emulator xmlns='urn:x'>qemu</emulator>", "emulator"),
        ("<disk><source><seclabel model='dac' relabel='no'/></source></disk>", "emulator"),
        ("<interface type='ethernet'><script path='up.sh'/></interface>", "host-paths"),
        ("<emulator>/usr/bin/qemu-system-x86_64</emulator>", "emulator"),
        (f"<x:commandline {NS}/qemu/1.0'><x:arg value='-S'/></x:commandline>", "commandline"),
        (f"<x:namespace {NS}/lxc/1.0'><x:sharenet/></x:namespace>", "commandline"),
        (f"<x:commandline {NS}/xen/1.0'/>", "commandline"),
    ],
)
def test_reaches(xml: str, word: str) -> None:
    root = etree.fromstring(f"<domain><devices>{xml}</devices></domain>")
    assert word in policy.reaches(root, ())


@pytest.mark.parametrize(
    "xml",
    [
        "<watchdog model='i6300esb'/>",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
        "<disk type='file'><source file='/pool/lab-web-root'/></disk>",
        "<filesystem type='ram'><source usage='1'/><target dir='/tmp'/></filesystem>",
        "<interface type='network'><source network='default'/></interface>",
        "<disk type='file'><source file='/pool/image'/><readonly/></disk>",
        "<disk type='file'><backingStore><source file='/pool/image'/></backingStore></disk>",
    ],
)
def test_reaches_nothing(xml: str) -> None:
    root = etree.fromstring(f"<domain><devices>{xml}</devices></domain>")
    assert policy.reaches(root, {"/pool/lab-web-root"}, {"/pool/image"}) == {}


NETWORK_DISK = (
    "<domain><devices><disk type='network'>{more}<source {words}>{hosts}</source></disk></devices>"
    "</domain>"
)
MON = "<host name='mon.example.org' port='6789'/>"


@pytest.mark.parametrize(
    ("words", "hosts"),
    [
        ("protocol='rbd' name='pool/image'", MON),
        ("protocol='rbd' name='pool/image@snap'", f"{MON}<host name='2001:db8::7'/>"),
        ("protocol='iscsi' name='iqn.2013-07.com.example:target/2'", MON),
        ("protocol='https' name='iso/debian.iso' query='a=/b'", MON),
        ("protocol='nbd' name='export'", "<host name='192.0.2.7' port='10809'/>"),
    ],
)
def test_a_disk_on_another_machine_is_no_path_of_the_host(words: str, hosts: str) -> None:
    xml = NETWORK_DISK.format(words=words, hosts=hosts, more="")
    assert policy.reaches(etree.fromstring(xml), ()) == {}


@pytest.mark.parametrize(
    ("words", "hosts", "more", "told"),
    [
        ("protocol='rbd' name='p/i'", "", "", "without <host>"),
        ("protocol='rbd' name='p/i'", MON, "<auth><secret usage='x'/></auth>", "<secret>"),
        ("protocol='nbd' name='x'", "<host name='localhost'/>", "", "localhost itself"),
        ("protocol='nbd' name='x'", "<host name='db.localhost.'/>", "", "localhost. itself"),
        ("protocol='nbd' name='x'", f"{MON}<host name='127.0.0.9'/>", "", "127.0.0.9 itself"),
        ("protocol='nbd' name='x'", "<host name='[::1]'/>", "", "itself"),
        ("protocol='nbd' name='x'", "<host name='::ffff:127.0.0.1'/>", "", "itself"),
        ("protocol='nbd' name='x'", "<host name='0.0.0.0'/>", "", "itself"),
        ("protocol='nbd' name='x'", "<host name='127.1'/>", "", "127.1 itself"),
        ("protocol='nbd' name='x'", "<host name='2130706433'/>", "", "itself"),
        ("protocol='nbd' name='x'", "<host name='0x7f.1'/>", "", "itself"),
        ("protocol='nbd' name='x'", "<host name='0177.0.0.1'/>", "", "itself"),
        ("protocol='nbd' name='x'", "<host name='0'/>", "", "itself"),
        ("protocol='nbd' name='x'", "<host name='localhost6'/>", "", "itself"),
        ("protocol='nbd' name='x'", "<host port='10809'/>", "", "the host itself"),
        ("protocol='http' name='latest'", "<host name='169.254.169.254'/>", "", "itself"),
        ("protocol='nbd'", "<host transport='unix' socket='/run/x'/>", "", "the host itself"),
        ("protocol='ssh' name='x'", MON, "", "the host's own keys"),
        ("protocol='rbd' name='p/i'", f"{MON}<config file='/etc/ceph.conf'/>", "", "ceph.conf"),
        ("xmlns:x='urn:x' x:protocol='nbd' name='x'", "<x:host x:name='::1'/>", "", "itself"),
    ],
)
def test_a_network_disk_that_reaches_the_host(words: str, hosts: str, more: str, told: str) -> None:
    root = etree.fromstring(NETWORK_DISK.format(words=words, hosts=hosts, more=more))
    assert told in policy.reaches(root, ())["host-paths"]


@pytest.mark.parametrize("parent", ["filesystem", "interface", "serial"])
def test_a_protocol_hides_no_path_elsewhere(parent: str) -> None:
    xml = f"<domain><{parent}><source protocol='rbd' name='/etc'/></{parent}></domain>"
    assert policy.reaches(etree.fromstring(xml), ()) == {"host-paths": "/etc"}


def test_a_card_on_a_card_of_the_host_needs_one_word() -> None:
    card = "<interface type='direct'><source dev='eth0' mode='bridge'/></interface>"
    root = etree.fromstring(f"<domain><devices>{card}</devices></domain>")
    assert list(policy.reaches(root, ())) == ["hostdev"]


def test_an_image_that_others_lean_on_is_only_read() -> None:
    disk = "<disk type='file'><source file='/pool/image'/></disk>"
    root = etree.fromstring(f"<domain><devices>{disk}</devices></domain>")
    assert policy.reaches(root, (), {"/pool/image"}) == {"host-paths": "/pool/image"}


@pytest.mark.parametrize(
    "inside",
    [
        "<os><init>/sbin/init</init><initarg>/x</initarg><initdir>/y</initdir></os>",
        "<os><initenv name='PATH'>/bin</initenv><cmdline>root=/dev/vda init=/x</cmdline></os>",
        "<title>a/b</title><description>/c</description>",
        "<metadata><x:os xmlns:x='urn:x' id='http://debian.org/12'>/etc/x</x:os></metadata>",
        "<clock timezone='Europe/Berlin'/>",
        "<sysinfo type='fwcfg'><entry name='opt/x'>/a</entry></sysinfo>",
        "<devices><disk><serial>a/b</serial></disk></devices>",
    ],
)
def test_what_has_a_slash_and_is_no_path_of_the_host(inside: str) -> None:
    assert policy.reaches(etree.fromstring(f"<domain>{inside}</domain>"), ()) == {}


@pytest.mark.parametrize(
    ("outside", "path"),
    [
        ("<os><loader>/etc/shadow</loader></os>", "/etc/shadow"),
        ("<os><kernel>vmlinuz</kernel></os>", "vmlinuz"),
        ("<os><nvram template='/x'>y</nvram></os>", "y"),
        ("<os><acpi><table type='slic'>x.bin</table></acpi></os>", "x.bin"),
        ("<bootloader>/usr/bin/pygrub</bootloader>", "/usr/bin/pygrub"),
        ("<blkiotune><device><path>sda</path></device></blkiotune>", "sda"),
    ],
)
def test_paths_beside_the_devices(outside: str, path: str) -> None:
    root = etree.fromstring(f"<domain>{outside}</domain>")
    assert policy.reaches(root, ())["host-paths"] == path


@pytest.mark.parametrize("type", sorted(DRIVERS))
def test_our_own_templates_reach_nothing(type: str) -> None:
    guest = guest_of(type=type, disks=[{"name": "data", "size": "1GiB", "mount": "/srv/data"}])
    assert etree.fromstring(guest_xml(guest)).get("type") == DRIVERS[type].domain_type


def test_devices_need_leave() -> None:
    usb = "<hostdev mode='subsystem' type='usb'/>"
    with pytest.raises(RequestError) as caught:
        guest_xml(guest_of(type="qemu", devices=[usb]))
    assert "allow: [hostdev]" in caught.value.cure
    assert caught.value.where == "lab.yaml:1:52 guests.web.devices"
    allowed = guest_xml(guest_of(type="qemu", devices=[usb], allow=["hostdev"]))
    assert etree.fromstring(allowed).find("./devices/hostdev") is not None


@pytest.mark.parametrize("space", ["", "\n  ", " <!-- and --> "])
def test_an_entry_may_have_several_devices(space: str) -> None:
    """In order, and each needs its own leave."""
    entry = space.join(["", "<sound model='ich9'/>", "<hub type='usb'/>", "<hub type='usb'/>", ""])
    root = etree.fromstring(guest_xml(guest_of(type="qemu", devices=[entry, "<watchdog/>"])))
    assert [each.tag for each in root.find("devices")][-4:] == ["sound", "hub", "hub", "watchdog"]
    with pytest.raises(RequestError, match="reaches the host") as caught:
        guest_xml(guest_of(type="qemu", devices=[f"{entry}<hostdev type='usb'/>"]))
    assert "allow: [hostdev]" in caught.value.cure


@pytest.mark.parametrize(
    "entry", ["<sound/> text", "<sound/><sound>", "<!-- only words -->", "<!--"]
)
def test_what_stands_beside_a_device_is_told(entry: str) -> None:
    with pytest.raises(RequestError, match="device 2 of guest web is not well-formed"):
        guest_xml(guest_of(type="qemu", devices=["<hub type='usb'/>", entry]))


def test_a_device_can_not_leave_its_place() -> None:
    """It is parsed by itself, so it can't close <devices> and go on with an <os> of its own."""
    guest = guest_of(type="qemu")
    out = "<sound model='ich9'/></devices><os><kernel>/x</kernel></os><devices>"
    evil = replace(guest, spec=guest.spec.model_copy(update={"devices": (out,)}))
    with pytest.raises(RequestError, match="not well-formed"):
        guest_xml(evil)


def test_an_emulator_among_the_devices_needs_its_own_leave() -> None:
    guest = guest_of(type="qemu", devices=["<emulator>/tmp/x</emulator>"], allow=["host-paths"])
    with pytest.raises(RequestError, match="emulator"):
        guest_xml(guest)


@pytest.mark.parametrize(
    "xml",
    [
        '<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain><name>&x;</name></domain>',
        '<!DOCTYPE domain [<!ENTITY x "y">]><domain/>',
        '<!DOCTYPE domain SYSTEM "http://127.0.0.1:1/x"><domain/>',
        "<!DOCTYPE domain><domain/>",
    ],
)
def test_no_doctype(xml: str) -> None:
    with pytest.raises(RequestError) as caught:
        tree.parse(xml, "the XML", "here")
    assert caught.value.where == "here"


@pytest.mark.parametrize("xml", ["", "<a>", "<a/><b/>", "text", "<a b=c/>", "<a>\x01</a>", "\0"])
def test_broken_xml(xml: str) -> None:
    with pytest.raises(RequestError, match="not well-formed"):
        tree.parse(xml, "the XML")


# --- templates of the user's ----------------------------------------------------------------

MINIMAL = """<domain type="qemu"><name>{{ guest.domain }}</name><uuid>{{ guest.uuid }}</uuid>
<memory>65536</memory><os><type>hvm</type></os>EXTRA</domain>"""


def own(extra: str, **keys: object) -> str:
    guest = guest_of(type="qemu", template="own.xml.j2", **keys)
    return guest_xml(guest, MINIMAL.replace("EXTRA", extra))


def test_own_template() -> None:
    root = etree.fromstring(own("<title>{{ guest.environment }}</title>", devices=["<sound/>"]))
    assert root.findtext("title") == "lab"
    assert root.find("./devices/sound") is not None
    assert record_text.read_guest(root) is not None


@pytest.mark.parametrize(
    "extra",
    [
        "{{ guest.nothing }}",
        "{{ nothing }}",
        "{{ 1 / 0 }}",
        "{{ 1 + 'a' }}",
        "{{ guest.disks[7].target.x }}",
        "{% if %}",
        "{% include 'no-such-file' %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ guest.spec.__init__.__globals__ }}",
        "{% for a in range(10**9) %}{% endfor %}",
        "{{ guest.spec.devices.append('x') }}",
        "{{ guest.asked.update(a=1) }}",
        "{{ guest.driver.check(1) }}",
        "{{ guest.with_image(1).name }}",
        "{{ guest.spec.model_construct().name }}",
        "{{ guest.spec|attr('parse_file') }}",
        "{{ guest.spec['parse_file']('/etc/passwd') }}",
        "{{ '{0.parse_raw}'.format(guest.spec) }}",
        "{{ ([guest.spec]|map(attribute='parse_raw')|first)('{}') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{% include '/etc/passwd' %}",
        "{% include '../pyproject.toml' %}",
        "{% import 'seed/../../pyproject.toml' as x %}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "<unclosed>",
    ],
)
def test_broken_templates(extra: str) -> None:
    with pytest.raises(RequestError) as caught:
        own(extra)
    assert caught.value.cure
    assert caught.value.where.endswith(" guests.web.template")


def test_a_template_runs_no_code(tmp_path: Path) -> None:
    """pydantic's old parse_raw would unpickle, and a pickle may call anything."""
    pickle = f"cposix\\nsystem\\n(S'touch {tmp_path}/ran'\\ntR."
    call = f'parse_raw("{pickle}", proto="pickle", allow_pickle=True)'
    for name in ("spec", "image.entry", "spec.ready"):
        with pytest.raises(RequestError, match="can't be rendered"):
            own(f"{{{{ guest.{name}.{call} }}}}")
    assert list(tmp_path.iterdir()) == []


def test_a_template_sees_all_data() -> None:
    """Fields and properties, of every object that can be had."""
    data = (
        *("name", "domain", "uuid", "fqdn", "environment", "spec.memory", "spec.links[0].name"),
        *(
            "spec.ready.kind",
            "driver.domain_type",
            "driver.unsupported.items()|list|length",
            "boot.kernel",
        ),
        *("volume('root').key", "disks[0].target", "interfaces[0].mac", "cpu_period", "cpu_quota"),
        *("image.entry.build.release", "files.root", "asked.memory", "filesystems|length"),
    )
    title = "{% for a in 'xy' %}{{ loop.index }}{% endfor %} {{ guest.name|upper }} " + " ".join(
        f"{{{{ guest.{each} }}}}" for each in data
    )
    found = etree.fromstring(own(f"<title>{title}</title>")).findtext("title") or ""
    assert found.startswith("12 WEB web lab-web ")
    assert len(found.split()) == 2 + len(data)


@pytest.mark.parametrize(
    "xml",
    [
        "<graphics type='vnc' passwd='hidden'/>",
        "<graphics type='spice' passwd='hidden'/>",
        "<x:graphics xmlns:x='urn:x' x:passwd='hidden'/>",
        "<disk><source><cookies><cookie name='a'>hidden</cookie></cookies></source></disk>",
    ],
)
def test_no_secrets_in_devices(xml: str) -> None:
    """The record keeps devices as they were asked for, and every local user can read it."""
    for render_it in (
        lambda: guest_xml(guest_of(type="qemu", devices=[xml])),
        lambda: own(f"<devices>{xml}</devices>"),
    ):
        with pytest.raises(RequestError, match="holds a secret") as caught:
            render_it()
        assert "graphics: vnc" in caught.value.cure
        assert "hidden" not in str(caught.value.as_dict())


def test_comments_hide_nothing() -> None:
    """libvirt joins the texts around a comment; what is checked is what libvirt gets."""
    for hidden in ("<!-- x -->/etc/shadow", "/etc<!-- x -->/shadow", "<?x y?>/etc/shadow"):
        with pytest.raises(RequestError, match="reaches the host: /etc/shadow"):
            own(f"<os><loader>{hidden}</loader></os>")
    xml = own("<title>a<!-- x -->b<?x y?></title><!-- z -->")
    assert "<!--" not in xml
    assert "<?" not in xml
    assert etree.fromstring(xml).findtext("title") == "ab"


@pytest.mark.parametrize(
    "xml",
    [
        "<x:emulator xmlns:x=''>/bin/x</x:emulator>",
        "<x:emulator>/bin/x</x:emulator>",
        "<source x:file='/etc/shadow'/>",
        "<a>&shadow;</a>",
        "<!DOCTYPE a><a/>",
    ],
)
def test_prefixes_and_entities_of_nobody(xml: str) -> None:
    with pytest.raises(RequestError, match=r"not well-formed|DOCTYPE"):
        own(f"<devices>{xml}</devices>")
    with pytest.raises(RequestError, match=r"not well-formed|DOCTYPE"):
        guest_xml(guest_of(type="qemu", devices=[xml]))


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        ("<devices><emulator>/tmp/x</emulator></devices>", "emulator"),
        ("<seclabel type='static' model='dac'><label>+0:+0</label></seclabel>", "emulator"),
        ("<seclabel type='none'/>", "emulator"),
        ("<os><kernel>/etc/shadow</kernel></os>", "host-paths"),
        (f"<x:commandline {NS}/qemu/1.0'/>", "commandline"),
    ],
)
def test_a_template_needs_leave_too(extra: str, word: str) -> None:
    with pytest.raises(RequestError) as caught:
        own(extra)
    assert f"allow: [{word}]" in caught.value.cure
    assert etree.fromstring(own(extra, allow=[word, "host-paths"])).tag == "domain"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{{ guest.domain }}", "victim"),
        ("{{ guest.domain }}", " {{ guest.domain }}"),
        ("{{ guest.domain }}", "{{ guest.domain }}\n"),
        ("{{ guest.domain }}", ".."),
        ("{{ guest.uuid }}", "0e49b1cd-1ebd-544e-9132-7b4cd8ad3c0c"),
        ("<uuid>{{ guest.uuid }}</uuid>", ""),
    ],
)
def test_a_template_can_not_take_another_ones_place(before: str, after: str) -> None:
    guest = guest_of(type="qemu", template="own.xml.j2")
    with pytest.raises(RequestError, match="gives it the"):
        guest_xml(guest, MINIMAL.replace("EXTRA", "").replace(before, after))


CONFINED = """<domain type="lxc"><name>{{ guest.domain }}</name><uuid>{{ guest.uuid }}</uuid>
<memory>65536</memory><os><type>exe</type><init>/sbin/init</init></os>
<idmap><uid start="0" target="{{ guest.confinement.ids }}" count="65536"/>
<gid start="0" target="{{ guest.confinement.ids }}" count="65536"/></idmap>
<features><capabilities policy="deny"/><privnet/></features></domain>"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<privnet/>", ""),
        ('<capabilities policy="deny"/>', ""),
        (' policy="deny"', ""),
        ('<uid start="0" target="{{ guest.confinement.ids }}"', '<uid start="0" target="0"'),
        ('<gid start="0"', '<gid start="1"'),
        ('count="65536"/></idmap>', 'count="4294967295"/></idmap>'),
    ],
)
def test_a_container_s_template_keeps_it_off_the_host(before: str, after: str) -> None:
    guest = guest_of(type="lxc", template="own.xml.j2")
    assert guest.confinement.mode == "userns"
    assert guest_xml(guest, CONFINED)
    with pytest.raises(RequestError, match=r"lacks (features|idmap)/") as caught:
        guest_xml(guest, CONFINED.replace(before, after))
    assert "privileged: true" in caught.value.cure
    free = guest_of(type="lxc", template="own.xml.j2", privileged=True)
    assert guest_xml(free, CONFINED.replace(before, after))


def test_a_hardened_container_s_template_needs_no_ids() -> None:
    guest = guest_of(type="lxc", template="own.xml.j2")
    hardened = replace(guest, confinement=Confinement("hardened"))
    begin, end = CONFINED.index("<idmap>"), CONFINED.index("<features>")
    without = CONFINED[:begin] + CONFINED[end:]
    assert guest_xml(hardened, without)
    with pytest.raises(RequestError, match="lacks features/privnet"):
        guest_xml(hardened, without.replace("<privnet/>", ""))


@pytest.mark.parametrize("target", ["0", "100000", "{{ guest.confinement.ids }}"])
def test_a_hardened_container_s_template_maps_no_ids(target: str) -> None:
    """On a host that is not prepared nobody keeps others away from them."""
    guest = guest_of(type="lxc", template="own.xml.j2")
    hardened = replace(guest, confinement=Confinement("hardened"))
    text = CONFINED.replace("{{ guest.confinement.ids }}", target)
    with pytest.raises(RequestError, match="has an <idmap> of its own") as caught:
        guest_xml(hardened, text)
    assert "virtkit doctor" in caught.value.cure
    free = guest_of(type="lxc", template="own.xml.j2", privileged=True)
    assert guest_xml(free, text)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("<mknod state='on'/>", "mknod"),
        ("<sys_rawio state='on'/><kill state='on'/>", "sys_rawio"),
        ("<sys_module/>", "sys_module"),
    ],
)
def test_a_container_s_template_adds_no_rights(more: str, what: str) -> None:
    guest = guest_of(type="lxc", template="own.xml.j2")
    kept = CONFINED.replace('policy="deny"/>', 'policy="deny"><chown state="on"/></capabilities>')
    assert guest_xml(guest, kept)
    with pytest.raises(RequestError, match=f"adds {what}$"):
        guest_xml(guest, kept.replace("<chown", f"{more}<chown"))
    off = kept.replace("<chown", "<mknod state='off'/><chown")
    assert guest_xml(guest, off)
    free = guest_of(type="lxc", template="own.xml.j2", privileged=True)
    assert guest_xml(free, kept.replace("<chown", f"{more}<chown"))


def test_a_second_range_of_users_could_be_the_host_s() -> None:
    guest = guest_of(type="lxc", template="own.xml.j2")
    second = "<uid start='65536' target='0' count='1'/>"
    with pytest.raises(RequestError, match="adds idmap/uid"):
        guest_xml(guest, CONFINED.replace("</idmap>", f"{second}</idmap>"))


def test_a_template_that_began_as_a_dump_carries_one_record() -> None:
    other = guest_of(type="qemu", memory="256MiB")
    old = record_text.guest_element(record.of_guest(other, "/other.yaml"))
    xml = own(f"<metadata><x:y xmlns:x='urn:x'/>{old}</metadata>")
    metadata = etree.fromstring(xml).find("metadata")
    assert metadata is not None
    assert [etree.QName(each).namespace for each in metadata] == ["urn:x", record_text.NAMESPACE]
    found = record_text.read_guest(etree.fromstring(xml))
    assert found is not None
    assert found.spec == "/s.yaml"


def test_values_in_own_templates_are_escaped() -> None:
    guest = guest_of(type="qemu", template="own.xml.j2")
    evil = replace(guest, source_folder=EVIL)
    extra = '<title a="{{ guest.source_folder }}">{{ guest.source_folder }}</title>'
    title = etree.fromstring(guest_xml(evil, MINIMAL.replace("EXTRA", extra))).find("title")
    assert title is not None
    assert (title.text, title.get("a")) == (EVIL, EVIL)
