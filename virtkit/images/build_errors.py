"""The error for a build that failed: of its hundreds of lines those that matter, and the cure that
follows from them.

Pure: it knows the lines, and where the build wrote.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from virtkit.errors import VirtkitError

#: Lines that an error has at most, and characters of each.
_MAX_LINES, _MAX_LENGTH = 8, 240
#: Lines that usually say why.
_TELLING = re.compile(
    r"^(E:|W:|Err:|dpkg\b|mke2fs|tar:|error|\S+: error)|No space left|not permitted"
)

_UNKNOWN = re.compile(
    r"Unable to locate package (\S+)"
    r"|Package '?([^\s']+)'? has no installation candidate"
    r"|Couldn't find any package by (?:glob|regex) '([^']+)'"
)
#: A package, and not a list of them, that the mirror no longer has.
_GONE = re.compile(r"\.deb\s+404\s+Not Found")
_NO_RELEASE = re.compile(r"does not have a Release file|404\s+Not Found")
_UNSIGNED = re.compile(r"NO_PUBKEY|is not signed|public key is not available|EXPKEYSIG")
_UNREACHED = re.compile(
    r"Could not resolve|Temporary failure|Could not connect|Unable to connect|Connection refused"
    r"|Connection timed out|Failed to fetch|Network is unreachable|Some index files failed"
)
_LOGIN = re.compile(r"\b(?:401\s+Unauthorized|407\s+\w|403\s+Forbidden)")
#: A user, with or without a password, in an URL.
_USER = re.compile(r"(?<=://)[^/\s]*@")
_FULL = re.compile(r"No space left on device|don't have enough free space|Disk quota exceeded")
_TOO_SMALL = re.compile(r"Could not allocate (?:block|inode)|is too small|no space left in")
_CLASH = re.compile(r"unmet dependencies|held broken packages|Conflicts:|Breaks:")


def failure(what: str, lines: Sequence[str], *, folder: Path) -> VirtkitError:
    """The error for a build that failed.

    Args:
        what: what was not done.
        lines: what its programs printed, the last of it.
        folder: where it wrote when it failed.
    """
    lines = [without_user(each) for each in lines]
    return VirtkitError(what, why="\n".join(_why(lines)), cure=_cure("\n".join(lines), folder))


def without_user(text: str) -> str:
    """A text with no user and no password in the URLs that are in it."""
    return _USER.sub("", text)


def _cure(text: str, folder: Path) -> str:
    unknown = [next(filter(None, groups)) for groups in _UNKNOWN.findall(text)]
    if _FULL.search(text):
        command = f"df -h {shlex.quote(str(folder))}"
        return f"{folder} is full ({command}): free some space there, then run again"
    if _TOO_SMALL.search(text):
        return "give the image a larger `size:` in the spec, then run again"
    if unknown:
        names = ", ".join(dict.fromkeys(unknown))
        return (
            f"correct `packages:` of the image in the spec: the release has no {names} (see "
            f"apt-cache policy {' '.join(dict.fromkeys(unknown))} on that release)"
        )
    if _LOGIN.search(text):
        return (
            "check that `apt-get update` works on this machine (as root): the mirror or proxy "
            "refuses the login that apt's settings have for it; a user other than root must be "
            "able to read that, too (see namei -l /etc/apt/auth.conf.d), or build as root"
        )
    if _UNSIGNED.search(text):
        return (
            "check that the archive's key is installed: sudo apt-get install debian-archive-keyring"
        )
    if _GONE.search(text):
        return (
            "run again: the mirror changed meanwhile; if it keeps failing, use another mirror in "
            "this machine's sources in /etc/apt, or check that its proxy keeps no old lists"
        )
    if _NO_RELEASE.search(text):
        return (
            "correct the image's `release:`, or this machine's sources in /etc/apt: they have no "
            "such release"
        )
    if _UNREACHED.search(text):
        return (
            "check that `apt-get update` works on this machine (as root): the packages come from "
            "the sources in /etc/apt, by its proxy and network"
        )
    if _CLASH.search(text):
        return "remove from `packages:` what can't be installed beside the rest, then run again"
    return (
        "see what the lines above say; if they name no cause, check that `apt-get update` works "
        "here (as root), then run again"
    )


def _why(lines: Sequence[str]) -> list[str]:
    """The last lines that tell something, each of them short."""
    stripped = [each.strip() for each in lines if each.strip()]
    telling = [each for each in stripped if _TELLING.search(each)][-_MAX_LINES:]
    return [_short(each) for each in telling or stripped[-_MAX_LINES:]]


def _short(line: str) -> str:
    """A line with its middle left out where it is long: what matters is at both ends."""
    if len(line) <= _MAX_LENGTH:
        return line
    half = _MAX_LENGTH // 2
    return f"{line[:half]} … {line[-half:]}"
