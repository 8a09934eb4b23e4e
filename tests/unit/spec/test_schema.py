"""The JSON Schema says what the reader takes."""

import json

from virtkit.drivers import DRIVERS
from virtkit.spec import json_schema
from virtkit.spec.model import GuestEntry


def test_it_is_json_and_new_each_time() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    schema["properties"].clear()
    assert json_schema()["properties"]


def test_draft_and_top() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(schema["properties"]) == [
        *("name", "include", "hosts", "images", "networks", "defaults", "profiles", "guests")
    ]
    assert "required" not in schema


def test_every_object_is_closed_and_every_key_described() -> None:
    schema = json_schema()
    for name, part in [("top", schema), *schema["$defs"].items()]:
        for branch in [part, *part.get("anyOf", [])]:
            if branch.get("type") != "object":
                continue
            assert branch["additionalProperties"] is False, name
            for key, value in branch["properties"].items():
                assert value.get("description"), f"{name}.{key}"
                if key not in branch.get("required", []):
                    assert {"type": "null"} in value["anyOf"], f"{name}.{key}"


def test_guests() -> None:
    keys = json_schema()["$defs"]["GuestEntry"]["properties"]
    assert set(keys) == set(GuestEntry.model_fields)
    assert keys["type"]["anyOf"][0]["enum"] == [*sorted(DRIVERS), "auto"]
    assert keys["memory"]["default"] == "1GiB"
    assert keys["ready"]["default"] == "ssh"


def test_short_forms() -> None:
    parts = json_schema()["$defs"]
    assert parts["InterfaceSpec"]["anyOf"][0] == {"type": "string"}
    assert parts["Ready"]["anyOf"][0]["enum"] == ["ssh", "address", "none"]
