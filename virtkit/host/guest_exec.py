"""Commands inside a guest through its hypervisor: the guest agent, or a container's namespaces."""

from __future__ import annotations

import base64
import json
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from virtkit._dataclass import dataclass
from virtkit.drivers import Driver
from virtkit.host.connection import Connections
from virtkit.host.ssh import root_prefix
from virtkit.system import commands

#: What reading an agent's answer can raise: whoever has the guest writes it.
_GARBLED = (ValueError, TypeError, LookupError, AttributeError)
#: The program that enters a container's namespaces.
_NSENTER = Path(__file__).with_name("programs") / "nsenter.py"
#: Bytes of input that the guest agent is given at most: they go in one message, and libvirt takes
#: 4 MiB of it, in base64.
MAX_AGENT_INPUT = 1024 * 1024


@dataclass(frozen=True)
class CommandResult:
    """How a command ended, and what it printed; ``truncated`` where it printed more than this.

    ``code`` is its exit code.
    """

    code: int
    out: bytes
    err: bytes
    truncated: bool = False


class Unreachable(Exception):
    """This way into the guest isn't open (yet); the message says why."""


class OutcomeUnknown(Unreachable):
    """The command began, and its end is not known: another way would run it a second time."""


def nsenter_command(
    connections: Connections,
    driver: Driver,
    name: str,
    command: Sequence[str],
    *,
    timeout: float = 0,
    terminal: bool = False,
) -> list[str]:
    """The command line that runs a command inside a container.

    Args:
        timeout: seconds after which it is ended on another host, in whole ones; 0: never.
        terminal: on another host it gets a terminal, as the caller has one.

    Raises:
        Unreachable: nobody here is root on the host, so nobody can join namespaces; or the
            container doesn't run.
    """
    remote = connections.remote
    privilege = root_prefix(remote)
    if privilege is None:
        raise Unreachable("namespaces can only be joined by root")
    try:
        controller = connections.get(driver.scheme).lookupByName(name).ID()
    except libvirt.libvirtError as error:
        raise Unreachable(error.get_error_message() or str(error)) from error
    arguments = [str(controller), name, *command]
    if remote is None:
        return [sys.executable, "-IS", str(_NSENTER), *arguments]
    ended = ["timeout", "--kill-after=5", f"{math.ceil(timeout)}"] if timeout else []
    program = [*privilege, *ended, "python3", "-ISc", _NSENTER.read_text(), "--over-ssh"]
    return remote.command_line(shlex.join([*program, *arguments]), terminal=terminal)


def by_namespaces(
    connections: Connections,
    driver: Driver,
    name: str,
    command: Sequence[str],
    timeout: float,
    data: bytes = b"",
) -> CommandResult:
    """Runs a command in a container, as its root, with ``data`` on its input.

    Raises:
        Unreachable: nobody here may join its namespaces.
        OutcomeUnknown: the command takes longer than ``timeout`` seconds.
    """
    line = nsenter_command(connections, driver, name, command, timeout=timeout)
    try:
        done = subprocess.run(
            commands.die_with_parent(line),
            capture_output=True,
            input=data,
            timeout=timeout,
            check=False,
            env=commands.environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise OutcomeUnknown(f"no end within {timeout:.0f} s") from error
    return CommandResult(done.returncode, done.stdout, done.stderr)


def by_agent(
    connections: Connections,
    driver: Driver,
    name: str,
    command: Sequence[str],
    timeout: float,
    data: bytes = b"",
) -> CommandResult:
    """Runs a command through the QEMU guest agent, as root, with ``data`` on its input.

    Raises:
        Unreachable: no agent answers.
        OutcomeUnknown: the agent stopped answering, or the command takes longer than ``timeout``
            seconds.
    """
    # the agent itself can't say that a program is missing; a shell can (127)
    arguments = {
        "path": "/bin/sh",
        "arg": ["-c", 'exec "$@"', "sh", *command],
        "capture-output": True,
        **({"input-data": base64.b64encode(data).decode()} if data else {}),
    }
    try:
        domain = connections.get(driver.scheme).lookupByName(name)
        pid = int(_agent(domain, "guest-exec", arguments)["pid"])
    except libvirt.libvirtError as error:
        raise Unreachable(error.get_error_message() or str(error)) from error
    except _GARBLED as error:
        raise Unreachable(f"the guest agent answers with {error!r}") from error
    end = time.monotonic() + timeout
    try:
        while not (status := _agent(domain, "guest-exec-status", {"pid": pid}))["exited"]:
            if time.monotonic() > end:
                raise OutcomeUnknown(f"no end within {timeout:.0f} s")
            time.sleep(0.1)
        code = int(status.get("exitcode", 128 + status.get("signal", 0)))
        out, err = (base64.b64decode(status.get(key, "")) for key in ("out-data", "err-data"))
        truncated = bool(status.get("out-truncated") or status.get("err-truncated"))
    except libvirt.libvirtError as error:
        raise OutcomeUnknown(error.get_error_message() or str(error)) from error
    except _GARBLED as error:
        raise OutcomeUnknown(f"the guest agent answers with {error!r}") from error
    return CommandResult(code, out, err, truncated)


def _agent(domain: libvirt.virDomain, execute: str, arguments: dict[str, object]) -> dict[str, Any]:
    request = json.dumps({"execute": execute, "arguments": arguments})
    answer = json.loads(libvirt_qemu.qemuAgentCommand(domain, request, 10, 0))
    result: dict[str, Any] = answer["return"]
    return result
