"""Guests that read no seed, without an image or with Ignition: what then can't be. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from virtkit.spec.document import CLOUD_INIT
from virtkit.spec.draft import Draft, Entry
from virtkit.spec.errors import Problems
from virtkit.spec.model import NO_IMAGE, GuestFields
from virtkit.spec.nodes import Path
from virtkit.spec.problem import Problem

_DEFAULTS = GuestFields.model_construct()
#: What a guest is told by its seed, or by ssh.
_IN_SEED = (
    "user",
    "ssh_keys",
    CLOUD_INIT,
    "user_data",
    "password",
    "files",
    "folders",
    "playbooks",
)
#: Those of them that are no loss where `defaults` has them for all guests.
_LOGIN = ("user", "ssh_keys")


def check(draft: Draft, problems: Problems) -> None:
    """Errors of guests without an image, and of an image that is called so, go to ``problems``."""
    if NO_IMAGE in draft.images.nodes:
        problem = Problem(
            f"an image can't be called '{NO_IMAGE}'",
            why=f"`image: {NO_IMAGE}` is a guest without one",
            cure="give it another name",
        )
        problems.at_key(draft.images.nodes[NO_IMAGE], problem)
    for entry in draft.entries:
        if entry.fields.image == NO_IMAGE and "image" not in entry.invalid:
            _seed(entry, problems)
            _root(entry, problems)
        elif entry.fields.ignition is not None:
            _ignition(entry, problems)


def _seed(entry: Entry, problems: Problems) -> None:
    """Keys that need a system which reads its seed."""
    for path in _unread(entry):
        name = f"`{path[-1]}:`"
        problem = Problem(
            f"a guest without an image can't have {name}",
            why="virtkit tells a guest that by a seed, which images read and a blank disk does not",
            cure=f"remove {name} (`{path[-1]}: null` where it is inherited), or name an image",
        )
        problems.at(entry.node, path, problem)


def _ignition(entry: Entry, problems: Problems) -> None:
    """The same keys, of a system that an Ignition file sets up."""
    for path in _unread(entry):
        name = f"`{path[-1]}:`"
        problem = Problem(
            f"a guest with `ignition:` can't have {name}",
            why="its system is told all by its Ignition file, and reads no seed of virtkit's",
            cure=f"say it in the Ignition file, and remove {name} (`{path[-1]}: null` where it is "
            "inherited)",
        )
        problems.at(entry.node, path, problem)


def _unread(entry: Entry) -> Iterator[Path]:
    for key in _IN_SEED:
        value = entry.written_cloud_init if key == CLOUD_INIT else getattr(entry.fields, key)
        node = entry.node.entries.get(key)
        common = key in _LOGIN and node is not None and node.path[:1] == ("defaults",)
        if value != getattr(_DEFAULTS, key) and not common:
            yield (key,)
    for index, disk in enumerate(entry.fields.disks):
        if disk.mount is not None:
            yield ("disks", index, "mount")


def _root(entry: Entry, problems: Problems) -> None:
    """A root disk of which something is said, and not how large it is."""
    disk = entry.fields.disk
    if disk.size is None and disk.existing is None and disk.model_dump(mode="json"):
        problem = Problem(
            "the root disk of a guest without an image has no size",
            cure="add `size:`, or remove `disk:` for a guest without a root disk",
        )
        problems.at(entry.node, ("disk",), problem)
