"""Names on their way to libvirt: one strict rule, whatever was checked before.

libvirt makes paths of them: a domain named ``..`` has it delete folders of its own.
"""

from __future__ import annotations

import re

from virtkit.errors import RequestError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


def checked_path(path: str) -> str:
    """The path of a volume itself, where libvirt may hear it.

    Raises:
        RequestError: it is not absolute, it leads elsewhere, or its last part is no name.
    """
    if not path.startswith("/") or ".." in path.split("/"):
        raise _bad_name(path)
    checked_name(path.rpartition("/")[2])
    return path


def checked_name(name: str | None) -> str:
    """The name itself, where libvirt may hear it.

    Raises:
        RequestError: it could be an option, another folder or nothing.
    """
    if name is None or _NAME.fullmatch(name) is None or ".." in name:
        raise _bad_name(name)
    return name


def _bad_name(name: str | None) -> RequestError:
    return RequestError(
        f"{name!r} is not a name that virtkit passes to libvirt",
        why="names are at most 128 of A-Z, a-z, 0-9, '.', '_' and '-', a letter or digit first",
        cure="choose a name such as 'web'",
    )
