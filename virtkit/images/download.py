"""Downloads: to a temporary name, resumed where they broke off, verified before they count."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from virtkit.errors import RUN_AGAIN, Interrupted, VirtkitError, from_os_error
from virtkit.images import file_checks, file_types, formats
from virtkit.images.checksums import Digest, find_digest
from virtkit.progress import Meter, Progress

#: Attempts after the first one, and seconds without a byte until one is given up.
RETRIES = 4
TIMEOUT = 30.0
_CHUNK = 1024 * 1024
#: Bytes of a checksums file that are read: distributions' have some kilobytes.
_MAX_SUMS = 16 * 1024 * 1024
#: What this machine says where it can't write; asking the server again is no use.
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)


def fetch(url: str, target: Path, expected: Digest, progress: Progress) -> None:
    """Downloads ``url`` to ``target``; a part of it that is there already is not fetched again.

    Raises:
        RequestError: its first bytes are no disk's; the rest is not downloaded.
        VirtkitError: the server doesn't answer, or the content is not what ``expected`` says. The
            file is removed then, as it is where it is no disk.
    """
    begun = target.exists()
    if begun and formats.is_refused(target):  # an older version downloaded anything
        target.unlink()
    _download(url, target, progress)
    actual = progress.run_interruptible(lambda: digest(target, expected.kind))
    if actual != expected.value and begun:  # the part that was there may be of another file
        target.unlink()
        _download(url, target, progress)
        actual = progress.run_interruptible(lambda: digest(target, expected.kind))
    if actual != expected.value:
        length = target.stat().st_size
        target.unlink()
        raise mismatch_error(url, expected, actual, length)


def mismatch_error(url: str, expected: Digest, actual: str, length: int) -> VirtkitError:
    """The error for a download of ``length`` bytes that has another digest."""
    return VirtkitError(
        f"the download of {url} does not match the digest in the spec",
        why=f"the {expected.kind} of its {length} bytes is {actual}, not {expected.value}",
        cure="run again in case it was cut off on its way; else correct `sha256:` or "
        "`checksums:`, or find out who changed the file; nothing was kept",
    )


def _download(url: str, target: Path, progress: Progress) -> None:
    """Downloads what is missing of ``target``, in several attempts."""
    for attempt in range(RETRIES + 1):
        try:
            _continue(url, target, progress)
            return
        except file_checks.NoDisk:
            target.unlink()
            raise
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == RETRIES:
                raise _failed(url, f"the server answered {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in _OURS:
                raise from_os_error(f"{url} can't be kept in {target.parent}", error) from error
            if attempt == RETRIES:
                raise _failed(url, str(error)) from error
        progress.sleep(2**attempt / 4)


def digest_in(checksums: str, url: str) -> Digest:
    """The digest of ``url``'s file in the checksums file at ``checksums``.

    Raises:
        VirtkitError: it can't be downloaded, or has none that fits.
    """
    try:
        with urllib.request.urlopen(checksums, timeout=TIMEOUT) as answer:  # noqa: S310 - the model allows http, https, file
            text: str = answer.read(_MAX_SUMS).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise _failed(checksums, str(error)) from error
    return find_digest(text, checksums, url)


def digest(path: Path, kind: str = "sha256") -> str:
    """A file's digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _continue(url: str, target: Path, progress: Progress) -> None:
    have = target.stat().st_size if target.exists() else 0
    request = urllib.request.Request(url)  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = progress.run_interruptible(
            lambda: urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
        )
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing after what is there
            return
        raise
    with _open(answer):
        resumed = getattr(answer, "status", None) == 206
        have = have if resumed else 0
        remaining = answer.headers.get("Content-Length", "")
        total = have + int(remaining) if remaining.isdecimal() else 0
        meter = Meter(progress, "downloading")
        meter(have, total)
        with target.open("r+b" if resumed else "wb") as file:
            file.seek(have)
            while chunk := progress.run_interruptible(lambda: answer.read(_CHUNK)):
                if not have and len(chunk) >= min(file_types.HEAD, total):
                    formats.check_download(chunk[: file_types.HEAD], url)
                if chunk.strip(b"\0"):
                    file.write(chunk)
                else:  # a hole, which is sent to no host
                    file.seek(len(chunk), os.SEEK_CUR)
                    file.truncate()
                have += len(chunk)
                meter(have, total)
    if total and have < total:
        raise OSError(f"the connection ended after {have} of {total} bytes")


@contextmanager
def _open(answer: Any) -> Iterator[None]:
    """Closes an answer at the end, but where the work was interrupted. Then a thread still reads
    from it, and closing would wait until the server says something."""
    try:
        yield
    except Interrupted:
        raise
    except BaseException:
        answer.close()
        raise
    answer.close()


def _failed(url: str, why: str) -> VirtkitError:
    return VirtkitError(
        f"{url} can't be downloaded",
        why=why,
        cure=f"check the address and the network, then {RUN_AGAIN}",
    )
