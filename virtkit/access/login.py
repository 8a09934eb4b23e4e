"""Where a guest is and how ssh gets in. Host keys are known before the first connection."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from virtkit._dataclass import dataclass
from virtkit.access.keys import folder, has_folder, identity_files
from virtkit.drivers import DRIVERS
from virtkit.host import Host, ssh_config_path
from virtkit.spec import LOCAL
from virtkit.state.record import GuestRecord
from virtkit.system import temporary


@dataclass(frozen=True)
class Login:
    """All that ssh needs to get into a guest.

    Attributes:
        alias: names it in known_hosts.
        identities: files of the caller's keys that it lets in (``keys.identity_files``).
        keys: all that it lets in, as its record says; None where an older version made it.
        proxy: ssh's ``ProxyCommand`` where the way is through the guest's host.
    """

    guest: str
    alias: str
    address: str
    user: str
    identities: tuple[Path, ...]
    known_hosts: Path
    keys: tuple[str, ...] | None = None
    proxy: str = ""

    def options(self) -> list[tuple[str, str]]:
        """As options of ssh_config(5); nothing of the caller's own settings is to change them."""
        answer = [
            ("HostName", self.address),
            ("Port", "22"),
            ("User", self.user),
            ("HostKeyAlias", self.alias),
            ("UserKnownHostsFile", ssh_config_path(str(self.known_hosts))),
            ("StrictHostKeyChecking", "yes"),
            ("PreferredAuthentications", "publickey"),  # nobody has a password
        ]
        if self.identities:  # else whatever else ssh finds may be let in: a certificate
            answer.append(("IdentitiesOnly", "yes"))
        answer += [("IdentityFile", ssh_config_path(str(each))) for each in self.identities]
        answer.append(("ProxyCommand", self.proxy) if self.proxy else ("ProxyJump", "none"))
        if self.proxy:
            # a path of the caller's own names an address, and guests of two hosts may have one
            answer.append(("ControlPath", "none"))
        return answer

    def arguments(self) -> list[str]:
        """As arguments of ssh and scp; the caller's own configuration stays out of it."""
        pairs = [f"-o{key}={value}" for key, value in self.options() if key != "HostName"]
        return ["-F", "/dev/null", *pairs, "-oLogLevel=ERROR"]


def addresses(host: Host, record: GuestRecord) -> tuple[list[str], list[str]]:
    """A running guest's addresses, and what was looked at where there are none.

    The spec's and the reserved ones are known; else leases, the agent and ARP are asked.
    """
    if record.addresses:
        return record.addresses, []
    if not record.interfaces:
        return [], ["it has no network"]
    return host.domains.addresses(DRIVERS[record.type], record.domain)


def login(
    host: Host,
    record: GuestRecord,
    address: str,
    spec_folder: Path,
    known_hosts: Path | None = None,
    *,
    lasting: bool = False,
) -> Login:
    """How to log in to a guest.

    Args:
        spec_folder: where the spec is, for the ssh keys that it names.
        lasting: other programs will use it later.
    """
    return Login(
        guest=record.guest,
        alias=record.domain,
        address=address,
        user=str(record.requested["user"]),
        identities=identity_files(record.environment, record.keys, record.key_files, spec_folder),
        known_hosts=known_hosts or _known_hosts(record.environment, host.name),
        keys=record.keys,
        proxy=host.remote.proxy_command(lasting=lasting) if host.remote else "",
    )


def _known_hosts(environment: str, host: str) -> Path:
    """One file a host: whoever writes one has looked at that host, and not at the others."""
    return folder(environment) / ("known_hosts" if host == LOCAL else f"known_hosts-{host}")


def hosts_with_guests(environment: str) -> set[str]:
    """The hosts on which the caller has made guests of an environment."""
    if not has_folder(environment):
        return set()
    files = [each for each in folder(environment).glob("known_hosts*") if not each.suffix]
    return {each.name.partition("-")[2] or LOCAL for each in files if each.stat().st_size}


def last_host(environment: str, domain: str) -> str:
    """The host on which the caller has last seen a guest; empty where nobody knows."""
    if not has_folder(environment):
        return ""
    for host in hosts_with_guests(environment):
        lines = _known_hosts(environment, host).read_text().splitlines()
        if any(line.startswith(f"{domain} ") for line in lines):
            return host
    return ""


def write_known_hosts(
    environment: str, records: Iterable[GuestRecord], host: str = LOCAL, *, add: bool = False
) -> Path:
    """The known_hosts of an environment's guests on a host, from their records.

    Args:
        add: what it says of others stays.
    """
    path = _known_hosts(environment, host)
    lines = {each.domain: f"{each.domain} {each.host_key}\n" for each in records if each.host_key}
    if add and path.is_file():
        old = path.read_text().splitlines(keepends=True)
        lines = {each.partition(" ")[0]: each for each in old} | lines
    text = "".join(sorted(lines.values()))
    if not path.is_file() or path.read_text() != text:
        temporary.write(path, text)
    return path


def ssh_command(login: Login, command: Sequence[str], *, terminal: bool = False) -> list[str]:
    """The ssh command line.

    Several words of ``command`` reach the guest as they are; a single one is a line for its
    shell, as with ssh itself.

    Args:
        terminal: the command gets one, as the caller has one.
    """
    options = ["-t"] if terminal else []
    words = [shlex.join(command) if len(command) > 1 else command[0]] if command else []
    return ["ssh", *login.arguments(), *options, login.address, *(["--", *words] if words else [])]


def scp_command(login: Login, source: str, target: str) -> list[str]:
    """The scp command line; a leading ``:`` marks the path in the guest."""
    host = f"[{login.address}]" if ":" in login.address else login.address

    def side(path: str) -> str:
        if path.startswith(":"):
            return f"{host}{path}"
        # to scp what has a colon before a slash is on a host, and what begins with - an option
        ambiguous = ":" in path.partition("/")[0] or path.startswith("-")
        return f"./{path}" if ambiguous else path

    return ["scp", "-r", "-p", *login.arguments(), "--", side(source), side(target)]


def as_root(user: str, command: Sequence[str]) -> list[str]:
    """``command`` as root, for one who logs in as ``user``.

    By a shell that stays: its exit code tells of a missing program (127; sudo's own is 1), and of
    a signal (128 and its number; ssh's own, 255, would say that the guest was not reached). What a
    terminal's keys ask for is the command's to do.
    """
    line = ["sh", "-c", 'trap : INT QUIT; "$@"; exit $?', "sh", *command]
    return line if user == "root" else ["sudo", "-n", "--", *line]
