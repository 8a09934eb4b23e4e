"""One host: read at the start, written at the end. Against libvirt's test driver, which has no
streams, no guests that run, and no network that carries anything.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import samples
from lxml import etree

from virtkit.drivers import DRIVERS, QEMU
from virtkit.errors import RequestError, VirtkitError
from virtkit.facts import Pool, UsedSubnet
from virtkit.host import Host
from virtkit.plan import diff, down
from virtkit.state import record, record_text
from virtkit.state.desired import Network
from virtkit.state.record import NetworkRecord
from virtkit.xml import render, tree

MakeHost = Callable[..., Host]
POOL = "<pool type='dir'><name>default</name><target><path>/pool/</path></target></pool>"
NETWORK = """<network><name>{name}</name><uuid>{uuid}</uuid>{metadata}<bridge name="{name}"/>
<ip address="192.168.7.1" netmask="255.255.255.0"/></network>"""
DOMAIN = """<domain type="test"><name>{name}</name><uuid>{uuid}</uuid>{metadata}
<memory>65536</memory><os><type>hvm</type></os></domain>"""
UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"

DESIRED = samples.desired_of(
    """
name: lab
networks: {front: {cidr: 10.20.0.0/24, domain: lab.test, ipv6: "fd00:20::/64"}}
guests:
  web: {type: qemu, networks: [front]}
"""
)
(NET,) = DESIRED.networks
WEB = samples.with_image(DESIRED.guests[0])
RECORD = record.of_guest(WEB, "/lab.yaml", render.domain_xml(WEB))


def domain_xml() -> str:
    return tree.with_record(render.domain_xml(WEB), record_text.guest_element(RECORD))


def network_record(network: Network = NET) -> NetworkRecord:
    return record.of_network(network, "/lab.yaml", render.network_xml(network))


def unmarked(record: NetworkRecord) -> NetworkRecord:
    """A record without what libvirt rewrote: here, the bridge's name and the like."""
    return replace(record, rewritten=())


# --- facts ----------------------------------------------------------------------------------


def test_facts(host_with: MakeHost) -> None:
    host = host_with(POOL, NETWORK.format(name="n", uuid=UUID, metadata=""))
    facts = host.facts()
    assert facts.pool == Pool("default", "/pool")
    assert facts.cpus == host.cpus() == 6
    assert UsedSubnet("192.168.7.0/24", "n", "network") in facts.used_subnets
    assert facts.networks["n"] is True
    assert facts.identity
    qemu, lxc = facts.connections["qemu"], facts.connections["lxc"]
    assert not qemu.error
    assert qemu.libvirt_version >= 9_000_000
    assert "none.xml" in lxc.error
    assert not QEMU.check(facts)
    (reason,) = DRIVERS["lxc"].check(facts)
    assert "none.xml" in reason.why
    assert "apt-get install" in reason.cure


def test_no_libvirt_at_all(host_with: MakeHost) -> None:
    host = host_with("<nonsense")
    for ask in (host.facts, host.observe):
        with pytest.raises(VirtkitError) as caught:
            ask()
        assert caught.value.cure
        assert caught.value.where == "local"


def test_no_pool_yet(host_with: MakeHost) -> None:
    host = host_with(pool="mine")
    assert host.facts().pool == Pool("mine", "/var/lib/libvirt/images", exists=False, active=False)
    assert host.observe().volumes == frozenset()
    host.storage.ensure()
    host.storage.ensure()
    host.storage.refresh()
    assert host.facts().pool == Pool("mine", "/var/lib/libvirt/images")


def test_a_pool_without_a_folder(host_with: MakeHost) -> None:
    pool = "<pool type='logical'><name>default</name><source><name>vg</name></source></pool>"
    with pytest.raises(VirtkitError) as caught:
        host_with(pool).facts()
    assert "type logical" in caught.value.what
    assert "pool: NAME" in caught.value.cure


# --- domains --------------------------------------------------------------------------------


def test_nothing_there(host: Host) -> None:
    observed = host.observe()
    assert (observed.guests, observed.networks, observed.foreign_domains) == ({}, {}, frozenset())
    assert (observed.foreign_networks, observed.volumes) == (frozenset(), frozenset())


def test_a_guests_life(host: Host) -> None:
    name = WEB.domain
    host.domains.define(QEMU, domain_xml(), autostart=True)
    (guest,) = host.observe().guests.values()
    assert guest.record == RECORD
    assert (guest.domain, guest.uuid, guest.scheme) == (name, WEB.uuid, "qemu")
    assert (guest.state, guest.autostart) == ("stopped", True)
    for do, state in (
        (host.domains.start, "running"),
        (host.domains.start, "running"),
        (host.domains.pause, "paused"),
        (host.domains.pause, "paused"),
        (host.domains.resume, "running"),
        (host.domains.resume, "running"),
        (host.domains.pause, "paused"),
        (host.domains.start, "running"),
        (host.domains.reset, "running"),
        (host.domains.destroy, "stopped"),
        (host.domains.destroy, "stopped"),
        (host.domains.resume, "stopped"),
    ):
        do(QEMU, name)
        assert host.domains.state(QEMU, name) == state, do
    assert host.domains.wait_stopped(QEMU, name, 0)
    host.domains.set_autostart(QEMU, name, False)
    assert not host.observe().guests[name].autostart
    # the test driver knows no NVRAM, so its guests have no flag for it
    host.domains.undefine(replace(QEMU, undefine_flags=()), RECORD)
    assert host.observe().guests == {}


def test_one_that_does_not_stop(host: Host) -> None:
    host.domains.define(QEMU, domain_xml(), autostart=False)
    host.domains.start(QEMU, WEB.domain)
    assert not host.domains.wait_stopped(QEMU, WEB.domain, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"requested": {}},
        {"requested": {**WEB.requested, "user": "-oProxyCommand=x"}},
        {"type": "lxc"},
        {"type": "vax"},
        {"environment": "..", "guest": ".."},
        {"guest": "db"},
        {"volumes": [{"name": "victim", "key": "/pool/victim", "role": "disk"}]},
        {
            "interfaces": [
                {"source": "x", "mac": "x", "address": "-oProxyCommand=x", "address6": ""}
            ]
        },
        {"host_key": "a\nb"},
        {"image": {"content": "c", "root": "/etc/shadow", "format": "raw", "size": 1}},
        None,
    ],
)
def test_a_record_that_virtkit_never_wrote_makes_nobody_ours(
    host_with: MakeHost, change: dict[str, object] | None
) -> None:
    """In the domain lab-web; also one of another hypervisor's guest with this name."""
    element = etree.fromstring(record_text.guest_element(RECORD))
    data = {**json.loads(element.text or ""), **(change or {})}
    element.text = json.dumps(data) if change is not None else "[" * 100_000
    metadata = f"<metadata>{etree.tostring(element, encoding='unicode')}</metadata>"
    domain = DOMAIN.format(name=WEB.domain, uuid=WEB.uuid, metadata=metadata)
    observed = host_with(POOL, domain).observe()
    assert observed.guests == {}
    assert observed.foreign_domains == {("qemu", WEB.domain)}
    assert down(observed, "lab", spec_path="/lab.yaml", only=None, volumes=True).changes == ()
    with pytest.raises(RequestError, match="does not belong to this environment"):
        diff(DESIRED, observed, spec_path="/lab.yaml")


@pytest.mark.parametrize("name", [".", "..", "", "-rf", "../x", "a/b", "a b", "é", "a..b"])
def test_names_that_libvirt_never_hears(host: Host, name: str) -> None:
    domain = DOMAIN.format(name=name, uuid=UUID, metadata="")
    network = NETWORK.format(name=name, uuid=UUID, metadata="")
    volume = render.volume_xml(name, 1, "raw")
    for call in (
        lambda: host.domains.define(QEMU, domain, autostart=False),
        lambda: host.domains.destroy(QEMU, name),
        lambda: host.networks.define(replace(network_record(), rendered=network)),
        lambda: host.networks.start(name),
        lambda: host.storage.create(volume),
        lambda: host.storage.delete(name),
        lambda: host.storage.delete(f"/pool/../{name}"),
        lambda: Host("local", name),
    ):
        with pytest.raises(RequestError, match="is not a name that virtkit passes to libvirt"):
            call()


@pytest.mark.parametrize("running", [False, True])
def test_records_are_rewritten(host: Host, running: bool) -> None:
    host.domains.define(QEMU, domain_xml(), autostart=False)
    if running:
        host.domains.start(QEMU, WEB.domain)
    new = replace(RECORD.with_state("made"), finished=True, spec="/<&>\"' é.yaml")
    host.domains.write_record(new)
    assert host.observe().guests[WEB.domain].record == new
    if running:
        host.domains.destroy(QEMU, WEB.domain)
        assert host.observe().guests[WEB.domain].record == new, "it outlives the run"


def test_libvirt_checks_what_is_defined(host: Host) -> None:
    with pytest.raises(VirtkitError) as caught:
        host.domains.define(
            QEMU, domain_xml().replace("<devices>", "<devices><gfx/>"), autostart=False
        )
    assert "gfx" in caught.value.why or "validate" in caught.value.why
    assert host.observe().guests == {}


def test_nobody_of_that_name(host: Host) -> None:
    nobody = replace(RECORD, guest="nobody")
    for do in (
        lambda: host.domains.start(QEMU, nobody.domain),
        lambda: host.domains.check_record(nobody),
    ):
        with pytest.raises(VirtkitError) as caught:
            do()
        assert "domain lab-nobody" in caught.value.what
        assert caught.value.why
        assert caught.value.cure


# --- whose it is ----------------------------------------------------------------------------


def metadata(element: str) -> str:
    return f"<metadata><x:y xmlns:x='urn:x'>theirs</x:y>{element}</metadata>"


@pytest.mark.parametrize(
    "element",
    [
        "",
        "<vk:guest xmlns:vk='urn:virtkit:1'>{</vk:guest>",
        "<vk:guest xmlns:vk='urn:virtkit:1'>{}</vk:guest>",
        "<vk:guest xmlns:vk='urn:virtkit:1'/>",
        "<vk:guest xmlns:vk='urn:virtkit:2'>{}</vk:guest>",
        record_text.guest_element(RECORD),  # of a guest that is called something else: a copy
    ],
)
def test_strangers_domains(element: str, host_with: MakeHost) -> None:
    domain = DOMAIN.format(name="other", uuid=UUID, metadata=metadata(element))
    observed = host_with(POOL, domain).observe()
    assert observed.guests == {}
    assert observed.foreign_domains == {("qemu", "other")}


@pytest.mark.parametrize(
    "element", ["", record_text.network_element(record.of_network(NET, "/lab.yaml"))]
)
def test_strangers_networks(element: str, host_with: MakeHost) -> None:
    network = NETWORK.format(name="other", uuid=UUID, metadata=metadata(element))
    observed = host_with(POOL, network).observe()
    assert observed.networks == {}
    assert observed.foreign_networks == {"other"}


# --- networks -------------------------------------------------------------------------------


def test_a_networks_life(host: Host) -> None:
    host.networks.define(network_record())
    network = host.observe().networks["lab-front"]
    assert unmarked(network.record) == network_record()
    assert network.live == ""
    assert "<bridge" in network.inactive
    assert (network.uuid, network.active, network.autostart) == (NET.uuid, False, True)
    assert network.users == ()
    host.networks.start("lab-front")
    host.networks.start("lab-front")
    host.domains.define(QEMU, domain_xml(), autostart=False)
    network = host.observe().networks["lab-front"]
    assert (network.active, network.users) == (True, ("lab-web",)), "one that is off uses it too"
    assert "<bridge" in network.live
    host.networks.delete(network)
    assert host.observe().networks == {}
    with pytest.raises(VirtkitError, match="network lab-front"):
        host.networks.start("lab-front")


def test_libvirt_checks_networks(host: Host) -> None:
    bad = render.network_xml(NET).replace("<bridge ", "<bridgee/><bridge ")
    with pytest.raises(VirtkitError):
        host.networks.define(record.of_network(NET, "/lab.yaml", bad))
    assert host.observe().networks == {}


def test_reservations_come_and_go(host: Host) -> None:
    """On a network that is off: the test driver shows no definition beside the live one."""
    host.networks.define(network_record())
    more = samples.desired_of(
        """
name: lab
networks: {front: {cidr: 10.20.0.0/24, domain: lab.test, ipv6: "fd00:20::/64"}}
defaults: {type: qemu, networks: [front]}
guests: {new: {}, web: {networks: [{name: front, address: 10.20.0.99}]}}
"""
    ).networks[0]
    wanted, old = network_record(more), network_record()
    for new in (wanted, old):
        host.networks.update(host.observe().networks["lab-front"], new)
        network = host.observe().networks["lab-front"]
        assert unmarked(network.record) == new
        hosts = [each.get("ip") for each in tree.parse(network.inactive, "it").iter("host")]
        reserved = [each.get("ip") for each in tree.parse(new.rendered, "it").iter("host")]
        assert sorted(hosts) == sorted(reserved), "no other is left"


def test_what_others_added_to_a_network_stays(host: Host) -> None:
    host.networks.define(network_record())
    network = host.observe().networks["lab-front"]
    root = tree.parse(network.inactive, "it")
    dhcp = root.find("./ip/dhcp")
    assert dhcp is not None
    printer = '<host mac="52:54:00:00:00:09" name="printer" ip="10.20.0.9"/>'
    dhcp.append(tree.parse(printer, "a host"))
    bridge = root.find("bridge")
    assert bridge is not None
    bridge.set("stp", "on")
    host.networks._connections.any().networkDefineXML(tree.to_text(root))
    edited = host.observe().networks["lab-front"]
    assert "printer" in edited.inactive
    host.networks.update(edited, network_record())
    after = tree.parse(host.observe().networks["lab-front"].inactive, "it")
    assert [each.get("name") for each in after.iterfind("./ip/dhcp/host")] == ["web", "printer"]
    assert after.find("bridge[@stp='off']") is not None


def update_network(host: Host) -> None:
    host.networks.update(host.observe().networks["lab-front"], network_record())


@pytest.mark.parametrize(
    "checked",
    [
        lambda host: host.networks.define(network_record()),
        lambda host: host.domains.define(QEMU, domain_xml(), autostart=False),
        lambda host: host.storage.ensure(),
        update_network,
    ],
)
def test_one_check_against_a_schema_at_a_time(
    checked: Callable[[Host], None], host_with: MakeHost
) -> None:
    """The first two at once fail in libvirtd."""
    host = host_with(pool="mine")
    host.networks.define(network_record())
    another = host.connections.validating
    another.acquire()
    ended: list[str] = []

    def end() -> None:
        ended.append("the other one")
        another.release()

    threading.Timer(0.3, end).start()
    checked(host)
    assert ended
    assert not another.locked()


# --- storage --------------------------------------------------------------------------------


def test_volumes(host: Host) -> None:
    volume = WEB.volume("root")
    assert volume is not None
    host.storage.create(render.guest_volume_xml(replace(volume, size=5 * samples.GIB)))
    assert host.observe().volumes == {"lab-web-root"}
    assert host.storage.sizes(["lab-web-root", "none"]) == {"lab-web-root": 5 * samples.GIB}
    host.storage.grow("lab-web-root", 3 * samples.GIB)
    assert host.storage.sizes(["lab-web-root"]) == {"lab-web-root": 5 * samples.GIB}, "no shrinking"
    with pytest.raises(VirtkitError) as caught:
        host.storage.create(render.guest_volume_xml(replace(volume, size=1)))
    assert "lab-web-root" in caught.value.what
    assert caught.value.cure
    assert host.storage.delete(volume.key) is True
    assert host.storage.delete(volume.key) is False
    assert host.storage.sizes(["lab-web-root"]) == {}
    assert host.storage.read("lab-web-root") == b""


def test_a_stream_that_fails_is_told(host: Host) -> None:
    host.storage.create(render.volume_xml("seed", 10, "raw"))
    with pytest.raises(VirtkitError, match="upload volume seed"):
        host.storage.write("seed", b"x" * 10)


def test_no_pool_to_put_it_into(host_with: MakeHost) -> None:
    with pytest.raises(VirtkitError, match="pool default is gone"):
        host_with().storage.create(render.volume_xml("x", 1, "raw"))
