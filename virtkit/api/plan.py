"""What ``up`` would change, or libvirt's XML of it. It must never change anything itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from virtkit import access
from virtkit.api._checks import check, object_xml
from virtkit.api._hosts import (
    Say,
    active_runs,
    existing_guests,
    hosts_of,
    path_of,
    quiet,
    with_spec_path,
)
from virtkit.api._observation import (
    Answer,
    HostState,
    Observation,
    ask_each,
    check_request,
)
from virtkit.api._own_files import owned_by_another, with_kernels, with_keys
from virtkit.api._placement import (
    ChosenHosts,
    check_moves,
    choose_hosts,
    left_host_notes,
    place_guests,
    unknown_guests,
    with_unknown,
)
from virtkit.api._playbooks import with_playbooks
from virtkit.api._pool import damaged_images, pool_changes, restored_images, without_damaged
from virtkit.api._positions import with_positions
from virtkit.api._readiness import unready_notes
from virtkit.api._shared import with_shared
from virtkit.api._silence import observe_spec
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError, SpecErrors, VirtkitError
from virtkit.facts import HostFacts
from virtkit.host import Host
from virtkit.plan import (
    Plan,
    UnknownGuest,
    diff,
    disk_conflicts,
    host_abilities,
    joined,
    select,
    with_after,
)
from virtkit.plan.resolve import resolve
from virtkit.spec import GuestSpec, Spec
from virtkit.state import public_keys, record_text
from virtkit.state.desired import (
    Confinement,
    Decided,
    DecidedGuest,
    Desired,
    image_identity,
)
from virtkit.state.observed import Observed
from virtkit.xml import tree, user_template


def plan(
    spec: Spec, guests: Sequence[str] = (), *, restart: bool = False, say: Say = quiet
) -> Plan:
    """What ``up`` would change. With ``guests`` only these and what they are ``after``.

    A guest that was ready once and is not now is no change: a note tells of it.

    Args:
        restart: what waits for a restart becomes a change.
        say: told when something takes longer, as the probe of KVM.

    Raises:
        RequestError: something is in the way; nothing was touched.
        VirtkitError: libvirt does not answer.
    """
    only = _with_dependencies(spec, guests)
    hosts = hosts_of(spec)
    observation = observe_spec(spec, hosts, pool=True)
    planned = _plan_hosts(observation, spec, only, restart=restart, say=say)
    not_ready = unready_notes(spec, observation.host_states, planned, only, restart=restart)
    notes = (*planned.notes, *not_ready, *active_runs(spec.name, observation.hosts))
    return replace(planned, guests=tuple(guests), notes=notes)


def plan_on(
    hosts: Sequence[Host],
    spec: Spec,
    guests: Sequence[str] = (),
    *,
    restart: bool = False,
    say: Say = quiet,
    unanswered: Mapping[str, VirtkitError] = MappingProxyType({}),
) -> Plan:
    """The same, by connections to the spec's hosts that there are already; nobody is asked whether
    the guests are ready.

    Args:
        unanswered: why the spec's other hosts do not answer.
    """
    only = _with_dependencies(spec, guests)
    observation = observe_spec(spec, hosts, pool=True).with_unanswered(unanswered)
    planned = _plan_hosts(observation, spec, only, restart=restart, say=say)
    return replace(planned, guests=tuple(guests))


def _plan_hosts(
    observation: Observation,
    spec: Spec,
    only: Collection[str] | None,
    *,
    restart: bool,
    say: Say,
) -> Plan:
    spec.check_references(only)
    observation, unknown, chosen = _choose(observation, spec, only, say)
    host_states = [with_spec_path(each, path_of(spec)) for each in observation.host_states]
    placement = {**place_guests(spec, host_states, unknown), **chosen.hosts}
    check_moves(spec, host_states, placement, only)
    all_facts, silent = _facts(spec, host_states, placement, chosen.facts)
    if silent:
        return _plan_hosts(observation.without(silent), spec, only, restart=restart, say=say)
    plans: list[Plan] = []
    errors: list[RequestError] = []
    for host_state in host_states:
        try:
            facts = all_facts.get(host_state.host.name)
            plans.append(
                _plan_host(spec, host_state, placement, only, facts, restart=restart, say=say)
            )
        except SpecErrors as many:
            errors += many.errors
        except RequestError as error:
            errors.append(error)
    if errors:
        raise SpecErrors(errors) if len(errors) > 1 else errors[0]
    plan = joined(plans)
    notes = (
        *plan.notes,
        *chosen.notes,
        *_other_keys_notes(spec, host_states, plan, only),
        *left_host_notes(spec),
    )
    plan = with_positions(replace(plan, notes=notes), spec)
    return with_unknown(plan, spec, observation.unanswered, unknown, only)


def _choose(
    observation: Observation, spec: Spec, only: Collection[str] | None, say: Say
) -> tuple[Observation, list[UnknownGuest], ChosenHosts]:
    """The guests that may be on silent hosts, and where new ones go; with an observation without
    the hosts that turned out to be silent as they were asked for room."""
    while True:
        unknown = unknown_guests(spec, observation.host_states, observation.unanswered)
        chosen = choose_hosts(spec, observation.host_states, unknown, only, say)
        if not chosen.silent:
            return observation, unknown, chosen
        observation = observation.without(chosen.silent)


def _facts(
    spec: Spec,
    host_states: Sequence[HostState],
    placement: Mapping[str, str],
    known: Mapping[str, HostFacts],
) -> tuple[Mapping[str, HostFacts], Mapping[str, VirtkitError]]:
    """What is known of the hosts that the plan is about, asked of several at once; and why hosts
    whose libvirt answered do not tell it.

    Raises:
        RequestError: a host has no pool that virtkit can use.
    """
    hosts = [
        each.host
        for each in host_states
        if each.host.name not in known
        and (each.host.name in placement.values() or _has_some(each, spec.name))
    ]
    answers = dict(zip((each.name for each in hosts), ask_each(hosts, Host.facts), strict=True))
    check_request(answers.values())
    facts = {name: each for name, each in answers.items() if isinstance(each, HostFacts)}
    silent = {name: each for name, each in answers.items() if isinstance(each, VirtkitError)}
    return {**known, **facts}, silent


def _has_some(host_state: HostState, environment: str) -> bool:
    """Whether something of an environment's is on a host."""
    observed = host_state.observed
    parts = (observed.guests_of, observed.networks_of, observed.undefined_of)
    return any(part(environment) for part in parts)


def _other_keys_notes(
    spec: Spec, host_states: Iterable[HostState], plan: Plan, only: Collection[str] | None
) -> Iterable[str]:
    """A note for each guest that lets in none of the keys that the caller has here."""
    recreated = {e.object for e in plan.changes if e.action in ("create", "replace", "delete")}
    for name, each in existing_guests(spec, host_states).items():
        guest_record = each.observed.record
        keys = guest_record.keys
        if not keys or f"guest/{name}" in recreated or (only is not None and name not in only):
            continue
        requested = spec.guests[name].ssh_keys if name in spec.guests else None
        files = [*(requested or ()), *(guest_record.key_files or ())]
        if not access.identity_files(spec.name, keys, files, spec.folder):
            yield (
                f"guest/{name} accepts only {', '.join(public_keys.names(keys))}, and you have "
                "none of them here: ssh will refuse you"
            )


def _plan_host(
    spec: Spec,
    host_state: HostState,
    placement: Mapping[str, str],
    only: Collection[str] | None,
    facts: HostFacts | None,
    *,
    restart: bool,
    say: Say,
) -> Plan:
    """What ``up`` would change on one host.

    Args:
        facts: where they are known already.
    """
    host = host_state.host
    own = {name for name, where in placement.items() if where == host.name}
    part = spec.part(host.name, own)
    chosen = None if only is None else own & set(only)
    if not own and not _has_some(host_state, spec.name):
        return Plan(spec.name)
    pool = tuple(pool_changes(host, part, host_state.observed, own if chosen is None else chosen))
    damaged = damaged_images(host, host_state.observed)
    observed = replace(host_state.observed, pool=without_damaged(host_state.observed.pool, damaged))
    facts, desired = _desired(part, host, observed, chosen, say, facts)
    elsewhere = {n: p for n, p in placement.items() if n not in own and (only is None or n in only)}
    plan = diff(
        replace(desired, elsewhere=elsewhere),
        observed,
        spec_path=path_of(spec),
        only=chosen,
        templates=_templates(desired, chosen),
        restart=restart,
        facts=facts,
    )
    made = check(plan, part, host)
    restored = restored_images(plan, desired, damaged, chosen)
    notes = (*plan.notes, *made, *_dnsmasq_notes(host, facts, part, host_state.observed))
    return replace(plan, changes=(*pool, *restored, *plan.changes), notes=notes)


def _dnsmasq_notes(host: Host, facts: HostFacts, spec: Spec, observed: Observed) -> Iterable[str]:
    """A note for each of the environment's active networks whose dnsmasq has ended."""
    cure = host.connections.restart_command("network")
    existing = {n: each.existing for n, each in spec.networks.items() if each.existing}
    managed = {n: each.name for n, each in observed.networks_of(spec.name).items()}
    for name, network in {**existing, **managed}.items():
        if network in facts.networks_without_dnsmasq:
            yield f"network/{name}: its dnsmasq (DHCP and DNS) has ended; cure: {cure}"


def render_xml(
    spec: Spec, guests: Sequence[str] = (), *, with_record: bool = False, say: Say = quiet
) -> Answer[list[str]]:
    """The libvirt XML that would be defined on the hosts that answer: networks, then guests.

    Args:
        with_record: each document has virtkit's record in its ``<metadata>``, as libvirt gets it.
    """
    only = _with_dependencies(spec, guests)
    observation, unknown, chosen_hosts = _choose(
        observe_spec(spec, hosts_of(spec), pool=True), spec, only, say
    )
    host_states = observation.host_states
    placement = {**place_guests(spec, host_states, unknown), **chosen_hosts.hosts}
    networks: list[str] = []
    domains: list[str] = []
    for host_state in host_states:
        part = spec.part(
            host_state.host.name, [n for n, p in placement.items() if p == host_state.host.name]
        )
        facts = chosen_hosts.facts.get(host_state.host.name)
        _, desired = _desired(part, host_state.host, host_state.observed, only, say, facts)
        chosen = [each for each in desired.guests if only is None or each.name in only]
        used = {each.network for guest in chosen for each in guest.interfaces}
        networks += [object_xml(each, spec) for each in desired.networks if each.name in used]
        domains += [object_xml(each, spec) for each in chosen]
    documents = networks + domains
    if not with_record:
        documents = [tree.without_record(each, record_text.NAMESPACE) for each in documents]
    silent = {each.place for each in unknown if only is None or each.guest in only}
    unanswered = observation.unanswered
    if only is not None:
        unanswered = {place: error for place, error in unanswered.items() if place in silent}
    return Answer(documents, unanswered)


def _with_dependencies(spec: Spec, guests: Sequence[str]) -> set[str] | None:
    """The guests that ``guests`` name and what they are after; None for all."""
    if not guests:
        return None
    groups = {name: guest.groups for name, guest in spec.guests.items()}
    bases = {name: guest.base for name, guest in spec.guests.items()}
    after = {name: guest.after for name, guest in spec.guests.items()}
    return with_after(select(guests, groups, bases), after)


def _with_abilities(
    facts: HostFacts, host: Host, observed: Observed, guests: Sequence[GuestSpec]
) -> HostFacts:
    """The facts with what only some guests ask for: the host's disks, and what its virtual machines
    can have."""
    disks = {name for each in guests for name in each.existing}
    asks = any(map(host_abilities.asks, guests))
    if not disks and not asks:
        return facts
    from virtkit.host import further_facts

    taken = disk_conflicts.paths(observed)
    facts = further_facts.with_disk_sources(facts, host.connections, disks, taken)
    return further_facts.with_abilities(facts, host.connections) if asks else facts


def _desired(
    spec: Spec,
    host: Host,
    observed: Observed,
    only: Collection[str] | None,
    say: Say,
    facts: HostFacts | None = None,
) -> tuple[HostFacts, Desired]:
    """What is known of a host, and what the spec asks of it."""
    facts = facts or host.facts()
    kept = decided(spec, observed)
    looked_at = [each for each in spec.guests.values() if only is None or each.name in only]
    if any(
        DRIVERS[each.type].needs_kvm if each.type in DRIVERS else each.name not in kept.guests
        for each in looked_at
    ):
        facts = facts if facts.kvm else host.with_kvm(facts, say)
    facts = with_shared(_with_abilities(facts, host, observed, looked_at), spec, host)
    desired = with_kernels(resolve(spec, facts, kept), observed, only)
    desired = with_playbooks(desired, spec, only)
    return facts, with_keys(desired, only, shared=owned_by_another(path_of(spec)))


def decided(spec: Spec, observed: Observed) -> Decided:
    """What was decided for the objects that exist, from their records."""
    return Decided(
        guests={
            name: DecidedGuest(
                type=each.record.type,
                image=each.record.image,
                image_identity=each.record.image_identity,
                addresses={
                    interface.mac: interface.address
                    for interface in each.record.interfaces
                    if interface.address
                },
                targets=each.record.targets,
                sources=each.record.sources,
                confinement=Confinement(each.record.confinement, each.record.ids),
                cloud_init=each.record.requested.get("cloud_init"),
                uuid=each.uuid,
                macs=each.record.given_macs,
            )
            for name, each in (
                observed.undefined_of(spec.name) | observed.guests_of(spec.name)
            ).items()
        },
        networks={name: each.record.cidr for name, each in observed.networks_of(spec.name).items()},
        images={
            identity: files
            for identity, files in observed.pool.by_identity().items()
            if identity not in _by_path(spec)
        },
        ids=frozenset(each.ids for each in observed.records() if each.ids),
    )


def _by_path(spec: Spec) -> set[str]:
    """Identities of images that are files: their content is read again for each new guest."""
    entries = (each for each in spec.images.values() if each.file is not None)
    return {image_identity(each) for each in entries}


def _templates(desired: Desired, only: Collection[str] | None) -> dict[str, str]:
    """What users' own templates make of their guests."""
    looked_at = (each for each in desired.guests if only is None or each.name in only)
    return {each.name: user_template.rendered(each) for each in looked_at if each.spec.template}
