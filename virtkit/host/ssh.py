"""A host that is reached by ssh: one connection, kept for a minute, that all else shares.

libvirt's own ``SCHEME+ssh://`` makes a connection, or at least starts a program on the host, for
each of a run's threads; here they all go through one, to the socket of libvirt's daemon.

It never asks for anything on a terminal, and accepts no host key that ssh's own settings, or the
``known_hosts`` that was given, don't.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import socket
import stat
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from virtkit._dataclass import dataclass
from virtkit.errors import VirtkitError
from virtkit.host import ssh_cipher
from virtkit.system import commands, temporary

#: Seconds that a connection is kept for the next run; it lives on with nobody to close it.
_KEEP_OPEN = 60
#: Seconds until a host that does not answer is taken for unreachable.
_CONNECT_TIMEOUT = 15
#: Where libvirt's daemon listens, whichever of its daemons that is.
_SOCKET = "/run/libvirt/libvirt-sock"

#: Says why an address and port take no connection within so many seconds; nothing where they do.
_CONNECTS = """
import socket, sys
address, port, seconds = sys.argv[1:]
try:
    socket.create_connection((address, int(port)), float(seconds)).close()
except socket.timeout:
    print(f"no answer within {seconds} s")
except OSError as error:
    print(error.strerror or error)
"""
#: ssh for whoever may not be asked: on the way through other hosts there is no ``BatchMode``.
ASK_NOBODY = ("env", "SSH_ASKPASS=/bin/false", "SSH_ASKPASS_REQUIRE=force", "ssh")

#: What ssh says where it does not know a host's key, or knows another one.
UNKNOWN_KEY = "Host key verification failed"

#: Who makes a shared connection; one that waits for a host that is not there holds up no other.
_connecting: dict[Path, threading.Lock] = {}


@dataclass(frozen=True)
class Remote:
    """How a host is reached.

    Attributes:
        name: its name in the spec.
        address: as for ssh, ``root@rack1``.
        port: 0 is ssh's own choice, as are an empty ``key`` (its path) and ``known_hosts``.
        trust_command: the command that makes its key known; left out, the one for its address.
    """

    name: str
    address: str
    port: int = 0
    key: str = ""
    known_hosts: str = ""
    trust_command: str = ""

    def uri(self, scheme: str) -> str:
        """libvirt's URI, once we are connected."""
        return f"{scheme}+unix:///system?socket={quote(str(self._path('libvirt')))}"

    def display_uri(self, scheme: str) -> str:
        """The URI as people write it; virsh takes it, too, with their own settings of ssh."""
        place = f"{self.address}:{self.port}" if self.port else self.address
        return f"{scheme}+ssh://{place}/system"

    @property
    def ssh_command(self) -> str:
        """The command by which a person gets there as we do."""
        port = ["-p", str(self.port)] if self.port else []
        key = ["-i", self.key] if self.key else []
        return shlex.join(["ssh", *port, *key, self.address])

    def command_line(self, command: str, *, terminal: bool = False) -> list[str]:
        """The command line that runs a shell command on the host.

        Args:
            terminal: the command gets one, where ours has one.
        """
        return [str(self.ssh_program()), *(["-t"] if terminal else []), self.address, "--", command]

    def proxy_command(self, *, lasting: bool = False) -> str:
        """ssh's ``ProxyCommand`` that gets from here through the host to where it goes.

        Args:
            lasting: it goes into a file, and so knows nothing of the shared connection: the folder
                of that goes with a reboot, and whose it is then, nobody looks at.
        """
        arguments = ["ssh", *self.ssh_options()] if lasting else [str(self.ssh_program())]
        *line, address = (
            shlex.quote(each.replace("%", "%%")) for each in [*arguments, self.address]
        )
        return " ".join([*line, "-W", "[%h]:%p", address])

    def port_status(self, address: str, port: int, timeout: float) -> str:
        """Why a port takes no connection from the host within ``timeout`` seconds; empty where it
        does.

        A program there connects: a way through ssh does not tell when it is through.
        """
        arguments = ["python3", "-ISc", _CONNECTS, address, str(port), f"{timeout:g}"]
        try:
            done = subprocess.run(
                self.command_line(shlex.join(arguments)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout + _CONNECT_TIMEOUT,
                check=False,
                env=commands.environment(),
            )
        except subprocess.TimeoutExpired:
            return f"port {port} of {address}: host {self.name} does not answer"
        message = " ".join((done.stdout or done.stderr).decode("utf-8", "replace").split())
        if done.returncode == 0 and not message:
            return ""
        return f"port {port} of {address}: {message or f'host {self.name} says nothing'}"

    def run(self, command: str, *, data: bytes = b"") -> bytes:
        """What a shell command prints on the host.

        Raises:
            VirtkitError: the host was not reached, or the command failed.
        """
        done = subprocess.run(
            self.command_line(command),
            input=data,
            capture_output=True,
            check=False,
            env=commands.environment(),
        )
        if done.returncode == 255:  # ssh's own
            raise self.unreachable(done.stderr)
        if done.returncode != 0:
            raise VirtkitError(
                f"a command on host {self.name} failed: {command}",
                why=done.stderr.decode("utf-8", "replace").strip(),
                cure=f"run it by hand: {self.ssh_command}",
                where=self.name,
            )
        return done.stdout

    def connect(self) -> None:
        """Makes the shared connection where there is none, with its way to libvirt.

        Raises:
            VirtkitError: ssh does not get there.
        """
        with _connecting.setdefault(self._path("libvirt"), threading.Lock()):
            if self._is_open():
                return
            if self._ssh("-O", "check").returncode != 0:
                fast = ssh_cipher.options([str(self.ssh_program())], self.address)
                if self._ssh(*fast, "--", "true").returncode != 0:
                    raise self.unreachable(self._path("log").read_bytes())
            way = f"{self._path('libvirt')}:{_SOCKET}"
            self._ssh("-O", "cancel", "-L", way)  # else ssh believes in one whose socket is gone
            if self._ssh("-O", "forward", "-L", way).returncode != 0:
                raise self.unreachable(self._path("log").read_bytes())

    def disconnect(self) -> None:
        """Ends the shared connection. The next one is a new login, with the user's new groups."""
        self._ssh("-O", "exit")

    def _is_open(self) -> bool:
        """Whether the way to libvirt is there: only a living connection listens at its end."""
        with socket.socket(socket.AF_UNIX) as end:
            try:
                end.connect(str(self._path("libvirt")))
            except OSError:
                return False
        return True

    def _ssh(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Runs ssh; what it says goes to a file, since the connection that it may leave in the
        background would keep a pipe open."""
        options, command = (
            (arguments[:-2], arguments[-2:]) if "--" in arguments else (arguments, ())
        )
        with self._path("log").open("wb") as errors:
            return subprocess.run(
                [self.ssh_program(), *options, self.address, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                check=False,
                env=commands.environment(),
            )

    def unreachable(self, stderr: bytes) -> VirtkitError:
        """What ssh said, with what to do about it."""
        said = stderr.decode("utf-8", "replace").replace("\r", "").strip()
        why = said or "ssh ended and gave no reason"
        cure = (
            f"try it by hand: {self.ssh_command}; remove a host that is gone for good from `hosts:`"
        )
        if UNKNOWN_KEY in why:
            trust = self.trust_command or f"virtkit host trust {self.address}"
            cure = f"see what key it has, and say whether it is the host's own: {trust}"
        elif "Permission denied" in why:
            cure = "name a key that the host lets in (`ssh: {key: …}`), or load it: ssh-add"
        return VirtkitError(
            f"host {self.name} can't be reached", why=why, cure=cure, where=self.name
        )

    def unexpected_output(self, output: bytes) -> VirtkitError:
        """Where the host's shell printed something else than the answer, as a greeting does."""
        return VirtkitError(
            f"host {self.name} printed more than the answer",
            why=output[:200].decode("utf-8", "replace"),
            cure=f"see what its shell prints where it has no terminal: {self.ssh_command} true",
            where=self.name,
        )

    def ssh_program(self) -> Path:
        """A program that is ssh with all of this host's options: what libvirt, ssh and scp take.

        Raises:
            RequestError: there is no ssh on this machine.
        """
        commands.require("ssh")
        path = self._path("run")
        text = f'#!/bin/sh\nexec {shlex.join([*ASK_NOBODY, *self._shared_options()])} "$@"\n'
        if not path.is_file() or path.read_text() != text:
            temporary.write(path, text, 0o700)
        return path

    def _shared_options(self) -> Sequence[str]:
        shared = {
            "ControlMaster": "auto",
            "ControlPath": ssh_config_path(str(self._path("ssh"))),
            "ControlPersist": str(_KEEP_OPEN),
            "StreamLocalBindUnlink": "yes",
        }
        return self.ssh_options(shared)

    def ssh_options(self, more: Mapping[str, str] | None = None) -> list[str]:
        """ssh's options for a connection of its own to this host, and ``more`` of them."""
        return [
            f"-o{key}={value}" for key, value in (self._own_options() | dict(more or {})).items()
        ]

    def _own_options(self) -> dict[str, str]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(_CONNECT_TIMEOUT),
            "ServerAliveInterval": "15",
            "LogLevel": "ERROR",
            "RemoteCommand": "none",  # whatever a login by hand begins with
            "RequestTTY": "no",
        }
        if self.port:
            options["Port"] = str(self.port)
        if self.key:
            options |= {"IdentityFile": ssh_config_path(self.key), "IdentitiesOnly": "yes"}
        if self.known_hosts:
            options["UserKnownHostsFile"] = ssh_config_path(self.known_hosts)
            options["StrictHostKeyChecking"] = "yes"
        return options

    def _path(self, what: str) -> Path:
        """A file of this host's connection; short, as sockets' paths end at 108 characters."""
        identity = f"{self.address} {self.port} {self.key} {self.known_hosts}"
        return self._folder() / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.{what}"

    def _folder(self) -> Path:
        """The caller's own folder: whoever has a socket in it has the host."""
        base = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
        path = base / "virtkit" if base.is_dir() else Path(f"/tmp/virtkit-{os.geteuid()}")  # noqa: S108 - looked at below
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
        if (
            not stat.S_ISDIR(status.st_mode)
            or status.st_mode & 0o077
            or status.st_uid != os.geteuid()
        ):
            raise VirtkitError(
                f"{path} is open to others, and connections to hosts are kept there",
                cure=f"see whose it is (ls -ld {shlex.quote(str(path))}) and remove it",
            )
        return path


@functools.cache
def root_prefix(remote: Remote | None) -> tuple[str, ...] | None:
    """The words before a command that make it root's on a host; None where nothing does that asks
    for no password.

    Raises:
        VirtkitError: the host was not reached.
    """
    if remote is None:
        return () if os.geteuid() == 0 else None
    answer = remote.run('[ "$(id -u)" != 0 ] || echo root; ! sudo -n true 2>/dev/null || echo sudo')
    printed = answer.decode("utf-8", "replace").splitlines()  # a greeting may have these words
    return () if "root" in printed else ("sudo", "-n") if "sudo" in printed else None


def ssh_config_path(path: str) -> str:
    """A path as ssh_config(5) takes it: quoted where need be, with no tokens in it."""
    text = path.replace("%", "%%")
    if not any(char in text for char in " \t\"'\\#"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
