"""Public ssh keys as authorized_keys(5) has them: read, told apart, and named for people.

Pure. A key is what it opens: its comment and its options don't count.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence

from virtkit._dataclass import dataclass

#: ``KIND BASE64``, as words of a line; before it options may stand, and their quoted commands may
#: have words that look like it.
_KEY = re.compile(
    r"(?<!\S)(?P<kind>[a-z][a-z0-9@.-]*)\s+(?P<blob>[A-Za-z0-9+/]{16,}=*)(?!\S)", re.ASCII
)
#: Bytes that a key's line in a record may have: the largest RSA key has fewer.
_MAX_LINE = 4096


@dataclass(frozen=True)
class PublicKey:
    """One public key.

    Attributes:
        kind: as ``ssh-ed25519``.
        blob: the key itself, in base64.
        comment: mostly whose it is; anybody may have written it.
    """

    kind: str
    blob: str
    comment: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.blob} {self.comment}".rstrip()

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` shows it."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    @property
    def name(self) -> str:
        """What people call it: its comment, and the fingerprint to be sure of it."""
        return f"{self.comment} ({self.fingerprint})" if self.comment else self.fingerprint


def parse(line: str) -> PublicKey | None:
    """The key in a line of a .pub file or of authorized_keys; None where there is none."""
    for match in _KEY.finditer(line):
        kind, blob = match["kind"], match["blob"]
        if _kind(blob) == kind:
            comment = "".join(each for each in line[match.end() :] if each.isprintable())
            return PublicKey(kind, blob, comment.strip())
    return None


def is_canonical(line: str) -> bool:
    """Whether a text is a key as ``canonical`` writes it."""
    key = parse(line)
    return key is not None and str(key) == line and len(line) <= _MAX_LINE


def same(first: Iterable[str], second: Iterable[str]) -> bool:
    """Whether two lists of recorded keys open the same."""
    return set(blobs(first)) == set(blobs(second))


def joined(*lists: Iterable[str]) -> tuple[str, ...]:
    """All recorded keys of several lists, each once."""
    lines_by_blob = {blob: line for lines in lists for line in lines for blob in blobs([line])}
    return tuple(lines_by_blob.values())


def blobs(lines: Iterable[str]) -> list[str]:
    """The keys themselves, of recorded ones."""
    return [key.blob for key in map(parse, lines) if key is not None]


def names(lines: Iterable[str]) -> list[str]:
    """What people call recorded keys."""
    return [key.name for key in map(parse, lines) if key is not None]


def canonical(lines: Sequence[str]) -> tuple[str, ...]:
    """The keys in lines of authorized_keys, each once, as records have them: without options.

    A key that is too long for a record is left out.
    """
    texts = (str(key) for key in map(parse, lines) if key is not None)
    return tuple(dict.fromkeys(each for each in texts if len(each) <= _MAX_LINE))


def _kind(blob: str) -> str:
    """The kind that a key itself says it is of; empty where it is cut off.

    A key is a row of fields with their lengths before them (RFC 4253, 6.6); the first is its kind.
    """
    try:
        data = base64.b64decode(blob, validate=True)
    except binascii.Error:
        return ""
    fields = []
    while data:
        length = int.from_bytes(data[:4], "big")
        field, data = data[4 : 4 + length], data[4 + length :]
        if len(field) != length:
            return ""
        fields.append(field)
    return fields[0].decode("ascii", "replace") if len(fields) > 1 else ""
