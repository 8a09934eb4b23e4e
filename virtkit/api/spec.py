"""The spec: read, described, and a first one to start from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from virtkit.spec import Spec, load


def read(path: str | Path, *more: str | Path, settings: Iterable[str] = ()) -> Spec:
    """The spec in a file, or of standard input (``-``).

    Args:
        more: further files, which lie over it, the later over the earlier.
        settings: values that are set in it, each as ``guests.web.memory=2GiB``.

    Raises:
        RequestError: it can't be read or is wrong; SpecErrors holds all that is wrong.
    """
    return load(path, *more, settings=settings)


def schema() -> dict[str, Any]:
    """The spec's JSON Schema."""
    from virtkit.spec import json_schema

    return json_schema()


def starter() -> str:
    """A commented spec to begin with."""
    from virtkit.xml import render

    return render.text("starter.yaml.j2")
