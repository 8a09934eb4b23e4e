"""Changes of a guest while it runs: devices that come and go, CPUs, memory, larger disks, and more.

The running guest's state is read from its live XML, so each step may run again.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping

from lxml import etree

from virtkit.apply.engine import Say
from virtkit.drivers import Driver
from virtkit.drivers.fields import LiveAction, row_of
from virtkit.errors import VirtkitError
from virtkit.host import Host
from virtkit.progress import Progress
from virtkit.spec.model import drive_number
from virtkit.state.desired import Guest
from virtkit.state.record import GuestRecord
from virtkit.xml import diff, tree

#: Devices that can come and go, and the field of each. A disk on SCSI comes with its controller.
_DEVICES = {
    "controller": "disks.NAME",
    "disk": "disks.NAME",
    "filesystem": "folders",
    "interface": "networks.NAME",
}
#: Seconds that a guest gets to let go of a device.
_DETACH_TIMEOUT = 30.0


class Hotplug:
    """The live changes of one running guest; its driver's effects say what can be one."""

    def __init__(self, host: Host, guest: Guest, restart_command: str) -> None:
        self._host = host
        self._guest = guest
        self._restart_command = restart_command

    @property
    def _driver(self) -> Driver:
        return self._guest.driver

    def _live(self) -> etree._Element | None:
        xml = self._host.domains.live(self._driver, self._guest.domain)
        return tree.parse(xml, "a domain") if xml else None

    def unplug(self, record: GuestRecord, progress: Progress) -> None:
        """Takes away the devices, and the description, that ``record`` says are detaching."""
        if (live := self._live()) is None:
            return
        if "description" in record.detaching and diff.element_at(live, "description") is not None:
            progress("description")
            self._host.domains.describe(self._driver, self._guest.domain, None)
        self._eject(live, record, progress)
        paths = [each for each in record.detaching if _is_device(each)]
        # a controller is busy as long as a disk is on it
        controllers = [each for each in paths if each.startswith("devices/controller")]
        self._detach([each for each in paths if each not in controllers], record, progress)
        self._detach(controllers, record, progress)

    def _detach(self, paths: list[str], record: GuestRecord, progress: Progress) -> None:
        """Takes away the devices at these places, and waits until they are gone."""
        if (live := self._live()) is None:
            return
        for path in paths:
            device = diff.element_at(live, path)
            if device is not None and self._leaves(device, live, record):
                progress(path)
                self._host.domains.detach_device(self._driver, self._guest.domain, _text(device))
        self._wait_gone(paths, record, progress)

    def _eject(self, live: etree._Element, record: GuestRecord, progress: Progress) -> None:
        """Takes out the discs that are not to stay as they are: the record lists none of them as
        made."""
        changing = {e.key for e in record.volumes if e.role == "cdrom" and e.state != "made"}
        for drive in live.iterfind("./devices/disk[@device='cdrom']"):
            if _source_file(drive) in changing:
                progress(drive.findtext("serial", ""))
                empty = copy.deepcopy(drive)
                for each in empty.findall("source"):
                    empty.remove(each)
                self._open(empty, progress)

    def _open(self, drive: etree._Element, progress: Progress) -> None:
        """Empties a drive. A system that locks it is asked to open it, and may take longer for that
        than libvirt waits."""
        end = time.monotonic() + _DETACH_TIMEOUT
        while True:
            try:
                self._host.domains.change_disc(self._driver, self._guest.domain, _text(drive))
                return
            except VirtkitError as error:
                if time.monotonic() > end:
                    raise self._held(drive, error) from error
            progress.sleep(1.0)

    def _held(self, drive: etree._Element, error: VirtkitError) -> VirtkitError:
        """The error about a disc that does not come out."""
        return VirtkitError(
            f"guest {self._guest.name} does not give back the disc in "
            f"{drive.findtext('serial', '')}",
            why=error.why or error.what,
            cure="eject it in the guest (`eject /dev/sr0`), then run again; or restart the "
            f"guest: {self._restart_command}",
            where=f"{self._host.name} guest/{self._guest.name}",
        )

    def _leaves(self, device: etree._Element, live: etree._Element, record: GuestRecord) -> bool:
        """Whether a device is taken away now. A disk that only moves to another bus stays until the
        guest starts again."""
        key = _source_key(device)
        disks = (e for e in self._guest.disks if e.volume.content == "existing")
        if key in {each.source.get("volume", each.volume.key) for each in disks}:
            return False
        stays = (e.key == key and (e.role, e.state) != ("disk", "deleting") for e in record.volumes)
        return self._is_live_device(device, live) and not any(stays) and not _has_disk(device)

    def _wait_gone(self, paths: list[str], record: GuestRecord, progress: Progress) -> None:
        end = time.monotonic() + _DETACH_TIMEOUT
        while (live := self._live()) is not None:
            unreleased = [
                each
                for each in paths
                if (device := diff.element_at(live, each)) is not None
                and self._leaves(device, live, record)
            ]
            if not unreleased:
                return
            if time.monotonic() > end:
                raise VirtkitError(
                    f"guest {self._guest.name} does not release {', '.join(unreleased)}",
                    why=f"it was asked to, {_DETACH_TIMEOUT:.0f} s ago",
                    cure="check that nothing in the guest uses it, then run again; or restart the "
                    f"guest: {self._restart_command}",
                    where=f"{self._host.name} guest/{self._guest.name}",
                )
            progress.sleep(0.3)

    def plug(self, wanted: str, say: Say) -> None:
        """Gives the running guest what it lacks of ``wanted``, the XML that it is to have."""
        if (live := self._live()) is None:
            return
        root = tree.parse(wanted, "a domain")
        for carry_out in ACTIONS.values():
            carry_out(self, root, live, say)

    def _plug(self, wanted: etree._Element, live: etree._Element, say: Say) -> None:
        """Devices that it lacks."""
        for difference in diff.differences(wanted, live):
            path = difference.path
            if difference.current is None and _is_device(path):
                device = diff.element_at(wanted, path)
                if device is None or not self._is_live_device(device, live):
                    continue
                if _is_new(device, live):
                    say(path)
                    self._host.domains.attach_device(
                        self._driver, self._guest.domain, _text(device)
                    )

    def _change_discs(self, wanted: etree._Element, live: etree._Element, say: Say) -> None:
        """Discs for the drives that lack theirs."""
        for drive in wanted.iterfind("./devices/disk[@device='cdrom']"):
            name = drive.findtext("serial", "")
            current = live.find(f"./devices/disk[@device='cdrom'][serial='{name}']")
            if drive_number(name) and current is not None and not _source_file(current):
                say(name)
                self._host.domains.change_disc(self._driver, self._guest.domain, _text(drive))

    def _set_memory(self, _wanted: etree._Element, live: etree._Element, say: Say) -> None:
        """Memory, within what the guest was started with."""
        size = self._guest.spec.memory
        memory, most = (int(diff.value_at(live, e) or 0) for e in ("currentMemory", "memory"))
        if self._is_live_field("memory") and size <= most and memory != size:
            say("memory")
            self._host.domains.set_memory(self._driver, self._guest.domain, size)

    def _set_cpus(self, _wanted: etree._Element, live: etree._Element, say: Say) -> None:
        """CPUs, within what the guest was started with."""
        wanted, vcpu = self._guest.spec.cpus, live.find("vcpu")
        if not self._is_live_field("cpus") or vcpu is None:
            return
        most = int(vcpu.text or 1)
        count = int(vcpu.get("current") or most)
        if count < wanted <= self._guest.live_cpus(most):
            say("cpus")
            self._host.domains.set_cpus(self._driver, self._guest.domain, wanted)

    def _grow(self, _wanted: etree._Element, _live: etree._Element, say: Say) -> None:
        """Disks that are smaller than the spec says."""
        sizes = self._host.storage.sizes([each.volume.name for each in self._guest.disks])
        for disk in self._guest.disks:
            field = "disk" if disk.volume.role == "root" else f"disks.{disk.name}.size"
            small = sizes.get(disk.volume.name, disk.volume.size) < disk.volume.size
            if small and self._is_live_field(field):
                say(disk.volume.name)
                self._host.domains.grow_disk(self._driver, self._guest.domain, disk.volume)

    def _describe(self, wanted: etree._Element, live: etree._Element, say: Say) -> None:
        """The text that libvirt shows of it."""
        text = wanted.findtext("description")
        if text and diff.value_at(wanted, "description") != diff.value_at(live, "description"):
            say("description")
            self._host.domains.describe(self._driver, self._guest.domain, text)

    def _is_live_device(self, device: etree._Element, live: etree._Element) -> bool:
        """Whether a device can come or go as the guest was started."""
        is_drive = device.get("device") == "cdrom"
        target = device.find("target") if device.tag == "disk" else None
        name = target.get("bus", "") if target is not None else device.get("type", "")
        bus = self._driver.buses.get(name)
        if bus is not None and not bus.hotplug and not is_drive:
            return False
        field = "cdroms.NAME" if is_drive else _DEVICES[str(device.tag)]
        needed = row_of(field).started_with
        started_so = not needed or diff.element_at(live, needed) is not None
        return started_so and self._is_live_field(field)

    def _is_live_field(self, field: str) -> bool:
        return self._driver.effect(field) == "live"


#: What gives a running guest what it lacks, by the action that a field's row names; in this order.
ACTIONS: Mapping[LiveAction, Callable[[Hotplug, etree._Element, etree._Element, Say], None]] = {
    "plug": Hotplug._plug,
    "change_discs": Hotplug._change_discs,
    "set_memory": Hotplug._set_memory,
    "set_cpus": Hotplug._set_cpus,
    "grow": Hotplug._grow,
    "describe": Hotplug._describe,
}


def _is_device(path: str) -> bool:
    parts = diff.split_path(path)
    return len(parts) == 2 and parts[1].partition("[")[0] in _DEVICES


def _is_new(device: etree._Element, live: etree._Element) -> bool:
    """Whether a running guest lacks a device, and not only has its disk on another bus."""
    key = _source_key(device)
    return not key or not diff.disk_target(live, key)


def _source_file(disk: etree._Element) -> str | None:
    """The file that a disk has, or a drive has in it; None where there is none."""
    source = disk.find("source")
    return source.get("file") if source is not None else None


def _source_key(device: etree._Element) -> str | None:
    """The file, block device or volume that a disk has; None where it has none, or is no disk."""
    source = device.find("source") if device.tag == "disk" else None
    values = [source.get(key) for key in ("file", "dev", "volume")] if source is not None else []
    return next(filter(None, values), None)


def _has_disk(device: etree._Element) -> bool:
    """Whether a running guest's controller has a disk, or a drive, which stays until that starts
    again."""
    if device.tag != "controller" or (devices := device.getparent()) is None:
        return False
    return devices.find(f"./disk/target[@bus='{device.get('type')}']") is not None


def _text(device: etree._Element) -> str:
    return etree.tostring(device, encoding="unicode")
