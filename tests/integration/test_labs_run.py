"""Five labs of examples/labs run for real, and what is seen inside their guests.

Each is the file itself, as virtkit reads it. What this machine can't give it is changed as users
change it: values by ``--set``, a second file by ``-f``, guests by their names. Nothing is fetched:
the guests have the image that all tests start from, and no packages of their own. The one that
takes least runs in CI.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from integration.discs import disc
from integration.edits import document
from integration.lab import VIRTKIT, Lab, Ran, run, until, virsh

from virtkit.spec import load

LABS = Path(__file__).parents[2] / "examples/labs"
#: What takes the place of every image.
SMALL = "defaults.image=debian-12"
EMULATED = "defaults.type=qemu"
#: Whose the host's folders are: nobody that an image knows.
OWNER = 1234
MIB, GIB = 1024**2, 1024**3
ZONE = "Australia/Melbourne"
#: Prints a virtual machine's cards by MAC address, its disks by serial, and its processors.
LOOK = """
import json
from pathlib import Path

def text(path):
    return path.read_text().strip() if path.exists() else ""

def driver(path):
    for each in path.resolve().parents:
        if (each / "driver").exists() and (each / "driver").resolve().name != "sd":
            return (each / "driver").resolve().name

def serial(path):
    of_scsi = path / "device/vpd_pg80"
    return of_scsi.read_bytes()[4:].decode().strip() if of_scsi.exists() else text(path / "serial")

def disk(path):
    queue = path / "queue"
    sizes = {"bytes": int(text(path / "size")) * 512}
    sizes["discards"] = int(text(queue / "discard_max_bytes")) > 0
    return {"driver": driver(path), "cache": text(queue / "write_cache"), **sizes}

def card(path):
    queues = len(list(path.glob("queues/rx-*")))
    return {"driver": driver(path), "mtu": int(text(path / "mtu")), "queues": queues}

def processor(path):
    topology = path / "topology"
    return {e: text(topology / e) for e in ("physical_package_id", "thread_siblings_list")}

blocks = [e for kind in ("vd*", "sd*") for e in Path("/sys/block").glob(kind)]
cards = [e for e in Path("/sys/class/net").iterdir() if (e / "device").exists()]
processors = Path("/sys/devices/system/cpu").glob("cpu[0-9]*")
print(json.dumps({
    "disks": {serial(each): disk(each) for each in blocks},
    "cards": {text(each / "address"): card(each) for each in cards},
    "processors": [processor(each) for each in sorted(processors, key=lambda e: int(e.name[3:]))],
}))
"""


@dataclass
class OthersLab(Lab):
    """A lab of examples/labs; ``spec`` is the file that lies over it.

    Attributes:
        original: its own file.
        sets: what ``--set`` says.
        upped: how ``up`` ended.
    """

    original: Path = LABS
    sets: Sequence[str] = ()
    upped: Ran | None = None

    def line(self, verb: str, *words: str | Path) -> list[str]:
        settings = [word for each in self.sets for word in ("--set", each)]
        options = ["-f", self.original, "-f", self.spec, *settings]
        return [str(each) for each in (VIRTKIT, *verb.split(), *options, *words)]

    def look(self, guest: str) -> dict[str, Any]:
        """What LOOK prints in a guest."""
        return json.loads(self.virtkit("exec", guest, "--", "python3", "-c", LOOK).out)

    def cards(self, guest: str) -> dict[str, Any]:
        """A guest's cards, as LOOK prints them, by the name of their network."""
        devices = document(f"{self.name}-{guest}").iterfind("./devices/interface")
        by_mac = self.look(guest)["cards"]
        return {
            source.get("network", source.get("bridge")).removeprefix(f"{self.name}-"): by_mac[
                each.find("mac").get("address")
            ]
            for each in devices
            if (source := each.find("source")) is not None
        }

    def addresses(self, guest: str) -> set[str]:
        """The IPv4 addresses of a guest's cards, as its own system has them."""
        links = json.loads(self.sh(guest, "ip -json -4 address show scope global"))
        return {each["local"] for link in links for each in link["addr_info"]}

    def resolved(self, guest: str, name: str) -> set[str]:
        """The addresses that a guest's system has for a name."""
        lines = self.sh(guest, f"getent ahostsv4 {name} || true").splitlines()
        return {each.split()[0] for each in lines}


@contextmanager
def running(
    folder: Path, original: str, over: Mapping[str, Any], sets: Sequence[str], *guests: str
) -> Iterator[OthersLab]:
    """A lab whose guests (all, where none is named) are up; in the end nothing of it is left."""
    path = LABS / f"{original}.yaml"
    lab = OthersLab(folder, load(path).name, original=path, sets=sets)
    lab.write(json.dumps(over))  # JSON is YAML
    try:
        lab.upped = lab.virtkit("up", "--json", *guests)
        assert lab.json("plan", *guests)["changes"] == []
        yield lab
    finally:
        lab.virtkit("down", "--volumes", "--yes", code=None)
    assert lab.left() == []


@contextmanager
def lan() -> Iterator[None]:
    """The bridge br0 of the host, in a network that has a DHCP server."""
    run("ip", "link", "add", "br0", "type", "bridge")
    try:
        run("ip", "address", "add", "192.168.114.1/24", "dev", "br0")
        run("ip", "link", "set", "br0", "up")
        line = ["dnsmasq", "--keep-in-foreground", "--port=0", "--no-hosts", "--bind-interfaces"]
        line += ["--interface=br0", "--dhcp-range=192.168.114.2,192.168.114.99", "--leasefile-ro"]
        with subprocess.Popen([*line, "--conf-file=/dev/null", "--pid-file="]) as server:
            try:
                yield
            finally:
                server.terminate()
    finally:
        run("ip", "link", "delete", "br0")


def folder_of(folder: Path, owner: int) -> Path:
    """A folder of a user of the host."""
    folder.mkdir()
    os.chown(folder, owner, owner)
    return folder


class TestJellyfin:
    """A container with folders and a device of the host."""

    LAB = "jellyfin"

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OthersLab]:
        """There is no graphics card here, nor a way to Jellyfin's packages: another device stands
        for the one, another server for the other."""
        folder = tmp_path_factory.mktemp(cls.LAB)
        films = {"source": str(LABS / "films"), "target": "/srv/films", "readonly": True}
        library = {"source": "./library", "target": "/srv/library"}
        folder_of(folder / "library", OWNER)
        server = ["systemd-run", "--unit=server", "python3", "-m", "http.server", "8096"]
        guest = {
            "folders": [films, library],
            "host_devices": ["/dev/fuse"],
            "allow": ["hostdev", "host-paths"],
            "cloud_init": {"packages": None, "runcmd": [server]},
        }
        with running(folder, cls.LAB, {"guests": {"jellyfin": guest}}, [SMALL]) as lab:
            yield lab

    def test_it_reads_the_films(self, lab: OthersLab) -> None:
        text = (LABS / "films/README").read_text().strip()
        assert lab.sh("jellyfin", "cat /srv/films/README") == text
        refused = lab.sh("jellyfin", "touch /srv/films/no 2>&1 || true")
        assert refused == "touch: cannot touch '/srv/films/no': Read-only file system"
        assert not (LABS / "films/no").exists()

    def test_its_root_writes_as_the_folders_owner_and_no_other_user_does(
        self, lab: OthersLab
    ) -> None:
        script = "echo it >/srv/library/new; stat -c %u /srv/library /srv/library/new"
        assert lab.sh("jellyfin", script).split() == ["0", "0"]
        assert (lab.folder / "library/new").stat().st_uid == OWNER
        line = "setpriv --reuid 1000 --clear-groups touch /srv/library/no 2>&1 || true"
        assert lab.sh("jellyfin", line).endswith("Permission denied")

    def test_it_has_the_hosts_device_and_not_its_ids(self, lab: OthersLab) -> None:
        assert lab.sh("jellyfin", "stat -c '%F %t:%T' /dev/fuse") == "character special file a:e5"
        inside, outside, _ = lab.sh("jellyfin", "cat /proc/self/uid_map").split()[:3]
        assert inside == "0"
        assert int(outside) > 65535

    def test_it_has_its_memory_and_its_root(self, lab: OthersLab) -> None:
        memory = lab.sh("jellyfin", "grep MemTotal /proc/meminfo").split()[1]
        assert int(memory) * 1024 == 2 * GIB
        size = int(lab.sh("jellyfin", "df --output=size -B1 / | tail -n 1"))
        assert 15 * GIB < size < 16 * GIB

    def test_it_serves_where_it_counts_as_ready(self, lab: OthersLab) -> None:
        status = lab.status("jellyfin")
        assert status["ready"] is True
        with urllib.request.urlopen(f"http://{status['addresses'][0]}:8096/etc/hostname") as answer:
            assert answer.read().decode().strip() == "jellyfin"
        shown = lab.virsh("dominfo", "media-jellyfin", scheme="lxc")
        assert [e.split()[-1] for e in shown.splitlines() if e.startswith("Autostart")] == [
            "enable"
        ]


@pytest.mark.long
class TestVirtInfra:
    """Guests that differ by disks, buses and cards; the host's bridge."""

    LAB = "virt-infra"

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OthersLab]:
        """The small image's kernel has a driver for neither SATA nor an E1000, and virtkit says
        so: both are what it has one for. libvirt here is too old for NVMe, and `plan` says so."""
        sets = [SMALL, EMULATED, "profiles.example.memory=256MiB", "guests.first.start=true"]
        sets += ["profiles.example.disks[0].bus=scsi", "guests.first.networks[1].model=vmxnet3"]
        sets += ["guests.first.disks[0].bus=virtio"]
        folder = tmp_path_factory.mktemp(cls.LAB)
        with (
            lan(),
            running(folder, cls.LAB, {}, sets, "first", "third") as lab,
        ):
            yield lab

    def test_each_disk_is_on_its_bus(self, lab: OthersLab) -> None:
        disks = lab.look("first")["disks"]
        assert {name: each["driver"] for name, each in disks.items()} == {
            "root": "virtio_blk",
            "data": "virtio_blk",
            "seed": "virtio_blk",
        }
        assert disks["data"]["bytes"] == 100 * GIB
        disks = lab.look("third")["disks"]
        assert {name: each["driver"] for name, each in disks.items()} == {
            "root": "virtio_scsi",
            "seed": "virtio_scsi",
        }
        root = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_root"
        assert lab.sh("third", f"readlink -f {root}; findmnt -no SOURCE /").split() == [
            "/dev/sda",
            "/dev/sda",
        ]

    def test_each_card_is_of_its_model_and_on_its_network(self, lab: OthersLab) -> None:
        cards = lab.cards("first")
        assert {name: each["driver"] for name, each in cards.items()} == {
            "br0": "virtio_net",
            "example": "vmxnet3",
        }
        ports = json.loads(run("ip", "-json", "link", "show", "master", "br0"))
        sources = document("virt-infra-first").iterfind("./devices/interface[@type='bridge']")
        assert {each["ifname"] for each in ports} == {e.find("target").get("dev") for e in sources}
        addresses = {IPv4Address(each) for each in lab.addresses("first")}
        (own,) = (each for each in addresses if each in IPv4Network("192.168.113.0/24"))
        assert int(own) & 0xFF > 99, "it is the guest's, so it is none that others are given"
        (other,) = addresses - {own}
        assert other in IPv4Network("192.168.114.0/24")

    def test_it_has_its_time_zone_and_room_to_grow(self, lab: OthersLab) -> None:
        # cloud-init sets it some time after ssh answers
        assert until(lambda: lab.sh("first", "readlink -f /etc/localtime").endswith(ZONE), 240, 2)
        script = "cd /sys/devices/system/cpu; cat possible online"
        assert lab.sh("first", script).split() == ["0-3", "0"]
        assert int(lab.sh("first", "grep MemTotal /proc/meminfo").split()[1]) * 1024 < 256 * MIB
        maximum = document("virt-infra-first").findtext("memory")
        assert int(maximum or 0) * 1024 == 2 * GIB


@pytest.mark.long
class TestVagrantCeph:
    """Three networks, and disks on two buses."""

    LAB = "vagrant-ceph"

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OthersLab]:
        """The packages can't be fetched. A folder comes beside what the lab has: its login's."""
        sets = [SMALL, EMULATED, "guests.data.count=1", "profiles.salt.cloud_init="]
        sets += [f"{each}.memory=256MiB" for each in ("defaults", "guests.admin")]
        sets += ["guests.admin.cloud_init="]
        folder = tmp_path_factory.mktemp(cls.LAB)
        folder_of(folder / "deepsea", 1000)
        (folder / "deepsea/policy").write_text("role-master")
        shared = {"source": "./deepsea", "target": "/srv/deepsea"}
        guest = {"folders": [shared], "allow": ["host-paths"]}
        with running(folder, cls.LAB, {"guests": {"admin": guest}}, sets) as lab:
            yield lab

    def test_each_disk_is_on_its_bus(self, lab: OthersLab) -> None:
        disks = lab.look("data-1")["disks"]
        hard = [f"hd-{number}" for number in range(1, 6)]
        assert {name: each["driver"] for name, each in disks.items()} == {
            **dict.fromkeys(["root", "seed", *hard], "virtio_blk"),
            "ssd-1": "virtio_scsi",
        }
        sizes = {name: each["bytes"] for name, each in disks.items() if "-" in name}
        assert sizes == {**dict.fromkeys(hard, 20 * GIB), "ssd-1": 5 * GIB}
        links = lab.sh("data-1", "ls /dev/disk/by-id").split()
        expected = {*(f"virtio-{each}" for each in hard), "scsi-0QEMU_QEMU_HARDDISK_ssd-1"}
        assert expected <= {*links}

    def test_it_is_on_its_networks_and_leaves_by_one(self, lab: OthersLab) -> None:
        assert lab.addresses("admin") == {"192.168.1.253", "172.16.1.253", "172.16.2.253"}
        assert lab.addresses("data-1") == {"192.168.1.21", "172.16.1.21", "172.16.2.21"}
        for each in lab.addresses("admin"):
            assert lab.sh("data-1", f"ping -c 1 -W 10 {each} >/dev/null && echo answers")
        (way,) = json.loads(lab.sh("data-1", "ip -json route show default"))
        assert way["gateway"] == "192.168.1.1"
        assert lab.resolved("data-1", "admin") & lab.addresses("admin")

    def test_it_started_when_the_admin_was_ready(self, lab: OthersLab) -> None:
        assert lab.upped is not None
        steps = lab.upped.steps
        ready, start = ("guest/admin", "ready"), ("guest/data-1", "start")
        assert steps.index(ready) < steps.index(start)

    def test_its_login_writes_into_its_folder_and_no_other_user_does(self, lab: OthersLab) -> None:
        assert lab.sh("admin", "findmnt -no FSTYPE /srv/deepsea") == "virtiofs"
        login = ("ssh", "admin", "--")
        assert lab.virtkit(*login, "cat", "/srv/deepsea/policy").out == "role-master"
        assert lab.virtkit(*login, "id", "-u").out.strip() == "1000"
        lab.virtkit(*login, "touch", "/srv/deepsea/by-login")
        assert (lab.folder / "deepsea/by-login").stat().st_uid == 1000
        line = "setpriv --reuid 65534 --clear-groups touch /srv/deepsea/no 2>&1 || true"
        assert lab.sh("admin", line).endswith("Permission denied")


@pytest.mark.long
class TestCiFramework:
    """UEFI, processors with a topology, and a network with large packets."""

    LAB = "ci-framework"

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OthersLab]:
        """There is no card here with virtual functions: the guest that computes has none, and is
        started. Its processors are pinned to those that there are, and of a model that has
        threads, which the host's emulated one has not, as virtkit says."""
        sets = [SMALL, EMULATED, "guests.ocp.count=1", "guests.compute.start=true"]
        sets += ["defaults.cpu.model="]
        sets += [f"guests.{each}.memory=512MiB" for each in ("controller", "ocp", "compute")]
        last = (os.cpu_count() or 1) - 1
        compute = {"host_devices": None, "allow": None, "cpu": {"pin": [0, last, 0, last]}}
        folder = tmp_path_factory.mktemp(cls.LAB)
        with running(folder, cls.LAB, {"guests": {"compute": compute}}, sets) as lab:
            yield lab

    def test_it_booted_by_uefi(self, lab: OthersLab) -> None:
        assert lab.sh("controller", "test -d /sys/firmware/efi && echo UEFI") == "UEFI"

    def test_the_processors_have_their_topology(self, lab: OthersLab) -> None:
        assert siblings(lab, "controller") == [("0", "0"), ("1", "1"), ("2", "2"), ("3", "3")]
        pairs = [f"{first}-{first + 1}" for first in range(0, 10, 2) for _ in range(2)]
        assert siblings(lab, "ocp-1") == [("0", each) for each in pairs]
        assert siblings(lab, "compute") == [("0", each) for each in pairs[:4]]
        last = str((os.cpu_count() or 1) - 1)
        pins = virsh("vcpupin", "cifmw-compute").split()
        assert pins == ["0", "0", "1", last, "2", "0", "3", last]

    def test_large_packets_go_through_the_trunk(self, lab: OthersLab) -> None:
        cards = lab.cards("compute")
        assert cards == {
            "ocpbm": {"driver": "virtio_net", "mtu": 1500, "queues": 1},
            "osp-trunk": {"driver": "virtio_net", "mtu": 9000, "queues": 4},
        }
        whole = "ping -c 1 -W 10 -M do -s 8972 192.168.122.50 >/dev/null && echo through"
        for guest in ("controller", "ocp-1"):
            assert lab.cards(guest)["osp-trunk"]["mtu"] == 9000
            assert lab.sh(guest, whole) == "through"

    def test_it_has_its_disks_and_its_networks(self, lab: OthersLab) -> None:
        disks = lab.look("ocp-1")["disks"]
        assert {name: each["bytes"] for name, each in disks.items() if name != "seed"} == {
            "root": 100 * GIB,
            **{f"lvms-{number}": 50 * GIB for number in (1, 2, 3)},
        }
        assert lab.addresses("ocp-1") == {
            *("172.22.0.20", "192.168.111.20", "192.168.122.20", "10.46.22.20"),
        }


def siblings(lab: OthersLab, guest: str) -> list[tuple[str, str]]:
    """Of each of a guest's processors, its socket and the threads of its core."""
    keys = ("physical_package_id", "thread_siblings_list")
    return [tuple(each[key] for key in keys) for each in lab.look(guest)["processors"]]


@pytest.mark.long
class TestWin10:
    """Secure Boot, a TPM and two discs. There is no Windows here, and none was ever seen."""

    LAB = "win10"

    @pytest.fixture(scope="class")
    @classmethod
    def desk(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OthersLab]:
        """Linux in Windows' place, from the small image, whose kernel the hypervisor loads."""
        guest: dict[str, Any] = {"image": "debian-12", "system": "linux", "boot": None}
        guest |= {"cpu": {"model": None}}
        guest |= {"ready": {"command": "test -c /dev/tpm0"}, "memory": "512MiB"}
        with windows(tmp_path_factory.mktemp(cls.LAB), guest) as lab:
            yield lab

    def test_the_lab_starts_without_a_system(self, tmp_path: Path) -> None:
        """As Windows' installer would find it, but for the processor."""
        with windows(tmp_path, {"memory": "1GiB", "cpu": {"model": "maximum"}}) as lab:
            root = document("windows10-desk")
            assert root.find("os/loader").get("secure") == "yes"
            drives = root.findall("./devices/disk[@device='cdrom']")
            assert [each.find("target").get("bus") for each in drives] == ["sata", "sata"]
            names = [Path(each.find("source").get("file")).name for each in drives]
            assert names == ["windows10-desk-cdrom1", "windows10-desk-cdrom2"]
            state = root.find("./devices/tpm/backend")
            assert (state.get("type"), state.get("version")) == ("emulator", "2.0")
            uuid = virsh("domuuid", "windows10-desk")
            lines = [e.read_bytes() for e in Path("/proc").glob("[0-9]*/cmdline")]
            assert [e for e in lines if b"swtpm\0" in e and uuid.encode() in e]
            # it asks the discs, which have nothing that it could boot
            said = until(lambda: [e for e in lab.printed("desk") if "DVD-ROM" in e], 120)
            assert said, lab.printed("desk")

    def test_secure_boot_is_on_and_the_tpm_is_there(self, desk: OthersLab) -> None:
        script = "ls /dev/tpm0 /dev/tpmrm0; cat /sys/class/tpm/tpm0/tpm_version_major; "
        script += "od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-*"
        assert desk.sh("desk", script).split() == ["/dev/tpm0", "/dev/tpmrm0", "2", "1"]

    def test_four_cores_are_in_one_socket(self, desk: OthersLab) -> None:
        assert siblings(desk, "desk") == [("0", str(number)) for number in range(4)]

    def test_its_disk_is_on_scsi_and_writes_through(self, desk: OthersLab) -> None:
        disk = {"driver": "virtio_scsi", "bytes": 100 * GIB, "cache": "write through"}
        assert desk.look("desk")["disks"]["root"] == {**disk, "discards": True}

    def test_it_reads_both_discs(self, desk: OthersLab) -> None:
        for number, text in enumerate(("Windows", "the drivers"), 1):
            path = f"/dev/disk/by-id/scsi-0QEMU_QEMU_CD-ROM_cdrom{number}"
            script = f"mount -o ro {path} /mnt && cat /mnt/text; umount /mnt"
            assert desk.sh("desk", script) == text

    def test_it_has_its_display_and_its_sound(self, desk: OthersLab) -> None:
        script = "cd /sys/bus/pci/devices; for each in *; do cat $each/vendor $each/device; done"
        words = desk.sh("desk", script).split()
        devices = {*zip(words[::2], words[1::2], strict=True)}
        assert {("0x1b36", "0x0100"), ("0x8086", "0x293e")} <= devices


@contextmanager
def windows(folder: Path, guest: dict[str, Any]) -> Iterator[OthersLab]:
    """The lab with discs that the test makes: a machine without KVM has it by emulation."""
    (folder / "windows.iso").write_bytes(disc("Windows"))
    (folder / "drivers.iso").write_bytes(disc("the drivers"))
    own = {**guest, "type": "qemu", "cdroms": ["./windows.iso", "./drivers.iso"]}
    with (
        lan(),
        running(folder, TestWin10.LAB, {"guests": {"desk": own}}, []) as lab,
    ):
        yield lab
