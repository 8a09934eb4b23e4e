"""What each field of a guest is: one row a field. Whoever needs to know looks here.

The keys are a guest's fields, and the parts of some. ``disks``, ``networks`` and ``cdroms`` stand
for a disk, an interface or a drive that comes or goes, ``disks.size`` for a change of one, and
``disks.bus`` for one of the root disk, too. Drivers say where a change costs them something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from virtkit._dataclass import dataclass
from virtkit.drivers.effects import Effect

#: What carries out the change of a running guest. ``autostart`` is a flag of libvirt's;
#: ``playbooks`` and ``follow`` are steps of their own (apply/steps.py); the others are in
#: apply/hotplug.py.
LiveAction = Literal[
    "autostart",
    "change_discs",
    "describe",
    "follow",
    "grow",
    "playbooks",
    "plug",
    "set_cpus",
    "set_memory",
]


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a guest.

    Attributes:
        effect: what its change costs, where the driver says nothing else.
        action: what carries the change out where it is ``live``; empty where it never is.
        xml_paths: where it stands in a domain's XML; devices are recognized by what they are.
        in_device: where it stands in the XML of its device, where it is a part of one.
        max_xml_path: where its maximum stands, which a running guest can be given; ``max`` has a
            part for it.
        beside: fields whose change is seen at its places, too.
        started_with: what must stand in a running guest's XML for it to come ``live``: only the
            next start brings that.
        number: what it counts, where it is a number; ``mixed``: its parts are numbers.
        traceless: its change can't always be seen in a running guest's XML: it is a file's, or
            takes something out that libvirt may have chosen itself.
        seed: it stands in the seed, which is written again for the next boot.
        follows: the system of a running guest has something to do, as with all of the seed.
        first_boot: cloud-init sets it right at a guest's first boot only.
        sparse: a record has it only where it differs from the default. So it is with all fields
            that came after 0.1.0: a new one changes no record of a guest that does without it.
    """

    effect: Effect
    action: LiveAction | Literal[""] = ""
    xml_paths: tuple[str, ...] = ()
    in_device: str = ""
    max_xml_path: str = ""
    beside: tuple[str, ...] = ()
    started_with: str = ""
    number: Literal["", "bytes", "count", "mixed"] = ""
    traceless: bool = False
    seed: bool = False
    follows: bool = False
    first_boot: bool = False
    sparse: bool = False

    @property
    def settable(self) -> bool:
        """Whether a running guest can be given what its XML says there: no device, but a value."""
        return bool(self.xml_paths) and self.action not in ("", "plug")

    @property
    def number_in_xml(self) -> bool:
        """Whether the XML's text at its places is a number."""
        return bool(self.number) and not self.traceless


#: The controllers of disks on NVMe: the root's, and one for each other disk.
_NVME = tuple(f"devices/controller[nvme {number}]" for number in range(17))
#: Every field, by its name.
FIELDS: Mapping[str, Field] = {
    "after": Field(effect="none"),
    "allow": Field(effect="none"),
    "autostart": Field(effect="live", action="autostart"),
    "boot": Field(
        effect="restart",
        in_device="boot",
        beside=("cdroms", "disk", "disks", "image", "networks"),
        traceless=True,
        sparse=True,
    ),
    "cdroms": Field(effect="restart", sparse=True),
    "cdroms.disc": Field(effect="live", action="change_discs", in_device="source"),
    "cloud_init": Field(effect="recreate"),
    "console": Field(
        effect="restart", xml_paths=("devices/console", "devices/serial"), beside=("kernel",)
    ),
    "cpus": Field(
        effect="restart",
        action="set_cpus",
        xml_paths=("vcpu", "cputune/period", "cputune/quota"),
        max_xml_path="vcpu",
        number="count",
        follows=True,
    ),
    "cpu": Field(effect="restart", sparse=True),
    "cpu.emulator_pin": Field(effect="restart", xml_paths=("cputune/emulatorpin",), traceless=True),
    "cpu.features": Field(effect="restart", xml_paths=("cpu/feature",), traceless=True),
    "cpu.hidden": Field(
        effect="restart",
        xml_paths=("features/kvm", "features/hyperv/vendor_id"),
        traceless=True,
    ),
    "cpu.io_thread_pin": Field(
        effect="restart", xml_paths=("cputune/iothreadpin",), traceless=True
    ),
    "cpu.io_threads": Field(
        effect="restart", xml_paths=("iothreads",), in_device="driver/@iothread", traceless=True
    ),
    "cpu.model": Field(effect="restart", xml_paths=("cpu",), traceless=True),
    "cpu.numa": Field(effect="restart", xml_paths=("cpu/numa", "numatune"), traceless=True),
    "cpu.pin": Field(effect="restart", xml_paths=("cputune",), traceless=True),
    "cpu.topology": Field(effect="restart", xml_paths=("cpu/topology",), traceless=True),
    "description": Field(effect="live", action="describe", xml_paths=("description",), sparse=True),
    "devices": Field(effect="restart"),
    "disk": Field(effect="restart", action="grow", number="bytes", traceless=True, follows=True),
    "disks": Field(  # the first one on SCSI brings the controller, and so does the root disk
        effect="restart",
        action="plug",
        xml_paths=("devices/controller[scsi 0]", *_NVME),
        beside=("cdroms", "disk"),
        seed=True,
        first_boot=True,
    ),
    "disks.bus": Field(effect="restart", in_device="target/@bus", traceless=True, sparse=True),
    "disks.cache": Field(effect="restart", in_device="driver/@cache", traceless=True, sparse=True),
    "disks.discard": Field(
        effect="restart", in_device="driver/@discard", traceless=True, sparse=True
    ),
    "disks.existing": Field(effect="restart", traceless=True, sparse=True),
    "disks.format": Field(effect="restart", traceless=True, sparse=True),
    "disks.partition": Field(effect="restart", traceless=True, sparse=True),
    "disks.readonly": Field(effect="restart", in_device="readonly", traceless=True, sparse=True),
    "disks.shared": Field(effect="restart", in_device="shareable", traceless=True, sparse=True),
    "disks.io": Field(effect="restart", in_device="driver/@io", traceless=True, sparse=True),
    "disks.keep": Field(effect="none"),
    "disks.mount": Field(effect="restart", action="follow", traceless=True),
    "disks.size": Field(effect="restart", action="grow", number="bytes", traceless=True),
    "files": Field(effect="live", action="follow", seed=True, first_boot=True, sparse=True),
    "firmware": Field(
        effect="restart",
        xml_paths=("features/smm", "os/@firmware", "os/firmware", "os/loader", "os/nvram"),
    ),
    "folders": Field(
        effect="restart",
        action="plug",
        xml_paths=("memoryBacking",),
        beside=("hugepages",),
        started_with="memoryBacking/access",
        seed=True,
        first_boot=True,
        sparse=True,
    ),
    "graphics": Field(effect="restart", xml_paths=("devices/graphics", "devices/video")),
    "graphics.listen": Field(effect="restart"),
    "graphics.tablet": Field(effect="restart", xml_paths=("devices/input",)),
    "graphics.video": Field(effect="restart"),
    "groups": Field(effect="none"),
    "host": Field(effect="recreate"),
    "host_devices": Field(  # nothing but its contents tells one from another
        effect="restart", xml_paths=("devices/hostdev",), traceless=True, sparse=True
    ),
    "hugepages": Field(
        effect="restart", xml_paths=("memoryBacking/hugepages",), traceless=True, sparse=True
    ),
    "ignition": Field(effect="recreate", sparse=True),
    "image": Field(effect="recreate"),
    "kernel": Field(  # another content of its files leaves no trace
        effect="restart",
        xml_paths=("bootloader", "os/boot", "os/kernel", "os/initrd", "os/cmdline"),
        beside=("boot", "cdroms"),
        traceless=True,
    ),
    "max": Field(effect="restart", number="mixed"),
    "memory": Field(
        effect="live",
        action="set_memory",
        xml_paths=("currentMemory", "memory", "memtune"),
        max_xml_path="memory",
        number="bytes",
    ),
    "networks": Field(
        effect="live", action="plug", xml_paths=("os/initenv[virtkit_macs]",), seed=True
    ),
    "networks.address": Field(effect="restart", traceless=True),
    "networks.address6": Field(effect="restart", traceless=True, sparse=True),
    "networks.mac": Field(effect="live", action="plug"),
    "networks.model": Field(effect="restart", in_device="model/@type", traceless=True, sparse=True),
    "networks.mtu": Field(effect="restart", in_device="mtu", traceless=True, sparse=True),
    "networks.portgroup": Field(
        effect="restart", in_device="source/@portgroup", traceless=True, sparse=True
    ),
    "networks.queues": Field(effect="restart", in_device="driver", traceless=True, sparse=True),
    "networks.vlan": Field(effect="restart", in_device="vlan", traceless=True, sparse=True),
    "password": Field(effect="live", action="follow", seed=True, first_boot=True, sparse=True),
    "place": Field(effect="none", sparse=True),  # where it is made, and then never again
    "playbooks": Field(effect="live", action="playbooks"),
    "privileged": Field(effect="recreate"),
    "ready": Field(effect="none"),
    "sound": Field(effect="restart", xml_paths=("devices/sound",), sparse=True),
    "ssh_keys": Field(effect="live", action="follow", seed=True, first_boot=True),
    "start": Field(effect="none", sparse=True),
    "system": Field(effect="recreate", sparse=True),
    "template": Field(effect="restart"),
    "tpm": Field(effect="restart", xml_paths=("devices/tpm",), sparse=True),
    "type": Field(effect="recreate"),
    "user": Field(effect="recreate"),
    "user_data": Field(effect="none", sparse=True),  # what is in it is part of `cloud_init`
    "vars": Field(effect="none"),  # playbooks that read them are run again
}

#: A place in a domain's XML, and the field that stands there.
FIELDS_BY_PATH: Mapping[str, str] = {
    place: name for name, row in FIELDS.items() for place in row.xml_paths
}
#: The fields in the seed.
IN_SEED = frozenset(name for name, row in FIELDS.items() if row.seed)
#: The fields that the system of a running guest has to follow.
FOLLOWED = frozenset(name for name, row in FIELDS.items() if row.seed or row.follows)
#: Those that cloud-init sets right at a guest's first boot only.
FIRST_BOOT = frozenset(name for name, row in FIELDS.items() if row.first_boot)
#: The fields that are lists of devices; a reason has the device's name after theirs.
DEVICE_LISTS = ("cdroms", "disks", "networks")
_NO_FIELD = Field(effect="restart")
#: The fields that a running guest has up to a limit, which ``max`` may give.
_LIMITED = frozenset(name for name, row in FIELDS.items() if row.max_xml_path)


def row_key(field: str) -> str:
    """The key of a reason's field in ``FIELDS``: ``disks.data.size`` is ``disks.size``."""
    first, *rest = field.split(".")
    if first in DEVICE_LISTS:
        return ".".join([first, *rest[1:]])
    part = ".".join(["disks" if first == "disk" and rest else first, *rest[:1]])
    return part if part in FIELDS else first


def row_of(field: str) -> Field:
    """The row of a reason's field; a place in the XML that no field names needs a restart."""
    return FIELDS.get(row_key(field), _NO_FIELD)


def field_at(path: str) -> str:
    """The field that stands at a place in a domain's XML; empty where none does."""
    around = (
        place for place in FIELDS_BY_PATH if f"{path}/".startswith((f"{place}/", f"{place}["))
    )
    return FIELDS_BY_PATH.get(max(around, key=len, default=""), "")


def part_at(device: str, place: str) -> str:
    """The part of a disk or an interface (``disks``, ``networks``) that stands at a place in its
    XML; empty where none does."""
    for name, row in FIELDS.items():
        first, _, part = name.partition(".")
        if first == device and row.in_device and f"{place}/".startswith(f"{row.in_device}/"):
            return part
    return ""


def device_field_at(place: str) -> str:
    """The field that stands at a place in the XML of many devices; empty where none does."""
    rows = (
        (name, row.in_device)
        for name, row in FIELDS.items()
        if name.partition(".")[0] not in DEVICE_LISTS
    )
    return next((name for name, own in rows if own and f"{place}/".startswith(f"{own}/")), "")


def limited_at(place: str) -> str:
    """The field whose limit stands at a place in a domain's XML; empty where none does."""
    return next((name for name in _LIMITED if FIELDS[name].max_xml_path == place), "")


def accounts_for(field: str) -> frozenset[str]:
    """The fields whose change explains a difference in a ``field`` with a limit: libvirt has both
    numbers in one place. Empty for all others."""
    if field == "max":
        return _LIMITED | {"max"}
    return frozenset({field, "max"}) if field in _LIMITED else frozenset()
