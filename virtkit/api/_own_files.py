"""What stands in the files of the caller's that a spec names, now: ssh keys and kernels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from virtkit import access
from virtkit.errors import RequestError
from virtkit.spec.command import split_files
from virtkit.state import public_keys
from virtkit.state.desired import Desired, Guest
from virtkit.state.observed import Observed


def with_keys(desired: Desired, only: Collection[str] | None, *, shared: bool) -> Desired:
    """The guests with what is in the files that their ``ssh_keys`` name now: another key may have
    the old one's name.

    Args:
        shared: the spec's file is another user's, as it is under sudo. Then the caller's home is
            not the one that its owner meant, and a guest keeps the keys that it has from there.
    """
    return replace(
        desired,
        guests=tuple(
            replace(each, keys=_keys(each, shared))
            if each.spec.ssh_keys is not None and (only is None or each.name in only)
            else each
            for each in desired.guests
        ),
    )


def owned_by_another(path: str) -> bool:
    """Whether a spec's file, or one of them, is another user's."""
    try:
        files = [Path(each) for each in split_files(path) if each.startswith("/")]
        return any(each.stat().st_uid != os.geteuid() for each in files)
    except OSError:  # it is gone meanwhile
        return False


def _keys(guest: Guest, shared: bool) -> tuple[str, ...] | None:
    """The keys that the spec names; None where they can't be read, or where nobody knows whose they
    are: whether they are needed, others tell."""
    if shared and any(each.startswith("~/") for each in guest.spec.ssh_keys or ()):
        return None
    try:
        return None if not guest.has_seed else public_keys.canonical(access.authorized_keys(guest))
    except RequestError:
        return None


def with_kernels(desired: Desired, observed: Observed, only: Collection[str] | None) -> Desired:
    """The guests with what is in their own kernels' files now: part of what is asked for, since a
    new kernel mostly has the old one's name."""
    current = observed.guests_of(desired.environment)
    guests = []
    for each in desired.guests:
        kernel = each.requested.get("kernel")
        if kernel and (only is None or each.name in only):
            old = (
                current[each.name].record.requested.get("kernel") if each.name in current else {}
            ) or {}
            if content := _content(each) or old.get("content", ""):
                kernel = {**kernel, "content": content}
            each = replace(each, requested={**each.requested, "kernel": kernel})
        guests.append(each)
    return replace(desired, guests=tuple(guests))


def _content(guest: Guest) -> str:
    """A digest of the guest's own kernel and initrd; empty where one can't be read: whether it is
    needed, others tell."""
    digest = hashlib.sha256()
    paths = [Path(each.source).expanduser() for each in guest.volumes if each.content == "file"]
    try:
        for path in paths:
            if not path.is_file():
                return ""
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError:
        return ""
    return digest.hexdigest()[:20]
