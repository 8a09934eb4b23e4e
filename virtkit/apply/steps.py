"""From changes to steps: what is done to a host for each, in an order that a crash survives.

Creating: network, define (the record says what is wanted), volumes (the record says made), start,
login and playbooks where there are any, ready, finish. Removing runs backwards and undefines last.
Every step may run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from virtkit import images
from virtkit.apply.context import SHUTDOWN_TIMEOUT, Context
from virtkit.apply.engine import Key, Say, Step
from virtkit.apply.guest.steps import GuestSteps
from virtkit.apply.shutdown import stop_guest
from virtkit.apply.volumes import delete_volume
from virtkit.drivers import DRIVERS
from virtkit.host import Host
from virtkit.plan import Change, Plan
from virtkit.progress import Progress
from virtkit.state import record
from virtkit.state.desired import Guest, ImageRef, Network
from virtkit.state.observed import ObservedGuest, ObservedNetwork
from virtkit.xml import render

#: The steps after which a guest runs, whatever it did before.
_RUNNING = ("start", "login", "playbooks", "ready", "follow", "finish")


def steps_of(plan: Plan, *contexts: Context) -> list[Step]:
    """The steps of a plan; ``contexts`` are those of the hosts that it changes."""
    awaited = _awaited(plan)
    return [step for each in contexts for step in _on_host(plan, each, awaited)]


def _on_host(plan: Plan, context: Context, awaited: set[str]) -> Iterable[Step]:
    changes = [each for each in plan.changes if each.host == context.host.name]
    steps: list[Step] = []
    for change in changes:
        kind = change.object.partition("/")[0]
        steps += _BY_KIND[kind](change, context, awaited) if kind in _BY_KIND else ()
    touched = any(change.object.startswith("pool/") for change in changes)
    if touched or any(step.name in ("make", "define") for step in steps):
        steps.insert(
            0, Step("pool", "ensure", context.host.name, lambda _: _ensure_pool(context.host))
        )
    if context.pool_records.needed:
        after = (("pool", "ensure"),)
        write = context.pool_records.write_before
        steps.insert(1, Step("pool", "record", context.host.name, write, after))
    return steps


def _ensure_pool(host: Host) -> None:
    host.storage.ensure()
    host.storage.refresh()


def _awaited(plan: Plan) -> set[str]:
    """The guests that others are ``after``."""
    guests = [each.desired for each in plan.changes if isinstance(each.desired, Guest)]
    return {name for guest in guests for name in guest.spec.after}


# --- images and networks --------------------------------------------------------------------


def _image_steps(change: Change, context: Context, _awaited: set[str]) -> Iterable[Step]:
    ref = change.desired
    assert isinstance(ref, ImageRef)

    def make(progress: Progress) -> None:
        files = images.provide(context.host, ref, context.options.folder, progress)
        context.image_files[ref.identity] = files

    # both write the pool's record: in turn, a run's calls are the same each time
    after = (("pool", "ensure"), ("pool", "record"))
    yield Step(change.object, "make", change.host, make, after)


def _network_steps(change: Change, context: Context, _awaited: set[str]) -> Iterable[Step]:
    networks = context.host.networks
    desired, observed = change.desired, change.observed

    def step(name: str, run: Callable[[], None], *after: str) -> Step:
        keys = tuple((change.object, each) for each in after)
        return Step(change.object, name, change.host, lambda _: run(), keys)

    if change.action == "delete":
        assert isinstance(observed, ObservedNetwork)
        prefix = f"{observed.record.environment}-"
        # its guests are removed, or go on without it
        names = [name.removeprefix(prefix) for name in observed.users]
        last = ("undefine", "define", "unplug")
        guests = tuple((f"guest/{name}", each) for name in names for each in last)
        yield replace(step("delete", lambda: networks.delete(observed)), after=guests)
        return
    assert isinstance(desired, Network)
    xml = render.network_xml(desired)
    new = record.of_network(desired, context.options.spec, xml, context.host.made_from)
    if change.action == "update":
        assert isinstance(observed, ObservedNetwork)
        restart = context.options.restart and change.effect == "restart"
        yield step("update", lambda: networks.update(observed, new, restart=restart))
    elif change.action in ("create", "replace"):
        if isinstance(observed, ObservedNetwork):
            yield step("remove", partial(networks.delete, observed))
        yield step("define", lambda: networks.define(new), "remove")
    start = partial(context.host.start_network, desired.environment, desired.libvirt_name)
    yield step("start", start, "define", "update")


# --- guests -------------------------------------------------------------------------------


def _guest_steps(change: Change, context: Context, awaited: set[str]) -> Iterable[Step]:
    if change.action == "delete":
        assert isinstance(change.observed, ObservedGuest)
        return _removal_steps(change, change.observed, context)
    if change.action == "update" and _is_record_only(change):
        return _record_only_steps(change, context)
    return _bring_up_steps(change, context, awaited)


def _bring_up_steps(change: Change, context: Context, awaited: set[str]) -> Iterable[Step]:
    guest, guest_steps = change.desired, GuestSteps(context, change)
    guest_context = guest_steps.context
    assert isinstance(guest, Guest)

    def step(
        name: str, run: Callable[[Progress], None], after: Iterable[Key], **options: Any
    ) -> Step:
        def noted(progress: Progress) -> None:
            run(progress)
            running = name in _RUNNING or (guest_context.running and not guest_context.restarts)
            context.note(guest_context.record, running=running)

        return Step(change.object, name, change.host, noted, tuple(after), **options)

    def own(*names: str) -> list[Key]:
        return [(change.object, name) for name in names]

    networks: list[Key] = [
        (f"network/{each.network}", name)
        for each in guest.interfaces
        for name in ("start", "update")
    ]
    image = (f"image/{guest.image.name}", "make")
    hotplug = guest_context.running and not guest_context.restarts and not guest_context.starts_only
    if change.action == "replace":
        yield step("stop", guest_steps.stop, [])
    if not guest_context.starts_only and not guest_context.provisions_only:
        stopped = own("stop") if change.action == "replace" else []
        context.pool_records.will_add(guest_steps.definition.pool_entry)
        pool = [("pool", "ensure"), ("pool", "record")]
        yield step("define", guest_steps.definition.define, [*pool, image, *networks, *stopped])
        if guest_context.restarts:
            yield step("stop", guest_steps.stop, own("define"))
        if hotplug:
            yield step("unplug", guest_steps.unplug, own("define"))
        yield step("volumes", guest_steps.volumes.make, own("define", "stop", "unplug"))
        if hotplug:
            yield step("plug", guest_steps.plug, own("volumes"))
    dependencies = [(f"guest/{name}", "ready") for name in guest.spec.after]
    starts = guest_context.to_be_started and (not hotplug or not _runs(change))
    wait = context.options.wait or guest.name in awaited
    runs = starts or guest_context.running
    provisions = guest_context.provisions and wait and runs
    if starts:
        after = [image, *networks, *own("volumes", "plug")]
        # one that moves here from another host has stopped there
        elsewhere = (*dependencies, *own("stop"))
        yield step("start", lambda _: guest_steps.start(), after, after_on_any_host=elsewhere)
    if provisions:
        yield step("login", guest_steps.wait_login, own("plug", "start"), waits=True)
        yield step("playbooks", guest_steps.provision, own("login", "follow"))
    if provisions or (starts and (wait or guest_context.follows)):
        yield step("ready", guest_steps.wait_ready, own("start", "playbooks"), waits=True)
    if guest_context.follows and runs:
        reachable = own("login") if provisions else own("ready")
        yield step("follow", guest_steps.follow, [*own("plug", "start"), *reachable], waits=True)
    last = own("volumes", "plug", "start", "playbooks", "ready", "follow")
    yield step("finish", lambda _: guest_steps.finish(), last)


def _runs(change: Change) -> bool:
    """Whether a guest runs and was ready once."""
    observed = change.observed
    assert observed is None or isinstance(observed, ObservedGuest)
    return observed is not None and observed.state == "running" and observed.record.finished


def _is_record_only(change: Change) -> bool:
    """Whether nothing differs but what the record holds, or libvirt's flag for autostart."""
    return all(
        each.field in ("autostart", "listed") or (each.effect == "none" and each.cause == "spec")
        for each in change.reasons
    )


def _record_only_steps(change: Change, context: Context) -> Iterable[Step]:
    """What changes in the record and in libvirt's flags only."""
    guest, observed = change.desired, change.observed
    assert isinstance(guest, Guest)
    assert isinstance(observed, ObservedGuest)
    keep = {each.name: each.keep for each in guest.volumes}
    volumes = tuple(replace(v, keep=keep.get(v.name, v.keep)) for v in observed.record.volumes)
    new = replace(
        observed.record,
        requested=guest.requested,
        spec=context.options.spec,
        made_from=context.host.made_from,
        volumes=volumes,
    )

    def update(_say: Say) -> None:
        domains = context.host.domains
        domains.set_autostart(guest.driver, guest.domain, guest.spec.autostart)
        domains.write_record(new)
        context.note(new, running=observed.state == "running")

    yield Step(change.object, "update", change.host, update)
    if observed.state != "running" and guest.spec.start:
        started = replace(change, action="start", observed=replace(observed, record=new))
        yield from _bring_up_steps(started, context, set())


def _removal_steps(change: Change, observed: ObservedGuest, context: Context) -> Iterable[Step]:
    host, driver, pool_records = context.host, DRIVERS[observed.record.type], context.pool_records
    volumes_too = context.options.volumes
    # one that was never made is no disk of anybody's yet
    kept = [
        each
        for each in observed.record.volumes
        if each.keep and each.state == "made" and not volumes_too
    ]

    def stop(progress: Progress) -> None:
        stop_guest(host, driver, observed.domain, SHUTDOWN_TIMEOUT if kept else 0.0, progress)

    def delete_volumes(_say: Say) -> None:
        # the pool in which they lie, though the spec may name another one by now
        folder = observed.record.folder
        storage = pool_records.storage_of(observed.record)
        if folder and not storage.active():
            storage.ensure(folder)
        storage.refresh()
        if host.domains.definition(driver, observed.domain):
            host.domains.check_record(observed.record)
            # first of all the record says what is going, so that an `up` after a kill makes it
            listed = (
                e if e in kept else replace(e, state="wanted") for e in observed.record.volumes
            )
            host.domains.write_record(
                replace(observed.record, volumes=tuple(listed), finished=False)
            )
        else:
            pool_records.check(observed.record)
        deleting = [each for each in observed.record.volumes if each not in kept]
        for each in deleting:
            delete_volume(storage, each)
        pool_records.mark_deleted(each.name for each in deleting if each.keep)

    def undefine(_say: Say) -> None:
        for old_type in observed.superseded:  # what a change of type left, when it was interrupted
            host.domains.undefine(DRIVERS[old_type], observed.record)
        host.domains.undefine(driver, observed.record)
        pool_records.mark_removed(observed.record)
        context.note_removed(observed.domain)

    pool_records.will_remove(observed.record)
    after = ((change.object, "stop"), ("pool", "record"))
    yield Step(change.object, "stop", change.host, stop)
    yield Step(change.object, "volumes", change.host, delete_volumes, after)
    yield Step(change.object, "undefine", change.host, undefine, ((change.object, "volumes"),))


def _disk_steps(change: Change, context: Context, _awaited: set[str]) -> Iterable[Step]:
    """A kept disk that ``down --volumes`` removes."""

    def delete(_say: Say) -> None:
        disk = context.pool_records.kept.get(change.name)
        if disk is not None:
            context.host.storage.delete(disk.key)
            context.pool_records.mark_deleted([disk.name])

    yield Step(change.object, "delete", change.host, delete)


_BY_KIND: Mapping[str, Callable[[Change, Context, set[str]], Iterable[Step]]] = {
    "image": _image_steps,
    "network": _network_steps,
    "guest": _guest_steps,
    "disk": _disk_steps,
}
