"""What is virtkit's, or looks like it, and belongs to no spec. It deletes nothing."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from virtkit import images, reach
from virtkit.api.world import Site, hosts_of, look, path_of
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError
from virtkit.host import Host, rotations
from virtkit.observed import Observed
from virtkit.record import GuestRecord, NetworkRecord
from virtkit.spec import LOCAL, Spec, format_size, load

#: Volumes that virtkit names itself: ``ENVIRONMENT-GUEST-ROLE``, and an image's three.
_LIKE_OURS = re.compile(
    r"[a-z0-9][a-z0-9-]*-[a-z0-9][a-z0-9-]*-(root|seed|console(\.[0-9]+)?|kernel|initrd)"
    r"|virtkit-[0-9a-f]{20}\.(root|kernel|initrd)",
    re.ASCII,
)


@dataclass(frozen=True)
class Orphan:
    """One thing without a spec. ``sure`` is False where it may be somebody's; ``cure`` removes
    it, once its reader made sure; ``host`` is the host that it is on."""

    kind: Literal["guest", "network", "disk", "image", "volume", "folder", "cache"]
    name: str
    environment: str
    why: str
    cure: str
    sure: bool = True
    host: str = LOCAL

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def orphans(spec: Spec | None = None) -> list[Orphan]:
    """All that is left over on this machine, or on a spec's hosts.

    Args:
        spec: one more spec that claims what is its; its hosts and pools are those looked at.
    """
    specs = _Specs(spec)
    sites = look(hosts_of(spec), pool=True)
    found: list[Orphan] = []
    for each in sites:
        there = [
            *_objects(each.observed, specs, each.host),
            *_kept(each.observed, specs, each.host),
            *_images(each.observed, spec),
            *_volumes(each.observed, each.host),
        ]
        found += (replace(orphan, host=each.host.name) for orphan in there)
    return [*found, *_folders(sites, spec), *_caches(each.observed for each in sites)]


class _Specs:
    """The specs that records name, each read once."""

    def __init__(self, given: Spec | None) -> None:
        self.given = given
        self._read: dict[str, tuple[Spec | str, bool]] = {}

    def of(self, path: str, environment: str) -> tuple[Spec | str, bool]:
        """The spec of an environment, or why there is none; and whether that is sure."""
        if self.given is not None and self.given.name == environment:
            return self.given, True
        if path not in self._read:
            self._read[path] = _spec(path)
        found, sure = self._read[path]
        if isinstance(found, Spec) and found.name != environment:
            return f"its spec {path} is of environment {found.name} now", True
        return found, sure


def _spec(path: str) -> tuple[Spec | str, bool]:
    if path.startswith("<"):
        return "it was made from standard input: no file tells whether it is still wanted", False
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return f"its spec {path} is gone", True
    except (OSError, ValueError) as error:
        return f"its spec {path} can't be looked at: {error}", False
    try:
        return load(path), True
    except RequestError as error:
        return f"its spec {path} can't be read: {error.what}", False


def _objects(observed: Observed, specs: _Specs, host: Host) -> Iterable[Orphan]:
    """Guests and networks whose spec is gone or names them no more."""
    for kind, name, own, record in _recorded(observed):
        found, sure = specs.of(record.spec, record.environment)
        if isinstance(found, str):
            why, cure = found, _down(record.environment, host)
            if _reached_by_others(host, observed, record.environment):
                why, sure = f"{why}; another machine, from which it was made, may have it", False
        elif own not in (found.guests if kind == "guest" else found.networks):
            why = f"its spec {found.source} names it no more"
            verb, last = ("down", f" {own}") if kind == "guest" else ("up", "")
            cure = f"virtkit {verb} {_file(found)}{last}"
        else:
            continue
        yield Orphan(kind, name, record.environment, why, cure, sure)


def _recorded(
    observed: Observed,
) -> Iterable[tuple[Literal["guest", "network"], str, str, GuestRecord | NetworkRecord]]:
    """What has a record: its kind, its name in libvirt and in the spec, and the record."""
    for guest in observed.guests.values():
        yield "guest", guest.domain, guest.record.guest, guest.record
    for network in observed.networks.values():
        yield "network", network.name, network.record.network, network.record


def _reached_by_others(host: Host, observed: Observed, environment: str) -> bool:
    """Whether an environment there may have been made from another machine than this one."""
    drivers = (DRIVERS[each.record.type] for each in observed.guests_of(environment).values())
    return host.remote is not None or any(each.remote for each in drivers)


def _down(environment: str, host: Host, *, volumes: bool = False) -> str:
    """The command that takes what an environment has on a host down, without its spec."""
    asked: dict[str, Any] = {"name": environment}
    if place := _place(host):
        asked["hosts"] = {host.name: place}
    more = " --volumes" if volumes else ""
    return f"echo {shlex.quote(json.dumps(asked, ensure_ascii=False))} | virtkit down -f -{more}"


def _file(spec: Spec) -> str:
    """The words that name a spec."""
    path = path_of(spec)
    return f"-f {'-' if path.startswith('<') else shlex.quote(path)}"


def _place(host: Host) -> dict[str, Any]:
    """What a spec must say of a host."""
    said: dict[str, Any] = {}
    if host.remote is not None:
        ssh = {key: getattr(host.remote, key) for key in ("port", "key", "known_hosts")}
        said = {"address": host.remote.address, "ssh": {k: v for k, v in ssh.items() if v}}
    if host.storage.pool != "default":
        said["pool"] = host.storage.pool
    return said


def _kept(observed: Observed, specs: _Specs, host: Host) -> Iterable[Orphan]:
    """Kept disks of environments without a guest; a spec that is given may ask for them."""
    for disk in observed.pool.kept.values():
        given = specs.given
        if given is not None and given.name == disk.environment and disk.guest in given.guests:
            continue
        if not observed.guests_of(disk.environment):
            why = f"kept for guest {disk.guest}, and the environment has no guest; it holds data"
            cure = _down(disk.environment, host, volumes=True)
            yield Orphan("disk", disk.name, disk.environment, why, cure)


def _images(observed: Observed, spec: Spec | None) -> Iterable[Orphan]:
    words = f"{_file(spec)} " if spec is not None else ""
    used = {each.record.image.content for each in observed.guests.values() if each.record.image}
    for content, image in observed.pool.images.items():
        if content not in used:
            size = format_size(image.files.size)
            why = f"image {image.name} ({size}): no guest leans on it"
            if not image.made:
                why = f"image {image.name}: its upload did not end, and no guest leans on it"
            name = Path(image.files.root).name
            yield Orphan("image", name, "", why, f"virtkit image rm {words}{content[:12]}")


def _volumes(observed: Observed, host: Host) -> Iterable[Orphan]:
    """Volumes with names as virtkit gives them, that no record lists and no domain names."""
    listed = {v.name for each in observed.guests.values() for v in each.record.volumes}
    listed |= {each for name in listed for each in rotations(observed.volumes, name)}
    listed |= set(observed.pool.kept)
    for image in observed.pool.images.values():
        files = (image.files.root, image.files.kernel, image.files.initrd)
        listed |= {Path(each).name for each in files}
    own = tuple(f"{each.domain}-" for each in observed.guests.values())
    like = [n for n in observed.volumes if _LIKE_OURS.fullmatch(n) or n.startswith(own)]
    used = host.paths() if set(like) - listed else frozenset()
    names = {Path(each).name for each in used}
    for name in sorted(set(like) - listed - names):
        why = "it is named like virtkit's, but no record lists it: it may be left over"
        virsh, pool = _virsh(host), host.storage.pool
        cure = f"{virsh} vol-delete {name} --pool {pool}"
        cure += f" (first: {virsh} vol-info {name} --pool {pool})"
        yield Orphan("volume", name, "", why, cure, sure=False)


def _virsh(host: Host) -> str:
    """virsh on a host: with its usual URI on this machine."""
    if host.remote is None:
        return "virsh"
    return f"virsh -c {shlex.quote(host.connections.shown(host.schemes[0]))}"


def _folders(sites: Sequence[Site], spec: Spec | None) -> Iterable[Orphan]:
    """Keys and known hosts of environments that have nothing here any more."""
    environments = {e.record.environment for s in sites for e in s.observed.guests.values()}
    for path in reach.folders():
        if path.name in environments:
            continue
        looked_at = {*spec.hosts} if spec is not None and spec.name == path.name else {LOCAL}
        others = ", ".join(sorted(reach.hosts(path.name) - looked_at))
        why = "keys and known hosts of an environment that has no guest here"
        if others:
            why += f"; it had some on {others}, where nobody looked"
        cure = f"rm -r {shlex.quote(str(path))}"
        yield Orphan("folder", str(path), path.name, why, cure, sure=not others)


def _caches(observed: Iterable[Observed]) -> Iterable[Orphan]:
    images_there = [image for each in observed for image in each.pool.images.values()]
    stored = {identity for image in images_there for identity in image.identities}
    for path, why in images.leftovers(stored):
        yield Orphan("cache", str(path), "", why, images.removal(path))
