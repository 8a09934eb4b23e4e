"""Reads the digests that distributions publish, in the forms that they do it in.

Pure. It must never take a digest that is another file's, nor one of a kind that can be forged.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from virtkit._dataclass import dataclass
from virtkit.errors import VirtkitError
from virtkit.images import file_types

#: Kinds that are taken, the strongest first, with the length of each in hexadecimal digits.
KINDS = {"sha512": 128, "sha384": 96, "sha256": 64}
#: Kinds of which files can be made that have a digest of one's choice.
_FORGED = {"sha1": 40, "md5": 32}
_BY_LENGTH = {length: kind for kind, length in {**KINDS, **_FORGED}.items()}

#: ``SHA256 (FILE) = DIGEST``, as BSD and Fedora write it; openssl leaves the blanks out.
_BSD = re.compile(r"([A-Za-z][\w/-]*) ?\((.+)\) ?= ?([0-9A-Fa-f]{32,})")
#: ``DIGEST  FILE`` and ``DIGEST *FILE``, as sha256sum writes it.
_GNU = re.compile(r"\\?([0-9A-Fa-f]{32,})[ \t]+\*?(\S.*)")
_BARE = re.compile(r"[0-9A-Fa-f]{32,}")
#: ``# SHA512 HASH``: Gentoo and Flatcar say so of the lines that follow.
_HEADING = re.compile(r"#\s*([A-Za-z][\w-]*) HASH\b")
#: Kinds that are none of these, though their digests may be as long.
_OTHER = "other"
#: Names of checksums files with such digests.
_OTHERS = re.compile(r"blake|b[23]sum|sha-?3(?!84)|sha-?512[-_]256|\bsm3", re.IGNORECASE)
#: Names that an error tells.
_MAX_NAMES = 5


@dataclass(frozen=True)
class Digest:
    """A digest in lower case, and its kind by hashlib's name."""

    kind: str
    value: str


@dataclass(frozen=True)
class _Entry:
    """A line of a checksums file. ``name`` is empty where there is a digest only."""

    digest: Digest
    name: str


def find_digest(text: str, checksums: str, url: str) -> Digest:
    """The digest of ``url``'s file.

    Args:
        text: what stands in the checksums file.
        checksums: that file's URL.

    Raises:
        VirtkitError: none fits; the error tells what was looked for and what is there.
    """
    name = _name(url)
    entries = list(_entries(text, _name(checksums).removeprefix(name)))
    same_name = [each for each in entries if PurePosixPath(each.name).name == name]
    matches = _nearest(same_name, checksums, url)
    matches = matches or _single(entries, _name(checksums), name)
    for kind in KINDS:
        values = {each.digest.value for each in matches if each.digest.kind == kind}
        if len(values) > 1:
            raise VirtkitError(
                f"{checksums} has {len(values)} {kind} digests for {name}",
                why="it is not clear which of these files is meant: "
                + ", ".join(dict.fromkeys(each.name for each in matches)),
                cure="give the one that is meant as `sha256:`",
            )
        if values:
            return Digest(kind, values.pop())
    raise _none_fits(text, matches or entries, checksums, name, matched=bool(matches))


def _path(url: str) -> PurePosixPath:
    return PurePosixPath(unquote(urlsplit(url).path))


def _name(url: str) -> str:
    return _path(url).name


def _entries(text: str, called: str) -> Iterator[_Entry]:
    """The lines that have a digest. A signature around them is not looked at.

    Args:
        called: what in the checksums file's name may tell the kind.
    """
    heading, signature = _OTHER if _OTHERS.search(called) else "", False
    for line in text.removeprefix("\ufeff").splitlines():
        line = line.strip().removeprefix("- ")  # so a signed text has lines that begin with -
        if line.startswith("-----BEGIN PGP SIGNATURE"):
            signature = True
        elif line.startswith("-----END PGP"):
            signature = False
        elif signature:
            continue
        elif match := _HEADING.match(line):
            heading = _kind(match[1])
        elif match := _BSD.fullmatch(line):
            yield _entry(_kind(match[1]), match[3], match[2])
        elif match := _GNU.fullmatch(line):
            yield _entry(heading, match[1], match[2])
        elif _BARE.fullmatch(line):
            yield _entry(heading, line, "")


def _entry(kind: str, value: str, name: str) -> _Entry:
    by_length = _BY_LENGTH.get(len(value), _OTHER)
    fits = not kind or kind == by_length
    return _Entry(Digest(by_length if fits else _OTHER, value.lower()), name.strip())


def _kind(tag: str) -> str:
    """hashlib's name of a kind: SHA256, SHA-256 and SHA2-256 are one."""
    plain = re.sub(r"^sha2?-", "sha", tag.lower())
    return plain if plain in _BY_LENGTH.values() else _OTHER


def _nearest(entries: Sequence[_Entry], checksums: str, url: str) -> list[_Entry]:
    """Of several files of one name the one that the URL leads to, by its path from the checksums
    file; else those whose folders are the URL's, too."""
    from_here = _path(checksums).parent
    exact = [each for each in entries if from_here / each.name == _path(url)]
    if exact:
        return exact
    url_parts = _path(url).parts[::-1]

    def alike(entry: _Entry) -> int:
        parts = PurePosixPath(entry.name).parts[::-1]
        pairs = enumerate(zip(parts, url_parts, strict=False))
        return next((at for at, (part, url_part) in pairs if part != url_part), len(parts))

    longest = max(map(alike, entries), default=0)
    return [each for each in entries if alike(each) == longest]


def _single(entries: Sequence[_Entry], file: str, name: str) -> list[_Entry]:
    """The entries of a checksums file that is for one file only.

    It has no name in it, or is called as the file with something behind: openSUSE's and Arch's
    have the name of the build that the URL leads to.
    """
    names = {each.name for each in entries}
    sidecar = file != name and file.lower().startswith(f"{name.lower()}.")
    return list(entries) if names == {""} or (sidecar and len(names) == 1) else []


def _none_fits(
    text: str, entries: Sequence[_Entry], checksums: str, name: str, *, matched: bool
) -> VirtkitError:
    kinds = {each.digest.kind for each in entries}
    kinds_text = " and ".join(each if each != _OTHER else "another kind" for each in sorted(kinds))
    if matched:
        forged = all(each.digest.kind in _FORGED for each in entries)
        return VirtkitError(
            f"{checksums} has no digest for {name} that can be relied on",
            why=f"it has {kinds_text} only: "
            + ("files can be forged to match that" if forged else "virtkit does not compute that"),
            cure="give a checksums file with sha256, sha384 or sha512, or `sha256:`",
        )
    names = [PurePosixPath(each.name).name for each in entries if each.name]
    close = difflib.get_close_matches(name, names, n=1)
    shown = ", ".join(dict.fromkeys(names[:_MAX_NAMES])) + (
        ", …" if len(names) > _MAX_NAMES else ""
    )
    kind = file_types.recognise(text.encode()[: file_types.HEAD])
    if names:
        why = f"looked for {name}; it has {kinds_text} of {shown}"
    elif entries:
        why = f"looked for {name}; it has {len(entries)} digests without names"
    else:
        content = kind.what if kind and kind.name != "text" else f"{len(text)} characters"
        why = f"looked for {name}; it is {content} without a digest"
    return VirtkitError(
        f"{checksums} has no line for {name}",
        why=why,
        cure=f"did you mean {close[0]}? Correct `url:`, or give `sha256:`"
        if close
        else "correct `checksums:` or `url:`, or give `sha256:`",
    )
