"""Users in a guest's cloud-config. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from virtkit.spec.document import CLOUD_INIT
from virtkit.spec.draft import Entry
from virtkit.spec.errors import Problems
from virtkit.spec.nodes import Path
from virtkit.spec.problem import Problem
from virtkit.spec.scalars import kind_of


def check(entry: Entry, problems: Problems) -> None:
    """Users in forms that cloud-init fails at, before it has made the login."""
    for path, problem in _bad_users(entry.fields.cloud_init):
        problems.at(entry.node, (CLOUD_INIT, *path), problem)


def _bad_users(cloud: Mapping[str, Any]) -> Iterator[tuple[Path, Problem]]:
    users, user = cloud.get("users", []), cloud.get("user", "")
    cure = "write a list of names and maps: [{name: eve, sudo: false}]"
    if not isinstance(users, (str, list, dict)):
        yield ("users",), Problem(f"`users` is {kind_of(users)}, which makes no user", cure=cure)
    if isinstance(user, dict):
        yield from _bad_user(("user",), user)
    elif not isinstance(user, str):
        problem = Problem(f"`user` is {kind_of(user)}, which is no user", cure="set `user: eve`")
        yield ("user",), problem
    rows: Iterable[tuple[str | int, Any]] = ()
    if isinstance(users, (list, dict)):
        rows = users.items() if isinstance(users, dict) else enumerate(users)
    for place, each in rows:
        if isinstance(each, dict):
            yield from _bad_user(("users", place), each)
        elif not (_is_switch(each) if isinstance(users, dict) else _is_names(each)):
            yield ("users", place), Problem(f"{kind_of(each)} is no user", cure=cure)


def _is_switch(value: object) -> bool:
    """Whether it says of a name in a map if there is such a user."""
    return isinstance(value, (str, bool, int, float))


def _is_names(value: object) -> bool:
    """Whether it is a name in a list of users, or names."""
    return all(isinstance(each, str) for each in (value if isinstance(value, list) else [value]))


def _bad_user(path: Path, user: Mapping[str, Any]) -> Iterator[tuple[Path, Problem]]:
    """What of a user's map is looked at here: whose it is, and whom it lets in."""
    name = user.get("name", "")
    if not isinstance(name, str):
        problem = Problem(f"a user's name is {kind_of(name)}", cure="write a name, in quotes")
        yield (*path, "name"), problem
    for key in ("ssh_authorized_keys", "ssh-authorized-keys"):
        value = user.get(key) or []
        keys = value.values() if isinstance(value, dict) else value
        if isinstance(value, str) or (
            isinstance(value, (list, dict)) and all(isinstance(each, str) for each in keys)
        ):
            continue
        problem = Problem(
            f"`{key}` is no list of ssh keys", cure="write [ssh-ed25519 AAAA… me@here]"
        )
        yield (*path, key), problem
