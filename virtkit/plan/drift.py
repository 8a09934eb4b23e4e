"""What libvirt has of a guest's XML, against what virtkit renders: drift, upgrades, what waits.

A difference is named by the guest's field where there is one, else by its place in the XML.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from lxml import etree

from virtkit._dataclass import dataclass
from virtkit.drivers.fields import device_field_at, field_at, limited_at, part_at, row_of
from virtkit.spec.model import DEFAULT_NETWORK, drive_number
from virtkit.state.observed import ObservedGuest
from virtkit.state.record import Cause, GuestRecord
from virtkit.state.shared import is_folder_tag
from virtkit.state.volumes import HOOK_FOLDER, LAYER_FOLDER
from virtkit.xml import diff, tree
from virtkit.xml.diff import Difference

if TYPE_CHECKING:
    from virtkit.state.desired import Guest

#: What older versions did not render. A guest of theirs gets it when it is defined for another
#: reason; it lacks nothing until then, so no plan mentions it.
_LATER = re.compile(r"devices/disk\[.*\]/backingStore|os/initenv\[virtkit_macs\]")


#: Where an interface is plugged in. Its network's entry in the spec says so, and no version of ours
#: plugs it in elsewhere.
_PLACE = re.compile(r"devices/interface\[[^]]*\](/source(/.*)?|/@type)")


@dataclass(frozen=True)
class FieldDifference:
    """A difference in the XML, with the name of its field; ``live``: the same in the running
    guest's, None where that has what we want."""

    field: str
    xml: Difference
    cause: Cause
    live: Difference | None = None

    @property
    def live_fix(self) -> bool:
        """Whether a running guest can be given it at all: whole devices, values such as memory."""
        *above, last = diff.split_path(self.xml.path)
        comes = ("disk[", "filesystem[", "interface[", "controller[scsi")
        device = above == ["devices"] and last.startswith(comes)
        row = row_of(self.field)
        return device or row.settable or row.action == "change_discs"


class DriftCheck:
    """Compares the XML of a guest that exists: as it should be, as it was rendered, libvirt's."""

    def __init__(self, guest: Guest, current: ObservedGuest, wanted: str) -> None:
        self._guest = guest
        self._record = current.record
        self._staged = staged_causes(current)
        self._same = wanted == current.record.rendered
        self._wanted = tree.parse(wanted, f"the XML of {guest.name}")
        self._before = _parsed(current.record.rendered)
        self._inactive = _parsed(current.inactive)
        self._live = _parsed(current.live)

    def next_boot(self) -> list[FieldDifference]:
        """What the next boot would lack."""
        if self._inactive is None:
            return []
        differences = [
            *self._differences(self._wanted, self._inactive),
            *self._removed(self._inactive),
        ]
        if not differences:
            return []
        drifted = {each.path for each in self._differences(self._before, self._inactive)}
        differences = [
            each for each in differences if each.path in drifted or not _comes_later(each)
        ]
        live = {each.path: each for each in self._live_differences}
        return [
            FieldDifference(
                self._field(each.path),
                each,
                self._cause(each.path, drifted),
                live.get(each.path),
            )
            for each in differences
        ]

    def _cause(self, path: str, drifted: Collection[str]) -> Cause:
        """Why a definition lacks what stands at a place."""
        if path in drifted or self._before is None:
            return "drift"
        return "spec" if _PLACE.fullmatch(path) else "upgrade"

    def running(self) -> list[FieldDifference]:
        """What the running guest lacks, or still has from before."""
        return [
            FieldDifference(self._field(each.path), each, "drift", each)
            for each in self._live_differences
        ]

    def exceeds_max(self, field: str, after: int) -> bool:
        """Whether a running guest would have to grow further than it can."""
        place = row_of(field).max_xml_path
        if not place or self._live is None:
            return False
        most = int(diff.value_at(self._live, place) or 0)
        return (self._guest.live_cpus(most) if field == "cpus" else most) < after

    def needs_start(self, field: str) -> bool:
        """Whether a running guest lacks what it needs to be given the field while it runs."""
        place = row_of(field).started_with
        if not place or self._live is None:
            return False
        return diff.element_at(self._live, place) is None

    def io_threads(self) -> int:
        """How many threads for disks the running guest has."""
        number = diff.value_at(self._live, "iothreads") if self._live is not None else None
        return int(number or 0)

    def disk_bus(self, volume: str) -> str:
        """The bus on which the running guest has a volume; empty where it has none of that name."""
        for disk in self._live.iterfind("./devices/disk") if self._live is not None else ():
            source, target = disk.find("source"), disk.find("target")
            path = source.get("file", "") if source is not None else ""
            if path.rpartition("/")[2] == volume and target is not None:
                return target.get("bus", "")
        return ""

    @functools.cached_property
    def _live_differences(self) -> list[Difference]:
        if self._live is None:
            return []
        return [
            *(d for d in self._differences(self._wanted, self._live) if not self._harmless(d)),
            *self._removed(self._live),
            *(Difference(e, None, "yes") for e in self._detaching() if self._stays(e)),
        ]

    def _detaching(self) -> Iterable[str]:
        """What is to leave the running guest, but for what others came by: it harms nobody."""
        for path in self._record.detaching:
            if not row_of(field_at(path)).started_with:
                yield path

    def _stays(self, path: str) -> bool:
        """Whether the running guest still has what was to leave, and its next boot has not: libvirt
        may have something of its own there, for another machine."""
        now, after = self._live, (self._wanted, self._inactive)
        return (now is not None and diff.element_at(now, path) is not None) and not any(
            diff.element_at(each, path) is not None for each in after if each is not None
        )

    def _harmless(self, difference: Difference) -> bool:
        """A guest that has all its memory still (its balloon isn't there yet, or has no driver),
        could grow further than it has to, or was started by an older version."""
        assert self._live is not None
        if _comes_later(difference):
            return True
        if difference.path == "memory" and self._guest.spec.max.memory is None:
            return int(difference.current or 0) > int(difference.wanted or 0)
        return difference.path == "currentMemory" and difference.current == diff.value_at(
            self._live, "memory"
        )

    def _differences(
        self, wanted: etree._Element | None, current: etree._Element
    ) -> Iterable[Difference]:
        if wanted is None:
            return []
        rewritten = self._record.rewritten
        return [each for each in diff.differences(wanted, current) if each.path not in rewritten]

    def _removed(self, current: etree._Element) -> list[Difference]:
        if self._before is None or self._same:
            return []
        return diff.removed(self._before, self._wanted, current)

    def _field(self, path: str) -> str:
        limited = limited_at(path)
        if limited and getattr(self._guest.spec.max, limited):
            return "max"
        # a folder of the spec's: container_mounts.py
        return (
            self._device(path) or field_at(path) or path.replace(f"[{LAYER_FOLDER}/mounts/", "[/")
        )

    def _device(self, path: str) -> str:
        """The disk or network interface that a place belongs to, or its part; empty where it is
        none of ours."""
        place_in_device = "/".join(diff.split_path(path)[2:])
        place = "/".join(diff.split_path(path)[:2])
        documents = (self._wanted, self._before, self._live)
        devices = [diff.element_at(each, place) for each in documents if each is not None]
        device = next((each for each in devices if each is not None), None)
        if device is None or not place.startswith("devices/"):
            return ""
        if device.tag == "filesystem" and self._is_folder(device):
            return "folders"
        if device.tag == "interface":
            return _with_part(f"networks.{self._network(device)}", place_in_device)
        if field := self._by_serial(device):
            moves = not field.startswith("cdroms") and self._moves(_source(device))
            return f"{field}.{self._place}" if moves else _with_part(field, place_in_device)
        if "backingStore" in diff.split_path(path):
            return ""  # a disk's backing file, and not what is on it
        source = device.find("source")
        path = source.get("file") or source.get("dir") or "" if source is not None else ""
        name = path.rpartition("/")[2]
        if device.tag == "disk" and self._moves(path):
            own = name.removeprefix(f"{self._guest.domain}-")
            return f"{'disk' if own in ('root', 'seed') else f'disks.{own}'}.{self._place}"
        disk = name.removeprefix(f"{self._guest.domain}-")
        if device.tag not in ("disk", "filesystem") or disk == name:
            return ""
        if device.tag == "filesystem":
            return (
                f"disks.{disk}" if place.startswith(f"devices/filesystem[{LAYER_FOLDER}/") else ""
            )
        return _with_part("disk" if disk == "root" else f"disks.{disk}", place_in_device)

    def _by_serial(self, disk: etree._Element) -> str:
        """The field of a drive, or of a disk that the host has already, or had: which tell by no
        volume's name whose they are. Empty where it is none of these."""
        serial = disk.findtext("serial", "")
        if disk.get("device") == "cdrom":
            number = drive_number(serial)
            return f"cdroms.{number}" if number else ""
        if disk.tag != "disk":
            return ""
        current = [each for each in self._guest.disks if each.volume.content == "existing"]
        known = [(each.target, each.name) for each in self._record.existing]
        known += [(each.target, each.name) for each in current]
        target = disk.find("target")
        if not serial and target is not None:  # Xen's disks have none
            paths = {each.path: each.name for each in self._record.existing}
            paths |= {each.volume.key: each.name for each in current}
            by_target = dict(known).get(target.get("dev", ""), "")
            serial = paths.get(_source(disk), by_target)
        if serial not in {name for _, name in known}:
            return ""
        return "disk" if serial == "root" else f"disks.{serial}"

    def _is_folder(self, device: etree._Element) -> bool:
        """Whether a file system is one of the ``folders`` that the guest has, or had."""
        source, target = (
            each.get("dir", "") if (each := device.find(tag)) is not None else ""
            for tag in ("source", "target")
        )
        targets = {each.target for each in self._guest.folders}
        targets |= {each["target"] for each in self._record.requested.get("folders") or ()}
        own = any(is_folder_tag(each.rpartition("/")[2]) for each in (source, target))
        # what left a container without ids of its own is told by nothing else
        left = "folders" in self._staged and source and not source.startswith(f"{HOOK_FOLDER}/")
        places = f"{LAYER_FOLDER}/mounts"
        return (
            own
            or target in {f"{places}{each}" for each in targets}
            or (bool(left) and target.startswith(f"{places}/"))
        )

    @property
    def _place(self) -> str:
        """The part of a disk that says where the guest has it."""
        return "partition" if "disks.bus" in self._guest.driver.unsupported else "bus"

    def _moves(self, volume: str) -> bool:
        """Whether the running guest has a disk at another place than it should: on another bus, or
        as another partition."""
        targets = {diff.disk_target(e, volume) for e in (self._wanted, self._live) if e is not None}
        return len(targets - {""}) > 1

    def _network(self, device: etree._Element) -> str:
        """The spec's name for the network that an interface is on, or was."""
        mac = device.find("mac")
        address = (mac.get("address") or "").lower() if mac is not None else ""
        requested = self._record.requested.get("networks")
        names = [DEFAULT_NETWORK] if requested is None else [each["name"] for each in requested]
        names_by_mac = {
            interface.mac: name
            for interface, name in zip(self._record.interfaces, names, strict=False)
        }
        names_by_mac |= {each.mac: each.network for each in self._guest.interfaces}
        source = device.find("source")
        names = (
            [source.get(key, "") for key in ("network", "bridge", "dev")]
            if source is not None
            else []
        )
        source_name = next(filter(None, names), "")
        return names_by_mac.get(address) or source_name.removeprefix(f"{self._guest.environment}-")


def _source(disk: etree._Element) -> str:
    """The path, or the volume's name, of a disk's source."""
    source = disk.find("source")
    values = (
        [source.get(key, "") for key in ("file", "dev", "volume")] if source is not None else []
    )
    return next(filter(None, values), "")


def _with_part(field: str, place_in_device: str) -> str:
    """The field of a device, or of its part that stands at a place inside it."""
    if of_guest := device_field_at(place_in_device):
        return of_guest
    first = field.partition(".")[0]
    part = part_at("disks" if first == "disk" else first, place_in_device)
    return f"{field}.{part}" if part else field


def _comes_later(difference: Difference) -> bool:
    """Whether a difference is only that an older version did not render something yet."""
    return difference.current is None and _LATER.fullmatch(difference.path) is not None


def _parsed(xml: str) -> etree._Element | None:
    return tree.parse(xml, "a domain") if xml else None


def has_volume(live: str, name: str) -> bool:
    """Whether a running guest has a volume. Its record, in the same XML, may name it all the same.

    Args:
        live: the running guest's XML.
        name: the volume's name.
    """
    root = _parsed(live)
    sources = root.iterfind("./devices//source") if root is not None else ()
    paths = [each.get(key, "") for each in sources for key in ("file", "dir")]
    return any(path.rpartition("/")[2] == name for path in paths)


def detaching_paths(record: GuestRecord, wanted: str, live: str) -> tuple[str, ...]:
    """The places of what a running guest has, what we rendered once and no longer want.

    Args:
        wanted: the guest's XML as it is rendered now.
        live: the running guest's; empty where it does not run.
    """
    root = _parsed(live)
    if root is None:
        return ()
    before = _parsed(record.rendered)
    new = tree.parse(wanted, "a domain")
    removed = [each.path for each in diff.removed(before, new, root)] if before is not None else []
    remaining = [each for each in record.detaching if diff.element_at(root, each) is not None]
    return tuple(dict.fromkeys([*removed, *remaining]))


def staged_causes(current: ObservedGuest) -> Mapping[str, Cause]:
    """What was staged since the guest was started, with the causes."""
    run = run_id(current.live)
    return current.record.staged if run and run == current.record.staged_in else {}


def run_id(live: str) -> str:
    """libvirt's id of a running guest, from its XML: another one after each start."""
    root = _parsed(live)
    return root.get("id", "") if root is not None else ""


def pending_fields(current: ObservedGuest) -> tuple[str, ...]:
    """The fields whose change waits until a running guest is restarted."""
    return tuple(sorted(staged_causes(current)))
