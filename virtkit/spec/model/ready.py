"""When a guest counts as ready, as a spec describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictInt, model_validator

from virtkit.spec.model.base import Command, Duration, Model
from virtkit.spec.problem import Problem, quote


def _ready_schema(schema: dict[str, Any]) -> None:
    own = {key: schema.pop(key) for key in list(schema)}
    kinds = ["ssh", "address", "none"]
    schema["anyOf"] = [{"type": "string", "enum": kinds}, own]


class Ready(Model):
    """When a guest counts as ready. A plain word is short for a map with ``kind`` only."""

    model_config = ConfigDict(json_schema_extra=_ready_schema)

    kind: Literal["ssh", "address", "port", "command", "none"] = Field(
        default="ssh",
        description="What is asked; follows from `port` or `command` where one is given.",
    )
    port: Annotated[StrictInt, Field(ge=1, le=65535)] | None = Field(
        default=None, description="The TCP port that must answer."
    )
    command: Command | None = Field(
        default=None, description="What must end with 0 in the guest, run as root."
    )
    timeout: Duration | None = Field(default=None, description="How long to wait; by default 5m.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if isinstance(value, str):
            if value in ("port", "command"):
                example = "80" if value == "port" else "systemctl is-active nginx"
                raise Problem(
                    f"ready does not say which {value}", cure=f"set `ready: {{{value}: {example}}}`"
                )
            if value in ("ssh", "address", "none"):
                return {"kind": value}
        elif isinstance(value, dict):
            keys = [key for key in ("port", "command") if value.get(key) is not None]
            return {"kind": keys[0], **value} if keys else value
        elif isinstance(value, Ready):
            return value
        raise Problem(
            f"{quote(value)} is not a way to be ready",
            cure="use ssh, address, none, {port: N} or {command: …}",
        )

    @model_validator(mode="after")
    def _agrees(self) -> Ready:
        keys = [key for key in ("port", "command") if getattr(self, key) is not None]
        wanted = [self.kind] if self.kind in ("port", "command") else []
        if wanted and not keys:
            raise Problem(
                f"ready does not say which {self.kind}", cure=f"add `{self.kind}:` beside `kind:`"
            )
        if keys != wanted:
            raise Problem(
                f"ready asks for {' and '.join(dict.fromkeys([self.kind, *keys]))}",
                why="a guest is ready in one way; maps of defaults, profiles and guest are merged",
                cure="keep one; `port: null` or `command: null` takes an inherited one away",
            )
        return self
