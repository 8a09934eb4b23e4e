"""What a guest asks for and the system that runs in it can't give it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.model import CATALOGUE, GuestFields
from virtkit.spec.nodes import Path
from virtkit.spec.problem import Problem, quote

_DEFAULTS = GuestFields.model_construct()
_NO_SEED = "Windows reads no seed of virtkit's"
#: What a Windows guest can't have, and why.
_NOT_ON_WINDOWS = {
    "cloud_init": _NO_SEED,
    "user_data": _NO_SEED,
    "password": _NO_SEED,
    "ssh_keys": _NO_SEED,
    "files": _NO_SEED,
    "folders": "virtkit mounts them by a seed, and Windows reads none",
    "playbooks": "virtkit logs in by ssh with keys of a seed, and Windows reads none",
    "ignition": "Windows reads no Ignition file",
    "kernel": "a kernel that is booted directly is Linux's",
}


def check(entry: Entry, draft: Draft, problems: Problems) -> None:
    """What a guest whose `system` is Windows asks for that only Linux has."""
    fields = entry.fields
    if fields.system != "windows":
        return
    for path, why in _uses(fields):
        key = str(path[-1])
        problem = Problem(
            f"a guest with `system: windows` can't have `{key}:`",
            why=f"{why} (guest {quote(entry.base)})",
            cure=f"remove `{key}:`; `{key}: null` where it is inherited",
        )
        problems.at(entry.node, path, problem)
    image = draft.images.models.get(fields.image) or CATALOGUE.get(fields.image)
    if image is not None and image.build is not None:
        problem = Problem(
            f"the image '{fields.image}' is Debian, and no Windows",
            why=f"virtkit builds images of Debian's packages (guest {quote(entry.base)})",
            cure="name an image with `path:` or `url:` that has Windows on it",
        )
        problems.at(entry.node, ("image",), problem)
    kind = fields.ready.kind
    if kind in ("ssh", "command") and "kind" in fields.ready.model_fields_set:
        problem = Problem(
            f"a guest with `system: windows` can't have `ready: {kind}`",
            why=f"virtkit can't log in to it (guest {quote(entry.base)})",
            cure="use `ready: {port: 3389}` (RDP) or another port, or `ready: address`",
        )
        problems.at(entry.node, ("ready",), problem)


def _uses(fields: GuestFields) -> Iterator[tuple[Path, str]]:
    """Where a guest has what Windows can't have, and why."""
    for key, why in _NOT_ON_WINDOWS.items():
        if getattr(fields, key) != getattr(_DEFAULTS, key):
            yield (key,), why
    for index, disk in enumerate(fields.disks):
        if disk.mount is not None:
            yield ("disks", index, "mount"), "Windows knows no ext4"
