"""What virtkit writes about an object into libvirt, and reads back: the only state a plan rests on.

Pure: text in, data out and back. It must never hold a secret; every local user can read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from lxml import etree

from virtkit.resources import Guest, ImageFiles, Network, Reservation, Volume

NAMESPACE = "urn:virtkit:1"
#: Above this libvirt's own limit on one answer (4 MiB) could come near (bytes).
LIMIT = 256 * 1024

#: ``wanted``: may be made (again); ``made``: never touched but by delete; ``doomed``: on its
#: way out, to be deleted and made anew.
State = Literal["wanted", "made", "doomed"]


@dataclass(frozen=True)
class VolumeRecord:
    """One volume that belongs to a guest."""

    name: str
    key: str
    role: str
    state: State = "wanted"
    keep: bool = False


@dataclass(frozen=True)
class GuestRecord:
    """What a domain carries: who asked for it, what was asked, what was decided, what is made."""

    environment: str
    guest: str
    type: str
    spec: str
    asked: Mapping[str, Any]
    image_identity: str
    image: ImageFiles | None
    addresses: tuple[str, ...] = ()
    addresses6: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    volumes: tuple[VolumeRecord, ...] = ()
    host_key: str = ""
    fqdn: str = ""
    finished: bool = False
    confinement: str = ""
    ids: int = 0

    @property
    def domain(self) -> str:
        """The guest's name in libvirt."""
        return f"{self.environment}-{self.guest}"

    def with_state(self, state: State, *roles_not: str) -> GuestRecord:
        """The same record with all volumes but those of ``roles_not`` in ``state``."""
        volumes = tuple(
            each if each.role in roles_not else replace(each, state=state) for each in self.volumes
        )
        return replace(self, volumes=volumes)


@dataclass(frozen=True)
class NetworkRecord:
    """What a network carries."""

    environment: str
    network: str
    spec: str
    asked: Mapping[str, Any]
    cidr: str
    reservations: tuple[Reservation, ...] = ()


@dataclass(frozen=True)
class StoredImage:
    """An image in the pool: the entries of specs that gave it; ``made`` after the upload."""

    name: str
    identities: tuple[str, ...]
    files: ImageFiles
    made: bool = False


@dataclass(frozen=True)
class KeptDisk:
    """A disk that outlived its guest (``keep: true``)."""

    environment: str
    guest: str
    name: str
    key: str


@dataclass(frozen=True)
class PoolRecord:
    """What stands in the pool's own small volume. Keyed by content hash and by volume name."""

    images: Mapping[str, StoredImage] = field(default_factory=dict)
    kept: Mapping[str, KeptDisk] = field(default_factory=dict)

    def by_identity(self) -> dict[str, ImageFiles]:
        """The newest complete image of every entry."""
        return {
            identity: each.files
            for each in self.images.values()
            if each.made
            for identity in each.identities
        }


def of_guest(guest: Guest, spec_path: str) -> GuestRecord:
    """The record of a guest that is about to be defined: nothing made yet."""
    return GuestRecord(
        environment=guest.environment,
        guest=guest.name,
        type=guest.driver.word,
        spec=spec_path,
        asked=guest.asked,
        image_identity=guest.image.identity,
        image=guest.image.files,
        addresses=tuple(each.address for each in guest.interfaces),
        addresses6=tuple(each.address6 for each in guest.interfaces),
        networks=tuple(each.source for each in guest.interfaces),
        volumes=tuple(of_volume(each) for each in guest.volumes),
        fqdn=guest.fqdn,
        confinement=guest.confinement.mode,
        ids=guest.confinement.ids,
    )


def of_volume(volume: Volume) -> VolumeRecord:
    """The record of a volume that is to be made."""
    return VolumeRecord(volume.name, volume.key, volume.role, keep=volume.keep)


def of_network(network: Network, spec_path: str) -> NetworkRecord:
    """The record of a network as it should be."""
    return NetworkRecord(
        environment=network.environment,
        network=network.name,
        spec=spec_path,
        asked=network.asked,
        cidr=network.cidr,
        reservations=network.reservations,
    )


def guest_element(record: GuestRecord, *, bare: bool = False) -> str:
    """The element for a domain's ``<metadata>``.

    Args:
        bare: without its namespace, as virDomainSetMetadata wants it: libvirt adds that itself.
    """
    attributes = {"finished": "yes" if record.finished else "no"}
    return _element("guest", record.guest, record, attributes, bare=bare)


def network_element(record: NetworkRecord) -> str:
    """The element for a network's ``<metadata>``."""
    return _element("network", record.network, record, {})


def _element(
    tag: str,
    name: str,
    record: GuestRecord | NetworkRecord,
    attributes: Mapping[str, str],
    *,
    bare: bool = False,
) -> str:
    if bare:
        element = etree.Element(tag)
    else:
        element = etree.Element(f"{{{NAMESPACE}}}{tag}", nsmap={"vk": NAMESPACE})
    element.set("environment", record.environment)
    element.set("name", name)
    for key, value in attributes.items():
        element.set(key, value)
    element.text = json.dumps(asdict(record), sort_keys=True)
    return etree.tostring(element, encoding="unicode")


def find(document: etree._Element, tag: str) -> dict[str, Any] | None:
    """The JSON that a libvirt document carries in our element ``tag``; None where there is none.

    A record that can't be read is as good as none: the object is then treated as a stranger's.
    """
    element = document.find(f"./metadata/{{{NAMESPACE}}}{tag}")
    if element is None or not element.text:
        return None
    try:
        data = json.loads(element.text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def read_guest(document: etree._Element) -> GuestRecord | None:
    """The record in a domain's XML."""
    data = find(document, "guest")
    if data is None:
        return None
    try:
        if not isinstance(data["asked"], dict):
            return None
        return GuestRecord(
            **{
                **_known(GuestRecord, data),
                "image": ImageFiles(**_known(ImageFiles, data["image"])) if data["image"] else None,
                "volumes": tuple(VolumeRecord(**_known(VolumeRecord, v)) for v in data["volumes"]),
                "addresses": tuple(data["addresses"]),
                "addresses6": tuple(data["addresses6"]),
                "networks": tuple(data["networks"]),
            }
        )
    except (KeyError, TypeError, AttributeError):
        return None


def read_network(document: etree._Element) -> NetworkRecord | None:
    """The record in a network's XML."""
    data = find(document, "network")
    if data is None:
        return None
    try:
        reservations = (Reservation(**_known(Reservation, each)) for each in data["reservations"])
        return NetworkRecord(**{**_known(NetworkRecord, data), "reservations": tuple(reservations)})
    except (KeyError, TypeError, AttributeError):
        return None


def pool_text(record: PoolRecord) -> str:
    """The text of the pool's own small volume."""
    return json.dumps({"virtkit": 1, **asdict(record)}, sort_keys=True)


def read_pool(text: str) -> PoolRecord | None:
    """The record in a pool's small volume; None where it can't be read (half written)."""
    try:
        data = json.loads(text)
        images = {
            content: StoredImage(
                **{
                    **_known(StoredImage, each),
                    "identities": tuple(each["identities"]),
                    "files": ImageFiles(**_known(ImageFiles, each["files"])),
                }
            )
            for content, each in data["images"].items()
        }
        kept = {name: KeptDisk(**_known(KeptDisk, each)) for name, each in data["kept"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return PoolRecord(images, kept)


def _known(kind: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that ``kind`` has a field for: a newer virtkit may have written more."""
    return {key: value for key, value in data.items() if key in kind.__dataclass_fields__}
