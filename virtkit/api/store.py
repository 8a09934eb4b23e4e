"""The image store as users see it."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from virtkit import images, record, resources
from virtkit.api.world import LOCK_TIMEOUT, Say, hosts_of, look, quiet
from virtkit.errors import RequestError
from virtkit.host import Host
from virtkit.observed import Observed
from virtkit.resources import ImageRef
from virtkit.spec import CATALOGUE, Spec
from virtkit.voice import Voice


@dataclass(frozen=True)
class StoreEntry:
    """An image in the store. ``users``: guests that lean on it; ``size`` in bytes."""

    name: str
    content: str
    format: str
    size: int
    made: bool
    users: tuple[str, ...]
    host: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def image_list(spec: Spec | None = None) -> list[StoreEntry]:
    """The images in this machine's pool, or in those of a spec's hosts."""
    return [
        StoreEntry(
            each.name,
            each.files.content,
            each.files.format,
            each.files.size,
            each.made,
            _image_users(site.observed, each.files.content),
            site.host.name,
        )
        for site in look(hosts_of(spec), pool=True)
        for each in site.observed.pool.images.values()
    ]


def image_make(spec: Spec | None, name: str, say: Say = quiet) -> images.LocalImage:
    """Builds, downloads or probes an image of the spec or the catalogue, on this side only.

    ``up`` puts it into a pool where a guest needs it.
    """
    known = {**CATALOGUE, **(spec.images if spec else {})}
    if name not in known:
        near = difflib.get_close_matches(name, list(known), n=1)
        raise RequestError(
            f"there is no image {name!r}",
            cure=f"did you mean {near[0]}?" if near else f"one of: {', '.join(known)}",
        )
    entry = known[name]
    ref = ImageRef(name, entry, resources.image_identity(entry))
    return images.prepare(ref, spec.folder if spec else Path.cwd(), Voice(say))


def image_remove(
    name: str,
    spec: Spec | None = None,
    *,
    lock_timeout: float = LOCK_TIMEOUT,
    say: Say = quiet,
) -> list[StoreEntry]:
    """Removes an image, by name or content hash, from the pool and from the cache.

    It waits until no ``up`` runs that could take the image for a new guest.

    Args:
        lock_timeout: seconds to wait.
        say: told for whom.

    Raises:
        RequestError: there is none, a guest leans on it, or an ``up`` takes longer.
    """
    host = hosts_of(spec)[0]
    _removable(host, name)
    with host.images_lock.held(lock_timeout, say):
        chosen = _removable(host, name)
        contents = {each.files.content for each in chosen}
        gone = [entry for entry in image_list(spec) if entry.content in contents]
        for each in chosen:
            images.drop(host, each.files.content)
            for identity in each.identities:
                images.forget(identity)
    return gone


def _removable(host: Host, name: str) -> list[record.StoredImage]:
    """The images that ``name`` names; none of them is in use."""
    observed = host.observe()
    chosen = [
        each
        for each in observed.pool.images.values()
        if each.name == name or (len(name) >= 6 and each.files.content.startswith(name))
    ]
    if not chosen:
        raise RequestError(f"the store has no image {name!r}", cure="see virtkit image list")
    for each in chosen:
        users = _image_users(observed, each.files.content)
        if users:
            raise RequestError(
                f"image {each.name} is in use",
                why=f"{', '.join(users)} lean on it",
                cure="take these guests down first",
            )
    return chosen


def _image_users(observed: Observed, content: str) -> tuple[str, ...]:
    return tuple(
        sorted(
            each.domain
            for each in observed.guests.values()
            if each.record.image is not None and each.record.image.content == content
        )
    )
