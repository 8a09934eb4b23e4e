"""What a change of each key of a guest costs, and how it is seen: the data of test_every_key.py.

A key is a row of virtkit's table of fields. tests/unit/plan/test_key_cases.py holds that each
has a case here, for `qemu` and for `lxc`, or a line in ``ELSEWHERE``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from integration.lab import tiny_disk
from samples import PUBLIC

from virtkit.drivers.effects import Effect

NAME = "everykey"
MIB = 1024**2
#: Disks that the host has already: a folder that is nobody else's in the sandbox, and that QEMU's
#: user passes through.
HOST_DISKS = "/var/lib/libvirt/everykey"
#: A network that somebody else made, for its portgroups.
PORTS = """
<network>
  <name>portgroups</name>
  <bridge name='vkports'/>
  <ip address='10.94.93.1' netmask='255.255.255.0'>
    <dhcp><range start='10.94.93.2' end='10.94.93.99'/></dhcp>
  </ip>
  <portgroup name='one' default='yes'/>
  <portgroup name='two'/>
</network>
"""
WATCHDOG = "<watchdog model='i6300esb' action='none'/>"
RAM = "<filesystem type='ram'><source usage='1024' units='KiB'/><target dir='{}'/></filesystem>"
CLOUD = {"write_files": [{"path": "/srv/said", "content": "said by cloud-init"}]}
DATA = {"name": "data", "size": "32MiB", "mount": "/srv/data"}
WIDE = {"name": "wide", "size": "32MiB", "mount": "/srv/wide"}
READ = {"source": "./read", "target": "/srv/read", "readonly": True}
SOURCE = {"source": "./source", "target": "/srv/source"}
NOTE = {"path": "/srv/note", "content": "one"}
MAC, OTHER_MAC = "52:54:00:94:91:01", "52:54:00:94:91:02"

#: Guests without a system boot in a second or two: ``tiny``, ``disks``, and ``boots``, which may
#: not boot any more. ``box`` is a container.
SPEC: dict[str, Any] = {
    "name": NAME,
    "images": {"tiny": {"path": "tiny.raw"}, "other": {"path": "other.raw"}},
    "networks": {
        "front": {"cidr": "10.94.91.0/24", "ipv6": "fd00:94:91::/64"},
        "back": {"mode": "isolated", "cidr": "10.94.92.0/24"},
        "ports": {"existing": "portgroups"},
    },
    "defaults": {"networks": [], "ssh_keys": ["id.pub"]},
    "guests": {
        "tiny": {
            "type": "qemu",
            "image": "tiny",
            "memory": "32MiB",
            "ready": "none",
            "disk": "2MiB",
            "disks": [{"name": "data", "size": "1MiB"}],
            "cdroms": ["one.iso"],
            "networks": [
                {"name": "front", "address": "10.94.91.10"},
                {"name": "back"},
                {"name": "ports", "portgroup": "one"},
            ],
            "graphics": {"kind": "vnc", "video": "qxl"},
        },
        "disks": {
            "type": "qemu",
            "image": "tiny",
            "memory": "32MiB",
            "ready": "none",
            "disk": {"size": "2MiB"},
            "disks": [
                {"name": "data", "size": "1MiB"},
                {"name": "more", "size": "1MiB"},
                {"name": "there", "existing": f"{HOST_DISKS}/there"},
                {"name": "packed", "existing": f"{HOST_DISKS}/packed", "format": "raw"},
                {"name": "read", "existing": f"{HOST_DISKS}/read"},
                {"name": "common", "existing": f"{HOST_DISKS}/common"},
            ],
        },
        "boots": {
            "type": "qemu",
            "image": "tiny",
            "memory": "64MiB",
            "ready": "none",
            "disk": {"size": "2MiB"},
            "ssh_keys": None,
        },
        "box": {
            "type": "lxc",
            "memory": "128MiB",
            "max": {"memory": "256MiB"},
            "networks": [
                {"name": "front", "address": "10.94.91.20"},
                {"name": "ports", "portgroup": "one", "mac": MAC},
            ],
            "disks": [DATA, WIDE],
            "folders": [READ],
            "files": [NOTE],
            "host_devices": ["/dev/fuse"],
            "allow": ["hostdev"],
        },
    },
}
#: A virtual machine with a system: its boot takes most of a minute, so the tests that need it add
#: it.
VM: dict[str, Any] = {
    "type": "qemu",
    "memory": "256MiB",
    "max": {"memory": "384MiB"},
    "networks": [{"name": "front"}, {"name": "ports", "mac": "52:54:00:94:91:03"}],
    "disks": [DATA],
    "folders": [READ],
    "files": [NOTE],
}
#: The spec's files, in its folder; folders of the host have a file ``hello``.
FILES: Mapping[str, bytes] = {
    "tiny.raw": tiny_disk(),
    "other.raw": tiny_disk(b"another image"),
    "kernel": tiny_disk(),
    "one.ign": b'{"ignition": {"version": "3.3.0"}}',
    "one.iso": tiny_disk()[:-3] + b"one",
    "two.iso": tiny_disk()[:-3] + b"two",
    "read/hello": b"",
    "source/hello": b"",
    "other.pub": f"{PUBLIC} other".encode(),
    "one.yaml": b"#cloud-config\nbootcmd: [[echo, said by a file]]\n",
    "site.yml": b"""
- hosts: all
  become: true
  gather_facts: false
  tasks:
    - name: Say that it ran
      ansible.builtin.raw: touch /srv/played
      changed_when: false
""",
    **{
        f"{kind}.xml.j2": (
            f'{{% extends "{kind}.xml.j2" %}}\n'
            f"{{% block devices %}}{{{{ super() }}}}{device}{{% endblock %}}\n"
        ).encode()
        for kind, device in (("qemu", WATCHDOG), ("lxc", RAM.format("/media")))
    },
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A change of one key of one guest, and the way back.

    Attributes:
        guest: the guest.
        group: those that are changed together: what most of them cost.
        path: where it is in the guest's entry; entries of lists by their names, or from 1.
        value: what stands there after the change.
        effect: what `plan` says that it costs; empty where `plan` has nothing to say of it.
        called: what `plan` calls it, where that is not the path.
        xml: an XPath that holds in a running guest's XML once it has the change.
        inside: a shell script that ends with 0 in a guest that has it.
        host: the same on its host, for ``{domain}`` with its ``{uri}``, its volumes ``{volume}-…``
            and the spec's ``{folder}``.
        needs: the path of another change that it can't be without.
        back: what `plan` says on the way back beside the same, by the field.
        early: it is seen before the guest has it, as it is something of the host's.
        stays: there is no way back, as for a disk that grew.
    """

    guest: str = ""
    group: Effect = "none"
    path: str
    value: Any
    effect: Effect | None = None
    called: str = ""
    xml: str = ""
    inside: str = ""
    host: str = ""
    needs: str = ""
    back: Mapping[str, Effect] = field(default_factory=dict)
    early: bool = False
    stays: bool = False

    @property
    def reason(self) -> str:
        """What `plan` calls the change."""
        return self.called or self.path


def _to(path: str, value: Any, xml: str = "", **others: Any) -> Case:
    return Case(path=path, value=value, xml=xml, **others)


def _mac(address: str) -> Case:
    """The second card's address becomes this one, in the guest too."""
    return _to(
        "networks.ports.mac",
        address,
        f"devices/interface/mac[@address='{address}']",
        inside=f"cat /sys/class/net/*/address | grep -qx {address}",
    )


def _disk(name: str, what: str) -> str:
    return f"devices/disk[serial='{name}']/{what}"


def _card(network: str, what: str) -> str:
    return f"devices/interface[source/@network='{network}']/{what}"


def _has_size(volume: str, size: int) -> str:
    return f"qemu-img info -U {{volume}}-{volume} | grep -q '({size} bytes)'"


def _is_larger(folder: str, size: int) -> str:
    return f"test $(df -B1 --output=size {folder} | tail -1) -gt {size}"


def _in_seed(text: str) -> str:
    return f"grep -aq '{text}' {{volume}}-seed"


# --- what is noted, and no more ------------------------------------------------------------------

NOTED = (
    _to("after", ["boots"]),
    _to("allow", ["host-paths", "hostdev"]),
    _to("disks.data.keep", True),
    _to("groups", ["web"]),
    _to("place", {"pack": True}),
    _to("ready", {"port": 22, "timeout": "1s"}),
    _to("start", False),
)
#: The record has nothing of it, and `plan` says nothing.
UNTOLD = (_to("vars", {"a": 1}),)

# --- what comes while the guest runs -------------------------------------------------------------

#: A domain's flag, which is in no XML.
AUTOSTART = "virsh -q -c {uri} dominfo {domain} | grep -q 'Autostart: *enable'"
LIVE = (
    _to("autostart", True, host=AUTOSTART),
    _to("description", "a text", "description[. = 'a text']"),
)
#: A machine without a system gives nothing back.
LIVE_TINY = (
    _to("cdroms.1", "two.iso", called="cdroms.1.disc", host="cmp {folder}/two.iso {volume}-cdrom1"),
    _to("disk", "4MiB", host=_has_size("root", 4 * MIB), stays=True),
    _to("disks.data.size", "2MiB", host=_has_size("data", 2 * MIB), stays=True),
    _to("disks.more", {"size": "1MiB"}, _disk("more", "target"), stays=True),
)
#: What the guest's own system does.
FOLLOWED = (
    _to("files./srv/note.content", "two", inside='test "$(cat /srv/note)" = two'),
    _to("networks.back", {}, _card(f"{NAME}-back", "target")),
    _mac(OTHER_MAC),
    _to(
        "password",
        {"env": "EVERYKEY_PASSWORD"},
        inside="getent shadow virtkit | cut -d: -f2 | grep -q '^[$]'",
    ),
    _to("playbooks", ["site.yml"], inside="test -e /srv/played", stays=True),
    _to(
        "ssh_keys",
        ["id.pub", "other.pub"],
        inside=f"grep -qrs {PUBLIC.split()[1]} /home/virtkit/.ssh",
    ),
)
LIVE_BOX = (
    _to("memory", "192MiB", inside="grep -q '^MemTotal: *196608 kB' /proc/meminfo"),
    *FOLLOWED,
)
LIVE_VM = (
    _to("disk", "5GiB", inside=_is_larger("/", 4_600_000_000), stays=True),
    _to("disks.more", {"size": "32MiB"}, _disk("more", "target")),
    _to("disks.data.mount", "/srv/moved", inside="findmnt /srv/moved"),
    _to("disks.data.size", "64MiB", host=_has_size("data", 64 * MIB), stays=True),
    _to("folders", [READ, SOURCE], inside="test -e /srv/source/hello"),
    _to("memory", "320MiB", "currentMemory[. > 300000]"),
    *(each for each in FOLLOWED if each.path != "networks.ports.mac"),
    _mac("52:54:00:94:91:04"),
)

# --- what waits for a restart --------------------------------------------------------------------

RESTART = (
    _to("networks.front.mtu", 1400, _card(f"{NAME}-front", "mtu[@size='1400']")),
    _to("networks.ports.portgroup", "two", _card("portgroups", "source[@portgroup='two']")),
)
RESTART_TINY = (
    _to("boot", ["disk", "network"], "devices/interface/boot"),
    _to(
        "cdroms.2",
        "two.iso",
        "devices/disk[serial='cdrom2']",
        back={"cdroms.2.disc": "live"},
    ),
    _to("cpus", 2, "vcpu[. = '2']"),
    _to("cpu.features", {"rdrand": "disable"}, "cpu/feature[@name='rdrand']"),
    _to("cpu.model", "maximum", "cpu[@mode='maximum']"),
    _to("cpu.pin", [0, 1], "cputune/vcpupin", needs="cpus"),
    _to("cpu.topology", {"cores": 2}, "cpu/topology[@cores='2']", needs="cpus"),
    _to("devices", [WATCHDOG], "devices/watchdog"),
    _to("graphics.listen", "127.0.0.2", "devices/graphics/listen[@address='127.0.0.2']"),
    _to("graphics.tablet", True, "devices/input[@type='tablet']"),
    _to("graphics.video", "virtio", "devices/video/model[@type='virtio']"),
    _to(
        "networks.front.address",
        "10.94.91.11",
        host=f"virsh -q -c {{uri}} net-dumpxml {NAME}-front | grep -q 10.94.91.11",
        early=True,
    ),
    _to("networks.front.address6", "fd00:94:91::11", host=_in_seed("fd00:94:91::11"), early=True),
    _to("networks.front.queues", 2, _card(f"{NAME}-front", "driver[@queues='2']")),
    _to("networks.back.model", "e1000e", _card(f"{NAME}-back", "model[@type='e1000e']")),
    *RESTART,
    _to("sound", True, "devices/sound"),
    _to("tpm", True, "devices/tpm"),
)
RESTART_DISKS = (
    _to("disk.bus", "scsi", _disk("root", "target[@bus='scsi']")),
    _to("disks.more.bus", "sata", _disk("more", "target[@bus='sata']")),
    _to("disks.data.cache", "writethrough", _disk("data", "driver[@cache='writethrough']")),
    _to("disks.data.io", "threads", _disk("data", "driver[@io='threads']")),
    _to("disks.data.discard", False, _disk("data", "driver[@discard='ignore']")),
    _to(
        "disks.there.existing",
        f"{HOST_DISKS}/elsewhere",
        _disk("there", f"source[@file='{HOST_DISKS}/elsewhere']"),
    ),
    _to("disks.packed.format", "qcow2", _disk("packed", "driver[@type='qcow2']")),
    _to("disks.read.readonly", True, _disk("read", "readonly")),
    _to("disks.common.shared", True, _disk("common", "shareable")),
    _to("graphics.kind", "spice", "devices/graphics[@type='spice']", called="graphics"),
    # the first folder; the running machine would have to give it back, too
    _to("folders", [READ], "devices/filesystem[driver/@type='virtiofs']", stays=True),
    _to("max", {"cpus": 2, "memory": "64MiB"}, "vcpu[. = '2']"),
)
#: The last three keep a machine without a system from booting at all.
RESTART_BOOTS = (
    _to("disk.cache", "none", _disk("root", "driver[@cache='none']")),
    _to("disk.io", "native", _disk("root", "driver[@io='native']"), needs="disk.cache"),
    _to("disk.discard", False, _disk("root", "driver[@discard='ignore']")),
    _to("firmware", "uefi", "os/loader"),
    _to("kernel", {"path": "kernel", "cmdline": "one"}, "os/cmdline[. = 'one']"),
    _to("template", "qemu.xml.j2", "devices/watchdog"),
)
RESTART_BOX = (
    _to("cpus", 2, "vcpu[. = '2']"),
    _to("devices", [RAM.format("/mnt")], "devices/filesystem[@type='ram'][target/@dir='/mnt']"),
    _to("disk", "5GiB", inside=_is_larger("/", 4_600_000_000), stays=True),
    _to(
        "disks.more",
        {"size": "32MiB", "mount": "/srv/more"},
        inside="findmnt /srv/more",
    ),
    _to("disks.data.mount", "/srv/moved", inside="findmnt /srv/moved"),
    _to("disks.wide.size", "64MiB", inside=_is_larger("/srv/wide", 40_000_000), stays=True),
    _to("folders", [READ, SOURCE], inside="test -e /srv/source/hello"),
    _to("host_devices", ["/dev/fuse", "/dev/net/tun"], inside="test -c /dev/net/tun"),
    _to("max", {"memory": "384MiB"}, "memory[. = '393216']"),
    _to("networks.front.address", "10.94.91.21", inside="ip -br a | grep -q ' 10.94.91.21/'"),
    _to("networks.front.address6", "fd00:94:91::20", inside="ip -br a | grep -q ' fd00:94:91::20'"),
    *RESTART,
    _to("template", "lxc.xml.j2", "devices/filesystem[@type='ram'][target/@dir='/media']"),
)

# --- what asks for a new root disk ---------------------------------------------------------------

RECREATE = (
    _to("cloud_init", CLOUD, host=_in_seed("said by cloud-init")),
    _to("user", "somebody", host=_in_seed("somebody")),
    # what is in it is part of cloud_init
    _to("user_data", "one.yaml", host=_in_seed("said by a file"), effect="none"),
)
RECREATE_TINY = (
    _to(
        "image",
        "other",
        host="qemu-img info -U {volume}-root | sed -n 's/^backing file: \\([^ ]*\\).*/\\1/p'"
        " | xargs grep -aq 'another image'",
    ),
    *RECREATE,
)
RECREATE_DISKS = (
    _to("ignition", "one.ign", "sysinfo/entry", host="cmp {folder}/one.ign {volume}-ignition"),
)
RECREATE_BOOTS = (_to("system", "windows", "clock[@offset='localtime']"),)
RECREATE_BOX = (*RECREATE, _to("privileged", True, "features[not(capabilities)]"))

#: The cases of each guest, by what they cost.
_BY_GUEST: Mapping[str, Mapping[Effect, tuple[Case, ...]]] = {
    "tiny": {
        "none": NOTED,
        "live": (*LIVE, *LIVE_TINY),
        "restart": RESTART_TINY,
        "recreate": RECREATE_TINY,
    },
    "disks": {"restart": RESTART_DISKS, "recreate": RECREATE_DISKS},
    "boots": {"restart": RESTART_BOOTS, "recreate": RECREATE_BOOTS},
    "vm": {"live": LIVE_VM},
    "box": {
        "none": NOTED,
        "live": (*LIVE, *LIVE_BOX),
        "restart": RESTART_BOX,
        "recreate": RECREATE_BOX,
    },
}
CASES: tuple[Case, ...] = (
    *(
        replace(case, guest=guest, group=effect, effect=case.effect or effect)
        for guest, by_effect in _BY_GUEST.items()
        for effect, cases in by_effect.items()
        for case in cases
    ),
    *(replace(case, guest=guest) for guest in ("tiny", "box") for case in UNTOLD),
)
#: All guests, as they are before any change.
GUESTS: Mapping[str, Mapping[str, Any]] = {**SPEC["guests"], "vm": VM}

_OTHER_TYPE = "integration/test_changes.py::test_a_container_becomes_a_virtual_machine"
_OTHER_HOST = "functional/test_several_hosts.py::test_a_guest_moves_with_consent"
_NO_SWITCH = "needs Open vSwitch, and nobody has tried that"
#: The rows without a case, by type: the test that changes them on a guest, or why there is none.
ELSEWHERE: Mapping[tuple[str, str], str] = {
    ("qemu", "console"): "has one value",
    ("lxc", "console"): "has one value",
    ("qemu", "cpu"): "has parts, and each has a case",
    ("qemu", "host"): _OTHER_HOST,
    ("lxc", "host"): _OTHER_HOST,
    ("qemu", "type"): _OTHER_TYPE,
    ("lxc", "type"): _OTHER_TYPE,
    ("qemu", "host_devices"): (
        "integration/test_folders.py::test_pci_and_usb_devices_can_be_defined_and_must_be_there"
    ),
    ("lxc", "image"): "integration/test_rootfs.py::test_another_archive_is_another_image",
    ("qemu", "networks.vlan"): _NO_SWITCH,
    ("lxc", "networks.vlan"): _NO_SWITCH,
}


def changed(guest: Mapping[str, Any], cases: Iterable[Case]) -> dict[str, Any]:
    """A guest's entry after the changes."""
    answer = copy.deepcopy(dict(guest))
    for case in cases:
        *above, last = case.path.split(".")
        here: Any = answer
        for key in above:
            here = _entry(here, key)
        if not isinstance(here, list):
            here[last] = case.value
        elif last.isdigit():
            here[int(last) - 1 :] = [case.value]
        else:
            here.append({"name": last, **case.value})
    return answer


def _entry(parent: Any, key: str) -> Any:
    if isinstance(parent, list):
        return next(each for each in parent if key in (each.get("name"), each.get("path")))
    return parent.setdefault(key, {})
