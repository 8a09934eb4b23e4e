"""Digests of values that are compared and must not be shown, such as secrets. Pure."""

from __future__ import annotations

import hashlib
import json


def digest(salt: str, value: object) -> str:
    """A SHA-256 over ``salt`` and the value's JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256((salt + text).encode()).hexdigest()
