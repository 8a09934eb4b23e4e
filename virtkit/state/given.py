"""The files and the password that a guest is given: what seed and record have of them. Pure.

Each has a token, which is another one after each change. A guest notes the tokens of what it was
given, and takes the rest: so a file that was changed in the guest stays until the spec's changes.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from virtkit.spec import model
from virtkit.spec.model.secret import is_crypt_hash
from virtkit.state.digests import digest, secret_digest

#: Characters of a digest in a record, and of a token.
_LENGTH = 20


@dataclass(frozen=True)
class GivenFile:
    """A file that a guest is given; ``owner`` is USER:GROUP."""

    path: str
    mode: str
    owner: str
    token: str
    content: bytes = field(repr=False)

    @property
    def in_base64(self) -> str:
        """Its content in lines of base64."""
        return base64.encodebytes(self.content).decode()


@dataclass(frozen=True)
class GivenPassword:
    """The login's password, or the hash of it."""

    token: str
    text: str = field(repr=False)

    @property
    def is_hash(self) -> bool:
        """Whether it is a hash as crypt(3) writes it."""
        return is_crypt_hash(self.text)


def recorded(environment: str, guest: model.GuestSpec, salt: str) -> dict[str, Any]:
    """What a record has of ``files``, ``password`` and ``ignition``: of their content a salted
    digest; nothing where a guest has none."""

    def digest_of(content: bytes, *, is_secret: bool) -> str:
        # once for all guests of an environment that have the same
        text = (
            secret_digest(environment, content) if is_secret else base64.b64encode(content).decode()
        )
        return digest(salt, text)[:_LENGTH]

    answer: dict[str, Any] = {}
    for file in guest.files:
        content = guest.file_contents.get(file.path, b"")
        entry = {"path": file.path, "mode": file.mode, "owner": file.owner}
        entry["content"] = digest_of(content, is_secret=file.is_secret)
        answer.setdefault("files", []).append(entry)
    if guest.password is not None:
        text = guest.password_text or ""
        answer["password"] = digest_of(text.encode(), is_secret=True)
    if guest.ignition is not None:
        answer["ignition"] = digest_of(guest.ignition_bytes, is_secret=True)
    return answer


def files(guest: model.GuestSpec, requested: Mapping[str, Any]) -> list[GivenFile]:
    """The files of a guest, as ``requested`` is what its record has of the spec."""
    return [
        GivenFile(
            path=file.path,
            mode=file.mode,
            owner=file.full_owner,
            token=digest("file", entry)[:_LENGTH],
            content=guest.file_contents.get(file.path, b""),
        )
        for file, entry in zip(guest.files, requested.get("files", ()), strict=True)
    ]


def password(guest: model.GuestSpec, requested: Mapping[str, Any]) -> GivenPassword | None:
    """The password of a guest's login; None where it is given none."""
    if guest.password_text is None:
        return None
    token = digest("password", [guest.user, requested.get("password")])[:_LENGTH]
    return GivenPassword(token, guest.password_text)
