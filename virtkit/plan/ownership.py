"""Who owns what on a host: this spec, another spec of the same environment, or others."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from virtkit.state.observed import Observed


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
    if guest is None:
        return " (not made by virtkit)"
    record = guest.record
    if record.environment != environment:
        return f" (environment {record.environment}, made from {record.spec})"
    return f" (made from {record.spec})" if record.spec != spec_path else ""


def virtkit_command(verb: str, spec_path: str, *arguments: str) -> str:
    """The command that does ``verb`` to a spec; one that was read from standard input is read from
    there again."""
    path = "-" if spec_path.startswith("<") else shlex.quote(spec_path)
    if path != "-" and not spec_path.endswith((".yaml", ".yml")):
        path = f"-f {path}"
    return " ".join(["virtkit", verb, path, *arguments])
