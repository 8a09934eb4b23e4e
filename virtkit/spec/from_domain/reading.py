"""What is known of a domain while its spec is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any
from urllib.parse import urlsplit

from lxml import etree

from virtkit._dataclass import dataclass
from virtkit.drivers import DRIVERS, Driver
from virtkit.spec.model import GuestFields, Model
from virtkit.spec.values import suggest_label


@dataclass(frozen=True, kw_only=True)
class DomainFacts:
    """A libvirt domain as its host tells of it.

    Attributes:
        name: its name in libvirt.
        uri: the URI of the libvirt that has it.
        xml: its XML, as it is defined; of one that is not defined, as it runs.
        state: running, paused or stopped.
        persistent: it is defined, so that it is there when it does not run.
        autostart: it is started with its host.
        disk_sizes: bytes of its disks, by the targets' names, as far as libvirt knows them.
    """

    name: str
    uri: str
    xml: str
    state: str = "stopped"
    persistent: bool = True
    autostart: bool = False
    disk_sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Reading:
    """A domain's XML, of which keys take what they say.

    Attributes:
        devices: its ``<devices>``.
        driver: the guest type that it is like; None where virtkit has no such type.
        networks: entries under ``networks`` that its interfaces need.
        images: entries under ``images`` that its root disk needs.
        notes: what is to be told of what was read.
    """

    facts: DomainFacts
    root: etree._Element
    devices: etree._Element
    driver: Driver | None = None
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_local(self) -> bool:
        """Whether its host is this machine."""
        return not urlsplit(self.facts.uri).hostname

    @property
    def default_bus(self) -> str:
        """The bus of a disk that says none."""
        driver = self.driver or DRIVERS["qemu"]
        return next(iter(driver.buses), "")


def hosts_of(facts: DomainFacts) -> dict[str, dict[str, Any]]:
    """The entries under ``hosts`` that a domain needs: none on this machine, nor where its libvirt
    is not reached by ssh."""
    place = urlsplit(facts.uri)
    if not place.hostname or not place.scheme.endswith("+ssh"):
        return {}
    user = f"{place.username}@" if place.username else ""
    entry: dict[str, Any] = {"address": f"{user}{place.hostname}"}
    if place.port:
        entry["ssh"] = {"port": place.port}
    return {suggest_label(place.hostname.partition(".")[0]) or "remote": entry}


def has_key(model: type[Model], key: str) -> bool:
    """Whether this version of virtkit has a key."""
    fields = model.model_fields
    return key in fields or any(each.alias == key for each in fields.values())


def guest_has(key: str) -> bool:
    """Whether this version of virtkit has a key of a guest."""
    return has_key(GuestFields, key)
