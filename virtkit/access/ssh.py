"""One ssh connection to a guest, with its host key checked: to see whether it lets us in, and to
run a command where the hypervisor has no way of its own."""

from __future__ import annotations

import queue
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from virtkit.access.keys import agent_blobs
from virtkit.access.login import Login, as_root
from virtkit.host import CommandResult, Host, OutcomeUnknown, Unreachable
from virtkit.spec.command import virtkit_command
from virtkit.state import public_keys
from virtkit.system import commands

if TYPE_CHECKING:
    import paramiko  # costs a fifth of a second: loaded where it is used

#: What is said of a guest's address where somebody else answers.
OTHER_KEY = "ssh answers with a different host key from the one that virtkit gave the guest"
#: Seconds that one attempt to reach a guest may take: it may not be up yet.
ATTEMPT_TIMEOUT = 10.0


class OtherHostKey(Unreachable):
    """Something else than the guest answers at its address."""


def other_key_cure(spec_path: str, guest: str) -> str:
    """What to do where something else than the guest answers at its address."""
    return (
        "if nobody changed it on purpose, something else answers at its address: look into the "
        f"guest with `{virtkit_command('console', spec_path, guest)}` and type nothing secret; "
        f"`{virtkit_command('restart', spec_path, guest)}` gives it its key back, or, where the "
        "spec has `cloud_init` for it, recreating it"
    )


@contextmanager
def connected(login: Login, host_key: str) -> Iterator[paramiko.Transport]:
    """A connection to a guest that proved to be the one with ``host_key``; not logged in yet.

    Raises:
        OtherHostKey: something with another key answers.
        Unreachable: nothing answers.
    """
    import logging

    import paramiko

    # a guest that isn't up yet is no news; what matters is raised
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    try:
        with _stream(login) as stream:
            transport = paramiko.Transport(stream)
            try:
                transport.get_security_options().key_types = ["ssh-ed25519"]
                transport.start_client(timeout=ATTEMPT_TIMEOUT)
                server_key = transport.get_remote_server_key()
                if f"{server_key.get_name()} {server_key.get_base64()}" != host_key:
                    raise OtherHostKey(OTHER_KEY)
                yield transport
            finally:
                transport.close()
    except TimeoutError as error:  # paramiko's has no words
        raise Unreachable(f"ssh at {login.address}: it did not answer in time") from error
    except OSError as error:
        raise Unreachable(f"ssh at {login.address}: {error.strerror or error}") from error
    except (paramiko.SSHException, EOFError) as error:
        raise Unreachable(f"ssh at {login.address}: {_in_words(error)}") from error


#: What paramiko says, and what it means of a guest.
_WORDS = (
    (r"banner\[Errno", "it hung up at once, as a guest that is still booting does"),
    ("banner|protocol version", "what answers does not speak ssh yet"),
    ("[Ii]ncompatible", "it has no host key of the kind that virtkit gave the guest (ed25519)"),
    ("[Tt]imeout|[Tt]imed out|[Nn]o existing session", "it did not answer in time"),
    ("[Nn]egotiation|not active|EOF", "it hung up before anybody could log in"),
)


def _in_words(error: Exception) -> str:
    """What broke a connection, for somebody who doesn't know the library."""
    text = str(error)
    otherwise = "what answers there does not speak the ssh protocol" if text else "it hung up"
    return next((words for pattern, words in _WORDS if re.search(pattern, text)), otherwise)


@contextmanager
def _stream(login: Login) -> Iterator[socket.socket]:
    """A connection to a guest's ssh, through its host where that is the way."""
    if not login.proxy:
        with closing(
            socket.create_connection((login.address, 22), timeout=ATTEMPT_TIMEOUT)
        ) as direct:
            yield direct
        return
    # not paramiko's own ProxyCommand: it turns round and round where the program has ended
    tokens = {"h": login.address, "p": "22", "%": "%"}
    line = shlex.split(re.sub("%([hp%])", lambda match: tokens[match[1]], login.proxy))
    own_end, program_end = socket.socketpair()
    with own_end:
        with program_end:
            descriptor = program_end.fileno()
            program = subprocess.Popen(
                commands.die_with_parent(line),
                stdin=descriptor,
                stdout=descriptor,
                stderr=subprocess.DEVNULL,
                env=commands.environment(),
            )
        try:
            yield own_end
        finally:
            program.kill()
            program.wait()


def port_status(host: Host, address: str, port: int, timeout: float) -> str:
    """Why a port of a guest takes no connection within ``timeout`` seconds; empty where it does."""
    if host.remote is not None:
        return host.remote.port_status(address, port, timeout)
    try:
        with closing(socket.create_connection((address, port), timeout=timeout)):
            return ""
    except TimeoutError:
        return f"port {port} of {address}: no answer within {timeout:g} s"
    except OSError as error:
        return f"port {port} of {address}: {error.strerror or error}"


def has_other_host_key(login: Login, host_key: str) -> bool:
    """Whether something with another host key answers at a guest's address."""
    try:
        with connected(login, host_key):
            return False
    except OtherHostKey:
        return True
    except Unreachable:
        return False


def lets_in(login: Login, host_key: str) -> bool:
    """Logs in once with the keys at hand; False where none of them is let in.

    Where the caller has none of the guest's keys, or can't use it here (a passphrase, no agent),
    the right host key must do: whoever has it read the seed.
    """
    with connected(login, host_key) as transport:
        keys = _usable(login)
        return not keys or _authenticated(transport, login, keys)


def has_host_key(login: Login, host_key: str) -> bool:
    """Whether ssh answers with the guest's own host key, whoever it lets in.

    Raises:
        OtherHostKey: something with another key answers.
        Unreachable: nothing answers.
    """
    with connected(login, host_key):
        return True


def run(
    login: Login, host_key: str, command: Sequence[str], timeout: float, data: bytes = b""
) -> CommandResult:
    """Runs a command as root, with ``data`` on its input.

    Raises:
        Unreachable: the guest does not let us in.
        OutcomeUnknown: the command takes longer than ``timeout`` seconds, all in all, or the
            connection broke while it ran.
    """
    with connected(login, host_key) as transport:
        keys = _usable(login)
        if not _authenticated(transport, login, keys):
            raise Unreachable(
                denied_reason(login) if keys or login.keys else f"no key for {login.user}"
            )
        with closing(transport.open_session(timeout=ATTEMPT_TIMEOUT)) as channel:
            line = shlex.join(as_root(login.user, command))
            return _run_in(transport, channel, line, timeout, data)


def _run_in(
    transport: paramiko.Transport,
    channel: paramiko.Channel,
    line: str,
    timeout: float,
    data: bytes,
) -> CommandResult:
    """Runs a command in an open session.

    paramiko's own timeout is one for each read, and its waits for an answer and for the exit code
    have none: so the connection is closed after ``timeout`` seconds, which ends them all.
    """
    import paramiko

    expired = threading.Event()

    def expire() -> None:
        expired.set()
        transport.close()

    timer = threading.Timer(timeout, expire)
    timer.daemon = True
    errors: list[bytes] = []
    # both at once: a command that fills one stream waits until somebody reads it
    reader = threading.Thread(
        target=lambda: errors.append(channel.makefile_stderr("rb").read()), daemon=True
    )
    timer.start()
    try:
        channel.exec_command(line)
        reader.start()
        if data:
            with suppress(OSError):  # a command that ends early leaves the rest
                channel.sendall(data)
                channel.shutdown_write()
        out = channel.makefile("rb").read()
        reader.join()
        code = channel.recv_exit_status()
    except (paramiko.SSHException, OSError, EOFError):
        if transport.is_active():  # it was refused, and has not begun
            raise
        out, code = b"", -1
    finally:
        timer.cancel()
    if expired.is_set():
        raise OutcomeUnknown(f"the command did not finish within {timeout:g} s")
    if code == -1 and not transport.is_active():  # else a signal ended it
        raise OutcomeUnknown("the connection broke while the command ran")
    return CommandResult(code, out, b"".join(errors))


def denied_reason(login: Login) -> str:
    """What to say where ssh doesn't let the caller in."""
    if not login.keys:
        return f"ssh does not let {login.user} in"
    whose = ", ".join(public_keys.names(login.keys))
    return (
        f"ssh accepts only these keys for {login.user}; none is available here, or it was "
        f"refused: {whose}"
    )


def _authenticated(
    transport: paramiko.Transport, login: Login, keys: Sequence[paramiko.PKey]
) -> bool:
    import paramiko

    transport.auth_timeout = ATTEMPT_TIMEOUT
    for key in keys:
        try:
            transport.auth_publickey(login.user, key)
            return True
        except paramiko.BadAuthenticationType:
            return False
        except paramiko.AuthenticationException:
            continue
    return False


def _usable(login: Login) -> list[paramiko.PKey]:
    """The caller's keys that the guest was given, as far as they can be used without a word from
    the caller: files first, then what the agent holds."""
    accepted = None if login.keys is None else set(public_keys.blobs(login.keys))
    keys: dict[str, paramiko.PKey] = {}
    for key in filter(None, map(_private_key, login.identities)):
        if accepted is None or key.get_base64() in accepted:
            keys[key.get_base64()] = key
    in_agent = agent_blobs() if accepted is None else agent_blobs() & accepted
    if in_agent - keys.keys():
        for key in _agent_keys():
            if key.get_base64() in in_agent:
                keys.setdefault(key.get_base64(), key)
    return list(keys.values())


def _private_key(path: Path) -> paramiko.PKey | None:
    """The key in a file; None where it has a passphrase, or is of a kind that paramiko can't use.

    Not by PKey.from_path: that offers a certificate beside the key in the key's place, and the
    guest knows the key alone.
    """
    import paramiko

    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        with suppress(paramiko.SSHException, OSError, ValueError):
            return kind.from_private_key_file(str(path))
    return None


def _agent_keys() -> list[paramiko.PKey]:
    """The agent's keys but those that want a touch for each use; none where it is silent."""
    import paramiko

    answer: queue.SimpleQueue[list[paramiko.PKey]] = queue.SimpleQueue()
    threading.Thread(
        target=lambda: answer.put(list(paramiko.Agent().get_keys())), daemon=True
    ).start()
    try:
        keys = answer.get(timeout=ATTEMPT_TIMEOUT)
    except queue.Empty:
        return []
    return [each for each in keys if not each.get_name().startswith("sk-")]
