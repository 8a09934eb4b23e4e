"""The playbooks that guests are given, and what their files say now."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from virtkit import ansible
from virtkit.errors import RequestError, SpecErrors
from virtkit.spec import Spec
from virtkit.state import addresses
from virtkit.state.desired import Desired, Playbooks, digest


def with_playbooks(desired: Desired, spec: Spec, only: Collection[str] | None) -> Desired:
    """The guests with their playbooks, and what these are now.

    Raises:
        SpecErrors: files are not there, or no playbooks.
    """
    guests, errors = [], []
    files: dict[tuple[str, ...], tuple[str, str]] = {}
    for each in desired.guests:
        if each.spec.playbooks and (only is None or each.name in only):
            try:
                each = replace(each, playbooks=playbooks(spec, each.name, files))
            except SpecErrors as many:
                errors += many.errors
        guests.append(each)
    if errors:
        raise SpecErrors(_unique(errors))
    return replace(desired, guests=tuple(guests))


def playbooks(spec: Spec, name: str, files: dict[tuple[str, ...], tuple[str, str]]) -> Playbooks:
    """A guest's playbooks.

    Args:
        files: what is known of the files' digests, by the playbooks' paths; added to.

    Raises:
        SpecErrors: files are not there, or no playbooks.
    """
    guest = spec.guests[name]
    paths = tuple(str(spec.folder / Path(each).expanduser()) for each in guest.playbooks)
    if paths not in files:
        errors: list[RequestError] = []
        for index, path in enumerate(paths):
            try:
                ansible.check(Path(path), spec.where(("guests", name, "playbooks", index)))
            except SpecErrors as many:
                errors += many.errors
            except RequestError as error:
                errors.append(error)
        if errors:
            raise SpecErrors(errors)
        files[paths] = ansible.digests(map(Path, paths), spec.folder)
    salt = addresses.derived_uuid(spec.name, "playbooks", name)
    rest = [guest.vars, list(guest.groups), guest.user]
    current, former = (digest(salt, [each, *rest]) for each in files[paths])
    return Playbooks(guest.playbooks, paths, current, former)


def _unique(errors: Iterable[RequestError]) -> list[RequestError]:
    """The errors, each once: guests may share a playbook."""
    return list({(each.what, each.where): each for each in errors}.values())
