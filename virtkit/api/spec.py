"""The spec: read, described, and a first one to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from virtkit.spec import Spec, load


def read(path: str | Path) -> Spec:
    """The spec in a file, or of standard input (``-``).

    Raises:
        RequestError: it can't be read or is wrong; SpecErrors holds all that is wrong.
    """
    return load(path)


def schema() -> dict[str, Any]:
    """The spec's JSON Schema."""
    from virtkit.spec import json_schema

    return json_schema()


def starter() -> str:
    """A commented spec to begin with."""
    from virtkit.xml import render

    return render.text("starter.yaml.j2")
