"""The errors that virtkit raises for its users: what happened, where, why, and what cures it.

    VirtkitError                     failed on the way (exit 1)
    ├── RequestError                 the request or the spec is wrong, nothing was touched (exit 2)
    │   ├── SpecErrors               all that is wrong with one spec
    │   ├── NoDisk                   images/file_checks: a file is no disk, kernel or initrd
    │   └── WrongUsage               cli/parser: there is no such verb or option, or value of one
    ├── Interrupted                  somebody asked to stop (exit 130)
    ├── FileUnusable                 host/errors: a hypervisor can't use a disk or an image
    ├── LibvirtUnavailable           host/errors: libvirt's daemon ended, hangs or is out of reach
    │   ├── NoDriver                 it has no driver for a URI
    │   ├── NoDaemon                 nothing listens for a driver: mostly the host has none
    │   └── NotConnected             and nothing was asked of it before: a RequestError, too
    └── HypervisorUnresponsive       host/timeouts: a guest's hypervisor process does not answer

Nobody sees these, they are caught where they can be raised:

    Problem                          spec/problem: what a spec has wrong, before its place is known
    Unreachable                      host/guest_exec: this way into a guest is not open (yet)
    ├── OutcomeUnknown               a command began, and its end is not known
    └── OtherHostKey                 access/ssh: something else answers at the guest's address

Whoever must tell errors apart matches types and never compares their words:
tests/unit/test_errors.py holds that. This module must never print, exit or know libvirt.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TypeVar

#: The end of the cure where a run stopped on its way.
RUN_AGAIN = "run again: it continues where it stopped"

_Error = TypeVar("_Error", bound="VirtkitError")


class VirtkitError(Exception):
    """Something failed on the way; running again continues where it stopped.

    Args:
        what: one line that names the object and what happened to it.
        cure: what the reader can do about it; never empty.
        why: the cause, often libvirt's own words.
        where: ``FILE:LINE:COL PATH`` for a spec, else host and guest.

    Attributes:
        exit_code: the exit code of the command line for this error.
    """

    exit_code = 1

    def __init__(self, what: str, *, cure: str, why: str = "", where: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.cure = cure
        self.why = why
        self.where = where

    def as_dict(self) -> dict[str, str | int]:
        """The error as the ``error`` object of the JSON output."""
        return {
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "cure": self.cure,
            "code": self.exit_code,
        }

    def every(self) -> Sequence[VirtkitError]:
        """This error, or all the errors that it stands for."""
        return [self]

    def as_type(self, kind: type[_Error], *, cure: str = "") -> _Error:
        """The same words as an error of type ``kind``, with a better ``cure`` where one is known.

        Raise it ``from`` this one, which stays as it is.
        """
        return kind(self.what, why=self.why, cure=cure or self.cure, where=self.where)


class RequestError(VirtkitError):
    """The request or the spec is wrong, consent is missing, or something of others is in the way.

    Nothing was touched.
    """

    exit_code = 2


class Interrupted(VirtkitError):
    """Somebody asked to stop; the next run continues where this one stopped."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("interrupted", cure=RUN_AGAIN)


class SpecErrors(RequestError):
    """All errors of one spec, reported at once. ``errors`` is never empty."""

    def __init__(self, errors: Sequence[RequestError]) -> None:
        first = errors[0]
        super().__init__(first.what, cure=first.cure, why=first.why, where=first.where)
        self.errors = list(errors)

    def every(self) -> Sequence[VirtkitError]:
        return self.errors


#: What this machine's own refusals mean for whoever runs virtkit.
_REFUSALS = {
    errno.ENOSPC: f"free some space there (df -h), then {RUN_AGAIN}",
    errno.EDQUOT: f"free some of your quota there, then {RUN_AGAIN}",
    errno.EROFS: f"make it writable (mount -o remount,rw), then {RUN_AGAIN}",
    errno.EACCES: f"see who may write there, then {RUN_AGAIN}",
}


def from_os_error(what: str, error: OSError, *, where: str = "") -> VirtkitError:
    """This machine's own refusal: a full disk, a file that may not be written."""
    place = f"{error.filename}: " if error.filename else ""
    return VirtkitError(
        what,
        why=f"on this machine, {place}{error.strerror or error}",
        cure=_REFUSALS.get(error.errno or 0, f"fix this, then {RUN_AGAIN}"),
        where=where,
    )
