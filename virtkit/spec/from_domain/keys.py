"""Which key of a guest says what of a domain: one row a key. The order is the file's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from virtkit.spec.from_domain import devices, disks, interfaces, machine, memory
from virtkit.spec.from_domain.reading import Reading

#: From a reading to the value of a key, or to nothing.
ReadKey = Callable[[Reading], Any]


def _autostart(reading: Reading) -> bool | None:
    return reading.facts.autostart or None


#: A key that this version does not have is told in a comment, in the form that it stands in here;
#: once the model has it, it is written. Later rows see what earlier ones left.
KEYS: Mapping[str, ReadKey] = {
    "type": machine.guest_type,
    "description": machine.description,
    "system": machine.system,
    "max": machine.maximum,
    "cpus": machine.cpus,
    "memory": machine.memory,
    "hugepages": memory.hugepages,
    "cpu": machine.cpu,
    "firmware": machine.firmware,
    "tpm": devices.tpm,
    "kernel": machine.kernel,
    "image": disks.image,
    "disk": disks.root_disk,
    "disks": disks.disks,
    "cdroms": disks.cdroms,
    "folders": disks.folders,
    "boot": machine.boot,
    "networks": interfaces.networks,
    "graphics": devices.graphics,
    "sound": devices.sound,
    "host_devices": devices.host_devices,
    "devices": devices.devices,
    "autostart": _autostart,
}
