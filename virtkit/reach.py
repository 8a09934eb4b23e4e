"""How one gets into a guest: keys, addresses, ssh, commands, files, console and logs.

Host keys are known before the first connection, so they are always checked.
"""

from __future__ import annotations

import os
import shlex
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from virtkit.drivers import DRIVERS, Driver
from virtkit.errors import RequestError, VirtkitError
from virtkit.host import Host, Ran, Unreachable, inside, rotations
from virtkit.record import GuestRecord
from virtkit.resources import Guest

if TYPE_CHECKING:
    import paramiko  # costs a fifth of a second: loaded where it is used

Say = Callable[[str], None]

#: The caller's own keys that ssh itself looks for, best first.
_OWN = ("id_ed25519", "id_ecdsa", "id_rsa")
#: Seconds that one look at a guest that may not be up yet can take.
_LOOK = 10.0
#: Seconds until a guest that isn't ready has failed; its driver's patience multiplies it.
TIMEOUT = 300.0


# --- keys ---------------------------------------------------------------------------------


def folder(environment: str) -> Path:
    """Where the caller keeps what belongs to an environment: a made key, known hosts (0700)."""
    path = platformdirs.user_data_path("virtkit") / environment
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def forget(environment: str) -> None:
    """Removes that folder, when the environment is gone."""
    path = platformdirs.user_data_path("virtkit") / environment
    for name in ("id_ed25519", "id_ed25519.pub", "known_hosts", ".lock"):
        (path / name).unlink(missing_ok=True)
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()


def key_files(environment: str, asked: Sequence[str] | None, base: Path) -> list[Path]:
    """The public keys that a guest lets in: those asked for, the caller's own, or a made one.

    Args:
        asked: the spec's ``ssh_keys``, relative to ``base``.

    Raises:
        RequestError: a file that was asked for is not there or holds no public key.
    """
    if asked is not None:
        paths = [base / Path(each).expanduser() for each in asked]
        for path in paths:
            _public_keys(path)
        return paths
    own = [Path.home() / ".ssh" / f"{name}.pub" for name in _OWN]
    return [path for path in own if path.is_file()] or [_made_key(environment)]


def authorized_keys(guest: Guest) -> list[str]:
    """The lines for the guest's authorized_keys."""
    files = key_files(guest.environment, guest.spec.ssh_keys, Path(guest.source_folder))
    return [line for path in files for line in _public_keys(path)]


def _public_keys(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"the ssh key {path} can't be read", why=str(error), cure="correct `ssh_keys:`"
        ) from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys or any("PRIVATE" in key or " " not in key for key in keys):
        raise RequestError(
            f"{path} holds no public ssh key", cure="name the file that ends in .pub"
        )
    return keys


def _made_key(environment: str) -> Path:
    """The public half of the environment's own key; made where there is none."""
    public = folder(environment) / "id_ed25519.pub"
    if not public.is_file():
        import filelock

        with filelock.FileLock(public.with_name(".lock")):
            if not public.is_file():
                private_text, public_text = new_host_key()
                private = public.with_suffix("")
                private.touch(mode=0o600)
                private.write_text(private_text)
                public.write_text(f"{public_text} virtkit {environment}\n")
    return public


def new_host_key() -> tuple[str, str]:
    """A new ed25519 key pair in OpenSSH's formats: the private half, the public half."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private.decode(), public.decode()


# --- who and where ------------------------------------------------------------------------


@dataclass(frozen=True)
class Login:
    """All that ssh needs to get into a guest. ``alias`` names it in known_hosts."""

    guest: str
    alias: str
    address: str
    user: str
    identities: tuple[Path, ...]
    known_hosts: Path

    def options(self) -> dict[str, str]:
        """As options of ssh_config(5)."""
        answer = {
            "HostName": self.address,
            "User": self.user,
            "HostKeyAlias": self.alias,
            "UserKnownHostsFile": str(self.known_hosts),
            "StrictHostKeyChecking": "yes",
        }
        if self.identities:
            answer["IdentityFile"] = str(self.identities[0])
        return answer

    def arguments(self) -> list[str]:
        """As arguments of ssh and scp; the caller's own configuration stays out of it."""
        pairs = [f"-o{key}={value}" for key, value in self.options().items() if key != "HostName"]
        return ["-F", "/dev/null", *pairs, "-oLogLevel=ERROR"]


def addresses(host: Host, record: GuestRecord) -> tuple[list[str], list[str]]:
    """A running guest's addresses, and what was looked at where there are none.

    The spec's and the reserved ones are known; else leases, the agent and ARP are asked.
    """
    known = [each for each in (*record.addresses, *record.addresses6) if each]
    if known:
        return known, []
    if not record.networks:
        return [], ["it has no network"]
    return host.domains.addresses(DRIVERS[record.type], record.domain)


def login(record: GuestRecord, address: str, base: Path, known_hosts: Path | None = None) -> Login:
    """How to log in to a guest. ``base`` is the spec's folder."""
    publics = key_files(record.environment, record.asked.get("ssh_keys"), base)
    privates = (path.with_suffix("") for path in publics if path.suffix == ".pub")
    return Login(
        guest=record.guest,
        alias=record.domain,
        address=address,
        user=str(record.asked["user"]),
        identities=tuple(path for path in privates if path.is_file()),
        known_hosts=known_hosts or folder(record.environment) / "known_hosts",
    )


def write_known_hosts(environment: str, records: Iterable[GuestRecord]) -> Path:
    """The environment's known_hosts, from the guests' records."""
    path = folder(environment) / "known_hosts"
    lines = [f"{each.domain} {each.host_key}\n" for each in records if each.host_key]
    text = "".join(sorted(lines))
    if not path.is_file() or path.read_text() != text:
        new = path.with_name(f"known_hosts.{os.getpid()}")
        new.write_text(text)
        new.replace(path)
    return path


def ssh_command(login: Login, command: Sequence[str]) -> list[str]:
    """The ssh command line; with ``command`` its words reach the guest as they are."""
    words = [shlex.join(command)] if command else []
    return ["ssh", *login.arguments(), login.address, *(["--", *words] if words else [])]


def scp_command(login: Login, source: str, target: str) -> list[str]:
    """The scp command line; a leading ``:`` marks the path in the guest."""
    there = f"[{login.address}]" if ":" in login.address else login.address

    def side(path: str) -> str:
        return f"{there}{path}" if path.startswith(":") else path

    return ["scp", "-r", "-p", *login.arguments(), "--", side(source), side(target)]


# --- commands -----------------------------------------------------------------------------


def attached(host: Host, driver: Driver, domain: str, command: Sequence[str]) -> list[str] | None:
    """The command line that runs ``command`` in a guest with the caller's own streams.

    None where the hypervisor has no such way.
    """
    if "namespaces" in driver.exec:
        try:
            return [*inside.entering(host.connections, driver, domain), *command]
        except Unreachable:
            return None
    return None


def by_agent(host: Host, driver: Driver, domain: str, command: Sequence[str]) -> Ran | None:
    """What ``command`` answered through the guest agent; None where none answers."""
    if "agent" not in driver.exec:
        return None
    try:
        return inside.by_agent(host.connections, driver, domain, command, float("inf"))
    except Unreachable:
        return None


def as_root(user: str, command: Sequence[str]) -> list[str]:
    """``command`` as root, for one who logs in as ``user``."""
    return list(command) if user == "root" else ["sudo", "-n", "--", *command]


def _ran(host: Host, driver: Driver, domain: str, command: Sequence[str]) -> Ran:
    """Runs a command by the first way that is open.

    Raises:
        Unreachable: none is (yet).
    """
    said: list[str] = []
    ways = {"namespaces": inside.by_namespaces, "agent": inside.by_agent}
    for way in driver.exec:
        if way in ways:
            try:
                return ways[way](host.connections, driver, domain, command, _LOOK * 3)
            except Unreachable as error:
                said.append(f"{way}: {error}")
    raise Unreachable("; ".join(said))


# --- readiness ----------------------------------------------------------------------------


def wait_ready(host: Host, record: GuestRecord, base: Path, say: Say) -> None:
    """Waits until the guest is ready in the way that its spec asks for.

    Args:
        base: the spec's folder, for the ssh keys that it names.
        say: told what the guest still lacks, at each look.

    Raises:
        VirtkitError: it isn't within its time, or it stopped.
    """
    driver = DRIVERS[record.type]
    timeout = record.asked["ready"].get("timeout") or TIMEOUT * driver.patience
    end = time.monotonic() + timeout
    while status := _look(host, record, base):
        if host.domains.state(driver, record.domain) == "stopped":
            raise _not_ready(host, record, "it stopped")
        if time.monotonic() >= end:
            raise _not_ready(host, record, f"after {timeout:.0f} s: {status}")
        say(status)
        time.sleep(0.25)


def is_ready(host: Host, record: GuestRecord) -> bool:
    """Whether a running guest answers now; a quick look for ``status``."""
    ready = record.asked["ready"]
    kind = ready["kind"]
    if kind in ("none", "command"):
        return record.finished
    found, _ = addresses(host, record)
    if kind == "address" or not found:
        return bool(found)
    port = int(ready.get("port") or 22)
    return not _port(found[0], port, 1.0)


def _look(host: Host, record: GuestRecord, base: Path) -> str:
    """What a guest still lacks to be ready; empty when it is."""
    ready = record.asked["ready"]
    kind = ready["kind"]
    if kind == "none":
        return ""
    if kind == "command":
        return _command_status(host, record, ready["command"])
    found, looked = addresses(host, record)
    if not found:
        return f"no address yet ({', '.join(looked)})"
    if kind == "port":
        return _port(found[0], ready["port"], _LOOK)
    if kind == "address":
        return ""
    return _ssh_status(login(record, found[0], base), record.host_key)


def _command_status(host: Host, record: GuestRecord, command: str) -> str:
    try:
        ran = _ran(host, DRIVERS[record.type], record.domain, ["sh", "-c", command])
    except Unreachable as error:
        return f"no command can run in it yet: {error}"
    return "" if ran.code == 0 else f"`{command}` exits with {ran.code}"


def _port(address: str, port: int, timeout: float) -> str:
    try:
        with closing(socket.create_connection((address, port), timeout=timeout)):
            return ""
    except OSError as error:
        return f"port {port} of {address}: {error.strerror or error}"


def _ssh_status(login: Login, host_key: str) -> str:
    """Logs in once with the keys at hand; empty where the guest let us in.

    Where the caller's key can't be used here (a passphrase, no agent), the right host key
    must do: whoever has it read the seed.
    """
    import paramiko

    try:
        with closing(socket.create_connection((login.address, 22), timeout=_LOOK)) as connection:
            transport = paramiko.Transport(connection)
            try:
                transport.get_security_options().key_types = ["ssh-ed25519"]
                transport.start_client(timeout=_LOOK)
                seen = transport.get_remote_server_key()
                if f"{seen.get_name()} {seen.get_base64()}" != host_key:
                    return "ssh answers with another host key than the seed's"
                return _authenticated(transport, login)
            finally:
                transport.close()
    except OSError as error:
        return f"ssh at {login.address}: {error.strerror or error}"
    except (paramiko.SSHException, EOFError) as error:
        return f"ssh at {login.address}: {error}"


def _authenticated(transport: paramiko.Transport, login: Login) -> str:
    import paramiko

    tried = False
    for key in _usable(login):
        tried = True
        try:
            transport.auth_publickey(login.user, key)
            return ""
        except paramiko.BadAuthenticationType:
            break
        except paramiko.AuthenticationException:
            continue
    return f"ssh does not let {login.user} in yet" if tried else ""


def _usable(login: Login) -> Iterator[paramiko.PKey]:
    import paramiko

    for path in login.identities:
        try:
            yield paramiko.PKey.from_path(path)
        except (paramiko.SSHException, OSError, ValueError, TypeError):
            continue  # it has a passphrase: the agent may know it
    yield from paramiko.Agent().get_keys()


def _not_ready(host: Host, record: GuestRecord, status: str) -> VirtkitError:
    text = log(host, DRIVERS[record.type], record.domain)
    last = [line for line in text.splitlines() if line.strip()]
    tail = "\n".join(f"  | {line.rstrip()[:160]}" for line in last[-8:])
    return VirtkitError(
        f"guest {record.guest} is not ready",
        why=status + (f"\nthe last lines of its console:\n{tail}" if tail else ""),
        cure=f"see `virtkit logs` and `virtkit console` for {record.guest}; a longer "
        "`ready: {timeout: …}` helps where it is only slow",
        where=f"{host.name} guest/{record.guest}",
    )


# --- what it prints -----------------------------------------------------------------------


def log(host: Host, driver: Driver, domain: str, offset: int = 0) -> str:
    """What a guest printed so far: its console log, or a container's journal.

    Args:
        offset: bytes of the console log to leave out.
    """
    if driver.log == "file":
        name = f"{domain}-console"
        host.storage.refresh()
        names = sorted(rotations(host.storage.names(), name), key=lambda n: (n == name, n))
        older = [host.storage.read(each) for each in reversed(names[:-1])] if not offset else []
        newest = host.storage.read(name, offset) if names else b""
        return b"".join([*older, newest]).decode("utf-8", "replace")
    try:
        ran = _ran(host, driver, domain, ["journalctl", "--no-pager", "-b", "-o", "short"])
    except (Unreachable, VirtkitError):
        return ""
    return ran.out.decode("utf-8", "replace")
