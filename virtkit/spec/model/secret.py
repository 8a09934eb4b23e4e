"""Secrets that a spec only names, so that others may read the spec."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from virtkit.spec.model.base import HostPath, Model
from virtkit.spec.problem import Problem, quote

_CRYPT_HASH = re.compile(r"\$[0-9a-z]{1,3}\$[!-9;-~]+\$[./0-9A-Za-z]{22,}", re.ASCII)


def is_crypt_hash(text: str) -> bool:
    """Whether a text is a password's hash as crypt(3) writes it."""
    return _CRYPT_HASH.fullmatch(text) is not None


def _hash(text: str) -> str:
    if not is_crypt_hash(text):
        raise Problem(
            "a password can't stand in a spec, which others may read",
            cure="write {env: NAME} or {file: PATH}, or its hash, as `openssl passwd -6` prints it",
        )
    return text


def _env_name(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", text, re.ASCII) is None:
        raise Problem(f"{quote(text)} is no variable's name", cure="write one such as LAB_PASSWORD")
    return text


#: The name of a variable of the caller's environment.
EnvName = Annotated[str, AfterValidator(_env_name)]


def _schema(schema: dict[str, Any]) -> None:
    own = {key: schema.pop(key) for key in list(schema)}
    of_hash = own["properties"].pop("hash")["anyOf"][0]
    schema["anyOf"] = [of_hash, own]


class Password(Model):
    """A password: its hash, or where it is. A plain text is its hash."""

    model_config = ConfigDict(json_schema_extra=_schema)

    hash: Annotated[str, AfterValidator(_hash)] | None = Field(
        default=None, description="Its hash, as crypt(3) writes it."
    )
    env: EnvName | None = Field(default=None, description="A variable of the caller's environment.")
    file: HostPath | None = Field(
        default=None, description="A file, whose last line end is left out."
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if isinstance(value, dict) and "hash" in value:
            raise Problem("a hash needs no key", cure="write `password: $6$…`")
        return {"hash": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if [self.hash, self.env, self.file].count(None) != 2:
            raise Problem(
                "a password comes from one place", cure="write {env: NAME} or {file: PATH}"
            )
        return self
