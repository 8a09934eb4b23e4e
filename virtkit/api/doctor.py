"""What this machine can run, what is missing, and the command that fixes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from virtkit import images
from virtkit._dataclass import dataclass
from virtkit.api._hosts import Say, chosen_hosts, hosts_of, quiet
from virtkit.api._observation import is_silence, schemes_of, side_by_side
from virtkit.api._shared import shared_checks
from virtkit.api.orphans import down_command
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.facts import HostFacts, MachineFacts, version_text
from virtkit.host import Host, firewall, further_facts, schemas
from virtkit.spec import Spec
from virtkit.state.observed import Observed, ObservedGuest
from virtkit.system import commands


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        ok: None for a note that is neither good nor bad.
        needed: virtkit can do nothing without it.
    """

    name: str
    ok: bool | None
    what: str
    cure: str = ""
    needed: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class HostChecks:
    """What was checked on one host.

    Attributes:
        address: as for ssh; empty for this machine.
    """

    name: str
    address: str
    checks: tuple[Check, ...]

    @property
    def usable(self) -> bool:
        """Whether virtkit can do anything there."""
        return not any(each.ok is False and each.needed for each in self.checks)

    def as_dict(self) -> dict[str, Any]:
        checks = [each.as_dict() for each in self.checks]
        return {
            "name": self.name,
            "address": self.address,
            "usable": self.usable,
            "checks": checks,
        }


def doctor(spec: Spec | None = None, *, say: Say = quiet) -> list[Check]:
    """All checks of this machine, and of what the records of a spec's environment say."""
    hosts = hosts_of(spec)
    programs = commands.PROGRAMS.items()
    checks = [_program(name) for name, each in programs if os.geteuid() != 0 or not each.users]
    checks += [_builds(), _schemas()]
    for host in _check_each(hosts, spec, say):
        several = len(hosts) > 1
        checks += [
            replace(e, name=f"{e.name} on {host.name}") if several else e for e in host.checks
        ]
    return checks


def check_hosts(
    spec: Spec | None = None, names: Sequence[str] = (), *, say: Say = quiet
) -> list[HostChecks]:
    """All checks of hosts, and of what the records of a spec's environment there say; they are
    looked at side by side.

    Args:
        names: of the spec's hosts, or as for ssh; left out, all of the spec's, or this machine.

    Raises:
        RequestError: a name stands for no host.
    """
    return _check_each(chosen_hosts(spec, names), spec, say)


def _check_each(hosts: Sequence[Host], spec: Spec | None, say: Say) -> list[HostChecks]:
    """Each host's checks. A host that fails on the way holds up none of the others."""

    def check(host: Host) -> list[Check]:
        own = spec if spec is not None and host.name in spec.hosts else None
        try:
            return _host(host, own, say)
        finally:
            host.connections.release()

    answers = side_by_side([partial(check, host) for host in hosts])
    return [
        HostChecks(
            host.name,
            host.remote.address if host.remote else "",
            (_failed(answer),) if isinstance(answer, VirtkitError) else tuple(answer),
        )
        for host, answer in zip(hosts, answers, strict=True)
    ]


def _failed(error: VirtkitError) -> Check:
    """The one check of a host that nobody could look at to the end."""
    why = f"{error.what}: {error.why}" if error.why else error.what
    return Check("host", False, why, error.cure, needed=True)


def _host(host: Host, spec: Spec | None, say: Say) -> list[Check]:
    """All checks of one host."""
    checks = [] if host.remote else list(_device())
    try:
        facts = host.facts()
    except VirtkitError as error:
        name = "libvirt" if is_silence(error) else f"pool {host.storage.pool_name}"
        return [*checks, Check(name, False, error.why or error.what, error.cure, needed=True)]
    try:
        facts = host.with_kvm(facts, say, refresh=True)
    except VirtkitError as error:
        checks.append(Check("kvm probe", False, error.why or error.what, error.cure))
    if facts.kvm is not None:
        checks.append(Check("kvm probe", facts.kvm.works or None, f"just now: {facts.kvm.why}"))
    checks += _libvirt(facts, host)
    checks += _types(facts)
    checks += _machines(further_facts.with_abilities(facts, host.connections))
    checks += _containers(facts, host)
    checks += _preparation(facts, host)
    if not DRIVERS["qemu"].check(facts):
        checks += (Check(*each) for each in shared_checks(host))
    checks += _firewall(host)
    checks += _xen(facts, host)
    checks += _without_dnsmasq(facts, host)
    if spec is not None:
        checks += _recorded(host, facts, host.observe(), spec)
    return checks


def _program(name: str) -> Check:
    program, path = commands.PROGRAMS[name], commands.find(name)
    cure = "" if path else f"sudo apt-get install {program.package}"
    return Check(name, path is not None, program.purpose, cure)


def _builds() -> Check:
    """Whether an image can be built here, as a build itself looks."""
    try:
        images.check_builds()
    except VirtkitError as error:
        return Check("image builds", False, f"{error.what}: {error.why}", error.cure)
    return Check("image builds", True, "the programs that build images work, and there is room")


def _device() -> Iterable[Check]:
    """Whether QEMU's user can open /dev/kvm. Where only root can, libvirt takes what it knows of
    QEMU for outdated at every call."""
    device = Path("/dev/kvm")
    if device.exists() and not device.stat().st_mode & 0o060 and os.geteuid() == 0:
        yield Check(
            str(device),
            False,
            "only root may open it, so libvirt spends seconds at each start on probing QEMU again",
            f"chgrp kvm {device} && chmod 660 {device}",
        )


def _schemas() -> Check:
    installed = (schemas.FOLDER / "domain.rng").is_file()
    return Check(
        "schemas",
        installed,
        f"libvirt's schemas in {schemas.FOLDER}, to check XML before anything is touched",
        "" if installed else "sudo apt-get install libvirt0",
    )


def _libvirt(facts: HostFacts, host: Host) -> Iterable[Check]:
    for scheme, connection in facts.connections.items():
        version = version_text(connection.libvirt_version)
        what = connection.error or f"{connection.uri} answers, libvirt {version}"
        yield Check(f"libvirt {scheme}", not connection.error, what)
    pool = facts.pool
    state = "active" if pool.active else "inactive; up activates it"
    what = f"{pool.path}, {state}" if pool.exists else f"up will make it at {pool.path}"
    room = ""
    if host.remote is None:
        with suppress(OSError):  # there is none yet, or none that we may look into
            room = f", {shutil.disk_usage(pool.path).free // 1024**3} GiB free"
    yield Check(f"pool {pool.name}", None if not pool.exists else True, what + room)


def _types(facts: HostFacts) -> Iterable[Check]:
    for driver in DRIVERS.values():
        reasons = driver.check(facts)
        if not reasons:
            yield Check(f"type {driver.type}", True, driver.virtualization)
        for reason in reasons:
            yield Check(f"type {driver.type}", False, reason.why, reason.cure)
        for caveat in driver.caveats:
            yield Check(f"type {driver.type}", None, caveat)


def _machines(facts: HostFacts) -> Iterable[Check]:
    """What some virtual machines ask for, and not every host has."""
    for key, has, what, package in (
        ("tpm", lambda each: each.tpm, "swtpm, for guests with `tpm: true`", "swtpm swtpm-tools"),
        ("secure boot", _boots_securely, "firmware for guests with `firmware: secure`", "ovmf"),
    ):
        able = [has(each) for each in facts.machines.values()]
        if able:
            cure = "" if all(able) else f"sudo apt-get install {package}"
            yield Check(key, all(able) or None, what if all(able) else f"lacks {what}", cure)


def _boots_securely(machine: MachineFacts) -> bool:
    return "secure" in machine.firmware


def _runs_containers(facts: HostFacts) -> bool:
    """Whether guests of a type that is a container can run here."""
    return any("userns" in each.confined and not each.check(facts) for each in DRIVERS.values())


def _containers(facts: HostFacts, host: Host) -> Iterable[Check]:
    """Whether containers get their own ids here."""
    if not _runs_containers(facts):
        return
    no_userns = facts.no_userns
    if no_userns is not None:
        what = f"they have fewer capabilities, but no user namespace: {no_userns.why}"
        yield Check("containers", False, what, no_userns.cure)
        return
    yield Check("containers", True, "each in a user namespace with its own ids")
    if host.ask("hook_outdated")["hook_outdated"]:
        what = "libvirt's hook was installed by another version of virtkit; it works with this one"
        yield Check("containers", None, what, host.connections.prepare_command)


def _preparation(facts: HostFacts, host: Host) -> Iterable[Check]:
    """What else a prepared host has, and this one lacks."""
    if _runs_containers(facts):
        for each in host.ask("missing_settings")["missing_settings"]:
            cure = each["advice"] or host.connections.prepare_command
            yield Check(each["name"], None, each["why"], cure)


def _firewall(host: Host) -> Iterable[Check]:
    """Whether libvirt's rules for its networks are there, and what others' may drop."""
    bridges = host.bridges()
    if not bridges:
        return
    rules = host.firewall_rules()
    if rules is None:
        what = "only root may read its rules, so it is not known whether libvirt's are there"
        cure = "run `virtkit doctor` as root"
        if host.remote is not None:
            cure = "log in there as root, or let the user have sudo without a password"
        yield Check("firewall", None, what, cure)
        return
    without_rules = [each for each in bridges if not rules.has_libvirt_rules(each.name)]
    for each in without_rules:
        what = (
            f"libvirt's firewall rules for {each.name} are gone, as after a reload of nftables: "
            "its guests reach nothing outside, and no other network starts"
        )
        cure = host.connections.restart_command("network")
        yield Check(f"network {each.network}", False, what, cure)
    yield from _drops(host, rules, bridges)
    if not without_rules and not any(rules.dropping_chains(each) for each in bridges):
        yield Check("firewall", True, "libvirt's rules for its networks are there")


def _drops(
    host: Host, rules: firewall.Rules, bridges: Iterable[firewall.Bridge]
) -> Iterable[Check]:
    """The chains that drop by policy. What their other rules accept, only their owner knows."""
    reported = set()
    for bridge in bridges:
        for drop in rules.dropping_chains(bridge):
            consequence = (
                "its guests may get no address, and no answer from DNS"
                if drop.hook == "input"
                else "its guests may reach nothing outside"
            )
            what = f"chain {drop.chain} of table {drop.table} drops what no rule accepts, and none "
            cure = firewall.accept_commands(bridge.name, [drop], host.remote)
            yield Check("firewall", None, f"{what}names {bridge.name}: {consequence}", cure)
            reported.add(drop)
    for drop in sorted(rules.drops - reported, key=str):
        if drop.hook == "forward":
            what = (
                f"chain {drop.chain} of table {drop.table} drops what no rule accepts, as Docker "
                "sets it. libvirt's networks have rules there; a bridge of your own (`mode: "
                "bridge`) has none, and needs one where net.bridge.bridge-nf-call-iptables is 1"
            )
            yield Check("firewall", None, what)


def _xen(facts: HostFacts, host: Host) -> Iterable[Check]:
    """What Xen's own tools say of a host with Xen."""
    connection = facts.connections.get("xen")
    if connection is None or connection.error:
        return
    for name, ok, what, cure in host.xen_checks():
        yield Check(f"xen {name}", ok, what, cure)


def _without_dnsmasq(facts: HostFacts, host: Host) -> Iterable[Check]:
    """Networks of anybody's whose dnsmasq has ended."""
    cure = host.connections.restart_command("network")
    for name in sorted(facts.networks_without_dnsmasq):
        yield Check(f"network {name}", False, "its dnsmasq (DHCP and DNS) has ended", cure)


def _recorded(host: Host, facts: HostFacts, observed: Observed, spec: Spec) -> Iterable[Check]:
    """What the environment's records list that is gone."""
    guests, up = observed.guests_of(spec.name), spec.command("up")
    undefined = observed.undefined_of(spec.name)
    for name in sorted(undefined):
        what = "its domain is gone, and its volumes are there: it is defined again with its disks"
        yield Check(f"guest {name}", False, what, up)
    for name, network in observed.networks_of(spec.name).items():
        reserved = {each.name for each in network.record.reservations}
        own = {each for each in spec.guests if spec.host_of(each) in (None, host.name)}
        own -= {e for e in own if schemes_of(spec.guests[e].type) & observed.silent.keys()}
        hidden = {each.guest for each in observed.hidden_of(spec.name)}
        for missing in sorted((reserved & own) - {*guests, *undefined, *hidden}):
            what = f"its domain is gone, and network {name} still knows it"
            yield Check(f"guest {missing}", False, what, up)
        if not network.active:
            yield Check(f"network {name}", False, "it is not active", up)
    for name, guest in guests.items():
        own_networks = {
            each.source
            for each in guest.record.interfaces
            if each.source.startswith(f"{spec.name}-")
        }
        for missing in sorted(own_networks - {*observed.networks, *observed.foreign_networks}):
            cure = f"{up}, then {spec.command('restart', name)}"
            yield Check(f"guest {name}", False, f"its network {missing} is gone", cure)
    if facts.pool.active:  # else nobody knows
        yield from _volumes(host, observed, spec)


def _volumes(host: Host, observed: Observed, spec: Spec) -> Iterable[Check]:
    up = spec.command("up")
    for name, guest in observed.guests_of(spec.name).items():
        if guest.domain not in observed.pool.guests:
            what = "an older version of virtkit created it, so the pool's record does not list it "
            what += "yet; if its domain is lost, nobody can tell whose its volumes are"
            cure = f"the next `{up}` that changes anything lists it"
            yield Check(f"guest {name}", None, what, cure)
        content = guest.record.image.content if guest.record.image else ""
        image = observed.pool.images.get(content)
        damage = host.storage.image_damage(image) if image is not None and image.made else ""
        if damage:
            yield Check(
                f"guest {name}",
                False,
                f"its image is damaged: {damage}",
                f"{up} makes it again",
            )
    yield from _lost_volumes(observed, spec)
    yield from _lost_kept_disks(host, observed, spec)


def _lost_volumes(observed: Observed, spec: Spec) -> Iterable[Check]:
    """The volumes of guests that are gone."""
    guests = observed.undefined_of(spec.name) | observed.guests_of(spec.name)
    for name, guest in guests.items():
        for volume in guest.record.volumes:
            listed = volume.state == "made" and volume.role != "console"
            if listed and volume.name not in observed.volumes:
                what = f"its volume {volume.name} is gone"
                yield Check(f"guest {name}", False, what, _volume_cure(guest, volume.role, spec))


def _volume_cure(guest: ObservedGuest, role: str, spec: Spec) -> str:
    """What brings a volume back, and touches no other that holds data."""
    name = guest.record.guest
    if name not in spec.guests:
        up, down = spec.command("up", name), spec.command("down", name)
        return f"put the guest back into the spec, then {up}; or remove it: {down}"
    if role not in ("root", "disk"):  # up makes it again, with what it had
        return spec.command("up", name)
    restart = ["--restart"] if role == "disk" and guest.state != "stopped" else []
    up = spec.command("up", name, "--yes", *restart)
    which = (
        "recreates the guest; its other disks stay"
        if role == "root"
        else "makes an empty one in its place; the other disks stay"
    )
    cure = f"put its file back if you can; else {up} {which}"
    if guest.state != "stopped":
        cure = f"the guest may still have it open: first copy out what you need. Then {cure}"
    return cure


def _lost_kept_disks(host: Host, observed: Observed, spec: Spec) -> Iterable[Check]:
    """The kept disks that are gone, and that no guest lists as its own."""
    listed = {volume.name for each in observed.records() for volume in each.volumes}
    wanted = {
        f"{spec.name}-{name}-{disk.name}": name
        for name, guest in spec.guests.items()
        for disk in guest.disks
    }
    existing = {*observed.undefined_of(spec.name), *observed.guests_of(spec.name)}
    kept = [each for each in observed.pool.kept.values() if each.environment == spec.name]
    with_disks = {each.guest for each in kept if each.name in observed.volumes}
    for disk in kept:
        if disk.name in {*observed.volumes, *listed}:
            continue
        what = f"it was kept for guest {disk.guest} and is gone"
        if disk.name in wanted:
            up = spec.command("up", disk.guest)
            cure = f"put its file back if you can; else {up} makes an empty one in its place"
            yield Check(f"disk {disk.name}", False, what, cure)
        elif disk.guest in {*existing, *with_disks}:  # what forgets it would take more away
            yield Check(f"disk {disk.name}", None, f"{what}; nothing has a use for it")
        else:
            down = (
                spec.command("down", disk.guest, "--volumes")
                if disk.guest in spec.guests
                else down_command(disk.environment, host, disk.guest, volumes=True)
            )
            yield Check(f"disk {disk.name}", False, what, down)
