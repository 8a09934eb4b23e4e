"""What somebody changes behind virtkit's back: named field by field, put back, and all else left.

`qemu` is a tiny machine, `lxc` a container, `vm` runs Debian: only a system that answers lets go
of devices.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, again, document, editing, everything, lives, why
from integration.lab import POOL, domains, run, tiny_disk, until, virsh
from lxml import etree

from virtkit.drivers import DRIVERS

pytestmark = pytest.mark.long

TYPES = ("qemu", "lxc")
DISK = {"name": "data", "size": "8MiB"}
MOUNTED = {**DISK, "mount": "/srv/data"}
SPEC: dict[str, Any] = {
    "name": "drift",
    "images": {"tiny": {"path": "tiny.raw"}},
    "networks": {
        "front": {"cidr": "10.94.21.0/24", "domain": "front.test"},
        "back": {"mode": "isolated", "cidr": "10.94.22.0/24"},
    },
    "defaults": {"networks": ["front"]},
    "guests": {
        "qemu": {
            "type": "qemu",
            "image": "tiny",
            "memory": "32MiB",
            "max": {"cpus": 2},
            "ready": "none",
            "disks": [DISK],
        },
        "lxc": {
            "type": "lxc",
            "memory": "96MiB",
            "max": {"memory": "128MiB"},
            "ready": "none",
            "disks": [MOUNTED],
        },
        "vm": {
            "type": "qemu",
            "memory": "192MiB",
            "max": {"memory": "256MiB", "cpus": 2},
            "networks": ["front", "back"],
            "disks": [MOUNTED],
        },
    },
}
RAM = "<filesystem type='ram'><source usage='1024' units='KiB'/><target dir='/mnt'/></filesystem>"
#: What somebody else adds to a guest, by type.
OTHERS = {"qemu": '<hub type="usb"/>', "lxc": RAM}


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("drift")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    with editing(folder, SPEC) as edits:
        yield edits


@pytest.fixture
def lab(edits: Edits) -> Iterator[Edits]:
    edits.reset()
    # the tiny machine lets go of nothing while it runs
    yield from again(edits, lambda: stopped("qemu"))


@pytest.fixture(params=TYPES)
def guest(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def domain(guest: str) -> str:
    return f"drift-{guest}"


def stopped(guest: str) -> None:
    if domain(guest) in virsh("list", "--name").split():
        virsh("destroy", domain(guest))


def uri(guest: str) -> str:
    return domains()[domain(guest)]


def asks(guest: str, *words: str) -> str:
    """virsh about a guest: the domain's name stands after the verb."""
    return virsh(words[0], domain(guest), *words[1:], uri=uri(guest))


def edited(guest: str, change: Callable[[etree._Element], None]) -> None:
    """What `virsh edit` does."""
    text = asks(guest, "dumpxml", "--inactive", "--security-info")
    root = etree.fromstring(text)
    change(root)
    defined(etree.tostring(root, encoding="unicode"), uri(guest))


def defined(xml: str, uri: str) -> None:
    done = subprocess.run(
        ["virsh", "-q", "-c", uri, "define", "/dev/stdin"],
        input=xml,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def text(path: str, value: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        found = root.find(path)
        assert found is not None, path
        found.text = value

    return change


def without(path: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        found = root.find(path)
        assert found is not None, path
        found.getparent().remove(found)  # type: ignore[union-attr]

    return change


def added(xml: str) -> Callable[[etree._Element], None]:
    return lambda root: root.find("devices").append(etree.fromstring(xml))  # type: ignore[union-attr]


# --- guests ----------------------------------------------------------------------------------

EDITS: dict[str, list[tuple[Callable[[etree._Element], None], str]]] = {
    "qemu": [
        (text("currentMemory", "16384"), "memory"),
        (text("vcpu", "1"), "max"),
        (text("on_crash", "restart"), "on_crash"),
        (text("title", "mine now"), "title"),
        (without("devices/rng"), "devices/rng[random]"),
        (without("devices/disk[serial='data']"), "disks.data"),
        (without("devices/interface"), "networks.front"),
    ],
    "lxc": [
        (text("currentMemory", "65536"), "memory"),
        (text("cputune/quota", "50000"), "cpus"),
        (text("on_crash", "restart"), "on_crash"),
        (without("features/capabilities/kill"), "features/capabilities/kill"),
        (without("devices/filesystem/target[@dir='/.virtkit/mounts/srv/data']/.."), "disks.data"),
        (without("devices/interface"), "networks.front"),
    ],
}


def test_virsh_edit(lab: Edits, guest: str) -> None:
    life, before = lives(domain(guest)), document(domain(guest), "--inactive")
    edited(guest, added(OTHERS[guest]))
    lab.settled()  # what others add is no difference
    named = set()
    for change, field in EDITS[guest]:
        edited(guest, change)
        named.add(field)
        # the guest itself has it all: only its definition is put back
        assert why(lab.plan()[f"guest/{guest}"]) == dict.fromkeys(named, ("drift", "none"))
    lab.up()
    assert lives(domain(guest)) == life
    assert lab.pending() == {}
    after = document(domain(guest), "--inactive")
    place = {"qemu": "devices/hub", "lxc": "devices/filesystem[@type='ram']"}[guest]
    assert after.find(place) is not None
    for path in ("title", "vcpu", "memory", "currentMemory", "on_crash", "cputune/quota"):
        assert after.findtext(path) == before.findtext(path)
    for path in (".//serial", ".//target", ".//mac", ".//capabilities/*", ".//rng"):
        assert len(after.findall(path)) >= len(before.findall(path))


def test_virsh_edit_of_a_guest_that_is_off(lab: Edits, guest: str) -> None:
    lab.lab.virtkit("stop", guest)
    edited(guest, text("on_crash", "restart"))
    assert why(lab.plan()[f"guest/{guest}"]) == {"on_crash": ("drift", "next-boot")}
    lab.up()
    assert document(domain(guest)).findtext("on_crash") == "destroy"


def test_the_configs_commands_of_virsh(lab: Edits, guest: str) -> None:
    life = lives(domain(guest))
    mac = document(domain(guest)).find("devices/interface/mac").get("address")  # type: ignore[union-attr]
    asks(guest, "setmem", "16MiB", "--config")
    asks(guest, "detach-interface", "network", mac, "--config")
    asks(guest, "autostart")
    named = {"memory": ("drift", "none"), "networks.front": ("drift", "none")}
    named["autostart"] = ("drift", "live")
    if guest == "qemu":
        asks(guest, "detach-disk", str(POOL / "drift-qemu-data"), "--config")
        asks(guest, "setvcpus", "2", "--config")
        named |= {"disks.data": ("drift", "none"), "cpus": ("drift", "none")}
    assert why(lab.plan()[f"guest/{guest}"]) == named
    lab.up()
    assert lives(domain(guest)) == life
    assert lab.pending() == {}
    assert domain(guest) not in virsh("list", "--all", "--autostart", "--name", uri=uri(guest))


def test_a_container_changed_live(lab: Edits) -> None:
    life = lives(domain("lxc"))
    asks("lxc", "setmem", "64MiB", "--live")
    mac = document(domain("lxc")).find("devices/interface/mac").get("address")  # type: ignore[union-attr]
    asks("lxc", "detach-interface", "network", mac, "--live")
    assert why(lab.plan()["guest/lxc"]) == {
        "memory": ("drift", "live"),
        "networks.front": ("drift", "live"),
    }
    lab.up()
    assert lives(domain("lxc")) == life
    address = lab.lab.status("lxc")["addresses"][0]
    assert until(lambda: address in lab.lab.sh("lxc", "ip -4 address"), 20)
    assert lab.lab.sh("lxc", "grep MemTotal /proc/meminfo").split()[1] == str(96 * 1024)


def test_a_virtual_machine_changed_live(lab: Edits) -> None:
    boot = lab.lab.sh("vm", "cat /proc/sys/kernel/random/boot_id")
    interfaces = document(domain("vm")).findall("devices/interface")
    # each of them has a source
    back = next(e for e in interfaces if e.find("source").get("network") == "drift-back")  # type: ignore[union-attr]
    asks("vm", "attach-disk", str(others_disk(lab)), "vdx", "--live", "--config")
    asks("vm", "setvcpus", "2", "--live")
    asks("vm", "setmem", "160MiB", "--live")
    lab.lab.sh("vm", "echo mine >/srv/data/file; sync; umount /srv/data")
    asks("vm", "detach-disk", str(POOL / "drift-vm-data"), "--live")
    asks("vm", "detach-interface", "network", back.find("mac").get("address"), "--live")  # type: ignore[union-attr]
    assert until(lambda: len(document(domain("vm")).findall("devices/interface")) == 1, 20)
    assert until(lambda: "drift-vm-data" not in asks("vm", "domblklist"), 20)
    plan = lab.plan()["guest/vm"]
    assert why(plan) == {
        "memory": ("drift", "live"),
        "disks.data": ("drift", "live"),
        "networks.back": ("drift", "live"),
    }
    lab.up()
    assert lab.lab.sh("vm", "cat /srv/data/file") == "mine"
    assert until(lambda: "10.94.22." in lab.lab.sh("vm", "ip -4 address"), 20)
    assert lab.lab.sh("vm", "cat /proc/sys/kernel/random/boot_id") == boot
    assert "vdx" in asks("vm", "domblklist")  # what others added is theirs
    assert "vdx" in asks("vm", "domblklist", "--inactive")
    assert lab.pending() == {} or why(lab.pending()["guest/vm"]) == {"cpus": ("drift", "restart")}
    asks("vm", "detach-disk", "vdx", "--live", "--config")


def others_disk(lab: Edits) -> Path:
    path = POOL / "a-strangers"
    path.write_bytes(bytes(1024**2))
    return path


# --- networks --------------------------------------------------------------------------------


def net(*words: str) -> str:
    return virsh(words[0], "drift-front", *words[1:])


def test_hosts_of_a_network(lab: Edits) -> None:
    """A reservation of ours that went comes back live; one that others made stays."""
    mine = etree.fromstring(net("net-dumpxml")).find("ip/dhcp/host")
    assert mine is not None
    others = "<host mac='52:54:00:00:00:99' ip='10.94.21.99' name='theirs'/>"
    net("net-update", "add", "ip-dhcp-host", others, "--live", "--config")
    lab.settled()
    xml = etree.tostring(mine, encoding="unicode").strip()
    net("net-update", "delete", "ip-dhcp-host", xml, "--live", "--config")
    change = lab.plan()["network/front"]
    assert set(why(change).values()) == {("drift", "live")}
    (field,) = why(change)
    assert mine.get("mac") in field  # type: ignore[operator]
    life = {name: lives(name) for name in domains() if name.startswith("drift-")}
    ran = lab.up()
    assert [each for each, _ in ran.steps if each.startswith("guest/")] == []
    for flags in ((), ("--inactive",)):
        text = net("net-dumpxml", *flags)
        assert mine.get("mac") in text  # type: ignore[operator]
        assert "52:54:00:00:00:99" in text
    assert {name: lives(name) for name in life} == life
    net("net-update", "delete", "ip-dhcp-host", others, "--live", "--config")


def net_edited(change: Callable[[etree._Element], None]) -> None:
    root = etree.fromstring(net("net-dumpxml", "--inactive"))
    change(root)
    file = Path("/tmp/drift-net.xml")
    file.write_text(etree.tostring(root, encoding="unicode"))
    virsh("net-define", file)
    file.unlink()


def test_net_edit_with_guests_on_it(lab: Edits) -> None:
    def other_domain(root: etree._Element) -> None:
        root.find("domain").set("name", "other.test")  # type: ignore[union-attr]

    bridge = etree.fromstring(net("net-dumpxml")).find("bridge").get("name")  # type: ignore[union-attr]
    net_edited(other_domain)
    assert why(lab.plan()["network/front"]) == {"domain/@name": ("drift", "none")}
    lab.up()
    assert lab.pending() == {}
    assert 'name="front.test"' in net("net-dumpxml", "--inactive").replace("'", '"')
    # edited and restarted by others: now it is what is active, and guests hold it
    net_edited(other_domain)
    net("net-destroy")
    net("net-start")
    assert why(lab.plan()["network/front"]) == {"domain/@name": ("drift", "restart")}
    lab.up()
    assert why(lab.pending()["network/front"]) == {"domain/@name": ("drift", "restart")}
    assert "drift-lxc" in lab.lab.virtkit("plan").out
    link = etree.fromstring(net("net-dumpxml")).find("bridge").get("name")  # type: ignore[union-attr]
    assert link == bridge
    lab.lab.virtkit("down", *SPEC["guests"])
    lab.up()
    assert lab.pending() == {}


def test_a_network_that_nobody_uses_is_restarted(lab: Edits) -> None:
    lab.lab.virtkit("down", "lxc", "vm")
    lab.gone("lxc")
    lab.gone("vm")
    lab.guest("qemu", networks=["front"])
    lab.lab.virtkit("down")
    lab.up()
    assert lab.pending() == {}


def test_a_network_off(lab: Edits) -> None:
    net("net-autostart", "--disable")
    assert why(lab.plan()["network/front"]) == {"active": ("drift", "live")}
    lab.up()
    assert re.search(r"Autostart: +yes", net("net-info"))
    net("net-destroy")
    net("net-autostart", "--disable")
    assert lab.plan()["network/front"]["action"] == "start"
    lab.up()
    assert re.search(r"Active: +yes", net("net-info"))


# --- volumes, domains, records -----------------------------------------------------------------


def test_a_disk_removed(lab: Edits, guest: str) -> None:
    (POOL / f"{domain(guest)}-data").unlink()
    change = lab.plan()[f"guest/{guest}"]
    assert why(change) == {"disks.data": ("drift", "restart")}
    assert f"{domain(guest)}-data is gone" in change["lost"]
    lab.refused(f"{domain(guest)}-data is gone")
    ran = lab.lab.virtkit("up", "--json", "--yes", "--restart", code=None)
    assert ran.code == 0, str(ran)
    lab.settled()
    assert f"{guest}-data" in lab.lab.volumes()
    assert lab.lab.status(guest)["state"] == "running"


def test_a_root_disk_removed(lab: Edits, guest: str) -> None:
    (POOL / f"{domain(guest)}-root").unlink()
    change = lab.plan()[f"guest/{guest}"]
    assert (change["action"], why(change)) == ("replace", {"disk": ("drift", "recreate")})
    lab.refused(f"all on the root disk of {guest}")
    before = (POOL / f"{domain(guest)}-data").stat().st_ino
    lab.up("--yes")
    assert lab.lab.status(guest)["state"] == "running"
    assert (POOL / f"{domain(guest)}-data").stat().st_ino == before


def test_a_domain_undefined(lab: Edits, guest: str) -> None:
    """Its volumes are in the pool's record: it is defined again over them."""
    asks(guest, "destroy")
    virsh("undefine", domain(guest), uri=uri(guest))
    before = {each: (POOL / f"{domain(guest)}-{each}").stat().st_ino for each in ("root", "data")}
    change = lab.plan()[f"guest/{guest}"]
    assert (change["action"], why(change)) == ("create", {"domain": ("drift", "none")})
    lab.up()
    after = {each: (POOL / f"{domain(guest)}-{each}").stat().st_ino for each in ("root", "data")}
    assert after == before


def test_metadata_wiped(lab: Edits, guest: str) -> None:
    asks(guest, "metadata", "--uri", "urn:virtkit:1", "--remove", "--config")
    if "urn:virtkit:1" in asks(guest, "dumpxml"):
        asks(guest, "metadata", "--uri", "urn:virtkit:1", "--remove", "--live")
    before = everything("drift")
    for verb in ("plan", "up"):
        found = "\n".join(lab.lab.errors(verb))
        assert f"domain {domain(guest)}: it carries no record" in found or (
            f"domain {domain(guest)} exists" in found
        )
    assert everything("drift") == before
    lab.lab.virtkit("down", code=None)
    assert domain(guest) in domains()  # nobody's, so left alone
    where = uri(guest)
    asks(guest, "destroy")
    virsh("undefine", domain(guest), uri=where)
    for name in virsh("vol-list", "default").split():
        if name.startswith(f"{domain(guest)}-"):
            virsh("vol-delete", name, "--pool", "default")
    lab.up()


# --- no false alarm --------------------------------------------------------------------------


def quiet(lab: Edits) -> None:
    found = lab.lab.json("plan")
    assert (found["changes"], found["pending"]) == ([], []), found


def test_libvirtd_starts_again(lab: Edits) -> None:
    life = {name: lives(name) for name in domains() if name.startswith("drift-")}
    file = Path("/run/libvirt/libvirtd.pid")
    pid = int(file.read_text())
    os.kill(pid, 9)
    assert until(lambda: not Path(f"/proc/{pid}/exe").exists(), 10)
    file.unlink(missing_ok=True)
    run("libvirtd", "-d", "-p", file, stdin=subprocess.DEVNULL)
    assert until(lambda: subprocess.run(["virsh", "-q", "uri"], check=False).returncode == 0, 30)
    assert {name: lives(name) for name in life} == life
    quiet(lab)


def test_states_come_and_go(lab: Edits) -> None:
    asks("qemu", "managedsave")
    lab.lab.virtkit("start", "qemu", "--no-wait")
    quiet(lab)
    asks("qemu", "reset")
    quiet(lab)
    asks("vm", "reboot", "--mode", "acpi")
    until(lambda: lab.lab.virtkit("status").code == 0, 1)
    quiet(lab)
    lab.lab.virtkit("start", "vm")
    for guest in ("vm", "lxc"):
        lab.lab.virtkit("exec", guest, "--", "systemctl", "reboot", code=None)
    time.sleep(5)
    until(lambda: lab.lab.status("lxc")["state"] == "running", 60)
    until(lambda: lab.lab.status("vm")["ready"], 120, 2)
    quiet(lab)


def test_odd_words_mean_the_same(lab: Edits) -> None:
    """Units, upper case, an alias, a password: libvirt says them otherwise, or not at all."""
    (lab.lab.folder / "own.xml.j2").write_text(
        """<domain type="qemu">
  <name>{{ guest.domain }}</name>
  <uuid>{{ guest.uuid }}</uuid>
  <memory unit="MB">33</memory>
  <currentMemory unit="KB">33000</currentMemory>
  <vcpu>1</vcpu>
  <os><type machine="pc">hvm</type><boot dev="hd"/></os>
  <features><acpi/></features>
  <devices>
    {%- for disk in guest.disks %}
    <disk type="file" device="disk">
      <driver name="qemu" type="{{ disk.volume.format }}"/>
      <source file="{{ disk.volume.key }}"/>
      <target dev="{{ disk.target }}" bus="virtio"/>
      <serial>{{ disk.name }}</serial>
      {% if disk.readonly %}<readonly/>{% endif %}
    </disk>
    {%- endfor %}
    {%- for each in guest.interfaces %}
    <interface type="{{ each.kind }}">
      <mac address="{{ each.mac | upper }}"/>
      <source {{ each.kind }}="{{ each.source }}"/>
      <model type="virtio"/>
      <address type="pci" domain="0x0000" bus="0x00" slot="0x1E" function="0x0"/>
    </interface>
    {%- endfor %}
  </devices>
</domain>
"""
    )
    lab.guest("odd", **{**SPEC["guests"]["qemu"], "max": {}}, template="own.xml.j2")
    lab.guest("seen", **SPEC["guests"]["qemu"], graphics="vnc", devices=["<sound model='ich9'/>"])
    lab.up("--restart")
    quiet(lab)
    lab.lab.virtkit("restart", "seen", "--no-wait")
    asks("odd", "destroy")
    lab.lab.virtkit("start", "odd", "--no-wait")
    quiet(lab)
    for guest in ("odd", "seen"):
        assert "passwd" not in asks(guest, "dumpxml")


def test_records_hold_no_version(lab: Edits, guest: str) -> None:
    """So that an upgrade of libvirt, or of QEMU, is no difference."""
    root = etree.fromstring(asks(guest, "dumpxml", "--inactive"))
    text = root.findtext("metadata/{urn:virtkit:1}guest") or ""
    assert text
    version = run("libvirtd", "--version").split()[-1]
    assert version not in text
    machine = root.find("os/type").get("machine", "")  # type: ignore[union-attr]
    assert not machine or machine not in text
    assert DRIVERS[guest].scheme in uri(guest)
