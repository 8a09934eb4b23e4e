"""Downloads: to a temporary name, resumed where they broke off, verified before they count."""

from __future__ import annotations

import errno
import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from virtkit.errors import VirtkitError, of_system
from virtkit.voice import Voice

#: Attempts after the first one, and seconds without a byte until one is given up.
RETRIES = 4
TIMEOUT = 30.0
_CHUNK = 1024 * 1024
#: What this machine says where it can't write; asking the server again is no use.
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)


def fetch(url: str, target: Path, sha256: str, say: Voice) -> None:
    """Downloads ``url`` to ``target``; a part of it that is there already is not fetched again.

    Raises:
        VirtkitError: the server doesn't answer, or the content is not what ``sha256`` says
            (the file is removed then).
    """
    begun = target.exists()
    _whole(url, target, say)
    found = say.patiently(lambda: digest(target))
    if found != sha256 and begun:  # the part that was there may be of another file
        target.unlink()
        _whole(url, target, say)
        found = say.patiently(lambda: digest(target))
    if found != sha256:
        length = target.stat().st_size
        target.unlink()
        raise VirtkitError(
            f"the download of {url} is not what the spec says",
            why=f"the sha256 of its {length} bytes is {found}, not {sha256}",
            cure="run again in case it was cut off on its way; else correct `sha256:`, or find "
            "out who changed the file; nothing was kept",
        )


def _whole(url: str, target: Path, say: Voice) -> None:
    """Downloads what is missing of ``target``, in several attempts."""
    for attempt in range(RETRIES + 1):
        try:
            _continue(url, target, say)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == RETRIES:
                raise _failed(url, f"the server answered {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in _OURS:
                raise of_system(f"{url} can't be kept in {target.parent}", error) from error
            if attempt == RETRIES:
                raise _failed(url, str(error)) from error
        say.rest(2**attempt / 4)


def digest_in(checksums: str, url: str) -> str:
    """The digest of ``url``'s file in the SHA256SUMS file at ``checksums``."""
    name = Path(urlsplit(url).path).name
    try:
        with urllib.request.urlopen(checksums, timeout=TIMEOUT) as answer:  # noqa: S310 - the model allows http, https, file
            text: str = answer.read(_CHUNK).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise _failed(checksums, str(error)) from error
    for line in text.splitlines():
        columns = line.split()
        if len(columns) == 2 and columns[1].lstrip("*").removeprefix("./") == name:
            return columns[0].lower()
    raise VirtkitError(
        f"{checksums} has no line for {name}",
        cure="correct `checksums:` or `url:`, or give `sha256:`",
    )


def digest(path: Path) -> str:
    """A file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _continue(url: str, target: Path, say: Voice) -> None:
    have = target.stat().st_size if target.exists() else 0
    request = urllib.request.Request(url)  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = say.patiently(lambda: urllib.request.urlopen(request, timeout=TIMEOUT))  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing after what is there
            return
        raise
    with answer:
        resumed = getattr(answer, "status", None) == 206
        have = have if resumed else 0
        left = answer.headers.get("Content-Length")
        total = have + int(left) if left else 0
        with target.open("ab" if resumed else "wb") as file:
            while chunk := say.patiently(lambda: answer.read(_CHUNK)):
                file.write(chunk)
                have += len(chunk)
                say(_so_far(have, total))
    if total and have < total:
        raise OSError(f"the connection ended after {have} of {total} bytes")


def _so_far(have: int, total: int) -> str:
    mib = f"{have / _CHUNK:.0f}"
    return f"{mib} of {total / _CHUNK:.0f} MiB, {100 * have // total} %" if total else f"{mib} MiB"


def _failed(url: str, why: str) -> VirtkitError:
    return VirtkitError(
        f"{url} can't be downloaded",
        why=why,
        cure="check the address and the network, then run again: it goes on where it stopped",
    )
