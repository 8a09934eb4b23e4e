"""A file that a guest is given: what is in it, whose it is, who may read it."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from virtkit.spec.model.base import HostPath, Model
from virtkit.spec.model.secret import EnvName
from virtkit.spec.problem import Problem, quote
from virtkit.spec.values import printable

#: Bytes that all files of a guest may have: they go into its seed, and to a running guest in one
#: message, of which a guest agent takes 1 MiB.
MAX_FILES_SIZE = 512 * 1024
#: Folders whose files are gone with the next boot, or are none; and virtkit's own in a guest.
_NOT_IN = ("/dev/", "/proc/", "/run/", "/sys/", "/var/lib/virtkit/")
_NAME = "[a-z_][a-z0-9_-]{0,31}"
MODE_PATTERN = "^[0-7]{3,4}$"
OWNER_PATTERN = f"^{_NAME}(:{_NAME})?$"


def _guest_path(text: str) -> str:
    """The path of a file in a guest: absolute, in its shortest form."""
    printable(text)
    if not text.startswith("/"):
        raise Problem(
            f"{quote(text)} is no path in a guest",
            why="it is relative, and there is no folder that it could be relative to",
            cure="write it from the root: /etc/motd",
        )
    if len(text) > 1000:
        raise Problem("the path is too long", cure="keep it under 1000 characters")
    near = "/" + posixpath.normpath(text).lstrip("/")
    if near != text or near == "/":
        raise Problem(
            f"the path {quote(text)} is not that of a file in its shortest form",
            cure=f"use {quote(near)}" if near != "/" else "name a file, such as /etc/motd",
        )
    if text.startswith(_NOT_IN):
        why = "virtkit's own files are there" if "virtkit" in text else "it is empty at each boot"
        raise Problem(
            f"no file can be put at {quote(text)}", why=why, cure="choose another folder, as /etc"
        )
    return text


def _mode_text(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        raise Problem("a mode is text", why="as a number it is not octal", cure='write "0644"')
    return value


def _mode(text: str) -> str:
    if re.fullmatch(MODE_PATTERN, text, re.ASCII) is None:
        raise Problem(
            f"{quote(text)} is no file mode", why="it is octal, as for chmod", cure='write "0644"'
        )
    return f"{text:>04}"


def _owner(text: str) -> str:
    if re.fullmatch(OWNER_PATTERN, text, re.ASCII) is None:
        raise Problem(
            f"{quote(text)} is no owner",
            why="names of at most 32 of a-z, 0-9, '_' and '-'; numbers are not looked up",
            cure="write a user, such as root, or a user and a group, such as www-data:adm",
        )
    return text


def _content_schema(schema: dict[str, Any]) -> None:
    own = {key: schema.pop(key) for key in list(schema)}
    del own["properties"]["text"]
    schema["anyOf"] = [{"type": "string"}, own]


class Content(Model):
    """What is in a file. A plain text is that itself."""

    model_config = ConfigDict(json_schema_extra=_content_schema)

    text: str | None = Field(default=None, description="The text itself.")
    env: EnvName | None = Field(
        default=None, description="A variable of the caller's environment that holds it."
    )
    file: HostPath | None = Field(
        default=None, description="A file that holds it, a secret; it is copied as it is."
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if isinstance(value, dict) and "text" in value:
            raise Problem("a text needs no key", cure="write `content: TEXT`")
        if not isinstance(value, (str, dict, Content)):
            raise Problem("a file's content is text", cure="write it in quotes, or after a `|`")
        return {"text": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if [self.text, self.env, self.file].count(None) != 2:
            raise Problem("content comes from one place", cure="write {env: NAME} or {file: PATH}")
        return self

    @property
    def is_secret(self) -> bool:
        """Whether the spec does not say it, but only where it is."""
        return self.text is None


class GuestFile(Model):
    """A file that a guest is given."""

    path: Annotated[str, AfterValidator(_guest_path)] = Field(
        description="Its path in the guest, absolute; folders that it lacks are made."
    )
    source: HostPath | None = Field(
        default=None, description="The file with its content, of any kind, from the spec's folder."
    )
    content: Content | None = Field(
        default=None,
        description="Its content as text, or {env: NAME} or {file: PATH} for a secret.",
        repr=False,
    )
    mode: Annotated[
        str,
        BeforeValidator(_mode_text),
        AfterValidator(_mode),
        Field(json_schema_extra={"pattern": MODE_PATTERN}),
    ] = Field(default="0644", description="Who may read it, octal and in quotes, as for chmod.")
    owner: Annotated[
        str, AfterValidator(_owner), Field(json_schema_extra={"pattern": OWNER_PATTERN})
    ] = Field(
        default="root",
        description="USER or USER:GROUP of the guest; left out, the group is root.",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.source is None) == (self.content is None):
            raise Problem(
                f"the file {self.path} has "
                + ("no content" if self.source is None else "its content from two places"),
                cure="write `source: PATH` or `content: TEXT`",
            )
        return self

    @property
    def is_secret(self) -> bool:
        """Whether the spec only says where a secret is, which is its content."""
        return self.content is not None and self.content.is_secret

    @property
    def full_owner(self) -> str:
        """Its owner with a group."""
        return self.owner if ":" in self.owner else f"{self.owner}:root"
