"""What a system that Ignition sets up at its first boot is told: CoreOS and its kin."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from virtkit.spec.model.base import HostPath, Model
from virtkit.spec.model.secret import EnvName
from virtkit.spec.problem import Problem

#: Bytes that an Ignition file may have.
MAX_IGNITION_SIZE = 4 * 1024 * 1024
#: What its volume is called, after the guest.
IGNITION_VOLUME = "ignition"


def _schema(schema: dict[str, Any]) -> None:
    own = {key: schema.pop(key) for key in list(schema)}
    schema["anyOf"] = [{"type": "string"}, own]


class Ignition(Model):
    """Where an Ignition file is. A plain text is short for a map with ``file`` only."""

    model_config = ConfigDict(json_schema_extra=_schema)
    short_is_path: ClassVar[bool] = True

    file: HostPath | None = Field(default=None, description="The file, JSON as Ignition takes it.")
    env: EnvName | None = Field(
        default=None, description="A variable of the caller's environment that holds the same."
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"file": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise Problem(
                "an Ignition file comes from one place",
                cure="write its path, {file: PATH} or {env: NAME}",
            )
        return self
