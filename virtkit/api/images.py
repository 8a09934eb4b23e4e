"""The image store as users see it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from virtkit import images
from virtkit._dataclass import dataclass
from virtkit.api._defaults import LOCK_TIMEOUT
from virtkit.api._hosts import Say, hosts_of, quiet
from virtkit.api._observation import Answer, Observation, observe, unanswered_error
from virtkit.errors import RequestError, VirtkitError
from virtkit.progress import Progress
from virtkit.spec import Spec, imported, suggestion
from virtkit.spec.command import virtkit_command
from virtkit.state.desired import ImageRef, image_identity
from virtkit.state.observed import Observed
from virtkit.state.record import GuestRecord


@dataclass(frozen=True)
class StoreEntry:
    """An image in the store.

    Attributes:
        size: in bytes.
        users: the guests that use it.
        down_commands: what removes these guests, a command for those of each spec.
    """

    name: str
    content: str
    format: str
    size: int
    made: bool
    users: tuple[str, ...]
    host: str
    down_commands: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        document = asdict(self)
        document["downs"] = document.pop("down_commands")  # its name in JSON
        return document


def image_list(spec: Spec | None = None) -> Answer[list[StoreEntry]]:
    """The images in this machine's pool, or in those of a spec's hosts that answer."""
    observation = observe(hosts_of(spec), pool=True)
    return Answer(_entries(observation), observation.unanswered)


def _entries(observation: Observation) -> list[StoreEntry]:
    return [
        StoreEntry(
            each.name,
            each.files.content,
            each.files.format,
            each.files.size,
            each.made,
            _image_users(host_state.observed, each.files.content),
            host_state.host.name,
            _down_commands(host_state.observed, each.files.content),
        )
        for host_state in observation.host_states
        for each in host_state.observed.pool.images.values()
    ]


def image_make(
    spec: Spec | None, name: str, say: Say = quiet, *, stop: threading.Event | None = None
) -> images.LocalImage:
    """Builds, downloads or probes an image of the spec or the catalogue, on this side only.

    ``up`` puts it into a pool where a guest needs it.

    Args:
        stop: set from any thread, it ends the work as ctrl-c does.

    Raises:
        Interrupted: ``stop`` was set. The next download continues where this one stopped.
    """
    entry = (spec.images.get(name) if spec else None) or imported.known_image(name)
    if entry is None:
        known = {*(spec.images if spec else ()), *imported.known_images()}
        raise RequestError(f"there is no image {name!r}", cure=suggestion(name, known))
    ref = ImageRef(name, entry, image_identity(entry))
    return images.local_image(ref, spec.folder if spec else Path.cwd(), Progress(say, stop))


def image_remove(
    name: str,
    spec: Spec | None = None,
    *,
    lock_timeout: float = LOCK_TIMEOUT,
    say: Say = quiet,
) -> Answer[list[StoreEntry]]:
    """Removes an image, by name or content hash, from this machine's pool or those of a spec's
    hosts, and from the cache. On a host where guests use it, it stays. It stays, too, on one that
    does not answer, and then in the cache: a run may be sending it there.

    It waits until no ``up`` runs that could take the image for a new guest.

    Args:
        lock_timeout: seconds to wait.
        say: told which run is waited for, and on which hosts the image stays.

    Raises:
        RequestError: there is none, guests use it everywhere, or an ``up`` takes longer.
        VirtkitError: it is on none of the hosts that answer, and others don't.
    """
    hosts = sorted(hosts_of(spec), key=lambda each: each.name)  # all runs lock in this order
    first = observe(hosts, pool=True).complete()
    own = imported.imported_file(name)
    if own is not None and not any(_matches(name, each) for each in _entries(first)):
        own.unlink()
        say(f"the imported image {name} is removed; it was in no pool")
        return Answer([], first.unanswered)
    _removable(_entries(first), name, first.unanswered)
    with ExitStack() as locks:
        for host in first.hosts:
            locks.enter_context(host.images_lock.acquire(lock_timeout, say))
        observation = observe(first.hosts, pool=True).complete().with_unanswered(first.unanswered)
        entries = _entries(observation)
        removed = _removable(entries, name, observation.unanswered)
        for each in removed:
            host = next(host for host in observation.hosts if host.name == each.host)
            identities = images.delete(host, each.content)
            for identity in (*identities, each.content) if not observation.unanswered else ():
                images.forget(identity)
    if own is not None:
        own.unlink(missing_ok=True)
        say(f"the imported image {name} is removed")
    for each in entries:
        if each.users and _matches(name, each):
            say(f"it stays on host {each.host}: {_used_by(each)}")
    return Answer(removed, observation.unanswered)


def _removable(
    entries: Sequence[StoreEntry],
    name: str,
    unanswered: Mapping[str, VirtkitError] = MappingProxyType({}),
) -> list[StoreEntry]:
    """The images that ``name`` names, of hosts where no guest uses any of them.

    Args:
        entries: those of the hosts that answer.
        unanswered: why others do not.
    """
    matches = [each for each in entries if _matches(name, each)]
    if not matches and unanswered:
        raise unanswered_error(f"no host that answers has an image {name!r}", unanswered)
    if not matches:
        raise RequestError(f"the store has no image {name!r}", cure="see virtkit image list")
    used = [each for each in matches if each.users]
    free = [each for each in matches if each.host not in {other.host for other in used}]
    if not free:
        raise RequestError(
            f"image {used[0].name} is in use",
            why="; ".join(map(_used_by, used)),
            cure="remove these guests first, or ask whoever made them to do it: "
            + "; ".join(dict.fromkeys(each for entry in used for each in entry.down_commands)),
        )
    return free


def _matches(name: str, entry: StoreEntry) -> bool:
    return name == entry.name or (len(name) >= 6 and entry.content.startswith(name))


def _used_by(entry: StoreEntry) -> str:
    return f"{', '.join(entry.users)} use{'s' if len(entry.users) == 1 else ''} it"


def _image_users(observed: Observed, content: str) -> tuple[str, ...]:
    return tuple(sorted(each.domain for each in _users_of(observed, content)))


def _down_commands(observed: Observed, content: str) -> tuple[str, ...]:
    """What takes the guests down that use an image, by the specs that they were made from."""
    guests: dict[str, list[str]] = {}
    for each in _users_of(observed, content):
        guests.setdefault(each.spec, []).append(each.guest)
    return tuple(virtkit_command("down", spec, *sorted(guests[spec])) for spec in sorted(guests))


def _users_of(observed: Observed, content: str) -> list[GuestRecord]:
    """The guests that use an image, those without a domain too. Of one whose run was
    interrupted before it knew its image, only the entry that it was made from is known."""
    image = observed.pool.images.get(content)
    identities = image.identities if image is not None else ()
    return [
        each
        for each in observed.records()
        if (each.image.content == content if each.image else each.image_identity in identities)
    ]
