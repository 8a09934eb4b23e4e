"""What somebody changes with virsh on a Xen host: named field by field, put back, all else left.

`web` runs Debian, since only a system that answers lets go of devices; `tiny` is a page of code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from integration.edits import Edits, why
from integration.lab import POOL, tiny_disk, until
from integration.xen import XenLab, remote, xen_laboratory
from integration.xen_tiny import tiny_kernel
from lxml import etree
from xenhost.xenhost import XenHost

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

SPEC = """
images: {tiny: {path: tiny.raw}}
networks:
  front: {cidr: 10.94.21.0/24, domain: front.test}
  back: {mode: isolated, cidr: 10.94.22.0/24}
defaults: {type: xen-pv, networks: [front]}
guests:
  tiny:
    image: tiny
    kernel: {path: tiny.elf}
    memory: 16MiB
    ready: none
    disks: [{name: data, size: 2MiB}]
  web:
    memory: 192MiB
    max: {memory: 256MiB}
    networks: [front, back]
    disks: [{name: data, size: 64MiB, mount: /srv/data}]
"""


@pytest.fixture(scope="module")
def lab(xen: XenHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[XenLab]:
    folder = tmp_path_factory.mktemp("drift")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    (folder / "tiny.elf").write_bytes(tiny_kernel())
    with xen_laboratory(folder, "drift", SPEC, xen) as lab:
        report = lab.json("up")
        assert report["ok"], report
        yield lab


@pytest.fixture
def edits(lab: XenLab) -> Edits:
    """Its plan in short, and `up`; the spec stays."""
    return Edits(lab, {})


def asks(lab: XenLab, guest: str, *words: str) -> str:
    """virsh about a guest: the domain's name stands after the verb."""
    return lab.virsh(words[0], f"drift-{guest}", *words[1:])


def document(lab: XenLab, guest: str, *flags: str) -> etree._Element:
    return etree.fromstring(asks(lab, guest, "dumpxml", *flags))


def interfaces(lab: XenLab, guest: str) -> dict[str, str]:
    """The interfaces' hardware addresses, by network."""
    found = document(lab, guest).findall("devices/interface")
    # libvirt gives each interface a source and a hardware address
    return {e.find("source").get("network"): e.find("mac").get("address") for e in found}  # type: ignore[union-attr]


def edited(lab: XenLab, guest: str, *changes: Callable[[etree._Element], None]) -> None:
    """What `virsh edit` does."""
    root = document(lab, guest, "--inactive", "--security-info")
    for change in changes:
        change(root)
    remote(lab.xen).run("cat >/tmp/edited.xml", data=etree.tostring(root))
    lab.virsh("define", "/tmp/edited.xml")


def text(path: str, value: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        found = root.find(path)
        assert found is not None, path
        found.text = value

    return change


def added(xml: str) -> Callable[[etree._Element], None]:
    # libvirt gives each domain its devices
    return lambda root: root.find("devices").append(etree.fromstring(xml))  # type: ignore[union-attr]


def everything(lab: XenLab) -> tuple[dict[str, str], set[str]]:
    mine = [each for each in lab.domains() if each.startswith("drift-")]
    return {each: lab.virsh("dumpxml", each) for each in mine}, lab.volumes()


#: What somebody else adds.
THEIRS = "52:54:00:99:99:99"
OTHERS = f"""<interface type='bridge'>
  <mac address='{THEIRS}'/><source bridge='xenbr0'/>
</interface>"""


def test_virsh_edit(lab: XenLab, edits: Edits) -> None:
    """The guest itself has it all: only its definition is put back."""
    life = asks(lab, "tiny", "domid")
    before = document(lab, "tiny", "--inactive")
    edited(lab, "tiny", added(OTHERS))
    edits.settled()  # what others add is no difference
    edited(lab, "tiny", text("title", "mine now"), text("on_crash", "restart"))
    asks(lab, "tiny", "setmem", "8MiB", "--config")
    asks(lab, "tiny", "detach-disk", f"{POOL}/drift-tiny-data", "--config")
    mac = interfaces(lab, "tiny")["drift-front"]
    asks(lab, "tiny", "detach-interface", "network", mac, "--config")
    asks(lab, "tiny", "autostart")
    named = ("title", "on_crash", "memory", "disks.data", "networks.front")
    assert why(edits.plan()["guest/tiny"]) == {
        **dict.fromkeys(named, ("drift", "none")),
        "autostart": ("drift", "live"),
    }
    edits.up()
    assert edits.pending() == {}
    after = document(lab, "tiny", "--inactive")
    for path in ("title", "on_crash", "memory", "currentMemory"):
        assert after.findtext(path) == before.findtext(path)
    assert len(after.findall("devices/disk")) == len(before.findall("devices/disk"))
    macs = {each.get("address") for each in after.iterfind("devices/interface/mac")}
    assert macs == {mac, THEIRS}
    assert "drift-tiny" not in lab.virsh("list", "--all", "--autostart", "--name").split()
    assert asks(lab, "tiny", "domid") == life
    asks(lab, "tiny", "detach-interface", "bridge", THEIRS, "--config")


def test_changed_while_it_runs(lab: XenLab, edits: Edits) -> None:
    """Memory, a disk and an interface; what others plugged in stays."""
    boot = lab.sh("web", "echo mine >/srv/data/file; cat /proc/sys/kernel/random/boot_id")
    back = interfaces(lab, "web")["drift-back"]
    lab.run_on_host(f"truncate -s 1M {POOL}/a-strangers")
    asks(lab, "web", "attach-disk", f"{POOL}/a-strangers", "xvdx", "--live", "--config")
    asks(lab, "web", "setmem", "160MiB", "--live")
    lab.sh("web", "umount /srv/data")
    asks(lab, "web", "detach-disk", f"{POOL}/drift-web-data", "--live")
    asks(lab, "web", "detach-interface", "network", back, "--live")
    assert until(lambda: "drift-back" not in interfaces(lab, "web"), 60, 1)
    assert until(lambda: "drift-web-data" not in asks(lab, "web", "domblklist"), 60, 1)
    assert why(edits.plan()["guest/web"]) == {
        "memory": ("drift", "live"),
        "disks.data": ("drift", "live"),
        "networks.back": ("drift", "live"),
    }
    edits.up()
    assert edits.pending() == {}
    said = lab.sh("web", "cat /srv/data/file /proc/sys/kernel/random/boot_id")
    assert said.split() == ["mine", boot]
    assert until(lambda: "10.94.22." in lab.sh("web", "ip -4 address"), 60, 1)
    for flags in ((), ("--inactive",)):
        assert "xvdx" in asks(lab, "web", "domblklist", *flags)
    asks(lab, "web", "detach-disk", "xvdx", "--live", "--config")
    lab.run_on_host(f"rm {POOL}/a-strangers")


def test_its_network(lab: XenLab, edits: Edits) -> None:
    """A reservation that went comes back live; one of others' stays. A network off is started, and
    the interfaces of guests that run are put back on its bridge."""
    life = asks(lab, "web", "domid")
    mine = etree.fromstring(lab.virsh("net-dumpxml", "drift-front")).find("ip/dhcp/host")
    assert mine is not None
    others = "<host mac='52:54:00:00:00:99' ip='10.94.21.99' name='theirs'/>"
    update = ("net-update", "drift-front")
    lab.virsh(*update, "add", "ip-dhcp-host", others, "--live", "--config")
    xml = etree.tostring(mine, encoding="unicode").strip()
    lab.virsh(*update, "delete", "ip-dhcp-host", xml, "--live", "--config")
    reasons = why(edits.plan()["network/front"])
    assert set(reasons.values()) == {("drift", "live")}
    (field,) = reasons
    assert str(mine.get("mac")) in field
    edits.up()
    for flags in ((), ("--inactive",)):
        found = lab.virsh("net-dumpxml", "drift-front", *flags)
        assert str(mine.get("mac")) in found
        assert "52:54:00:00:00:99" in found
    lab.virsh("net-destroy", "drift-front")
    assert edits.plan()["network/front"]["action"] == "start"
    edits.up()
    assert lab.sh("web", "echo here") == "here"
    assert asks(lab, "web", "domid") == life


def test_a_guest_that_was_destroyed_or_undefined(lab: XenLab, edits: Edits) -> None:
    """Off, it is started; without a definition, it is defined again with its disks."""
    asks(lab, "tiny", "destroy")
    change = edits.plan()["guest/tiny"]
    assert (change["action"], why(change)) == ("start", {"state": ("drift", "live")})
    edits.up()
    assert asks(lab, "tiny", "domstate") == "running"
    asks(lab, "tiny", "destroy")
    asks(lab, "tiny", "undefine")
    before = {each for each in lab.volumes() if each.startswith("tiny-")}
    assert edits.plan()["guest/tiny"]["action"] == "create"
    edits.up()
    assert asks(lab, "tiny", "domstate") == "running"
    assert {each for each in lab.volumes() if each.startswith("tiny-")} == before


def removed(lab: XenLab, guest: str) -> None:
    """By hand, the volumes of a guest that is nobody's."""
    for each in lab.volumes():
        if each.startswith(f"{guest}-"):
            lab.virsh("vol-delete", f"drift-{each}", "--pool", "default")


def test_metadata_wiped(lab: XenLab, edits: Edits) -> None:
    """It is nobody's, so left alone."""
    asks(lab, "tiny", "metadata", "--uri", "urn:virtkit:1", "--remove", "--config")
    if "urn:virtkit:1" in asks(lab, "tiny", "dumpxml"):
        asks(lab, "tiny", "metadata", "--uri", "urn:virtkit:1", "--remove", "--live")
    before = everything(lab)
    for verb in ("plan", "up"):
        assert "domain drift-tiny" in "\n".join(lab.errors(verb))
    assert everything(lab) == before
    lab.virtkit("down", "tiny", code=None)
    assert everything(lab) == before
    asks(lab, "tiny", "destroy")
    asks(lab, "tiny", "undefine")
    removed(lab, "tiny")
    edits.up()
