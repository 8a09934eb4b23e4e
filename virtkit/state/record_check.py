"""Whether a record that was read is one that virtkit could have written.

Records stand in libvirt, where others write too. What does not fit makes the object a stranger's:
nobody ever acts on a record with a wrong type, an invalid name or another guest's volume.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError
from virtkit.spec import values as text
from virtkit.spec.image_names import is_image_name
from virtkit.state import addresses, public_keys
from virtkit.xml import tree

if TYPE_CHECKING:
    from virtkit.state.desired import ImageFiles
    from virtkit.state.record import GuestRecord, KeptDisk, NetworkRecord, StoredImage

_VOLUME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)
_KEY = re.compile(r"(ssh-ed25519 [A-Za-z0-9+/=]+)?", re.ASCII)
_READY = ("ssh", "address", "port", "command", "none")


def is_valid_guest(record: GuestRecord) -> bool:
    """Whether a guest's record can be acted on."""
    return (
        fits(record, type(record))
        and text.is_label(record.environment)
        and text.is_label(record.guest)
        and record.type in DRIVERS
        and record.confinement in ("", *DRIVERS[record.type].confined)
        and (not record.ids or addresses.is_first_id(record.ids))
        and _KEY.fullmatch(record.host_key) is not None
        and all(map(public_keys.is_canonical, record.keys or ()))
        and all(_is_address(each.address, IPv4Address) for each in record.interfaces)
        and all(_is_address(each.address6, IPv6Address) for each in record.interfaces)
        and _is_valid_request(record.requested)
        and (record.image is None or _image(record.image))
        and all(_volume(each.name, each.key, record.domain) for each in record.volumes)
        and len({PurePosixPath(each.key).parent for each in record.volumes}) <= 1
        and _is_xml(record.rendered)
    )


def is_valid_network(record: NetworkRecord) -> bool:
    """Whether a network's record can be acted on."""
    return (
        fits(record, type(record))
        and text.is_label(record.environment)
        and text.is_label(record.network)
        and _field_names(record.requested)
        and (not record.cidr or _passes(text.cidr, record.cidr))
        and _is_xml(record.rendered)
    )


def is_valid_image(content: str, image: StoredImage) -> bool:
    """Whether an image in a pool's record can be acted on."""
    return (
        fits(image, type(image))
        and content == image.files.content
        and is_image_name(image.name)
        and _image(image.files)
    )


def is_valid_kept_disk(name: str, disk: KeptDisk) -> bool:
    """Whether a kept disk in a pool's record can be acted on."""
    return (
        fits(disk, type(disk))
        and name == disk.name
        and text.is_label(disk.environment)
        and text.is_label(disk.guest)
        and _volume(name, disk.key, f"{disk.environment}-{disk.guest}")
    )


def fits(value: object, kind: Any) -> bool:
    """Whether a value fits a type hint; of the kinds of hints that records have."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin in (tuple, list):
        return isinstance(value, origin) and all(fits(each, arguments[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            fits(key, arguments[0]) and fits(each, arguments[1]) for key, each in value.items()
        )
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        names = [each.name for each in dataclasses.fields(kind)]
        return isinstance(value, kind) and all(fits(getattr(value, n), hints[n]) for n in names)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_valid_request(requested: Mapping[str, Any]) -> bool:
    """What virtkit relies on, of what was requested; the rest is only compared."""
    ready, keys = requested.get("ready"), requested.get("ssh_keys")
    return (
        _field_names(requested)
        and _passes(text.user_name, requested.get("user"))
        and _all(text.group_name, requested.get("groups"))
        and _all(text.label, requested.get("after"))
        and fits(keys, list[str] | None)
        and all(_entries(requested.get(each), "name") for each in ("disks", "networks"))
        and _entries(requested.get("folders"), "target")
        and _entries(requested.get("files"), "path")
        and fits(requested.get("cdroms"), list[str] | None)
        and isinstance(ready, dict)
        and _is_valid_ready(ready)
    )


def _entries(entries: object, key: str) -> bool:
    """Whether disks, networks, folders or files are a list of maps with a text under ``key``, where
    there are any."""
    if entries is None:
        return True
    return isinstance(entries, list) and all(
        isinstance(each, dict) and isinstance(each.get(key), str) for each in entries
    )


def _is_valid_ready(ready: Mapping[str, Any]) -> bool:
    kind = ready.get("kind")
    return (
        kind in _READY
        and (kind != "port" or (fits(ready.get("port"), int) and 0 < ready["port"] < 65536))
        and (kind != "command" or isinstance(ready.get("command"), str))
        and fits(ready.get("timeout"), int | float | None)
    )


def _field_names(requested: Mapping[str, Any]) -> bool:
    return all(key.isidentifier() for key in requested)


def _all(check: Callable[[str], object], values: object) -> bool:
    return isinstance(values, list) and all(_passes(check, each) for each in values)


def _passes(check: Callable[[str], object], value: object) -> bool:
    """Whether a value is a text that one of the spec's checks lets through."""
    try:
        return isinstance(value, str) and bool(check(value))
    except ValueError:
        return False


@functools.lru_cache(maxsize=4)  # a running guest has its record twice
def _is_xml(rendered: str) -> bool:
    """Whether what was rendered, where a record has it, can be compared with anything."""
    try:
        return not rendered or tree.parse(rendered, "a record") is not None
    except RequestError:
        return False


def _is_address(address: str, kind: type[IPv4Address] | type[IPv6Address]) -> bool:
    """Empty, or a plain address: a scope (``fe80::1%eth0``) may hold any text."""
    try:
        return not address or ("%" not in address and bool(kind(address)))
    except ValueError:
        return False


def _volume(name: str, key: str, domain: str) -> bool:
    """Whether a volume has a name of this domain's, and is the file that it says."""
    own = name.startswith(f"{domain}-") and _VOLUME.fullmatch(name) is not None
    return own and _is_path(key, name)


def _image(files: ImageFiles) -> bool:
    """Whether an image's files are the image store's."""
    paths = [each for each in (files.root, files.kernel, files.initrd) if each]
    return bool(paths) and all(
        PurePosixPath(each).name.startswith("virtkit-") and _is_path(each, PurePosixPath(each).name)
        for each in paths
    )


def _is_path(path: str, name: str) -> bool:
    return path.startswith("/") and ".." not in path.split("/") and PurePosixPath(path).name == name
