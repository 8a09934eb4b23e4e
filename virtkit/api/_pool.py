"""The pool that a plan needs: whether it can be had, and images in it that were damaged."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from virtkit.errors import RequestError
from virtkit.facts import Pool
from virtkit.host import Host
from virtkit.plan import Change, FieldChange, Plan
from virtkit.spec import Spec
from virtkit.state.desired import (
    Desired,
)
from virtkit.state.observed import Observed
from virtkit.state.record import PoolRecord


def pool_changes(
    host: Host, spec: Spec, observed: Observed, only: Collection[str]
) -> Iterable[Change]:
    """The pool, where it is not as the guests need it; a pool that does not exist yet is not
    reported.

    Raises:
        RequestError: somebody undefined it, and its folder is not the usual one; or guests have
            their volumes in another one.
    """
    pool = host.storage.describe()
    change = Change(f"pool/{pool.name}", host.name, "start")
    guests = observed.guests_of(spec.name)
    folders = {
        each.record.folder: name
        for name, each in guests.items()
        if each.record.volumes and name in only
    }
    for folder, guest in folders.items():
        if pool.exists and folder == pool.path:
            continue
        other = host.storage_at(folder).pool_name
        in_folder = [name for name, each in guests.items() if each.record.folder == folder]
        if other != pool.name:
            raise RequestError(
                f"guest {guest} has its volumes in pool {other}, not {pool.name}",
                why="guests don't move from pool to pool",
                cure=f"set `pool: {other}` again; or remove what is there, "
                f"{spec.command('down', *in_folder)}, and then "
                f"{spec.command('up')}",
                where=_where_pool(host, spec),
            )
        if folder != pool.path:
            raise RequestError(
                f"pool {pool.name} is gone",
                why=f"the guests of {spec.name} have their volumes in {folder}",
                cure=f"{host.connections.virsh_command()} pool-define-as {pool.name} dir --target "
                + shlex.quote(folder),
                where=host.name,
            )
    if not folders:
        _check_pool(host, pool, spec)
    if pool.exists and not pool.active:
        if host.folder_missing(pool.path) and (folders or not host.storage.unfinished()):
            raise RequestError(
                f"pool {pool.name} can't be activated: its folder {pool.path} is gone",
                cure=f"mount it again, or make it (sudo mkdir -p {shlex.quote(pool.path)})",
                where=_where_pool(host, spec),
            )
        yield replace(change, reasons=(FieldChange("active", False, True, "drift"),))
    elif not pool.exists and folders:
        yield replace(
            change, action="create", reasons=(FieldChange("pool", None, pool.path, "drift"),)
        )


def _check_pool(host: Host, pool: Pool, spec: Spec) -> None:
    """Looks whether a pool that nobody has yet can be made."""
    other = "" if pool.exists else host.pool_at(pool.path)
    if other:
        virsh = host.connections.virsh_command()
        raise RequestError(
            f"there is no pool {pool.name}, and virtkit can't make it: pool {other} has "
            f"{pool.path}",
            cure=f"set `pool: {other}`; or make one with its own folder: sudo mkdir -p "
            f"/srv/{pool.name} && {virsh} pool-define-as {pool.name} dir --target "
            f"/srv/{pool.name} && {virsh} pool-autostart {pool.name}",
            where=_where_pool(host, spec),
        )


def _where_pool(host: Host, spec: Spec) -> str:
    return spec.where(("hosts", host.name, "pool"))


def damaged_images(host: Host, observed: Observed) -> dict[str, str]:
    """What is wrong with images in the pool, by their content."""
    images = {content: each for content, each in observed.pool.images.items() if each.made}
    damages = {content: host.storage.image_damage(each) for content, each in images.items()}
    return {content: why for content, why in damages.items() if why}


def without_damaged(pool: PoolRecord, damaged: Collection[str]) -> PoolRecord:
    """The pool's record with damaged images as what they are: not made."""
    images = {
        content: replace(each, made=each.made and content not in damaged)
        for content, each in pool.images.items()
    }
    return replace(pool, images=images)


def restored_images(
    plan: Plan, desired: Desired, damaged: Mapping[str, str], only: Collection[str] | None
) -> Iterable[Change]:
    """Images that existing guests use, and that somebody damaged: the same content again."""
    planned = {each.object for each in plan.changes}
    for guest in desired.guests:
        name, files = f"image/{guest.image.name}", guest.image.files
        wanted = files and (only is None or guest.name in only) and name not in planned
        if wanted and files and files.content in damaged:
            planned.add(name)
            reason = FieldChange("volume", damaged[files.content], "intact", "drift")
            yield Change(name, guest.host, "create", reasons=(reason,), desired=guest.image)
