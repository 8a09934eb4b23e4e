"""What removes an environment, and which of that needs somebody's consent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from virtkit.errors import RequestError
from virtkit.plan.changes import Change, FieldChange, Plan, path_change
from virtkit.plan.ownership import with_owners
from virtkit.spec.command import virtkit_command
from virtkit.state.observed import Observed, ObservedGuest, ObservedNetwork, unseen_guests


def down(
    observed: Observed,
    environment: str,
    *,
    spec_path: str,
    names: Collection[str] = (),
    only: Collection[str] | None,
    volumes: bool,
) -> Plan:
    """What removes an environment, or the guests ``only`` of it.

    A network goes with its last guest; kept disks stay unless ``volumes``. What was made from
    another spec counts as lost, so that it needs consent.

    Args:
        spec_path: the path of the spec at hand.
        names: the guests that it names.
    """
    guests = observed.undefined_of(environment) | observed.guests_of(environment)
    deleting = [each for name, each in guests.items() if only is None or name in only]
    changes = [_guest(each, observed.host, spec_path, volumes=volumes) for each in deleting]
    if volumes:
        changes += _disks(observed, environment, spec_path, names, only)
    domains = {each.domain for each in deleting}
    notes = list(_taken_over_notes(observed, environment, only))
    for name, network in observed.networks_of(environment).items():
        others = foreign_users(network, observed, environment)
        if others:
            notes.append(
                f"network/{name} stays: {_holders(others, observed, environment, spec_path)}"
            )
        elif not {*network.users} - domains:
            changes += _network(network, observed.host, spec_path, only)
    return Plan(environment=environment, changes=tuple(changes), notes=tuple(notes))


def _holders(others: Sequence[str], observed: Observed, environment: str, spec_path: str) -> str:
    """Who uses a network, or may."""
    not_seen = {*map(unseen_guests, observed.silent), *observed.hidden}
    seen = [each for each in others if each not in not_seen]
    unseen = [each for each in others if each in not_seen]
    parts = []
    if seen:
        owners = ", ".join(with_owners(seen, observed, environment, spec_path))
        parts.append(f"{owners} use{'s' if len(seen) == 1 else ''} it")
    if unseen:
        parts.append(
            f"{', '.join(with_owners(unseen, observed, environment, spec_path))} may use it"
        )
    return "; ".join(parts)


def _taken_over_notes(
    observed: Observed, environment: str, only: Collection[str] | None
) -> Iterable[str]:
    """Guests of which only volumes are left, and these are in a stranger's domain."""
    for domain, holder in observed.taken_over.items():
        listed = observed.pool.guests[domain]
        if listed.environment == environment and (only is None or listed.guest in only):
            yield (
                f"guest/{listed.guest} stays: domain {holder} carries no virtkit record, and "
                "has its name or its volumes; once that is undefined, `down` removes them"
            )


def _guest(current: ObservedGuest, host: str, spec_path: str, *, volumes: bool) -> Change:
    moves = path_change(current, spec_path)
    lost = lost_with(current, volumes=volumes) if moves else ""
    name = f"guest/{current.record.guest}"
    return Change(name, host, "delete", reasons=moves, lost=lost, observed=current)


def _disks(
    observed: Observed,
    environment: str,
    spec_path: str,
    names: Collection[str],
    only: Collection[str] | None,
) -> Iterable[Change]:
    """Kept disks whose guests are gone. Where no record says from which spec, they are this one's
    if it names the guest."""
    listed = {volume.name for each in observed.records() for volume in each.volumes}
    for disk in observed.pool.kept.values():
        if disk.environment != environment or disk.name in listed:
            continue
        if only is not None and disk.guest not in only:
            continue
        own = disk.spec == spec_path or (not disk.spec and disk.guest in names)
        yield Change(
            f"disk/{disk.name}",
            observed.host,
            "delete",
            reasons=() if own else (FieldChange("spec", disk.spec or None, spec_path),),
            lost="" if own else f"disk {disk.name}",
        )


def _network(
    current: ObservedNetwork, host: str, spec_path: str, only: Collection[str] | None
) -> Iterable[Change]:
    """A network that no guest is left on. With its guests it goes as they do; one of another spec
    that never had any here needs its own consent, and ``only`` some guests are not about it."""
    moves = path_change(current, spec_path) if not current.users else ()
    if not moves or only is None:
        name, lost = current.record.network, f"network {current.name}" if moves else ""
        yield Change(f"network/{name}", host, "delete", reasons=moves, lost=lost, observed=current)


def foreign_users(network: ObservedNetwork, observed: Observed, environment: str) -> list[str]:
    """The domains on a network that are not this environment's."""
    ours = {each.domain for each in observed.guests_of(environment).values()}
    return [user for user in network.users if user not in ours]


def lost_with(current: ObservedGuest, *, volumes: bool = False) -> str:
    """What is gone with a guest.

    Args:
        volumes: so are its kept disks.
    """
    disks = [each for each in current.record.volumes if each.role in ("root", "disk")]
    kept = [each.name for each in disks if each.keep and not volumes]
    deleted = [each.name for each in disks if each.name not in kept]
    stays = f" ({', '.join(kept)} stay{'s' if len(kept) == 1 else ''})" if kept else ""
    return f"{', '.join(deleted) or 'the guest itself'}{stays}"


def apply_refusal(plan: Plan) -> RequestError | None:
    """The error that ``apply`` raises for a plan with losses that nobody agreed to."""
    if not plan.needs_consent:
        return None
    losses = "; ".join(change.loss_text for change in plan.needs_consent)
    return RequestError(
        "this would delete or recreate what holds data, and needs your consent",
        why=f"this would be lost: {losses}",
        cure="look at `virtkit plan`, then run again with --yes" + _else_rename(plan),
    )


def _else_rename(plan: Plan) -> str:
    paths = sorted(
        {str(path) for each in plan.needs_consent for path in _other_spec_paths(each) if path}
    )
    if not paths:
        return ""
    return (
        f"; if {', '.join(paths)} is another spec, and not this one before its file was moved, "
        "give this one another `name:`"
    )


def _other_spec_paths(change: Change) -> Iterable[str | None]:
    """The paths of the specs that an object was made from, where they are others."""
    return (each.before for each in change.reasons if each.field == "spec")


def down_refusal(plan: Plan, spec_path: str, *, volumes: bool = False) -> RequestError | None:
    """The error for a removal of what was made from another spec, that nobody agreed to.

    Args:
        spec_path: the path of the spec at hand.
        volumes: kept disks were to go, too.
    """
    if not plan.needs_consent:
        return None
    own = [e.name for e in plan.changes if e.object.startswith("guest/") and not e.lost]
    cure = (
        "if that is this spec before its file was moved, or may be removed all the same: run again "
        "with --yes"
    )
    if own:
        arguments = (*own, *(["--volumes"] if volumes else []))
        line = virtkit_command("down", spec_path, *arguments)
        cure += f"; to remove only what is this spec's: {line}"
    return RequestError(
        f"this would remove parts of environment {plan.environment} that were made from another "
        "spec, and needs your consent",
        why=f"this would be lost: {'; '.join(change.loss_text for change in plan.needs_consent)}",
        cure=cure,
    )
