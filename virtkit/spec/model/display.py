"""A virtual machine's display, as a spec describes it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    model_serializer,
    model_validator,
)

from virtkit.spec.model.base import Model, without
from virtkit.spec.problem import Problem, quote

_KINDS = ("none", "vnc", "spice")


def _listen(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError as error:
        raise Problem(
            f"{quote(text)} is no address to listen on", cure="use 127.0.0.1, or one of the host's"
        ) from error


def _schema(schema: dict[str, Any]) -> None:
    own = {key: schema.pop(key) for key in list(schema)}
    schema["anyOf"] = [{"type": "string", "enum": list(_KINDS)}, own]


class Graphics(Model):
    """A display, and who may see it. A plain word is short for a map with ``kind`` only."""

    model_config = ConfigDict(json_schema_extra=_schema)

    kind: Literal["none", "vnc", "spice"] = Field(
        default="none", description="How it is shown; both listen on loopback."
    )
    listen: Annotated[str, AfterValidator(_listen)] | None = Field(
        default=None,
        description="The host's address to listen on; others than loopback need `allow: [listen]`.",
    )
    video: Literal["vga", "virtio", "qxl", "bochs", "cirrus"] | None = Field(
        default=None, description="The card that the guest sees; left out, one that all can use."
    )
    tablet: StrictBool | None = Field(
        default=None, description="A pointer that follows the viewer's own."
    )

    @property
    def reaches_others(self) -> bool:
        """Whether other machines may see it."""
        return self.listen is not None and not ip_address(self.listen).is_loopback

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.kind == "none" and (self.listen is not None or self.tablet):
            key = "tablet" if self.listen is None else "listen"
            raise Problem(
                f"there is no display to {'point at' if key == 'tablet' else 'listen for'}",
                cure=f"add `kind: vnc`, or remove `{key}:`",
            )
        return self

    @model_serializer(mode="wrap")
    def _short_where_it_can_be(self, serialize: SerializerFunctionWrapHandler) -> Any:
        """As versions had it that knew a word only."""
        values = without(serialize(self), Graphics.model_fields)
        return values if values.keys() - {"kind"} else values["kind"]
