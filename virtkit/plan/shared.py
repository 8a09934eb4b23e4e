"""What guests are given of their host, against what the host has: folders and devices.

Only guests that are made or started, or whose folders or devices change, are looked at.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from virtkit.drivers import Driver
from virtkit.errors import RequestError
from virtkit.facts import DeviceFacts, FolderFacts, HostFacts, SharedFacts
from virtkit.plan.changes import Change
from virtkit.spec import LOCAL, Spec, host_parts
from virtkit.spec.model import Folder, GuestSpec, device_kind
from virtkit.state.desired import Guest
from virtkit.state.observed import ObservedGuest
from virtkit.state.shared import SharedFolder, Way

INSTALL_VIRTIOFSD = "sudo apt-get install virtiofsd (Debian 12: qemu-system-common)"
#: The first interface of the hook that mounts folders (INTERFACE in lxc_hook.py).
_HOOK_WITH_FOLDERS = 3
#: The login of an image has this user id, as a host's first user mostly has.
_FIRST_USER = 1000


def path_on_host(spec: Spec, folder: Folder, facts: HostFacts | None) -> str:
    """A folder's path on its host, without links where that is known."""
    path = host_parts.source_path(folder, spec.folder)
    on_host = facts.shared.folders.get(path) if facts and facts.shared else None
    return on_host.path if on_host else path


def folders(
    spec: Spec, guest: GuestSpec, driver: Driver, facts: HostFacts
) -> Iterator[SharedFolder]:
    """The folders that a guest of a type sees on a host."""
    if driver.folders_by is None:
        return
    way: Way = driver.folders_by
    if way == "virtiofs" and not (facts.shared and facts.shared.virtiofsd):
        way = "9p"
    for each in guest.folders:
        path = path_on_host(spec, each, facts)
        yield SharedFolder(path, each.target, each.readonly, way)


def errors(
    changes: Iterable[Change], facts: HostFacts, guests: Sequence[Guest]
) -> list[RequestError]:
    """What guests are to be given of a host, and it can't give them.

    Args:
        guests: all that the spec has on the host.
    """
    refusals = [
        error
        for guest in _looked_at(changes)
        for error in (
            *_folder_errors(guest, facts),
            *_nested(guest, guests),
            *_device_errors(guest, facts),
        )
    ]
    # several guests may name one folder
    return list({(each.what, each.where): each for each in refusals}.values())


def notes(changes: Iterable[Change], facts: HostFacts) -> list[str]:
    """What to know of what guests are given of a host: each once, for all that it is about."""
    about: dict[str, list[str]] = {}
    for guest in _looked_at(changes):
        for note in (*_folder_notes(guest, facts), *_device_notes(guest, facts)):
            about.setdefault(note, []).append(f"guest/{guest.name}")
    return [f"{', '.join(objects)}: {note}" for note, objects in about.items()]


def _looked_at(changes: Iterable[Change]) -> Iterator[Guest]:
    """The guests that start, or whose folders or devices change."""
    for change in changes:
        current, guest = change.observed, change.desired
        off = isinstance(current, ObservedGuest) and current.state == "stopped"
        starts = change.action in ("create", "replace") or off or change.effect == "restart"
        fields = {each.field for each in change.reasons}
        if isinstance(guest, Guest) and (starts or fields & {"folders", "host_devices"}):
            yield guest


# --- folders --------------------------------------------------------------------------------


def _folder_errors(guest: Guest, facts: HostFacts) -> Iterator[RequestError]:
    on_host = facts.shared
    if on_host is None or not guest.folders:
        return
    for folder, requested in zip(guest.folders, guest.spec.folders, strict=True):
        known = next((e for e in on_host.folders.values() if e.path == folder.source), None)
        problem = _refused(guest, folder, requested, facts)
        if problem is None and known is not None:
            problem = _unusable(guest, folder, known)
        if problem is not None:
            what, cure = problem
            yield RequestError(f"guest {guest.name}: {what}", cure=cure, where=_where(guest))
    yield from _no_way(guest, on_host)


def _where(guest: Guest) -> str:
    return guest.where("folders")


def _refused(
    guest: Guest, folder: SharedFolder, requested: Folder, facts: HostFacts
) -> tuple[str, str] | None:
    """A folder that the guest may not have on its host, which the spec alone did not tell: what,
    and its cure."""
    source, local = requested.source, facts.name == LOCAL
    if folder.source == "/":
        return "it can't be given all of its host's files", "name the folder that it needs"
    if not local and not source.startswith("/"):
        cure = "write the whole path that the folder has there, or copy it: `virtkit cp`"
        return f"{source} is no folder of host {facts.name}, which is another machine", cure
    below = local and host_parts.is_below(folder.source, guest.source_folder)
    if not below and host_parts.PATHS not in guest.spec.allow:
        problem = host_parts.outside_problem(folder.source, readonly=folder.readonly)
        return problem.what, problem.cure
    return None


def _nested(guest: Guest, guests: Iterable[Guest]) -> Iterator[RequestError]:
    """A folder that by a link is inside one that a guest writes to; the spec alone tells others."""
    for folder in guest.folders:
        for other in guests:
            outer = (e.source for e in other.folders if not e.readonly and e.source != "/")
            above = next((e for e in outer if _is_inside(folder.source, e)), "")
            if above:
                problem = host_parts.nested_problem(folder.source, other.name, "folder")
                yield RequestError(
                    f"guest {guest.name}: {problem.what}",
                    why=problem.why,
                    cure=problem.cure,
                    where=_where(guest),
                )


def _is_inside(path: str, above: str) -> bool:
    return path != above and host_parts.is_below(path, above)


def _unusable(guest: Guest, folder: SharedFolder, known: FolderFacts) -> tuple[str, str] | None:
    """A folder that isn't there, or that QEMU can't read: what, and its cure."""
    path = shlex.quote(folder.source)
    if known.kind == "missing":
        return f"host {guest.host} has no folder {folder.source}", f"mkdir -p {path}"
    if known.kind == "other":
        return f"{folder.source} on host {guest.host} is no folder", "name the folder that it is in"
    if folder.way == "9p" and known.blocked:
        blocked, user = shlex.quote(known.blocked), known.qemu_user
        rights = "rx" if known.blocked == folder.source else "x"
        what = f"QEMU can't read {folder.source}: it runs as {user}, who may not enter {blocked}"
        cure = f"on the host, as root: setfacl -m u:{user}:{rights} {blocked}"
        return what, f"{cure}; or install virtiofsd, which reads as root"
    return None


def _no_way(guest: Guest, on_host: SharedFacts) -> Iterator[RequestError]:
    """Where neither the host nor the guest's kernel has what it takes."""
    ways = {each.way for each in guest.folders}
    if "9p" in ways and guest.image.entry.build is not None and guest.spec.kernel is None:
        yield RequestError(
            f"guest {guest.name}: host {guest.host} has no virtiofsd, which serves folders",
            why=f"the kernel of the image '{guest.image.name}', Debian's for virtual machines, "
            "knows no 9p, which QEMU serves by itself",
            cure=INSTALL_VIRTIOFSD,
            where=_where(guest),
        )
    if guest.confinement.ids and on_host.hook_interface < _HOOK_WITH_FOLDERS:
        yield RequestError(
            f"guest {guest.name}: libvirt's hook on host {guest.host} knows no folders",
            why="another version of virtkit installed it",
            cure=on_host.prepare,
            where=_where(guest),
        )


def _folder_notes(guest: Guest, facts: HostFacts) -> Iterator[str]:
    if facts.shared is None:
        return
    owners = {each.path: each for each in facts.shared.folders.values()}
    for folder in guest.folders:
        known = owners.get(folder.source)
        if known is None:
            continue
        note = _readonly_note(folder) if folder.readonly else _owner_note(guest, folder, known)
        if note:
            yield note
        local = facts.name == LOCAL and not folder.readonly
        if local and host_parts.is_below(guest.source_folder, folder.source):
            yield f"who is root in it can change the spec, which is in {folder.source}"


def _readonly_note(folder: SharedFolder) -> str:
    if folder.way != "virtiofs":
        return ""
    return (
        f"it mounts {folder.source} read-only by itself, and its root could undo that: libvirt "
        "keeps no virtual machine from writing to a folder by virtiofs"
    )


def _owner_note(guest: Guest, folder: SharedFolder, known: FolderFacts) -> str:
    """Whose the files are that the guest writes; empty where it is as all expect."""
    if folder.way == "9p" and not known.writable:
        user, path = known.qemu_user, shlex.quote(folder.source)
        return (
            f"it can't write to {folder.source}: QEMU runs as {user}, who may not; on the host: "
            f"setfacl -R -m u:{user}:rwX,d:u:{user}:rwX {path}"
        )
    if folder.way == "virtiofs" and known.owner != _FIRST_USER:
        return (
            f"{folder.source} belongs to the host's user {known.owner}; user ids are the same in "
            f"the guest, so its login (mostly {_FIRST_USER}) writes there as any other user may"
        )
    if folder.way == "bind" and not guest.confinement.ids and known.owner != 0:
        return f"what it writes in {folder.source} belongs to the host's root"
    return ""


# --- devices --------------------------------------------------------------------------------


def _device_errors(guest: Guest, facts: HostFacts) -> Iterator[RequestError]:
    for name in guest.spec.host_devices:
        known = facts.shared.devices.get(name) if facts.shared else None
        problem = _unusable_device(guest, name, known) if known else None
        if problem is not None:
            what, why, cure = problem
            where = guest.where("host_devices")
            yield RequestError(f"guest {guest.name}: {what}", why=why, cure=cure, where=where)


def _unusable_device(guest: Guest, name: str, known: DeviceFacts) -> tuple[str, str, str] | None:
    """A device that the host can't give: what, why, and the cure."""
    if not known.exists:
        lists = {"pci": "lspci -D", "usb": "lsusb", "char": "ls -l /dev"}
        cure = f"correct `host_devices:`; see what there is: {lists[device_kind(name) or 'char']}"
        return f"host {guest.host} has no device {name}", "", cure
    if known.other_kind:
        return (
            f"{name} on host {guest.host} is no character device",
            f"it is a {known.other_kind}",
            "name a character device; disks go under `disks:`",
        )
    if device_kind(name) == "pci" and not known.iommu:
        what = f"host {guest.host} can't give {name} away"
        why = "it has no IOMMU group: nothing would keep the device from the host's memory"
        cure = (
            "turn on VT-d or AMD-Vi in the host's firmware, and intel_iommu=on (Intel) on its "
            "kernel's command line; `virtkit doctor` looks at it"
        )
        return what, why, cure
    return None


def _device_notes(guest: Guest, facts: HostFacts) -> Iterator[str]:
    for name in guest.spec.host_devices:
        known = facts.shared.devices.get(name) if facts.shared else None
        if known is None or not known.exists or device_kind(name) == "char":
            continue
        loses = [*known.loses, *([f"its driver {known.driver}"] if known.driver else [])]
        what = f" ({known.what})" if known.what else ""
        rest = f": {', '.join(loses)}" if loses else ""
        yield f"host {guest.host} loses {name}{what} while the guest runs{rest}"
        if known.beside:
            yield (
                f"{name} is in one IOMMU group with {', '.join(known.beside)}: the guest starts "
                "only where the host has no driver on these, or the guest gets them, too"
            )
