"""From changes to steps: what is done to a host for each, in an order that a crash survives.

Creating: network, define (the record says what is wanted), volumes (the record says made),
start, ready, finish. Removing runs backwards and undefines last. Every step may run again.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lxml import etree

from virtkit import images, reach, record, render, seed
from virtkit.apply import contents
from virtkit.apply.engine import Key, Say, Step
from virtkit.apply.stop import stop
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.host import Host, rotations
from virtkit.images.pool import record_locked
from virtkit.observed import ObservedGuest, ObservedNetwork
from virtkit.plan import Change, Plan
from virtkit.record import GuestRecord, KeptDisk, PoolRecord, VolumeRecord
from virtkit.resources import Guest, ImageFiles, ImageRef, Network, Volume

#: Seconds that a guest with disks that stay gets to shut down before the plug is pulled.
GRACE = 60.0


@dataclass(frozen=True)
class Options:
    """How a plan is carried out.

    Attributes:
        spec: the spec's absolute path; ``folder``: its folder.
        wait: wait until all guests are ready, not only those that others are ``after``.
        volumes: disks with ``keep: true`` go with their guests.
    """

    spec: str
    folder: Path
    wait: bool = True
    volumes: bool = False


@dataclass
class Hands:
    """What steps work with: the host, and what earlier steps found out."""

    host: Host
    options: Options
    image_files: dict[str, ImageFiles] = field(default_factory=dict)
    records: dict[str, GuestRecord] = field(default_factory=dict)


def steps_of(plan: Plan, hands: Hands) -> list[Step]:
    """The steps of a plan."""
    steps: list[Step] = []
    awaited = _awaited(plan)
    for change in plan.changes:
        kind = change.object.partition("/")[0]
        steps += _BY_KIND[kind](change, hands, awaited)
    if any(step.name in ("make", "define") for step in steps):
        steps.insert(0, Step("pool", "ensure", hands.host.name, lambda _: _pool(hands.host)))
    return steps


def _pool(host: Host) -> None:
    host.storage.ensure()
    host.storage.refresh()


def _awaited(plan: Plan) -> set[str]:
    """The guests that others are ``after``."""
    guests = [each.desired for each in plan.changes if isinstance(each.desired, Guest)]
    return {name for guest in guests for name in guest.spec.after}


# --- images and networks --------------------------------------------------------------------


def _image(change: Change, hands: Hands, _awaited: set[str]) -> Iterable[Step]:
    ref = change.desired
    assert isinstance(ref, ImageRef)

    def make(say: Say) -> None:
        local = images.prepare(ref, hands.options.folder, say)
        hands.image_files[ref.identity] = images.put(hands.host, ref, local, say)

    yield Step(change.object, "make", change.host, make, (("pool", "ensure"),))


def _network(change: Change, hands: Hands, _awaited: set[str]) -> Iterable[Step]:
    networks = hands.host.networks
    wanted, there = change.desired, change.observed

    def step(name: str, run: Callable[[], None], *after: str) -> Step:
        keys = tuple((change.object, each) for each in after)
        return Step(change.object, name, change.host, lambda _: run(), keys)

    if change.action == "delete":
        assert isinstance(there, ObservedNetwork)
        prefix = f"{there.record.environment}-"
        # its guests are removed, or defined anew without it
        names = [name.removeprefix(prefix) for name in there.users]
        guests = tuple((f"guest/{n}", step) for n in names for step in ("undefine", "define"))
        yield replace(step("delete", lambda: networks.delete(there.name)), after=guests)
        return
    assert isinstance(wanted, Network)
    new = record.of_network(wanted, hands.options.spec)
    if change.action == "update":
        assert isinstance(there, ObservedNetwork)
        yield step("update", lambda: networks.reserve(wanted, there.record, new))
    elif change.action in ("create", "replace"):
        if change.action == "replace":
            yield step("remove", lambda: networks.delete(wanted.libvirt_name))
        xml = render.network(wanted, record.network_element(new))
        yield step("define", lambda: networks.define(xml), "remove")
    yield step("start", lambda: networks.start(wanted.libvirt_name), "define", "update")


# --- guests -------------------------------------------------------------------------------


def _guest(change: Change, hands: Hands, awaited: set[str]) -> Iterable[Step]:
    if change.action == "delete":
        assert isinstance(change.observed, ObservedGuest)
        return _removed(change, change.observed, hands)
    assert isinstance(change.desired, Guest)
    there = change.observed
    assert there is None or isinstance(there, ObservedGuest)
    if change.action == "update" and there is not None and there.record.finished:
        return _touched(change, change.desired, there, hands)
    return _brought_up(change, change.desired, there, hands, awaited)


def _brought_up(
    change: Change, guest: Guest, there: ObservedGuest | None, hands: Hands, awaited: set[str]
) -> Iterable[Step]:
    work = _Guest(hands, guest, there, fresh=change.action == "replace")

    def step(name: str, run: Callable[[Say], None], after: Iterable[Key], **rest: Any) -> Step:
        return Step(change.object, name, change.host, run, tuple(after), **rest)

    def own(*names: str) -> list[Key]:
        return [(change.object, name) for name in names]

    networks: list[Key] = [
        (f"network/{each.network}", name)
        for each in guest.interfaces
        for name in ("start", "update")
    ]
    image = (f"image/{guest.image.name}", "make")
    if change.action == "replace":
        yield step("stop", lambda _: work.stop(), [])
    if change.action != "start":
        yield step("define", work.define, [("pool", "ensure"), image, *networks, *own("stop")])
        yield step("volumes", work.make_volumes, own("define"))
    dependencies = [(f"guest/{name}", "ready") for name in guest.spec.after]
    yield step("start", lambda _: work.start(), [*networks, *own("volumes"), *dependencies])
    waited = hands.options.wait or guest.name in awaited
    if waited:
        yield step("ready", work.wait_ready, own("start"), waits=True)
    yield step("finish", lambda _: work.finish(), own("ready" if waited else "start"))


def _touched(change: Change, guest: Guest, there: ObservedGuest, hands: Hands) -> Iterable[Step]:
    """What changes in the record and in libvirt's flags only."""

    def update(_say: Say) -> None:
        domains = hands.host.domains
        domains.set_autostart(guest.driver, guest.domain, guest.spec.autostart)
        domains.write_record(replace(there.record, asked=guest.asked, spec=hands.options.spec))

    yield Step(change.object, "update", change.host, update)
    if there.state != "running":
        yield from _brought_up(replace(change, action="start"), guest, there, hands, set())


def _removed(change: Change, there: ObservedGuest, hands: Hands) -> Iterable[Step]:
    host, driver = hands.host, DRIVERS[there.record.type]
    volumes_too = hands.options.volumes
    kept = [each for each in there.record.volumes if each.keep and not volumes_too]

    def stopped(_say: Say) -> None:
        stop(host, driver, there.domain, GRACE if kept else 0.0)

    def volumes(_say: Say) -> None:
        _keep(host, there.record, kept)
        host.storage.refresh()
        for each in there.record.volumes:
            if each not in kept:
                _delete_volume(host, each)

    def undefine(_say: Say) -> None:
        host.domains.undefine(driver, there.domain)

    yield Step(change.object, "stop", change.host, stopped)
    yield Step(change.object, "volumes", change.host, volumes, ((change.object, "stop"),))
    yield Step(change.object, "undefine", change.host, undefine, ((change.object, "volumes"),))


def _disk(change: Change, hands: Hands, _awaited: set[str]) -> Iterable[Step]:
    """A kept disk that ``down --volumes`` removes."""

    def delete(_say: Say) -> None:
        hands.host.storage.delete(change.name)
        _unkeep(hands.host, {change.name})

    there = change.observed  # the guest that has it, where it isn't kept already
    guest = isinstance(there, ObservedGuest) and there.record.guest
    after = ((f"guest/{guest}", "undefine"),) if guest else ()
    yield Step(change.object, "delete", change.host, delete, after)


_BY_KIND: Mapping[str, Callable[[Change, Hands, set[str]], Iterable[Step]]] = {
    "image": _image,
    "network": _network,
    "guest": _guest,
    "disk": _disk,
}


def _delete_volume(host: Host, volume: VolumeRecord) -> None:
    """Deletes what the record lists; a console log with its rotations."""
    names = [volume.name]
    if volume.role == "console":
        names = list(rotations(host.storage.names(), volume.name))
    for name in names:
        host.storage.delete(name)


def _keep(host: Host, owner: GuestRecord, volumes: Iterable[VolumeRecord]) -> None:
    """Moves disks from their guest's record to the pool's, before the guest's is gone."""
    entries = {
        each.name: KeptDisk(owner.environment, owner.guest, each.name, each.key)
        for each in volumes
        if each.state == "made"
    }
    if not entries:
        return
    with record_locked(host):
        pool = host.storage.record()
        host.storage.write_record(PoolRecord(pool.images, {**pool.kept, **entries}))


def _unkeep(host: Host, names: Iterable[str]) -> None:
    """Takes disks out of the pool's record: a guest's own lists them again, or they are gone."""
    with record_locked(host):
        pool = host.storage.record()
        left = {name: each for name, each in pool.kept.items() if name not in set(names)}
        if left != pool.kept:
            host.storage.write_record(PoolRecord(pool.images, left))


class _Guest:
    """The steps of one guest that is made, made anew, completed or started."""

    def __init__(
        self, hands: Hands, guest: Guest, there: ObservedGuest | None, *, fresh: bool
    ) -> None:
        self._hands = hands
        self._host = hands.host
        self._guest = guest
        self._fresh = fresh
        self._old = there.record if there else None
        self._there = there
        self.record = self._old or record.of_guest(guest, hands.options.spec)

    def stop(self) -> None:
        assert self._there is not None
        stays = [each for each in self._there.record.volumes if each.role == "disk"]
        driver = DRIVERS[self._there.record.type]
        stop(self._host, driver, self._there.domain, GRACE if stays else 0.0)
        if self._there.scheme != self._guest.driver.scheme:  # another hypervisor takes over
            self._host.domains.undefine(driver, self._there.domain)

    def define(self, _say: Say) -> None:
        """Defines the domain; its record is the journal of all that follows."""
        files = self._hands.image_files.get(self._guest.image.identity)
        if files is not None:
            self._guest = self._guest.with_image(files)
        self._check_size()
        kept = self._host.storage.record().kept
        fresh = record.of_guest(self._guest, self._hands.options.spec)
        volumes = tuple(self._volume(each, kept) for each in fresh.volumes)
        self.record = replace(
            fresh,
            volumes=(*volumes, *self._left_over(fresh)),
            host_key=self._old.host_key if self._old else "",
        )
        if self._there is not None and self._there.state != "stopped" and not self._fresh:
            self._host.domains.write_record(self.record)
            return
        guest = self._guest
        own = ""
        if guest.spec.template:
            own = contents.given(Path(guest.source_folder, guest.spec.template)).read_text()
        xml = render.guest(guest, record.guest_element(self.record), own)
        autostart = guest.spec.autostart
        self._host.domains.define(guest.driver, _with_password(xml), autostart=autostart)

    def _check_size(self) -> None:
        root = self._guest.volume("root")
        image = self._guest.files.size
        if root is not None and root.size < image:
            raise VirtkitError(
                f"guest {self._guest.name}: its root disk is smaller than its image",
                why=f"disk: {root.size} bytes, image {self._guest.image.name}: {image} bytes",
                cure="leave out `disk:`, or give at least the image's size",
            )

    def _volume(self, new: VolumeRecord, kept: Mapping[str, KeptDisk]) -> VolumeRecord:
        """A volume's record, with what is already known of it."""
        if new.name in kept:
            return replace(new, state="made")
        for old in self._old.volumes if self._old else ():
            if old.name == new.name:
                anew = self._fresh and new.role != "disk"
                return replace(new, state="doomed" if anew else old.state)
        return new

    def _left_over(self, new: GuestRecord) -> Iterable[VolumeRecord]:
        """Volumes of the old guest that the new one has no use for."""
        names = {each.name for each in new.volumes}
        for old in self._old.volumes if self._old else ():
            if old.name not in names:
                yield replace(old, state="doomed")

    def make_volumes(self, say: Say) -> None:
        """Makes every volume that isn't made, and then says so in the record."""
        volumes = {each.name: each for each in self._guest.volumes}
        doomed = [each for each in self.record.volumes if each.state == "doomed"]
        _keep(self._host, self.record, [replace(v, state="made") for v in doomed if v.keep])
        for each in doomed:
            if not each.keep:
                _delete_volume(self._host, each)
        wanted = [
            volumes[each.name]
            for each in self.record.volumes
            if each.name in volumes and each.state != "made"
        ]
        keys = self._keys(any(each.content == "seed" for each in wanted))
        for volume in wanted:
            say(volume.name)
            if volume.content != "log":
                self._make(volume, keys)
        self._check_kept(volumes)
        left = tuple(each for each in self.record.volumes if each.name in volumes)
        self.record = replace(self.record, volumes=left).with_state("made")
        self._host.domains.write_record(self.record)
        _unkeep(self._host, [each.name for each in self.record.volumes if each.keep])

    def _check_kept(self, volumes: Mapping[str, Volume]) -> None:
        for each in self.record.volumes:
            size = self._host.storage.capacity(each.name) if each.keep else None
            if size is not None and size != volumes[each.name].size:
                raise VirtkitError(
                    f"kept disk {each.name} has another size than the spec says",
                    why=f"it has {size} bytes, the spec says {volumes[each.name].size}",
                    cure="give it its size in the spec, or remove it: virtkit down --volumes",
                )

    def _keys(self, new: bool) -> seed.Keys | None:
        """Who may log in, and a host key for a seed that is about to be made."""
        if not new:
            return None
        authorized = reach.authorized_keys(self._guest)
        private, public = reach.new_host_key()
        self.record = replace(self.record, host_key=public)
        self._host.domains.write_record(self.record)
        return seed.Keys(authorized, private, public)

    def _make(self, volume: Volume, keys: seed.Keys | None) -> None:
        storage = self._host.storage
        storage.delete(volume.name)  # a leftover of an interrupted run: the record says wanted
        if volume.content == "seed":
            assert keys is not None
            files = seed.documents(self._guest, keys, str(uuid.uuid4()))
            builders = {"iso9660": contents.iso9660, "ext4": contents.ext4_seed}
            data = builders[self._guest.driver.seed](files)
            storage.create(render.guest_volume(replace(volume, size=len(data))))
            storage.write(volume.name, data)
        elif volume.content == "file":
            source = contents.given(Path(volume.source))
            size = source.stat().st_size
            storage.create(render.guest_volume(replace(volume, size=size)))
            storage.upload(volume.name, source)
        else:
            storage.create(render.guest_volume(volume))
            if volume.content == "ext4":
                with contents.ext4(volume.size, volume.label) as image:
                    storage.upload(volume.name, image)

    def start(self) -> None:
        self._host.domains.start(self._guest.driver, self._guest.domain)

    def wait_ready(self, say: Say) -> None:
        reach.wait_ready(self._host, self.record, Path(self._guest.source_folder), say)

    def finish(self) -> None:
        if not self.record.finished:
            self.record = replace(self.record, finished=True)
            self._host.domains.write_record(self.record)


def _with_password(xml: str) -> str:
    """Gives VNC a password that only libvirt's secure XML tells."""
    root = render.parse(xml, "a domain")
    for graphics in root.iterfind("./devices/graphics[@type='vnc']"):
        graphics.set("passwd", secrets.token_urlsafe(6))  # VNC takes eight characters
    return etree.tostring(root, encoding="unicode")
