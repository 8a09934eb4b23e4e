"""Records as text: what virtkit writes into libvirt's metadata and the pool, and reads back.

Pure: text in, data out and back. What does not fit a record is read as none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

from lxml import etree

from virtkit.state import record_check
from virtkit.state.image import ImageFiles
from virtkit.state.network import Reservation
from virtkit.state.record import (
    ExistingDisk,
    GuestRecord,
    InterfaceRecord,
    KeptDisk,
    NetworkRecord,
    PoolRecord,
    Provisioned,
    StoredImage,
    VolumeRecord,
)

EntryT = TypeVar("EntryT")
NAMESPACE = "urn:virtkit:1"
#: Above this libvirt's own limit on one answer (4 MiB) could come near (bytes).
MAX_RECORD = 256 * 1024
#: What 0.1.0 called what has another name now: fields of records, and states of volumes.
_FORMER_FIELDS = {"asked": "requested", "leaving": "detaching", "links": "interfaces"}
_FORMER_STATES = {"doomed": "deleting"}
#: What is written only where it says something.
_SPARSE = ("existing", "made_from", "outdated")
#: How much deeper in calls JSON is written than it is read, at most.
_DEEPER = 200


def guest_element(record: GuestRecord, *, without_namespace: bool = False) -> str:
    """The element for a domain's ``<metadata>``.

    Args:
        without_namespace: as virDomainSetMetadata wants it: libvirt adds the namespace itself.
    """
    attributes = {"finished": "yes" if record.finished else "no"}
    return _element("guest", record.guest, record, attributes, without_namespace=without_namespace)


def network_element(record: NetworkRecord) -> str:
    """The element for a network's ``<metadata>``."""
    return _element("network", record.network, record, {})


def _element(
    tag: str,
    name: str,
    record: GuestRecord | NetworkRecord,
    attributes: Mapping[str, str],
    *,
    without_namespace: bool = False,
) -> str:
    if without_namespace:
        element = etree.Element(tag)
    else:
        element = etree.Element(f"{{{NAMESPACE}}}{tag}", nsmap={"vk": NAMESPACE})
    element.set("environment", record.environment)
    element.set("name", name)
    for key, value in attributes.items():
        element.set(key, value)
    element.text = json.dumps(_data(record), sort_keys=True)
    return etree.tostring(element, encoding="unicode")


def _data(record: GuestRecord | NetworkRecord | KeptDisk) -> dict[str, Any]:
    return {key: e for key, e in asdict(record).items() if e or key not in _SPARSE}


def find(document: etree._Element, tag: str) -> dict[str, Any] | None:
    """The JSON that a libvirt document carries in our element ``tag``; None where there is none.

    A record that can't be read is as good as none: the object is then treated as a stranger's.
    """
    element = document.find(f"./metadata/{{{NAMESPACE}}}{tag}")
    if element is None or not element.text:
        return None
    data = _json(element.text)
    return data if isinstance(data, dict) else None


def _renamed(data: Mapping[str, Any]) -> dict[str, Any]:
    """A record's JSON under today's names. An older virtkit takes no record that has them: it lacks
    ``asked`` there, and leaves the object alone as a stranger's."""
    return {_FORMER_FIELDS.get(key, key): value for key, value in data.items()}


def _json(text: str) -> Any:
    """JSON whose texts can be written again; None where it isn't. An escaped half of a pair of
    surrogates is JSON, and no text."""
    try:
        data = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return data


def read_guest(document: etree._Element) -> GuestRecord | None:
    """The record in a domain's XML."""
    data = find(document, "guest")
    return None if data is None else _guest(data)


def _guest(data: Mapping[str, Any]) -> GuestRecord | None:
    """The record in its JSON; None where virtkit can't have written it."""
    try:
        data = _renamed(data)
        if not isinstance(data["requested"], dict):
            return None
        record = GuestRecord(
            **{
                **_known(GuestRecord, data),
                "image": ImageFiles(**_known(ImageFiles, data["image"])) if data["image"] else None,
                "volumes": tuple(map(_volume, data["volumes"])),
                "interfaces": tuple(
                    InterfaceRecord(**_known(InterfaceRecord, each)) for each in data["interfaces"]
                ),
                "existing": tuple(
                    ExistingDisk(**_known(ExistingDisk, each)) for each in data.get("existing", ())
                ),
                "rewritten": tuple(data.get("rewritten", ())),
                "detaching": tuple(data.get("detaching", ())),
                "former_ssh_keys": tuple(data.get("former_ssh_keys", ())),
                "provisioned": _provisioned(data.get("provisioned")),
                "keys": None if data.get("keys") is None else tuple(data["keys"]),
            }
        )
    except (KeyError, TypeError, AttributeError):
        return None
    return record if record_check.is_valid_guest(record) else None


def _volume(data: Mapping[str, Any]) -> VolumeRecord:
    fields = _known(VolumeRecord, data)
    state = fields.get("state", "wanted")
    return VolumeRecord(**{**fields, "state": _FORMER_STATES.get(state, state)})


def _provisioned(data: Mapping[str, Any] | None) -> Provisioned | None:
    if data is None:
        return None
    fields = _known(Provisioned, data)
    return Provisioned(**{**fields, "playbooks": tuple(data["playbooks"])})


def read_network(document: etree._Element) -> NetworkRecord | None:
    """The record in a network's XML."""
    data = find(document, "network")
    if data is None:
        return None
    try:
        data = _renamed(data)
        reservations = (Reservation(**_known(Reservation, each)) for each in data["reservations"])
        record = NetworkRecord(
            **{
                **_known(NetworkRecord, data),
                "reservations": tuple(reservations),
                "rewritten": tuple(data["rewritten"]),
                "outdated": tuple(data.get("outdated", ())),
            }
        )
    except (KeyError, TypeError, AttributeError):
        return None
    return record if record_check.is_valid_network(record) else None


def pool_text(record: PoolRecord) -> str:
    """The text of the pool's own small volume."""
    data = asdict(replace(record, guests={}, unread={}))
    del data["unread"]
    data["guests"] = {domain: _listed(each) for domain, each in record.guests.items()}
    data["kept"] = {name: _data(each) for name, each in record.kept.items()}
    both = {part: {**record.unread.get(part, {}), **entries} for part, entries in data.items()}
    return json.dumps({"virtkit": 1, **both}, sort_keys=True, separators=(",", ":"))


def _listed(guest: GuestRecord) -> dict[str, Any]:
    """A guest in the pool's record: without what that leaves out."""
    data = _data(guest.for_pool_record())
    for key in ("rendered", "rewritten", "staged", "staged_in", "detaching"):
        del data[key]
    return data


def read_pool(text: str) -> PoolRecord | None:
    """The record in a pool's small volume; None where it can't be read (half written)."""
    data = _json(text)
    if not isinstance(data, dict):
        return None
    # 0.1.0 listed no guests
    parts: dict[str, Any] = {"guests": {}, **data}
    if not all(isinstance(parts.get(part), dict) for part in ("images", "kept", "guests")):
        return None
    images = _sane(parts["images"], _stored, record_check.is_valid_image)
    kept = _sane(
        parts["kept"],
        lambda each: KeptDisk(**_known(KeptDisk, each)),
        record_check.is_valid_kept_disk,
    )
    guests = _sane(parts["guests"], _guest, lambda domain, each: each.domain == domain)
    unread = {
        part: {k: each for k, each in parts[part].items() if k not in sane and _writable(each)}
        for part, sane in (("images", images), ("kept", kept), ("guests", guests))
    }
    return PoolRecord(images, kept, guests, {part: each for part, each in unread.items() if each})


def _writable(entry: object) -> bool:
    """Whether JSON that was read can be written, wherever: Python bounds how deep it may go."""
    for _ in range(_DEEPER):
        entry = [entry]
    try:
        json.dumps(entry)
    except RecursionError:
        return False
    return True


def _sane(
    entries: Mapping[str, Any],
    read: Callable[[Mapping[str, Any]], EntryT | None],
    check: Callable[[str, EntryT], bool],
) -> dict[str, EntryT]:
    """The entries that can be acted on; one that can't hides no other."""
    answer = {}
    for key, each in entries.items():
        try:
            entry = read(each)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if entry is not None and check(key, entry):
            answer[key] = entry
    return answer


def _stored(data: Mapping[str, Any]) -> StoredImage:
    return StoredImage(
        **{
            **_known(StoredImage, data),
            "identities": tuple(data["identities"]),
            "files": ImageFiles(**_known(ImageFiles, data["files"])),
        }
    )


def _known(kind: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that ``kind`` has a field for: a newer version may have written more."""
    return {key: value for key, value in data.items() if key in kind.__dataclass_fields__}
