"""The JSON Schema of a spec's file, for editors; made from the model that reads it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from virtkit.spec.document import EACH
from virtkit.spec.files import NOBODYS
from virtkit.spec.model import GuestEntry, HostSpec, Image, Label, Model, NetworkSpec
from virtkit.spec.model.base import HostPath
from virtkit.spec.sizes import SIZE_PATTERN, format_size
from virtkit.spec.values import LABEL_PATTERN, NUMBER_PATTERN

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_NULL = {"type": "null"}


class _File(Model):
    """A virtkit spec: guests, networks and images of one environment."""

    name: Label | None = Field(
        default=None, description="The environment's name; left out, the file's or its folder's."
    )
    include: Annotated[
        tuple[HostPath, ...],
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        ),
    ] = Field(
        default=(), description="Files that are laid under this one, the later over the earlier."
    )
    hosts: dict[str, HostSpec] = Field(
        default={}, description="The machines with libvirt; left out, this one (`local`)."
    )
    images: dict[str, Image] = Field(default={}, description="What root disks start from.")
    networks: dict[str, NetworkSpec] = Field(default={}, description="The environment's networks.")
    defaults: GuestEntry = Field(default=GuestEntry(), description="Keys of every guest.")
    profiles: dict[str, GuestEntry] = Field(
        default={}, description="Keys of the guests that name them."
    )
    guests: dict[str, GuestEntry] = Field(
        default={}, description="Virtual machines and containers."
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a spec's file: a new dict of JSON data on each call."""
    schema = _File.model_json_schema(mode="validation")
    for part in [schema, *schema["$defs"].values()]:
        for branch in [part, *part.get("anyOf", [])]:
            _finish_object(branch)
    schema["patternProperties"] = {f"^{NOBODYS}": True}
    return {"$schema": _DRAFT, "title": "virtkit spec"} | schema | {"title": "virtkit spec"}


def _finish_object(schema: dict[str, Any]) -> None:
    """Says of an object's keys what the reader does: null is allowed where a key may be absent."""
    required = schema.get("required", [])
    for key, value in schema.get("properties", {}).items():
        value.pop("title", None)
        _finish_default(value)
        if isinstance(value.get("additionalProperties"), dict):
            value["additionalProperties"] = _nullable(value["additionalProperties"])
            pattern = NUMBER_PATTERN if key == EACH else LABEL_PATTERN
            value["propertyNames"] = {"pattern": pattern}
        if key not in required:
            schema["properties"][key] = _nullable(value)


def _finish_default(schema: dict[str, Any]) -> None:
    default = schema.get("default")
    if schema.get("pattern") == SIZE_PATTERN and isinstance(default, int):
        schema["default"] = format_size(default)
    elif default is None or isinstance(default, dict):
        schema.pop("default", None)


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if _NULL in schema.get("anyOf", []):
        return schema
    outside = ("description", "default")
    outer: dict[str, Any] = {key: schema[key] for key in outside if key in schema}
    inner = {key: value for key, value in schema.items() if key not in outside}
    return {"anyOf": [inner, _NULL], **outer}
