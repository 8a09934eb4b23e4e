"""Objects to XML: nothing breaks out of its place, nothing reaches the host unasked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import samples
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
from virtkit.state.desired import Decided, Guest, Network
from virtkit.xml import render, tree

EVIL = "<b a='\"'>&amp;]]>--> $(id) `id` ;|'\"\\ {{ 7*7 }} {% raw %} é \U0001f600"
SHELL = "a b\";$(id)`id`'|&<>{{7*7}}"


def guest_xml(guest: Guest, own: str = "") -> str:
    body = render.domain_xml(guest, render.from_user_template(guest, own) if own else "")
    element = record_text.guest_element(record.of_guest(guest, "/s.yaml", body))
    return tree.with_record(body, element)


def shape(xml: str) -> list[str]:
    """The document without its values: what nobody may change from inside one."""
    return [f"{each.tag} {sorted(each.attrib)}" for each in etree.fromstring(xml).iter()]


def guest_of(**keys: object) -> Guest:
    return samples.guest_of(json.dumps({"name": "lab", "guests": {"web": keys}}))


# --- the kernel that a guest boots -----------------------------------------------------------

FILES = {"path": "vmlinuz", "initrd": "initrd.img", "cmdline": "root=/dev/vda1 quiet"}


def booted(guest: Guest, own: str = "") -> list[str | None]:
    root = etree.fromstring(guest_xml(guest, own))
    return [root.findtext(f"./os/{name}") for name in ("kernel", "initrd", "cmdline")]


@pytest.mark.parametrize("type", sorted(DRIVERS))
def test_a_type_boots_the_kernel_or_says_that_it_has_none(type: str) -> None:
    """A template without it would leave out what a spec asks for, and say nothing of it."""
    driver = DRIVERS[type]
    built = samples.with_image(guest_of(type=type))
    if "kernel" in driver.unsupported:
        assert built.boot is None
        assert booted(built) == [None, None, None]
        return
    for guest in (built, guest_of(type=type, kernel=FILES)):
        boot = guest.boot
        assert boot is not None
        assert booted(guest) == [boot.kernel, boot.initrd, boot.cmdline], (
            f"templates/{driver.template} leaves out a part of `guest.boot`: put it in, or say in "
            f"the driver's `unsupported` why a guest of type {type} can't have a `kernel:`"
        )


def test_a_template_of_the_users_may_leave_the_kernel_out() -> None:
    """What it says is all that the guest has: nothing is put in, and it is no error."""
    own = '{% extends "base.xml.j2" %}{% block os %}<os><type>hvm</type></os>{% endblock %}'
    guest = guest_of(type="qemu", kernel=FILES, template="own.xml.j2")
    assert booted(guest, own) == [None, None, None]
    some = own.replace("</os>", "<kernel>{{ guest.boot.kernel }}</kernel></os>")
    assert guest.boot is not None
    assert booted(guest, some) == [guest.boot.kernel, None, None]


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
    (network,) = samples.desired_of(
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
    body = render.network_xml(network)
    element = record_text.network_element(record.of_network(network, "/s.yaml", body))
    return tree.with_record(body, element)


def test_evil_volumes_and_pools() -> None:
    root = etree.fromstring(render.volume_xml(EVIL, 1, "qcow2", backing=EVIL, backing_format=EVIL))
    assert root.findtext("name") == EVIL
    assert root.findtext("./backingStore/path") == EVIL
    assert etree.fromstring(render.pool_xml(Pool(EVIL, EVIL))).findtext("./target/path") == EVIL


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
    guest = samples.with_image(resolve(spec, samples.WITH_KVM, Decided()).guests[0])
    xml = guest_xml(guest)
    schemas.check("domain", xml, "a guest")
    found = record_text.read_guest(etree.fromstring(xml))
    assert found is not None
    assert found.requested == guest.requested


# --- raw devices ----------------------------------------------------------------------------


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
def test_what_stands_beside_a_device_is_an_error(entry: str) -> None:
    with pytest.raises(RequestError, match="device 2 of guest web is not well-formed"):
        guest_xml(guest_of(type="qemu", devices=["<hub type='usb'/>", entry]))


def test_a_device_can_not_leave_its_place() -> None:
    """It is parsed by itself, so it can't close <devices> and go on with an <os> of its own."""
    guest = guest_of(type="qemu")
    out = "<sound model='ich9'/></devices><os><kernel>/x</kernel></os><devices>"
    evil = replace(guest, spec=guest.spec.model_copy(update={"devices": (out,)}))
    with pytest.raises(RequestError, match="not well-formed"):
        guest_xml(evil)


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
        *("name", "domain", "uuid", "fqdn", "environment"),
        *("spec.memory", "spec.interfaces[0].name", "spec.ready.kind", "boot.kernel"),
        *("driver.domain_type", "driver.unsupported.items()|list|length"),
        *("volume('root').key", "disks[0].target", "interfaces[0].mac", "cpu_period", "cpu_quota"),
        *("image.entry.build.release", "files.root", "requested.memory", "filesystems|length"),
    )
    title = "{% for a in 'xy' %}{{ loop.index }}{% endfor %} {{ guest.name|upper }} " + " ".join(
        f"{{{{ guest.{each} }}}}" for each in data
    )
    found = etree.fromstring(own(f"<title>{title}</title>")).findtext("title") or ""
    assert found.startswith("12 WEB web lab-web ")
    assert len(found.split()) == 2 + len(data)


def test_a_template_may_have_the_names_of_0_1_0() -> None:
    """One that began as a copy of ours goes on."""
    former, now = (
        own(f"<title>{' '.join(f'{{{{ guest.{each} }}}}' for each in names)}</title>")
        for names in (
            ("asked.memory", "light", "spec.links[0].name", "driver.ports", "spec.most_cpus"),
            (
                "requested.memory",
                "skips_cloud_init",
                "spec.interfaces[0].name",
                "driver.pcie_ports",
                "spec.max_cpus",
            ),
        )
    )
    assert former == now
    assert "True default" in former


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
