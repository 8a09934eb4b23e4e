"""Names that a guest needs and that others have: domains, volumes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from virtkit.errors import RequestError
from virtkit.facts import HostFacts
from virtkit.plan.host_conflicts import virsh
from virtkit.spec.command import virtkit_command
from virtkit.state.desired import Guest, Volume
from virtkit.state.observed import Observed
from virtkit.state.record import GuestRecord


def errors(
    guest: Guest, observed: Observed, facts: HostFacts | None, spec_path: str
) -> Iterable[RequestError]:
    """What of others has a name that the guest needs."""
    where = f"{guest.host} guest/{guest.name}"
    current, listed = observed.guests.get(guest.domain), observed.pool.guests.get(guest.domain)
    records = [
        each
        for each in (current.record if current else None, listed)
        if each is not None and (each.environment, each.guest) == (guest.environment, guest.name)
    ]
    owner = current.record if current else listed
    if owner is not None and owner not in records:
        yield _of_another_environment(owner, where, undefined=current is None)
        return  # its volumes are that guest's, too
    holder = observed.taken_over.get(guest.domain)
    if holder is not None:
        schemes = (scheme for scheme, name in observed.foreign_domains if name == holder)
        scheme = next(schemes, guest.driver.scheme)
        up = virtkit_command("up", spec_path, guest.name)
        yield _taken_over(guest, holder, where, virsh(facts, scheme), up)
        return
    if (guest.driver.scheme, guest.domain) in observed.foreign_domains:
        yield not_ours(f"domain {guest.domain}", "it carries no virtkit record", where)
    recorded = {each.name for record in records for each in record.volumes}
    for volume in guest.volumes:
        if volume.name not in observed.volumes or volume.name in recorded:
            continue
        kept = observed.pool.kept.get(volume.name)
        if kept is None or not kept.belongs_to(guest.environment, guest.name, volume.key):
            why = f"no record of guest {guest.name} lists it"
            yield not_ours(f"volume {volume.name}", why, where)
        elif not volume.keep:
            yield _kept(guest, volume, where, spec_path)


def _of_another_environment(owner: GuestRecord, where: str, *, undefined: bool) -> RequestError:
    """A guest of another environment has the name in libvirt: environment a-b, guest c has that of
    environment a, guest b-c."""
    what, why = f"domain {owner.domain}", f"guest {owner.guest} of environment {owner.environment}"
    if not undefined:
        return not_ours(what, f"it is {why}", where)
    return RequestError(
        f"{what} does not belong to this environment",
        why=f"the pool's record lists it as {why}; somebody undefined it",
        cure=f"remove what is left of it: {virtkit_command('down', owner.spec, owner.guest)}; or "
        "give the environment or the guest another name",
        where=where,
    )


def _kept(guest: Guest, volume: Volume, where: str, spec_path: str) -> RequestError:
    """A disk that was kept when its guest went, and that the spec no longer keeps."""
    return RequestError(
        f"disk {volume.name} was kept when an earlier guest {guest.name} was removed",
        why="the spec has it without `keep: true` now, and it would be deleted with the guest",
        cure="set `keep: true` for it, and it is used again; or delete it, with what is on it: "
        + virtkit_command("down", spec_path, guest.name, "--volumes"),
        where=where,
    )


def _taken_over(guest: Guest, holder: str, where: str, virsh: str, up: str) -> RequestError:
    """A guest of ours without a domain, whose name or volumes a stranger's domain has.

    Args:
        virsh: the command that asks the driver of that domain.
        up: the command that makes the guest.
    """
    name = shlex.quote(holder)
    cure = f"undefine that domain, which leaves its disks: {virsh} undefine {name}"
    if holder == guest.domain:
        why = f"it carries no virtkit record, but the pool's record lists guest {guest.name}"
        how = "somebody defined it again without its <metadata>"
    else:
        why = f"it has the volumes of guest {guest.name}, which has no domain itself"
        how = "somebody renamed that, or defined another one"
        cure += f"; or rename it back: {virsh} domrename {name} {guest.domain}"
    return RequestError(
        f"domain {holder} exists and does not belong to this environment",
        why=f"{why}: {how}",
        cure=f"{cure} (if it runs, shut it down first); then `{up}` defines the guest again with "
        "its disks",
        where=where,
    )


def not_ours(what: str, why: str, where: str) -> RequestError:
    return RequestError(
        f"{what} exists and does not belong to this environment",
        why=why,
        cure="rename or remove it, or give the environment or the guest another name",
        where=where,
    )
