"""Commands in a guest: through its hypervisor where that has a way in, else by ssh."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from virtkit.access import ssh
from virtkit.access.login import addresses, login
from virtkit.drivers import DRIVERS, Driver
from virtkit.errors import VirtkitError
from virtkit.host import CommandResult, Host, OutcomeUnknown, Unreachable, guest_exec, rotations
from virtkit.spec.command import virtkit_command
from virtkit.state.record import GuestRecord

#: What prints a container's journal, and the seconds that it gets.
_JOURNAL, _JOURNAL_TIMEOUT = ("journalctl", "--no-pager", "-b", "-o", "short"), 30.0


def attached_command(
    host: Host, driver: Driver, domain: str, command: Sequence[str], *, terminal: bool = False
) -> list[str] | None:
    """The command line that runs ``command`` in a guest with the caller's own streams.

    None where the hypervisor has no such way.

    Args:
        terminal: they are a terminal's.
    """
    if "namespaces" in driver.exec:
        try:
            return guest_exec.nsenter_command(
                host.connections, driver, domain, command, terminal=terminal
            )
        except Unreachable:
            return None
    return None


def can_use_agent(driver: Driver) -> bool:
    """Whether commands can go through a guest agent."""
    return "agent" in driver.exec


def by_agent(
    host: Host, driver: Driver, domain: str, command: Sequence[str], stdin: bytes = b""
) -> CommandResult | None:
    """Runs a command through the guest agent, with ``stdin`` as its input; None where no agent
    answers.

    Raises:
        VirtkitError: the command began, and its end is not known.
    """
    try:
        return guest_exec.by_agent(host.connections, driver, domain, command, float("inf"), stdin)
    except OutcomeUnknown as error:
        raise VirtkitError(
            f"it is not known how the command in {domain} ended",
            why=f"it began, then the guest agent failed: {error}",
            cure="check in the guest what it did; use `virtkit ssh` for commands that run long or "
            "print a lot",
            where=f"{host.name} {domain}",
        ) from error
    except Unreachable:
        return None


def run(
    host: Host,
    record: GuestRecord,
    spec_folder: Path,
    command: Sequence[str],
    timeout: float,
    stdin: bytes = b"",
) -> CommandResult:
    """Runs a command as root by the first way that is open.

    Args:
        spec_folder: where the spec is, for the ssh keys that it names.
        timeout: seconds that each way may take.
        stdin: the command's input, of ``MAX_AGENT_INPUT`` bytes at most.

    Raises:
        OtherHostKey: none is, and something else than the guest answers at its address.
        OutcomeUnknown: the command began, and its end is not known. No other way is tried: that
            would run it a second time.
        Unreachable: none is (yet).
    """
    kind: type[Unreachable] = Unreachable
    failures: list[str] = []
    driver = DRIVERS[record.type]
    for way in driver.exec:
        try:
            if way == "namespaces":
                return guest_exec.by_namespaces(
                    host.connections, driver, record.domain, command, timeout, stdin
                )
            if way == "agent":
                return guest_exec.by_agent(
                    host.connections, driver, record.domain, command, timeout, stdin
                )
            guest_addresses, looked = addresses(host, record)
            if not guest_addresses:
                raise Unreachable(f"no address ({', '.join(looked)})")
            return ssh.run(
                login(host, record, guest_addresses[0], spec_folder),
                record.host_key,
                command,
                timeout,
                stdin,
            )
        except OutcomeUnknown as error:
            raise OutcomeUnknown(f"{way}: {error}") from error
        except Unreachable as error:
            failures.append(f"{way}: {error}")
            kind = ssh.OtherHostKey if isinstance(error, ssh.OtherHostKey) else kind
    raise kind("; ".join(failures))


def log(host: Host, record: GuestRecord, spec_folder: Path) -> str:
    """What a guest printed so far: its console log, or a container's journal.

    Raises:
        VirtkitError: it can't be read.
    """
    if DRIVERS[record.type].log == "xenconsoled":
        return host.console_output(DRIVERS[record.type], record.domain).decode("utf-8", "replace")
    if DRIVERS[record.type].log == "file":
        name = f"{record.domain}-console"
        host.storage.refresh()
        names = sorted(rotations(host.storage.names(), name), key=lambda n: (n != name, n))
        # NAME is the newest, then NAME.0, NAME.1 …
        pieces = [host.storage.read(each) for each in reversed(names)]
        return b"".join(pieces).decode("utf-8", "replace")
    try:
        ran = run(host, record, spec_folder, _JOURNAL, _JOURNAL_TIMEOUT)
    except Unreachable as error:
        raise _unread_journal(host, record, str(error), error) from error
    if ran.code != 0 and not ran.out:
        why = ran.err.decode("utf-8", "replace").strip()
        raise _unread_journal(host, record, f"{_JOURNAL[0]} exits with {ran.code}: {why}")
    return ran.out.decode("utf-8", "replace")


def _unread_journal(
    host: Host, record: GuestRecord, why: str, error: Unreachable | None = None
) -> VirtkitError:
    """The error for a journal that can't be read, as its guest is."""
    state = host.domains.state(DRIVERS[record.type], record.domain)
    verb = {"stopped": "start", "paused": "resume"}.get(state, "console")
    command = virtkit_command(verb, record.spec, record.guest)
    cure = f"first: {command}" if state != "running" else f"look into the guest with `{command}`"
    if isinstance(error, ssh.OtherHostKey):
        cure = ssh.other_key_cure(record.spec, record.guest)
    return VirtkitError(
        f"the journal of guest {record.guest} can't be read",
        why=why if state == "running" else f"the guest is {state}",
        cure=cure,
        where=f"{host.name} guest/{record.guest}",
    )
