"""What a spec names on a host is looked at before anything is touched, and its cure mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from integration.lab import Lab, laboratory, obey, run, tiny_disk, virsh

SPEC = """
name: looked
images: {tiny: {path: tiny.raw}}
networks: {front: {NETWORK}}
defaults: {image: tiny, type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests: {web: {GUEST}}
"""
STRANGER = """<network><name>{name}</name><bridge name='{bridge}'/>
<ip address='{address}' prefix='24'/></network>"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "tiny.raw").write_bytes(tiny_disk())
    with laboratory(tmp_path, "looked", spec("cidr: 10.81.1.0/24")) as lab:
        yield lab


def spec(network: str, guest: str = "") -> str:
    return SPEC.replace("NETWORK", network).replace("GUEST", guest)


def ip(words: str) -> None:
    run("ip", *words.split())


@pytest.fixture
def bridge() -> Iterator[str]:
    ip("link add brhost type bridge")
    ip("addr add 10.82.1.7/24 dev brhost")
    ip("addr add fd00:82::7/64 dev brhost nodad")
    ip("link set brhost up")
    yield "brhost"
    ip("link del brhost")


def refused(lab: Lab, *words: str) -> str:
    """What `plan` and `up` say, once; nothing was touched."""
    said = {}
    for verb in ("plan", "up"):
        ran = lab.virtkit(verb, code=2)
        said[verb] = ran.err.partition("error: ")[2]
        for each in (*words, "looked.yaml:"):
            assert each in ran.err
    assert said["plan"] == said["up"]
    assert "looked-" not in virsh("list", "--all", "--name") + virsh("net-list", "--all", "--name")
    return said["plan"].partition("cure: ")[2].splitlines()[0]


def test_a_subnet_that_the_host_has(lab: Lab, bridge: str) -> None:
    refused(lab.write(spec("cidr: 10.82.1.0/24")), "10.82.1.0/24 is in use", bridge)
    refused(lab.write(spec("cidr: 10.82.0.0/16")), "10.82.0.0/16 is in use", bridge)
    refused(lab.write(spec("cidr: 10.82.1.128/25")), "10.82.1.128/25 is in use", bridge)
    refused(lab.write(spec('ipv6: "fd00:82::/64"')), "fd00:82::/64 is in use", bridge)
    lab.write(spec("cidr: 10.83.1.0/24"))
    assert lab.json("up")["ok"]
    assert lab.json("plan")["changes"] == []


def test_a_subnet_that_a_network_of_libvirt_s_has(lab: Lab) -> None:
    file = lab.folder / "stranger.xml"
    file.write_text(STRANGER.format(name="stranger", bridge="brother", address="10.84.1.1"))
    virsh("net-define", file)
    virsh("net-start", "stranger")
    try:
        cure = refused(lab.write(spec("cidr: 10.84.1.0/24")), "stranger has 10.84.1.0/24")
        obey(cure.rpartition("network: ")[2])
        assert lab.json("up")["ok"], "the stranger's is not active, and so in nobody's way"
    finally:
        virsh("net-undefine", "stranger")


def test_the_rest_of_the_host_belongs_to_a_vpn(lab: Lab, bridge: str) -> None:
    lab.write(spec(""))
    for each in ("10.0.0.0/8", "0.0.0.0/1", "128.0.0.0/1", "10.85.0.0/16 table 77"):
        ip(f"route add {each} via 10.82.1.1 dev {bridge}")
    ip(f"route add default dev {bridge} table 51820")
    ip("rule add not fwmark 0xca6c table 51820")
    try:
        assert lab.json("up")["ok"]
        assert '<ip address="172.' in virsh("net-dumpxml", "looked-front").replace("'", '"')
        lab.virtkit("down")
        for each in ("172.16.0.0/12", "192.168.0.0/16"):
            ip(f"route add {each} via 10.82.1.1 dev {bridge}")
        assert lab.json("up")["ok"], "routes to everything are no claim to a /24"
        lab.virtkit("down")
        lab.write(spec("cidr: 10.85.1.0/24"))
        assert lab.json("up")["ok"], "who says a part of a route may have it"
    finally:
        ip("rule del not fwmark 0xca6c table 51820")


def test_a_network_that_is_there_and_not_active(lab: Lab) -> None:
    lab.write(spec("existing: default"))
    refused(lab, "has no network default")
    file = lab.folder / "default.xml"
    file.write_text(STRANGER.format(name="default", bridge="virbr0", address="192.168.122.1"))
    virsh("net-define", file)
    try:
        obey(refused(lab, "default is not active"))
        assert "yes" in virsh("net-info", "default").partition("Autostart:")[2].splitlines()[0]
        assert lab.json("up")["ok"]
        virsh("net-destroy", "default")
        assert lab.json("plan")["changes"] == [], "what runs goes on"
    finally:
        lab.virtkit("down")
        virsh("net-undefine", "default")


def test_a_bridge_that_is_not_there(lab: Lab) -> None:
    lab.write(spec("mode: bridge, bridge: brmade"))
    cure = refused(lab, "there is no bridge brmade")
    obey(cure.partition("as root: ")[2])
    try:
        assert lab.json("up")["ok"]
        uuid = virsh("domuuid", "looked-web")
        mac = virsh("domiflist", "looked-web").split()[-1]
        lab.virtkit("down")
        lab.write(spec("cidr: 10.86.1.0/24"))
        assert lab.json("up")["ok"]
        assert virsh("domiflist", "looked-web").split()[-1] != mac
        assert virsh("domuuid", "looked-web") != uuid
    finally:
        lab.virtkit("down")
        ip("link del brmade")


DISK = "<disk type='{kind}'>{more}<target dev='{dev}' bus='{bus}'/></disk>"
FILE = "<source file='/no/such'/>"
USB = (
    "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1'/><product id='0x2'/></source>"
    "</hostdev>"
)
SECRET = (
    "<auth username='a'><secret type='ceph' usage='nope'/></auth>"
    "<source protocol='rbd' name='p/i'><host name='mon'/></source>"
)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("<tpm model='tpm-spapr'><backend type='emulator'/></tpm>", "TPM"),
        (DISK.format(kind="file", more=FILE, dev="hda", bus="ide"), "IDE controllers"),
        (DISK.format(kind="file", more=FILE, dev="vda", bus="virtio"), "target 'vda' duplicated"),
    ],
)
def test_what_only_libvirt_s_define_refuses(lab: Lab, device: str, words: str) -> None:
    lab.write(spec("cidr: 10.81.1.0/24", f'allow: [host-paths], devices: ["{device}"]'))
    for verb in ("plan", "up"):
        ran = lab.virtkit(verb, code=2)
        assert words in ran.err
        assert "local guest/web" in ran.err
    assert "looked-" not in virsh("list", "--all", "--name") + virsh("net-list", "--all", "--name")


@pytest.mark.parametrize(
    "device",
    [
        "<hostdev mode='subsystem' type='pci'><source><address bus='0x77'/></source></hostdev>",
        USB,
        DISK.format(kind="volume", more="<source pool='no' volume='v'/>", dev="vdx", bus="virtio"),
        DISK.format(kind="network", more=SECRET, dev="vdx", bus="virtio"),
        DISK.format(kind="file", more=FILE, dev="vdx", bus="virtio"),
    ],
)
def test_what_is_not_there_yet_is_no_error(lab: Lab, device: str) -> None:
    """Host devices, secrets, pools: libvirt looks for them when the guest starts."""
    lab.write(spec("cidr: 10.81.1.0/24", f'allow: [hostdev, host-paths], devices: ["{device}"]'))
    changes = {each["object"]: each["action"] for each in lab.json("plan")["changes"]}
    assert changes["guest/web"] == "create"


def test_what_fails_on_the_way_says_whose_it_is(lab: Lab) -> None:
    device = DISK.format(kind="file", more=FILE, dev="vdx", bus="virtio")
    lab.write(spec("cidr: 10.81.1.0/24", f'allow: [host-paths], devices: ["{device}"]'))
    ran = lab.virtkit("up", code=1)
    assert "local guest/web" in ran.err
    lab.virtkit("down")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that libvirt's user may pass through to: pytest closes its own to others, and
    again whenever it is started beside us."""
    with TemporaryDirectory(dir="/srv", prefix="virtkit-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_a_pool_that_can_not_be_made_or_activated(lab: Lab, open_folder: Path) -> None:
    assert lab.json("up")["ok"]
    lab.virtkit("down", "--volumes")
    ours = spec("cidr: 10.81.1.0/24").replace("images:", "hosts: {local: {pool: mine}}\nimages:")
    lab.write(ours)
    cure = refused(lab, "no pool mine", "pool default has /var/lib/libvirt/images")
    folder = open_folder / "mine"
    folder.mkdir(mode=0o711)
    obey(cure.partition("sudo mkdir -p /srv/mine && ")[2].replace("/srv/mine", str(folder)))
    try:
        assert lab.json("up")["ok"]
        lab.virtkit("down", "--volumes")
        virsh("pool-destroy", "mine")
        folder.rename(open_folder / "away")
        refused(lab, "pool mine can't be activated", f"its folder {folder} is gone")
        (open_folder / "away").rename(folder)
        assert lab.json("up")["ok"], "where it can be activated, up does that"
        lab.virtkit("down", "--volumes")
    finally:
        virsh("pool-destroy", "mine")
        virsh("pool-undefine", "mine")
