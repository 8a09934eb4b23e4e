"""The spec: read, described, and a first one to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from virtkit.spec import Spec, json_schema, load
from virtkit.xml import render


def read(path: str | Path) -> Spec:
    """The spec in a file, or of standard input (``-``).

    Raises:
        RequestError: it can't be read or is wrong; SpecErrors holds all that is wrong.
    """
    return load(path)


def schema() -> dict[str, Any]:
    """The spec's JSON Schema."""
    return json_schema()


def starter() -> str:
    """A commented spec to begin with."""
    return render.text("starter.yaml.j2")
