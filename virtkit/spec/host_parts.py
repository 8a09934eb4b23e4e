"""What a guest is given of its host: folders and devices. Whether it may have them, as far as the
spec alone says it.

Pure, but for ``missing``, which looks for folders of this machine.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from virtkit.drivers import AUTO, DRIVERS
from virtkit.errors import RequestError
from virtkit.spec.disk_checks import existing_disks
from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.model import LOCAL, Folder, GuestFields, GuestSpec, device_kind
from virtkit.spec.nodes import Path as KeyPath
from virtkit.spec.nodes import error_at
from virtkit.spec.problem import Problem, quote

PATHS, DEVICES = "host-paths", "hostdev"
#: How messages call a kind of device.
_KINDS = {"pci": "a PCI device", "usb": "a USB device", "char": "a character device"}


def source_path(folder: Folder, spec_folder: Path) -> str:
    """A folder's path on its host, without `.` and `..`; links in it stay."""
    return posixpath.normpath(spec_folder / Path(folder.source).expanduser())


def is_below(path: str, above: str) -> bool:
    """Whether ``path`` is a folder below ``above``, or that itself."""
    return f"{path}/".startswith(f"{above.rstrip('/')}/")


def check(draft: Draft, spec_folder: Path, problems: Problems) -> None:
    """Errors of guests' ``folders`` and ``host_devices`` go to ``problems``."""
    for entry in draft.entries:
        if "folders" not in entry.invalid:
            _targets(entry, problems)
            _sources(entry, draft, spec_folder, problems)
        if "host_devices" not in entry.invalid:
            _devices(entry, problems)
    _nested(draft, spec_folder, problems)


def missing(entry: Entry, draft: Draft, spec_folder: Path) -> Iterator[RequestError]:
    """The folders of this machine that an entry's guests are to see, and that are not there."""
    node = entry.node.entries.get("folders")
    if node is None or "folders" in entry.invalid or _may_be_elsewhere(entry.fields, draft):
        return
    for folder, below in zip(entry.fields.folders, node.items, strict=True):
        path, source = Path(source_path(folder, spec_folder)), below.entries["source"]
        if path.is_dir():
            continue
        problem = Problem(f"there is no folder {quote(folder.source)}", cure=f"mkdir -p {path}")
        if path.exists() or path.is_symlink():
            cure = "name the folder that it is in"
            problem = Problem(f"{quote(folder.source)} is no folder", cure=cure)
        yield error_at(source.position, source.path, problem)


def _hosts(fields: GuestFields, draft: Draft) -> list[str]:
    """The hosts that a guest may be on."""
    return [fields.host] if fields.host is not None else [*draft.hosts.nodes] or [LOCAL]


def _may_be_elsewhere(fields: GuestFields, draft: Draft) -> bool:
    return _hosts(fields, draft) != [LOCAL]


# --- folders --------------------------------------------------------------------------------


def _targets(entry: Entry, problems: Problems) -> None:
    """Two on one target, or one that hides what is mounted below it."""
    disks = [each.mount for each in entry.fields.disks if each.mount]
    folders = [each.target for each in entry.fields.folders]
    for index, target in enumerate(folders):
        others = [*disks, *folders[:index], *folders[index + 1 :]]
        path = ("folders", index, "target")
        if target in [*disks, *folders[:index]]:
            problem = Problem(
                f"two of the guest's folders or disks are mounted on {target}",
                cure="give each its own folder",
            )
            problems.at(entry.node, path, problem)
            continue
        below = next((e for e in others if e != target and is_below(e, target)), None)
        if below is not None:
            problem = Problem(
                f"the folder on {target} would hide what is mounted on {below}",
                cure="mount each beside the other",
            )
            problems.at(entry.node, path, problem)


def _sources(entry: Entry, draft: Draft, spec_folder: Path, problems: Problems) -> None:
    """Folders that no guest can have, or not unasked."""
    only_elsewhere = LOCAL not in _hosts(entry.fields, draft)
    for index, folder in enumerate(entry.fields.folders):
        problem = _bad_source(folder, spec_folder, elsewhere=only_elsewhere)
        if problem is None and PATHS not in entry.fields.allow:
            problem = _outside(folder, spec_folder, elsewhere=only_elsewhere)
        if problem is not None:
            problems.at(entry.node, ("folders", index, "source"), problem)


def _bad_source(folder: Folder, spec_folder: Path, *, elsewhere: bool) -> Problem | None:
    if elsewhere and not folder.source.startswith("/"):
        return Problem(
            f"{quote(folder.source)} is no folder of the guest's host",
            why="the host is another machine, and the spec's folder is on this one",
            cure="write the whole path that the folder has there, or copy it: `virtkit cp`",
        )
    if source_path(folder, spec_folder) == "/":
        return Problem(
            "a guest can't be given all of its host's files",
            cure="name the folder that it needs",
        )
    return None


def _outside(folder: Folder, spec_folder: Path, *, elsewhere: bool) -> Problem | None:
    """The error about a folder that is not below the spec's own."""
    if not elsewhere and is_below(source_path(folder, spec_folder), str(spec_folder)):
        return None
    return outside_problem(folder.source, readonly=folder.readonly)


def outside_problem(source: str, *, readonly: bool) -> Problem:
    """What is said of a folder that a guest may not have unasked."""
    return Problem(
        f"the guest would see {quote(source)}, which is not below the spec's folder",
        why="what is there may be others', and a guest's root reads it"
        + ("" if readonly else " and writes to it"),
        cure=f"add `allow: [{PATHS}]` to the guest if that is meant",
    )


def _nested(draft: Draft, spec_folder: Path, problems: Problems) -> None:
    """A folder, or a disk that exists, inside a folder that a guest writes to: its root could put a
    link in its place, and another one of the host would be given from the next start on."""
    shared = list(_all_folders(draft, spec_folder))
    writers = {
        (path, guest.host): guest
        for _, guest, index, path in shared
        if path != "/" and not guest.folders[index].readonly
    }
    given: list[tuple[Entry, GuestSpec, KeyPath, str, str]] = [
        (entry, guest, ("folders", index, "source"), guest.folders[index].source, path)
        for entry, guest, index, path in shared
    ]
    given += [
        (entry, entry.guests[0], place, disk.existing or "", disk.existing or "")
        for entry in draft.entries
        if entry.guests
        for place, disk in existing_disks(entry.guests[0])
    ]
    for entry, guest, place, said, path in given:
        for (above, _), other in writers.items():
            if path == above or not is_below(path, above) or guest.is_elsewhere(other):
                continue
            kind: Literal["disk", "folder"] = "folder" if place[0] == "folders" else "disk"
            problems.at(entry.node, place, nested_problem(said, other.name, kind))
            break


def nested_problem(said: str, writer: str, kind: Literal["disk", "folder"]) -> Problem:
    """What is said of something inside a folder that the guest ``writer`` writes to."""
    beside = "share folders that lie" if kind == "folder" else "keep the disk and the folder"
    return Problem(
        f"{quote(said)} is inside a folder that {quote(writer)} writes to",
        why=f"whoever is root there could put a link to any {kind} of the host in its place",
        cure=f"write `readonly: true` for the outer one, or {beside} side by side",
    )


def _all_folders(draft: Draft, spec_folder: Path) -> Iterator[tuple[Entry, GuestSpec, int, str]]:
    """Every folder of an entry's first guest, which all of its guests have, with its path."""
    for entry in draft.entries:
        if "folders" in entry.invalid:
            continue
        for guest in entry.guests[:1]:
            for index, folder in enumerate(guest.folders):
                yield entry, guest, index, source_path(folder, spec_folder)


# --- devices --------------------------------------------------------------------------------


def _devices(entry: Entry, problems: Problems) -> None:
    """Devices that a guest may not have, that its type can't have, or that it has twice."""
    fields, seen = entry.fields, set()
    for index, name in enumerate(fields.host_devices):
        path = ("host_devices", index)
        problem = _bad_kind(entry, name)
        if problem is None and DEVICES not in fields.allow:
            problem = Problem(
                f"the guest would get {name} of its host",
                why="the host loses it while the guest runs, and a device can reach the host",
                cure=f"add `allow: [{DEVICES}]` to the guest if that is meant",
            )
        # PCI and USB: raw_xml.exclusive_devices
        if problem is None and name in seen and device_kind(name) == "char":
            problem = Problem(f"the guest has {name} twice", cure="remove one of them")
        if problem is not None:
            problems.at(entry.node, path, problem)
        seen.add(name)


def _bad_kind(entry: Entry, name: str) -> Problem | None:
    """The error about a device that the guest's type, or one that `auto` may take, can't have."""
    guest_type, kind = entry.fields.type, device_kind(name)
    if "type" in entry.invalid or kind is None:
        return None
    for choice in AUTO if guest_type == "auto" else (guest_type,):
        able = DRIVERS[choice].host_devices
        if kind not in able and "host_devices" not in DRIVERS[choice].unsupported:
            types = [n for n, each in DRIVERS.items() if kind in each.host_devices]
            return Problem(
                f"a guest of type {guest_type} can't have {_KINDS[kind]} of its host",
                why=f"it can have {' and '.join(_KINDS[each] for each in able)}",
                cure=f"remove {name}, or set `type: {types[0]}`",
            )
    return None
