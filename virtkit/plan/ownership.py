"""Who owns what on a host: this spec, another spec of the same environment, or others."""

from __future__ import annotations

from collections.abc import Iterable

from virtkit.state.observed import Observed, unseen_guests


def split_by_spec(
    domains: Iterable[str], observed: Observed, environment: str, spec_path: str
) -> tuple[list[str], list[str]]:
    """The guests among ``domains`` that are the environment's: those that were made from this spec,
    and those that were made from another."""
    guests = (observed.guests[each] for each in domains if each in observed.guests)
    records = [each.record for each in guests if each.record.environment == environment]
    own = [each.guest for each in records if each.spec == spec_path]
    return own, [each.guest for each in records if each.spec != spec_path]


def with_owners(
    domains: Iterable[str], observed: Observed, environment: str, spec_path: str
) -> list[str]:
    """The domains' names, with their owner where that is not this spec."""
    return [each + _owner(each, observed, environment, spec_path) for each in domains]


def _owner(domain: str, observed: Observed, environment: str, spec_path: str) -> str:
    guest = observed.guests.get(domain)
    record = guest.record if guest else observed.hidden.get(domain)
    if record is None:
        unseen = map(unseen_guests, observed.silent)
        return "" if domain in unseen else " (not made by virtkit)"
    if record.environment != environment:
        return f" (environment {record.environment}, made from {record.spec})"
    return f" (made from {record.spec})" if record.spec != spec_path else ""
