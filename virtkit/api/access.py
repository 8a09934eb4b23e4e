"""Ways into guests: ssh, commands, files, consoles; and what other programs need for theirs."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

from virtkit import access
from virtkit._dataclass import dataclass
from virtkit.access import Login
from virtkit.api._hosts import (
    Say,
    check_running,
    find_one,
    update_known_hosts,
)
from virtkit.api._observation import HostState
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError, VirtkitError
from virtkit.host import MAX_AGENT_INPUT, CommandResult, Unreachable
from virtkit.spec import Spec, format_size
from virtkit.spec.model import NO_IMAGE
from virtkit.state.observed import ObservedGuest
from virtkit.state.record import GuestRecord
from virtkit.xml import tree


@dataclass(frozen=True)
class Execution:
    """How a command in a guest is run: a command line for the caller to run with its own streams,
    or the result, where the guest agent ran it.

    Attributes:
        way: how the command line gets in: by the guest's ``ssh``, through the ``hypervisor`` of
            this machine, or through that of another ``host``.
    """

    command: list[str] | None
    result: CommandResult | None = None
    way: Literal["ssh", "hypervisor", "host"] = "hypervisor"


def login(spec: Spec, guest: str) -> Login:
    """How to log in to a running guest by ssh."""
    host_state, observed = find_one(spec, guest)
    check_running(spec, observed)
    return _login(spec, host_state, observed)


def _login(spec: Spec, host_state: HostState, guest: ObservedGuest) -> Login:
    if guest.record.image_identity == NO_IMAGE:
        raise _no_image(spec, guest.record, host_state.host.name)
    if "ignition" in guest.record.requested:
        raise _ignition(spec, guest.record, host_state.host.name)
    addresses, looked = access.addresses(host_state.host, guest.record)
    if not addresses:
        _check_beside(host_state, guest)
        raise _no_address(spec, guest.record, host_state.host.name, looked)
    hosts = update_known_hosts(spec.name, host_state)
    return access.login(host_state.host, guest.record, addresses[0], spec.folder, hosts)


def _no_image(spec: Spec, record: GuestRecord, host: str) -> VirtkitError:
    """The error for a guest that nobody gave a login or a host key."""
    return VirtkitError(
        f"virtkit has no way into guest {record.guest}: it was made without an image",
        why="whoever installs its system decides who may log in, and virtkit knows no key of it",
        cure=f"use ssh itself; `{spec.command('console', record.guest)}` shows its console",
        where=f"{host} guest/{record.guest}",
    )


def _ignition(spec: Spec, record: GuestRecord, host: str) -> VirtkitError:
    """The error for a guest whose login and host key its Ignition file, or the guest, made."""
    addresses = record.addresses or ["ADDRESS"]
    return VirtkitError(
        f"virtkit has no way into guest {record.guest}: an Ignition file set it up",
        why="that file says who may log in, and virtkit knows no host key of the guest",
        cure=f"use ssh itself, with a key that the file names (`ssh core@{addresses[0]}` on "
        f"CoreOS); `{spec.command('console', record.guest)}` shows its console",
        where=f"{host} guest/{record.guest}",
    )


def _check_beside(host_state: HostState, guest: ObservedGuest) -> None:
    """Looks whether a guest is where no way leads from its host: on the host's own cards.

    Raises:
        VirtkitError: it is; with the cure.
    """
    reason = host_state.host.beside_reason(DRIVERS[guest.record.type], guest.domain)
    if reason.why:
        raise VirtkitError(
            f"guest {guest.record.guest} can't be reached from its host",
            why=reason.why,
            cure=reason.cure,
            where=f"{host_state.host.name} guest/{guest.record.guest}",
        )


def _no_address(spec: Spec, record: GuestRecord, host: str, looked: Sequence[str]) -> VirtkitError:
    """The error for a guest that ssh can't go to.

    Args:
        looked: where an address was looked for.
    """
    if record.interfaces:
        logs = spec.command("logs", record.guest)
        first = f"if it is still booting, try again in a minute; else see `{logs}`"
    else:
        first = "give it a network"
    console = spec.command("console", record.guest)
    return VirtkitError(
        f"guest {record.guest} has no known address",
        why=", ".join(looked),
        cure=f"{first}. `{console}` needs no address. Nor does `virtkit exec` for a container, if "
        "you are root on its host or have sudo there without a password",
        where=f"{host} guest/{record.guest}",
    )


def ssh(spec: Spec, guest: str, command: Sequence[str] = ()) -> list[str]:
    """The command line of ``virtkit ssh``."""
    return access.ssh_command(login(spec, guest), command)


def _beside_refusal(host_state: HostState, guest: ObservedGuest) -> VirtkitError | None:
    """Why a guest did not answer, where that is because of where it is."""
    try:
        _check_beside(host_state, guest)
    except VirtkitError as error:
        return error
    return None


def ssh_refusal(spec: Spec, guest: str) -> VirtkitError | None:
    """Why ssh did not let the caller in, where ssh does not say it: what answers is not the guest,
    or the guest lets in others' keys."""
    try:
        host_state, observed = find_one(spec, guest)
        check_running(spec, observed)
        guest_login = _login(spec, host_state, observed)
        where = f"{host_state.host.name} guest/{guest_login.guest}"
        if access.has_other_host_key(guest_login, observed.record.host_key):
            return VirtkitError(
                f"what answers at {guest_login.address} is not guest {guest_login.guest}",
                why=access.OTHER_KEY,
                cure=access.other_key_cure(spec.source, guest_login.guest),
                where=where,
            )
        if access.lets_in(guest_login, observed.record.host_key) and guest_login.identities:
            return None  # the connection was lost, or the key has a passphrase
    except Unreachable:
        return _beside_refusal(host_state, observed)
    except VirtkitError:  # it stopped, and took the connection with it
        return None
    return VirtkitError(
        f"guest {guest_login.guest} does not let you in",
        why=access.denied_reason(guest_login),
        cure="ask whoever made it to add your key to its `ssh_keys:` and to run `virtkit up`; a "
        "key with a passphrase is used only if the agent has it (ssh-add)",
        where=where,
    )


class Input(Protocol):
    """What a command is to read. Each answers None where there is more than ``limit`` bytes."""

    def read_if_short(self, limit: int) -> bytes | None:
        """All of it, where its end is near."""

    def read_all(self, limit: int, say: Say) -> bytes | None:
        """All of it, once it has ended."""


def execute(
    spec: Spec,
    guest: str,
    command: Sequence[str],
    stdin: Input | None = None,
    say: Say = lambda _: None,
    *,
    terminal: bool = False,
) -> Execution:
    """Runs a command as root: through the hypervisor where it can, else by ssh and sudo.

    A guest agent takes its input in one piece, so it gets what is short and at its end; all else
    goes by ssh. Input is never dropped.

    Args:
        terminal: the caller's streams are a terminal's, so that the command gets one where it goes
            by ssh.
    """
    host_state, observed = find_one(spec, guest)
    check_running(spec, observed)
    host, driver = host_state.host, DRIVERS[observed.record.type]
    line = access.attached_command(host, driver, observed.domain, command, terminal=terminal)
    if line is not None:
        return Execution(line, way="host" if host.remote else "hypervisor")
    agent = access.can_use_agent(driver)
    text = b"" if stdin is None else stdin.read_if_short(MAX_AGENT_INPUT) if agent else None
    try:
        guest_login = _login(spec, host_state, observed) if text is None else None
    except VirtkitError:
        if stdin is None or not agent:
            raise
        guest_login, text = None, stdin.read_all(MAX_AGENT_INPUT, say)
        if text is None:
            raise _too_much(observed) from None
    if agent and text is not None:
        ran = access.by_agent(host, driver, observed.domain, command, text)
        if ran is not None:
            return Execution(None, ran)
    guest_login = guest_login or _login(spec, host_state, observed)
    line = [shlex.join(access.as_root(guest_login.user, command))]
    return Execution(access.ssh_command(guest_login, line, terminal=terminal), way="ssh")


def _too_much(guest: ObservedGuest) -> RequestError:
    return RequestError(
        f"guest {guest.record.guest} can't be given that much on standard input",
        why=f"the guest agent takes at most {format_size(MAX_AGENT_INPUT)}, and ssh can't be used "
        "because the guest has no address",
        cure="give it a network, or a disk with the data",
        where=f"guest/{guest.record.guest}",
    )


def copy(spec: Spec, source: str, target: str) -> list[str]:
    """The command line of ``virtkit cp``; ``GUEST:PATH`` is a path in a guest.

    Raises:
        RequestError: not exactly one side is in a guest.
    """
    sides = [_side(spec, each) for each in (source, target)]
    guests = [guest for guest, _ in sides if guest]
    if len(guests) != 1:
        raise RequestError(
            "cp copies between here and one guest",
            cure="write one side as GUEST:PATH, as in virtkit cp SPEC file.txt web:/tmp/",
        )
    guest_login = login(spec, guests[0])
    paths = [f":{path}" if guest else path for guest, path in sides]
    return access.scp_command(guest_login, paths[0], paths[1])


def _side(spec: Spec, text: str) -> tuple[str, str]:
    """A guest's name and a path; the name is empty for a path here."""
    name, colon, path = text.partition(":")
    if not colon or "/" in name:
        return "", text
    if name not in spec.guests:
        near = difflib.get_close_matches(name, list(spec.guests), n=1)
        if not near or Path(text).exists():
            return "", text
    return name, path


def console(spec: Spec, guest: str) -> list[str]:
    """The command line that attaches the caller's terminal to a guest's console."""
    host_state, observed = find_one(spec, guest)
    check_running(spec, observed)
    uri = host_state.host.connections.uri(DRIVERS[observed.record.type].scheme)
    return ["virsh", "-q", "-c", uri, "console", observed.domain]


@dataclass(frozen=True)
class Vnc:
    """Where a guest's screen is: on loopback, or where the spec lets others see it.

    Attributes:
        forwarded: it is on another host, and this is a way there.
        kind: the protocol: ``vnc`` or ``spice``.
    """

    address: str
    port: int
    password: str
    forwarded: bool = False
    kind: str = "vnc"


def vnc(spec: Spec, guest: str) -> Vnc:
    """Address and password of a guest's display, as its own host has it.

    Raises:
        RequestError: it has none.
    """
    return _vnc(spec, *find_one(spec, guest))


@contextmanager
def forwarded_vnc(spec: Spec, guest: str) -> Iterator[Vnc]:
    """The same, as this machine reaches it; one on another host as long as the context lasts.

    Raises:
        RequestError: it has none.
    """
    host_state, observed = find_one(spec, guest)
    host, display = host_state.host, _vnc(spec, host_state, observed)
    address = _LOOPBACK.get(display.address, display.address)
    with host.forwarded(address, display.port) as (here, port):
        forwarded = host.remote is not None
        yield replace(display, address=here, port=port, forwarded=True) if forwarded else display


#: What a program there connects to where a display listens at all of a host's addresses.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def _vnc(spec: Spec, host_state: HostState, observed: ObservedGuest) -> Vnc:
    check_running(spec, observed)
    xml = host_state.host.domains.secure_xml(DRIVERS[observed.record.type], observed.domain)
    graphics = tree.parse(xml, "a domain").iterfind("./devices/graphics")
    displays = {each.get("type"): each for each in graphics}
    kind = next((each for each in ("vnc", "spice") if each in displays), "")
    if not kind:
        name = observed.record.guest
        raise RequestError(
            f"guest {name} has no display",
            cure="give it `graphics: vnc`, then " + spec.command("up", name, "--restart"),
        )
    display = displays[kind]
    return Vnc(
        display.get("listen", "127.0.0.1"),
        int(display.get("port", "-1")),
        display.get("passwd", ""),
        kind=kind,
    )
