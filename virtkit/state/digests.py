"""Digests of values that are compared and must not be shown, such as secrets. Pure."""

from __future__ import annotations

import functools
import hashlib
import json


def digest(salt: str, value: object) -> str:
    """A SHA-256 over ``salt`` and the value's JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256((salt + text).encode()).hexdigest()


@functools.lru_cache(maxsize=1024)
def secret_digest(salt: str, secret: bytes) -> str:
    """A digest of something short that is to be guarded from guesses: each takes milliseconds, and
    4 MiB of memory."""
    return hashlib.scrypt(secret, salt=salt.encode(), n=2**12, r=8, p=1, dklen=16).hex()
