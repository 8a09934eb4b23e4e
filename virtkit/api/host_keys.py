"""The ssh keys of hosts: shown, compared with those that are known, and made known with consent."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from virtkit._dataclass import dataclass
from virtkit.api._hosts import host_named
from virtkit.errors import RequestError
from virtkit.host import Remote, host_keys
from virtkit.host.host_keys import HostKey, KnownKey
from virtkit.spec import Spec


@dataclass(frozen=True)
class HostKeys:
    """The keys that answer at a host's address.

    Attributes:
        host: its name, or its address where it stands in no spec.
        keys: one of each kind.
        file: the known_hosts that they go into, or that one of them stands in.
        known: whether ssh takes one of them for the host's own by now.
    """

    host: str
    address: str
    keys: tuple[HostKey, ...]
    file: Path
    known: bool

    def chosen(self, fingerprint: str = "") -> tuple[HostKey, ...]:
        """All of them, or the one that has the fingerprint.

        Raises:
            RequestError: none has it.
        """
        wanted = fingerprint.rstrip("=")
        chosen = tuple(each for each in self.keys if wanted in ("", each.fingerprint))
        if not chosen:
            raise RequestError(
                f"no key of host {self.host} has the fingerprint {fingerprint}",
                why=f"what answers at {self.address} has {_listed(self.keys)}",
                cure="if the fingerprint is the host's, something else answers at its address; "
                "check it on the host: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
                where=self.host,
            )
        return chosen

    def as_dict(self) -> dict[str, Any]:
        """The document of ``host trust --json``, but for what was added."""
        return {
            "host": self.host,
            "address": self.address,
            "file": str(self.file),
            "known": self.known,
            "keys": [{"type": each.kind, "fingerprint": each.fingerprint} for each in self.keys],
        }


def find_host_keys(name: str, spec: Spec | None = None) -> HostKeys:
    """Fetches the keys that a host has, one of the spec or one as for ssh. Nothing is written.

    Raises:
        RequestError: it is known by another key, or ``name`` stands for no other machine.
        VirtkitError: nobody answers there.
    """
    host = host_named(name, spec)
    remote = host.remote
    if remote is None:
        raise RequestError(
            f"{name} is this machine, and is not reached by ssh",
            cure="name another one: a host of the spec, or as for ssh (root@rack1)",
        )
    settings = host_keys.settings(remote)
    keys = host_keys.fetch(remote, settings)
    known = host_keys.known(settings)
    _check(remote, settings.name, keys, known)
    same = [each for each in known if str(each) in map(str, keys)]
    file = same[0].file if same else settings.file
    if file is None:
        raise RequestError(
            f"there is no file for the key of host {remote.name}",
            why="ssh's UserKnownHostsFile names no file to save it in",
            cure="name one in the spec: `ssh: {known_hosts: …}`",
            where=remote.name,
        )
    return HostKeys(remote.name, remote.address, tuple(keys), file, bool(same))


def trust_host(keys: HostKeys, fingerprint: str = "") -> tuple[HostKey, ...]:
    """Makes the keys of a host known, and returns those that were added.

    Args:
        fingerprint: only the key that has it.

    Raises:
        RequestError: no key has it.
        VirtkitError: the file can't be written.
    """
    chosen = keys.chosen(fingerprint)
    if keys.known:
        return ()
    host_keys.add(keys.file, chosen)
    return chosen


def _check(remote: Remote, name: str, keys: Iterable[HostKey], known: Iterable[KnownKey]) -> None:
    """Refuses a host that is known by another key, or whose key was revoked.

    Raises:
        RequestError: it is.
    """
    keys, known = list(keys), list(known)
    now = {str(each) for each in keys}
    revoked = [each for each in known if each.revoked]
    if taken_back := [each for each in revoked if str(each) in now]:
        raise RequestError(
            f"the key of host {remote.name} was revoked: {taken_back[0]}",
            why=f"{taken_back[0].file}, line {taken_back[0].number}, says so",
            cure="give the host another key; whoever has this one can pass for it",
            where=remote.name,
        )
    good = [each for each in known if not each.revoked]
    same = {each.kind for each in good if str(each) in now}
    others = [each for each in good if each.kind not in same]
    changed = [each for each in others if each.kind in {key.kind for key in keys}]
    if not changed and (same or not others):
        return  # kinds that it has no more do no harm beside one that it has
    files = dict.fromkeys(each.file for each in others)
    forget = [f"ssh-keygen -R {shlex.quote(name)} -f {shlex.quote(str(each))}" for each in files]
    trust = remote.trust_command or f"virtkit host trust {remote.address}"
    raise RequestError(
        f"host {remote.name} has another key than the one it is known by",
        why=f"known: {_listed(others)} ({others[0].file}, line {others[0].number}); what answers "
        f"now has {_listed(keys)}",
        cure="ask whoever runs the host; somebody else may answer in its place. If it was "
        f"reinstalled: {' && '.join([*forget, trust])}",
        where=remote.name,
    )


def _listed(keys: Iterable[HostKey]) -> str:
    return ", ".join(map(str, keys))
