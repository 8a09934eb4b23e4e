"""The keys by which ssh knows hosts: fetched, looked up among the known ones, added to them.

ssh and ssh-keygen do all of it, with the caller's own settings: jump hosts, ports, aliases and
hashed files come out as they do for ssh itself. Nothing is added that nobody has agreed to, and
nobody logs in to fetch a key.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from virtkit._dataclass import dataclass
from virtkit.errors import VirtkitError
from virtkit.host.ssh import ASK_NOBODY, UNKNOWN_KEY, Remote, ssh_config_path
from virtkit.system import commands, temporary

#: The kinds of host keys, as ssh-keygen names them, and what ssh asks a server for to see it.
_KINDS = {
    "ED25519": "ssh-ed25519",
    "ECDSA": "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521",
    "RSA": "rsa-sha2-512,rsa-sha2-256",
}
#: How a key is fetched from whoever answers: the connection ends before anybody logs in, and leaves
#: nothing anywhere but in the file that is named beside these.
_FETCH = {
    "StrictHostKeyChecking": "accept-new",
    "GlobalKnownHostsFile": "/dev/null",
    "KnownHostsCommand": "none",
    "VerifyHostKeyDNS": "no",
    "CheckHostIP": "no",
    "PreferredAuthentications": "none",
    "ForwardAgent": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "ControlMaster": "no",
    "ControlPath": "none",
}
#: A host on the way, as ``ssh -G`` writes it: numeric addresses in brackets, which stand for
#: themselves in no other place.
_JUMP = re.compile(
    r"(?:ssh://)?(?P<user>.*@)?(?P<bracket>\[)?(?P<host>(?(bracket)[^]]+|[^:]+))(?(bracket)\])"
    r"(?::(?P<port>\d+))?"
)
_HOST_LINE = re.compile(r"# Host .* found: line (\d+) ?(CA|REVOKED)?")


@dataclass(frozen=True)
class HostKey:
    """A key that a host has.

    Attributes:
        kind: as ssh-keygen names it, ``ED25519``.
        fingerprint: as ssh prints it, ``SHA256:…``.
        line: what known_hosts says of it; empty where it is known by now.
    """

    kind: str
    fingerprint: str
    line: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint}"


@dataclass(frozen=True)
class KnownKey(HostKey):
    """A key that the caller's files know a host by; ``number``: of the line in ``file``."""

    file: Path = Path()
    number: int = 0
    revoked: bool = False


@dataclass(frozen=True)
class SshSettings:
    """What ssh's settings, the caller's own among them, say of a host.

    Attributes:
        name: what known_hosts calls it: an alias, its name, or ``[name]:port``.
        file: where a new key goes; None where they keep none.
        files: all that are looked into.
        jumps: the hosts on the way there, as ssh takes them.
    """

    name: str
    file: Path | None
    files: tuple[Path, ...]
    jumps: tuple[str, ...] = ()


def settings(remote: Remote) -> SshSettings:
    """What ssh says itself (``ssh -G``); a file of the user's own whose path has blanks is only
    found where the spec names it.

    Raises:
        VirtkitError: ssh can't read its settings.
    """
    commands.require("ssh", "ssh-keygen")
    done = commands.run("ssh", *remote.ssh_options(), "-G", remote.address)
    if done.returncode != 0:
        raise remote.unreachable(done.stderr.encode())
    said: dict[str, str] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key, value)
    name, port = said.get("hostname", remote.address), said.get("port", "22")
    name = said.get("hostkeyalias") or (name if port == "22" else f"[{name}]:{port}")
    own = [remote.known_hosts] if remote.known_hosts else _files(said["userknownhostsfile"])
    files = [Path(each) for each in (*own, *_files(said.get("globalknownhostsfile", "")))]
    jumps = said.get("proxyjump", "none")
    return SshSettings(
        name,
        files[0] if own else None,
        tuple(files),
        () if jumps == "none" else tuple(jumps.split(",")),
    )


def _files(text: str) -> list[str]:
    return [each for each in text.split() if each not in ("none", "/dev/null")]


def fetch(remote: Remote, settings: SshSettings) -> list[HostKey]:
    """The keys that whoever answers there has, one of each kind; all kinds are asked for at once.

    Raises:
        VirtkitError: nobody answers, or the key of a host on the way is not known.
    """
    results: dict[str, subprocess.CompletedProcess[str]] = {}
    keys: list[HostKey] = []
    with temporary.folder() as folder:

        def ask(kind: str) -> None:
            file = {"HostKeyAlgorithms": _KINDS[kind]}
            file["UserKnownHostsFile"] = ssh_config_path(str(folder / kind))
            arguments = remote.ssh_options(_FETCH | file)
            results[kind] = commands.run(*ASK_NOBODY, *arguments, remote.address, "--", "true")

        threads = [threading.Thread(target=ask, args=(kind,), daemon=True) for kind in _KINDS]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        for kind in _KINDS:
            keys += _read(folder / kind)
    if keys:
        return keys
    said = results["ED25519"].stderr
    error = remote.unreachable(said.encode())
    if UNKNOWN_KEY not in said:
        raise error
    # ssh took any key of the host's own
    raise error.as_type(VirtkitError, cure=jump_hosts_cure(settings)) from error


def jump_hosts_cure(settings: SshSettings) -> str:
    """What makes the keys of the hosts on the way known."""
    if not settings.jumps:
        return "first make known the key of the host that ssh's ProxyCommand goes through"
    lines = []
    for each in settings.jumps:
        match = _JUMP.fullmatch(each)
        user, host, port = match.group("user", "host", "port") if match else ("", each, "")
        address = shlex.quote(f"{user or ''}{host}")
        # ssh itself asks
        lines.append(f"ssh -p {port} {address}" if port else f"virtkit host trust {address}")
    return f"first the hosts on the way there: {' && '.join(lines)}"


def _read(file: Path) -> Iterator[HostKey]:
    """The keys in a file that ssh has just written."""
    lines = file.read_text().splitlines() if file.is_file() else []
    printed = commands.run("ssh-keygen", "-l", "-f", str(file)).stdout if lines else ""
    for line, fields in zip(lines, map(str.split, printed.splitlines()), strict=False):
        yield HostKey(fields[-1].strip("()"), fields[1], line)


def known(settings: SshSettings) -> list[KnownKey]:
    """The keys by which the caller's files, and those of all users, know a host. Authorities that
    may sign for it are left out: its own key is good without one."""
    return [each for file in settings.files for each in _look_up(settings.name, file)]


def _look_up(name: str, file: Path) -> Iterator[KnownKey]:
    if not file.is_file():
        return
    number, mark = 0, ""
    for line in commands.run("ssh-keygen", "-l", "-F", name, "-f", str(file)).stdout.splitlines():
        if match := _HOST_LINE.match(line):
            number, mark = int(match[1]), match[2] or ""
        elif mark != "CA":
            _, kind, fingerprint, *_ = line.split()
            yield KnownKey(kind, fingerprint, "", file, number, mark == "REVOKED")


def add(file: Path, keys: Iterable[HostKey]) -> None:
    """Adds keys to a known_hosts; what stands in it stays.

    Raises:
        VirtkitError: it can't be written.
    """
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file.open("a+b") as opened:
            opened.seek(0)
            before = opened.read()
            start = b"\n" if before and not before.endswith(b"\n") else b""
            opened.write(start + "".join(f"{each.line}\n" for each in keys).encode())
    except OSError as error:
        raise VirtkitError(
            f"{file} can't be written",
            why=error.strerror or str(error),
            cure="make it yours, or name another file in the spec: `ssh: {known_hosts: …}`",
        ) from error
