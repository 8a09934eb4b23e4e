"""What other programs need to get into guests: Ansible's inventory, and ssh's settings."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from virtkit import access, ansible
from virtkit._dataclass import dataclass
from virtkit.access import Login
from virtkit.ansible import InventoryGuest
from virtkit.api._hosts import (
    Say,
    existing_guests,
    guests_named,
    hosts_of,
    is_own,
    ordered,
    path_of,
    quiet,
    unanswered_of,
    update_known_hosts,
    with_spec_path,
)
from virtkit.api._observation import Answer, HostState, Observation, observe
from virtkit.api._placement import unknown_guests
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.host import Host
from virtkit.spec import Spec
from virtkit.state.observed import ObservedGuest
from virtkit.state.record import GuestRecord, InterfaceRecord


@dataclass(frozen=True)
class Inventory:
    """The guests that Ansible can reach, their groups and variables.

    Attributes:
        renamed_groups: the spec's groups that have another name here, by that.
        unanswered: why hosts do not answer, by their names: their guests are as the spec has them.
    """

    guests: tuple[InventoryGuest, ...]
    renamed_groups: Mapping[str, str] = field(default_factory=dict)
    unanswered: Mapping[str, VirtkitError] = field(default_factory=dict)

    def static(self) -> str:
        """A file for ``ansible -i`` as it is."""
        return ansible.static(self.guests)

    def script(self) -> dict[str, Any]:
        """The answer to ``--list``. Of ``_meta`` Ansible reads ``hostvars`` and nothing else."""
        document = ansible.script(self.guests)
        if self.unanswered:
            errors = {host: error.as_dict() for host, error in self.unanswered.items()}
            document["_meta"]["unanswered"] = errors
        return document

    def tree(self) -> dict[str, Any]:
        """As Ansible's YAML files have it."""
        return ansible.tree(self.guests)

    def variables(self, guest: str) -> dict[str, Any]:
        """The answer to ``--host GUEST``."""
        return next((dict(each.variables) for each in self.guests if each.name == guest), {})


def inventory(
    spec: Spec,
    *,
    hypervisor: bool = False,
    say: Say = quiet,
    unanswered: Mapping[str, VirtkitError] = MappingProxyType({}),
) -> Inventory:
    """How Ansible reaches the guests that have an address, or that their hypervisor has a way into.

    Guests on hosts that do not answer are listed by what the spec says of them.

    Args:
        hypervisor: through the hypervisor where it has a way in, and else by ssh.
        say: told which guests are left out, though they run or nobody knows whether they do.
        unanswered: hosts that are known not to answer, and are not asked again.
    """
    hosts = [each for each in hosts_of(spec) if each.name not in unanswered]
    observation = _observe_ways(spec, hosts, unanswered)
    return _of(spec, observation, _ways(spec, observation), hypervisor=hypervisor, say=say)


def _of(
    spec: Spec, observation: Observation, ways: Iterable[_Way], *, hypervisor: bool, say: Say
) -> Inventory:
    """The inventory of these ways into guests."""
    guests: list[InventoryGuest] = []
    renamed: dict[str, str] = {}
    for way in ways:
        record, host = way.record, way.host
        driver, path = DRIVERS.get(record.type), path_of(spec)
        path = path if path.startswith("/") else ""
        connection = ansible.ssh_variables(way.login) if way.login else None
        if hypervisor and driver is not None and way.state in ("running", "unknown"):
            uri, remote = host.connections.uri(driver.scheme), host.remote is not None
            by_hypervisor = ansible.hypervisor_variables(record, driver, uri, path, remote=remote)
            connection = by_hypervisor or connection
        if connection is None:
            if way.state in ("running", "unknown"):
                say(f"guest {record.guest} is left out: {_no_way(way, hypervisor=hypervisor)}")
            continue
        own = ansible.guest_variables(record, driver, host.name, path)
        variables = spec.guests[record.guest].vars if record.guest in spec.guests else {}
        groups = ansible.groups(record, driver, host.name)
        guests.append(InventoryGuest(record.guest, {**own, **connection, **variables}, groups))
        renamed |= {each: ansible.group_name(each) for each in record.requested["groups"]}
    renamed = {a: b for a, b in renamed.items() if a != b}
    return Inventory(tuple(guests), renamed, observation.unanswered)


class RunInventory:
    """The inventory of a run that goes on: its hosts are looked at once, and its steps say what
    they make of guests.

    Each guest has its own run of Ansible, which is to know all guests. If each looked at all hosts,
    the domains of N guests would be read N² times.

    Args:
        hosts: the run's own, so that there are connections to them.
        unanswered: those that are not asked, as they do not answer.
    """

    def __init__(
        self, spec: Spec, hosts: Sequence[Host], unanswered: Mapping[str, VirtkitError]
    ) -> None:
        self._spec = spec
        self._hosts = [each for each in hosts if each.name not in unanswered]
        self._unanswered = unanswered
        self._looked: Observation | None = None
        #: What steps made of guests, by host and domain; None where they removed one.
        self._noted: dict[str, dict[str, ObservedGuest | None]] = {}
        self._noting = threading.Lock()
        self._making = threading.Lock()
        self._known: dict[str, _Way] = {}

    def note(self, host: Host, record: GuestRecord, *, running: bool) -> None:
        """Takes a guest as a step has left it."""
        guest = ObservedGuest(
            record=record,
            domain=record.domain,
            uuid="",
            scheme=DRIVERS[record.type].scheme,
            state="running" if running else "stopped",
            autostart=False,
        )
        with self._noting:
            self._noted.setdefault(host.name, {})[record.domain] = guest

    def note_removed(self, host: Host, domain: str) -> None:
        """Takes that a guest is gone."""
        with self._noting:
            self._noted.setdefault(host.name, {})[domain] = None

    def tree(self) -> dict[str, Any]:
        """As Ansible's YAML files have it, with the guests as they are by now."""
        with self._making:
            try:
                return self._made().tree()
            except VirtkitError:  # others have changed what was seen
                self._forget()
                return self._made().tree()

    def _made(self) -> Inventory:
        if self._looked is None:
            self._looked = _observe_ways(self._spec, self._hosts, self._unanswered)
        host_states = list(map(self._as_noted, self._looked.host_states))
        observation = Observation(host_states, self._looked.unanswered)
        ways = _ways(self._spec, observation, known=self._known)
        return _of(self._spec, observation, ways, hypervisor=False, say=quiet)

    def _forget(self) -> None:
        with self._noting:
            self._noted.clear()
        self._known.clear()
        self._looked = None

    def _as_noted(self, host_state: HostState) -> HostState:
        """A host with what steps made of its guests since it was looked at."""
        with self._noting:
            guests = {**host_state.observed.guests, **self._noted.get(host_state.host.name, {})}
        existing = {domain: each for domain, each in guests.items() if each is not None}
        return HostState(host_state.host, replace(host_state.observed, guests=existing))


@dataclass(frozen=True)
class _Way:
    """How other programs get into a guest.

    Attributes:
        state: its own; ``unknown`` where its host does not answer, and ``record`` is what the spec
            asks for.
        login: None where it has no known address.
        why: its state is unknown.
    """

    host: Host
    record: GuestRecord
    state: str
    login: Login | None
    why: str = ""

    def is_of(self, host: Host, record: GuestRecord, state: str) -> bool:
        """Whether it is the way into a guest that has this very record and is in this state."""
        return self.host is host and self.record is record and self.state == state


def _no_way(way: _Way, *, hypervisor: bool) -> str:
    """Why a guest is left out."""
    if way.state == "unknown":
        return f"{way.why}, and the spec gives it no `address:`"
    if hypervisor:
        return "it has no address, and its hypervisor has no way in for Ansible"
    return "it has no address; with --hypervisor it needs none, where its type has a way in"


#: How to use what ``ssh_config`` answers: ssh takes of each option what it reads first.
_HEAD = """\
# Guests of {environment}, by `virtkit ssh-config`. Keep this in its own file, and write at the
# top of ~/.ssh/config, above every Host and Match:
#   Include {file}"""


def ssh_config(spec: Spec, guests: Sequence[str] = (), *, say: Say = quiet) -> Answer[str]:
    """What a file that ``~/.ssh/config`` includes says: ``ssh ENVIRONMENT-GUEST`` then works as it
    is. Guests on hosts that do not answer are in it as the spec has them.

    Args:
        say: told which of those are left out.
    """
    observation = _observe_ways(spec, hosts_of(spec))
    ways = list(_ways(spec, observation, guests))
    for each in ways:
        if each.state == "unknown" and each.login is None:
            say(f"guest {each.record.guest} is left out: {_no_way(each, hypervisor=False)}")
    logins = [each.login for each in ways if each.login]
    blocks = [_HEAD.format(environment=spec.name, file=f"~/.ssh/virtkit-{spec.name}")]
    for login in logins:
        options = (f"  {key} {value}" for key, value in login.options())
        blocks.append("\n".join([f"Host {login.alias}", *options]))
    existing = existing_guests(spec, observation.host_states)
    missing = guests_named(spec, existing, guests) - {*existing} if guests else ()
    unanswered = unanswered_of(spec, observation, missing, guests)
    return Answer("\n\n".join(blocks) + "\n", unanswered)


def _observe_ways(
    spec: Spec,
    hosts: Sequence[Host],
    unanswered: Mapping[str, VirtkitError] = MappingProxyType({}),
) -> Observation:
    """What stands on those of a spec's hosts that answer.

    Args:
        hosts: those that are asked.
        unanswered: why others are not.
    """
    observation = observe(hosts)
    host_states = [with_spec_path(each, path_of(spec)) for each in observation.host_states]
    return Observation(host_states, observation.unanswered).with_unanswered(unanswered)


def _ways(
    spec: Spec,
    observation: Observation,
    guests: Sequence[str] = (),
    *,
    known: dict[str, _Way] | None = None,
) -> Iterator[_Way]:
    """The ways into guests that exist, or may exist on hosts that do not answer.

    Args:
        guests: without any, those that are the spec's.
        known: what was found before, by the guests' names; added to. A guest that is as it was then
            is not asked for its address again.
    """
    known = {} if known is None else known
    existing = existing_guests(spec, observation.host_states)
    unknown = _unknown_ways(spec, observation)
    own = {name for name, each in existing.items() if is_own(spec, each)}
    names = guests_named(spec, existing, guests) if guests else own | {*unknown}
    files = {e.host.name: update_known_hosts(spec.name, e) for e in observation.host_states}
    for name in ordered(spec, names & {*existing, *unknown}):
        if name not in existing:
            yield unknown[name]
            continue
        host, observed = existing[name].host, existing[name].observed
        record, keys = observed.record, files[host.name]
        before = known.get(name)
        if before and before.login and before.is_of(host, record, observed.state):
            yield before
            continue
        addressable = observed.state == "running" or any(record.addresses)
        addresses = access.addresses(host, record)[0] if addressable else []
        login = _lasting_login(spec, host, record, addresses, keys)
        known[name] = _Way(host, record, observed.state, login)
        yield known[name]


def _unknown_ways(spec: Spec, observation: Observation) -> dict[str, _Way]:
    """The ways into guests on hosts that do not answer, as far as the spec and the caller's folder
    tell them, by the guests' names."""
    hosts = {each.name: each for each in hosts_of(spec)}
    answer = {}
    for each in unknown_guests(spec, observation.host_states, observation.unanswered):
        if each.guest not in spec.guests:
            continue
        guest, host = spec.guests[each.guest], hosts[each.host]
        cards = (InterfaceRecord(one.name, "", one.address or "") for one in guest.interfaces)
        record = GuestRecord(
            environment=spec.name,
            guest=guest.name,
            type=guest.type,
            spec=path_of(spec),
            requested=guest.requested,
            image_identity="",
            image=None,
            interfaces=tuple(cards),
        )
        login = _lasting_login(spec, host, record, record.addresses)
        answer[guest.name] = _Way(host, record, "unknown", login, each.why)
    return answer


def _lasting_login(
    spec: Spec,
    host: Host,
    record: GuestRecord,
    addresses: Sequence[str],
    known_hosts: Path | None = None,
) -> Login | None:
    """How other programs log in to a guest; None where it has no address."""
    if not addresses:
        return None
    return access.login(host, record, addresses[0], spec.folder, known_hosts, lasting=True)
