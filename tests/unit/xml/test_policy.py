"""What a user's XML may reach: each rule of the policy, one by one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import samples
from lxml import etree

from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError
from virtkit.state import record, record_text
from virtkit.state.desired import Confinement, Guest
from virtkit.xml import policy, render, tree


def guest_xml(guest: Guest, own: str = "") -> str:
    body = render.domain_xml(guest, render.from_user_template(guest, own) if own else "")
    element = record_text.guest_element(record.of_guest(guest, "/s.yaml", body))
    return tree.with_record(body, element)


def guest_of(**keys: object) -> Guest:
    return samples.guest_of(json.dumps({"name": "lab", "guests": {"web": keys}}))


MINIMAL = """<domain type="qemu"><name>{{ guest.domain }}</name><uuid>{{ guest.uuid }}</uuid>
<memory>65536</memory><os><type>hvm</type></os>EXTRA</domain>"""


def own(extra: str, **keys: object) -> str:
    guest = guest_of(type="qemu", template="own.xml.j2", **keys)
    return guest_xml(guest, MINIMAL.replace("EXTRA", extra))


NS = "xmlns:x='http://libvirt.org/schemas/domain"


@pytest.mark.parametrize(
    ("xml", "permission"),
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
        ("<graphics type='vnc' listen='0.0.0.0'/>", "listen"),
        ("<graphics type='spice' listen='::'/>", "listen"),
        ("<graphics type='vnc' listen='lab.example.org'/>", "listen"),
        ("<graphics type='vnc' listen='10.0.0.5' port='5900'/>", "listen"),
        ("<graphics type='vnc' x:listen='0' xmlns:x='urn:x'/>", "listen"),
        ("<graphics type='vnc'><listen type='address' address='0.0.0.0'/></graphics>", "listen"),
        ("<graphics type='vnc'><listen type='network' network='front'/></graphics>", "listen"),
        ("<graphics listen='127.0.0.1'><listen address='::ffff:10.0.0.5'/></graphics>", "listen"),
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
        ("<disk rawio='yes'/>", "hostdev"),
        ("<disk><backingStore type='nvme'><source type='pci'/></backingStore></disk>", "hostdev"),
        ("<disk><mirror type='nvme'><source type='pci'/></mirror></disk>", "hostdev"),
        ("<graphics type='spice'><gl enable='yes'/></graphics>", "hostdev"),
        ("<graphics type='desktop'/>", "hostdev"),
        ("<tpm><backend><encryption secret='6dd3e4a5'/></backend></tpm>", "host-paths"),
        ("<disk><source x:pool='p' x:volume='v' xmlns:x='urn:x'/></disk>", "host-paths"),
        ("<rng><backend><serial>/dev/sda</serial></backend></rng>", "host-paths"),
        ("<rng><backend>/dev/urandom<x>x</x></backend></rng>", "host-paths"),
        ("<filesystem><description>/etc</description></filesystem>", "host-paths"),
        ("<video><driver rendernode='renderD128'/></video>", "host-paths"),
        ("<interface type='user'><backend logFile='x.log'/></interface>", "host-paths"),
        ("<interface type='bridge'><backend tap='tun' vhost='net'/></interface>", "host-paths"),
        ("<disk><source><identity keyfile='id' agentsock='a'/></source></disk>", "host-paths"),
        ("<graphics type='vnc' xauth='x'/>", "host-paths"),
        ("<graphics type='vnc' socket='x'/>", "host-paths"),
        ("<shmem name='x'/>", "host-paths"),
        ("<audio type='oss'/>", "hostdev"),
        ("<bootloader>pygrub</bootloader>", "emulator"),
        ("<bootloader_args>--output=x</bootloader_args>", "emulator"),
    ],
)
def test_reaches(xml: str, permission: str) -> None:
    root = etree.fromstring(f"<domain><devices>{xml}</devices></domain>")
    assert permission in policy.reaches(root, ())


@pytest.mark.parametrize(
    "xml",
    [
        "<watchdog model='i6300esb'/>",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
        "<disk type='file'><source file='/pool/lab-web-root'/></disk>",
        "<filesystem type='ram'><source usage='1'/><target dir='/tmp'/></filesystem>",
        "<interface type='network'><source network='default'/></interface>",
        "<disk type='file'><source file='/pool/image'/><readonly/></disk>",
        "<graphics type='vnc'/>",
        "<graphics type='vnc' listen=''/>",
        "<graphics type='vnc' listen='127.0.0.1'/>",
        "<graphics type='spice' listen='localhost'><listen type='none'/></graphics>",
        "<graphics type='vnc'><listen type='address' address='::1'/></graphics>",
        "<graphics type='vnc'><listen type='socket'/></graphics>",
        "<disk type='file'><backingStore><source file='/pool/image'/></backingStore></disk>",
    ],
)
def test_reaches_nothing(xml: str) -> None:
    root = etree.fromstring(f"<domain><devices>{xml}</devices></domain>")
    assert policy.reaches(root, {"/pool/lab-web-root"}, {"/pool/image"}) == {}


CARD = "<interface type='direct'>{}</interface>"


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("<source dev='eth0' mode='bridge'/>", True),
        ("<source dev='eth0' mode='private'/>", True),
        ("<source dev='eth0' mode='vepa'/>", True),
        ("<source dev='eth1' mode='bridge'/>", False),
        ("<source dev='eth0' mode='passthrough'/>", False),
        ("<source dev='eth0'/>", False),
        ("<source dev='eth0' mode='bridge'/><source dev='eth1' mode='bridge'/>", False),
        ("<source dev='eth0' x:dev='eth1' mode='bridge' xmlns:x='urn:x'/>", False),
        ("", False),
    ],
)
def test_a_card_of_the_host_that_a_network_of_the_guests_is_on(source: str, allowed: bool) -> None:
    root = etree.fromstring(f"<domain><devices>{CARD.format(source)}</devices></domain>")
    assert ("hostdev" not in policy.reaches(root, (), (), {"eth0"})) is allowed
    assert "hostdev" in policy.reaches(root, ())


NETWORK_DISK = (
    "<domain><devices><disk type='network'>{more}<source {attributes}>{hosts}</source></disk>"
    "</devices></domain>"
)


MON = "<host name='mon.example.org' port='6789'/>"


@pytest.mark.parametrize(
    ("attributes", "hosts"),
    [
        ("protocol='rbd' name='pool/image'", MON),
        ("protocol='rbd' name='pool/image@snap'", f"{MON}<host name='2001:db8::7'/>"),
        ("protocol='iscsi' name='iqn.2013-07.com.example:target/2'", MON),
        ("protocol='https' name='iso/debian.iso' query='a=/b'", MON),
        ("protocol='nbd' name='export'", "<host name='192.0.2.7' port='10809'/>"),
    ],
)
def test_a_disk_on_another_machine_is_no_path_of_the_host(attributes: str, hosts: str) -> None:
    xml = NETWORK_DISK.format(attributes=attributes, hosts=hosts, more="")
    assert policy.reaches(etree.fromstring(xml), ()) == {}


@pytest.mark.parametrize(
    ("attributes", "hosts", "more", "reached"),
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
        ("protocol='nbd' x:protocol='' xmlns:x='urn:x'", "<host name='::1'/>", "", "itself"),
        ("protocol='nbd'", "<host name='::1' x:name='a.b' xmlns:x='urn:x'/>", "", "itself"),
        ("protocol='nbd'", "<x:host xmlns:x='urn:x' name='a.b'/>", "", "without <host>"),
        ("protocol='http'", "<host name='x@127.0.0.1'/>", "", "itself"),
        ("protocol='http'", "<host name='%31%32%37.0.0.1'/>", "", "itself"),
        ("protocol='http'", "<host name='loc\u212alhost'/>", "", "itself"),
        ("protocol='nbd'", "<host name='localhost '/>", "", "itself"),
    ],
)
def test_a_network_disk_that_reaches_the_host(
    attributes: str, hosts: str, more: str, reached: str
) -> None:
    root = etree.fromstring(NETWORK_DISK.format(attributes=attributes, hosts=hosts, more=more))
    assert reached in policy.reaches(root, ())["host-paths"]


@pytest.mark.parametrize("store", ["dataStore", "mirror", "backingStore"])
def test_what_lies_below_a_disk_is_on_another_machine_too(store: str) -> None:
    inner = (
        "<{0} type='network'><source protocol='nbd' name='a/b'><host name='{1}'/></source></{0}>"
    )
    for name, reached in (("::1", ["host-paths"]), ("mon.example.org", [])):
        root = etree.fromstring(f"<domain><disk>{inner.format(store, name)}</disk></domain>")
        assert list(policy.reaches(root, ())) == reached


@pytest.mark.parametrize("parent", ["filesystem", "interface", "serial"])
def test_a_protocol_hides_no_path_elsewhere(parent: str) -> None:
    xml = f"<domain><{parent}><source protocol='rbd' name='/etc'/></{parent}></domain>"
    assert policy.reaches(etree.fromstring(xml), ()) == {"host-paths": "/etc"}


def test_an_interface_on_one_of_the_host_needs_one_permission() -> None:
    interface = "<interface type='direct'><source dev='eth0' mode='bridge'/></interface>"
    root = etree.fromstring(f"<domain><devices>{interface}</devices></domain>")
    assert list(policy.reaches(root, ())) == ["hostdev"]


def test_an_image_that_others_use_is_only_read() -> None:
    disk = "<disk type='file'><source file='/pool/image'/></disk>"
    root = etree.fromstring(f"<domain><devices>{disk}</devices></domain>")
    assert policy.reaches(root, (), {"/pool/image"}) == {"host-paths": "/pool/image"}


@pytest.mark.parametrize(
    "xml",
    [
        "<serial type='file'><source path='/pool/image'/><readonly/></serial>",
        "<serial type='pty'><log file='/pool/image'/><readonly/></serial>",
        "<disk><mirror file='/pool/image'/><readonly/></disk>",
        "<filesystem><binary path='/pool/image'/><readonly/></filesystem>",
        "<rng><backingStore><source path='/pool/image'/></backingStore></rng>",
        "<rng><kernel>/pool/image</kernel></rng>",
    ],
)
def test_a_mark_elsewhere_makes_no_image_read_only(xml: str) -> None:
    root = etree.fromstring(f"<domain><devices>{xml}</devices></domain>")
    assert policy.reaches(root, (), {"/pool/image"}) == {"host-paths": "/pool/image"}


@pytest.mark.parametrize(
    "body",
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
def test_what_has_a_slash_and_is_no_path_of_the_host(body: str) -> None:
    assert policy.reaches(etree.fromstring(f"<domain>{body}</domain>"), ()) == {}


@pytest.mark.parametrize(
    ("outside", "path"),
    [
        ("<os><loader>/etc/shadow</loader></os>", "/etc/shadow"),
        ("<os><kernel>vmlinuz</kernel></os>", "vmlinuz"),
        ("<os><nvram template='/x'>y</nvram></os>", "y"),
        ("<os><acpi><table type='slic'>x.bin</table></acpi></os>", "x.bin"),
        ("<bootloader>/usr/bin/pygrub</bootloader>", "/usr/bin/pygrub"),
        ("<blkiotune><device><path>sda</path></device></blkiotune>", "sda"),
        ("<os><loader><serial>/etc/shadow</serial></loader></os>", "/etc/shadow"),
        ("<os><kernel>a<x>/b</x></kernel></os>", "a/b"),
        ("<os><nvram template='vars'/></os>", "vars"),
        ("<os><dtb>x</dtb></os>", "x"),
        ("<os><initrd>x</initrd></os>", "x"),
        ("<os><shim>x</shim></os>", "x"),
        ("<devices><cmdline>/x</cmdline></devices>", "/x"),
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


def test_an_emulator_among_the_devices_needs_its_own_leave() -> None:
    guest = guest_of(type="qemu", devices=["<emulator>/tmp/x</emulator>"], allow=["host-paths"])
    with pytest.raises(RequestError, match="emulator"):
        guest_xml(guest)


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
    ("extra", "permission"),
    [
        ("<devices><emulator>/tmp/x</emulator></devices>", "emulator"),
        ("<seclabel type='static' model='dac'><label>+0:+0</label></seclabel>", "emulator"),
        ("<seclabel type='none'/>", "emulator"),
        ("<os><kernel>/etc/shadow</kernel></os>", "host-paths"),
        (f"<x:commandline {NS}/qemu/1.0'/>", "commandline"),
    ],
)
def test_a_template_needs_leave_too(extra: str, permission: str) -> None:
    with pytest.raises(RequestError) as caught:
        own(extra)
    assert f"allow: [{permission}]" in caught.value.cure
    assert etree.fromstring(own(extra, allow=[permission, "host-paths"])).tag == "domain"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{{ guest.domain }}", "victim"),
        ("{{ guest.domain }}", " {{ guest.domain }}"),
        ("{{ guest.domain }}", "{{ guest.domain }}\n"),
        ("{{ guest.domain }}", ".."),
        ("{{ guest.uuid }}", "0e49b1cd-1ebd-544e-9132-7b4cd8ad3c0c"),
        ("<uuid>{{ guest.uuid }}</uuid>", ""),
        ("{{ guest.domain }}</name>", "{{ guest.domain }}<x>-2</x></name>"),
        ("{{ guest.uuid }}", "<x>{{ guest.uuid }}</x>0"),
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
    with pytest.raises(RequestError, match="has its own <idmap>") as caught:
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


@pytest.mark.parametrize(
    "second",
    [
        "<capabilities policy='allow'/>",
        "<x:capabilities xmlns:x='urn:x' policy='allow'/>",
        "</features><features><capabilities policy='default'/>",
    ],
)
def test_a_containers_rights_stand_once(second: str) -> None:
    """libvirt takes the last one."""
    guest = guest_of(type="lxc", template="own.xml.j2")
    text = CONFINED.replace("<privnet/>", f"<privnet/>{second}")
    with pytest.raises(RequestError, match="has <capabilities> 2 times") as caught:
        guest_xml(guest, text)
    assert "privileged: true" in caught.value.cure
    free = guest_of(type="lxc", template="own.xml.j2", privileged=True)
    assert guest_xml(free, text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('policy="deny"/>', 'policy="deny"><mknod x:state="on" state="off"/></capabilities>'),
        ('<uid start="0"', '<uid x:target="0" start="0"'),
        (
            '<features><capabilities policy="deny"',
            '<features><capabilities x:policy="" policy="deny"',
        ),
        ("</domain>", "<devices><watchdog x:model='a' model='b'/></devices></domain>"),
    ],
)
def test_no_attribute_stands_there_twice(before: str, after: str) -> None:
    """libvirt takes the first of those that differ in their namespace only."""
    guest = guest_of(type="lxc", template="own.xml.j2")
    text = CONFINED.replace('type="lxc"', 'type="lxc" xmlns:x="urn:x"')
    assert guest_xml(guest, text)
    with pytest.raises(RequestError, match="twice"):
        guest_xml(guest, text.replace(before, after))


@pytest.mark.parametrize(
    ("loader", "reached"),
    [
        ("<bootloader>pygrub</bootloader>", set()),
        ("<bootloader>/usr/bin/pygrub</bootloader>", {"emulator", "host-paths"}),
        ("<bootloader>pygrub<x/></bootloader>", {"emulator"}),
        ("<bootloader>py<!-- -->grub</bootloader>", {"emulator"}),
        ("<bootloader/>", {"emulator"}),
        ("<bootloader>pygrub</bootloader><bootloader_args>-q</bootloader_args>", {"emulator"}),
        ("<bootloader>pygrub</bootloader><bootloader>sh</bootloader>", {"emulator"}),
    ],
)
def test_the_boot_loader_of_a_type_is_its_own(loader: str, reached: set[str]) -> None:
    root = etree.fromstring(f"<domain>{loader}</domain>")
    assert {*policy.reaches(root, (), loader="pygrub")} == reached
    assert "emulator" in policy.reaches(root, ())
