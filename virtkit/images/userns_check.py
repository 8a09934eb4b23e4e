"""Why a user can't have the namespaces that an image is built in, and what fixes it.

Reads the system's files; it must never change one.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from virtkit._dataclass import dataclass
from virtkit.errors import RequestError

#: Ids that a system's packages own files by.
MIN_IDS = 65536
#: useradd gives users ranges from here on (SUB_UID_MIN), and none is given from _LAST on.
_FIRST, _LAST = 100_000, 600_100_000

_WHAT = "an image can't be built by this user"


@dataclass(frozen=True)
class User:
    """Who wants namespaces. ``group`` is the login group's name, empty where that is current."""

    name: str
    uid: int
    group: str = ""


@dataclass(frozen=True)
class _Range:
    owner: str
    start: int
    count: int


def missing_ids(user: User, root: Path = Path("/")) -> RequestError | None:
    """The error for a user who has no ids of their own to build with."""
    short, missing = [], []
    for name in ("subuid", "subgid"):
        # unshare takes the first line
        own_range = next((e for e in _ranges(root / "etc" / name) if _is_of(e, user)), None)
        if own_range is None:
            missing.append(name)
        elif own_range.count < MIN_IDS:
            short.append(
                f"/etc/{name} gives {user.name} {own_range.count} ids, {MIN_IDS} are needed"
            )
    if not short and not missing:
        return None
    why = [*(f"/etc/{name} has no line for {user.name}" for name in missing), *short]
    start, name = _free(user, root), shlex.quote(user.name)
    line = shlex.quote(f"{user.name}:{start}:{MIN_IDS}")
    if short:
        cure = f"as root, write {line} into /etc/subuid and /etc/subgid, in place of what they have"
    elif _is_local(user, root):
        options = (f"--add-{each}s {start}-{start + MIN_IDS - 1}" for each in missing)
        cure = f"as root: usermod {' '.join(options)} {name}"
    else:
        files = " ".join(f"/etc/{each}" for each in missing)
        cure = f"as root: echo {line} | tee -a {files}"
    return RequestError(_WHAT, why="; ".join(why), cure=cure)


def _free(user: User, root: Path) -> int:
    """The beginning of a range of ids that nobody has."""
    start = _FIRST
    ranges = [each for name in ("subuid", "subgid") for each in _ranges(root / "etc" / name)]
    for each in ranges:
        if each.start < _LAST:
            start = max(start, each.start + each.count)
    return start


def no_namespaces(output: str, user: User, root: Path = Path("/")) -> RequestError:
    """The error for a user whom this machine gave no namespaces; ``output`` are unshare's words."""
    if user.group:
        return RequestError(
            _WHAT,
            why="this shell runs with another group than the user's own, as after `sg` or "
            "`newgrp`, and newuidmap refuses that",
            cure=f"log in again, or run it as: sg {shlex.quote(user.group)} -c 'virtkit …'",
        )
    settings = root / "proc/sys"
    for path, bad, good in (
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "65536"),
    ):
        if _read(settings / path).strip() == bad:
            name = path.replace("/", ".")
            file = "/etc/sysctl.d/90-virtkit-userns.conf"
            return RequestError(
                _WHAT,
                why=f"{name} is {bad}: only root may make user namespaces; {output}",
                cure=f"as root: echo {name}={good} >{file} && sysctl -p {file}; or build as root",
            )
    if "uid_map" in output or "gid_map" in output:
        cure = "as root: apt-get install --reinstall uidmap (newuidmap must be setuid root)"
        return RequestError(_WHAT, why=output, cure=cure)
    return RequestError(
        _WHAT,
        why=output,
        cure="check that `unshare --user --map-root-user --map-auto true` works: a container or a "
        "service may forbid it (seccomp, NoNewPrivileges); or build as root",
    )


def _is_of(range: _Range, user: User) -> bool:
    return range.owner in (user.name, str(user.uid))


def _is_local(user: User, root: Path) -> bool:
    """Whether usermod knows the user: it doesn't know those of a directory service."""
    lines = _read(root / "etc/passwd").splitlines()
    return any(line.startswith(f"{user.name}:") for line in lines)


def _ranges(path: Path) -> Iterator[_Range]:
    """The lines of subuid(5)."""
    for line in _read(path).splitlines():
        owner, _, numbers = line.partition(":")
        start, _, count = numbers.partition(":")
        if start.isdecimal() and count.isdecimal():
            yield _Range(owner, int(start), int(count))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
