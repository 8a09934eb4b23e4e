"""One guest made, made anew, changed, completed or started, in an order that a crash survives.

The record is the journal: what is asked is written before it is done, and each step may run again.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from virtkit import access, seed
from virtkit.apply import volumes as disks
from virtkit.apply.context import GRACE, Context
from virtkit.apply.engine import Say
from virtkit.apply.hotplug import Plugging
from virtkit.apply.provision import provision, wait_login
from virtkit.apply.shutdown import stop
from virtkit.drivers import DRIVERS
from virtkit.drivers.fields import FIRST_BOOT, FOLLOWED, IN_SEED
from virtkit.errors import VirtkitError
from virtkit.host import FileUnusable, Unreachable, not_ours
from virtkit.plan import Change, command, leaving, run_of, uses
from virtkit.progress import Progress
from virtkit.spec import writable_size
from virtkit.state import public_keys, record, record_text
from virtkit.state.desired import Guest, Volume
from virtkit.state.observed import ObservedGuest
from virtkit.state.record import GuestRecord, KeptDisk, PoolRecord, VolumeRecord
from virtkit.xml import diff, render, tree, user_template

#: Seconds that a guest gets to follow.
_FOLLOW = 120.0


class Making:
    """The steps of one guest that is made, made anew, changed, completed or started."""

    def __init__(self, context: Context, change: Change) -> None:
        assert isinstance(change.desired, Guest)
        assert change.observed is None or isinstance(change.observed, ObservedGuest)
        self._context = context
        self._host = context.host
        self._guest = change.desired
        self._there = change.observed
        self._old = self._there.record if self._there else None
        self._causes = {each.field: each.cause for each in change.reasons}
        self._staged = dict(change.staged)
        self._fields = {each.field.partition(".")[0] for each in change.reasons}
        roots = [e for e in (self._old.volumes if self._old else ()) if e.role == "root"]
        #: All but its disks is made anew: it is none that lost its domain and has its root still.
        self.fresh = change.action == "replace" or (
            change.action == "create" and not any(each.state == "made" for each in roots)
        )
        #: Nothing else is to be done than to give it its playbooks.
        self.provisions_only = (
            change.action == "update"
            and set(self._causes) == {"playbooks"}
            and self._there is not None
            and self._there.state == "running"
        )
        #: A start of an unfinished guest sees that nothing else is left of the interrupted run.
        self.starts_only = change.action == "start" and not (self._old and not self._old.finished)
        self.running = self._there is not None and self._there.state != "stopped" and not self.fresh
        # a guest that did not let go of a device is restarted where somebody asks for that
        stuck = self._old is not None and bool(self._old.leaving) and not self._old.finished
        needed = change.effect == "restart" or stuck
        self.restarts = self.running and context.options.restart and needed
        self.record = self._old or record.of_guest(self._guest, context.options.spec)
        self._wanted = self.record.rendered
        self._plugging = Plugging(self._host, self._guest)
        #: The keys that it is to let in; None where nobody knows which it has and has to keep.
        self._keys: tuple[str, ...] | None = None

    @property
    def provisions(self) -> bool:
        """Whether the guest is given playbooks."""
        wanted = self._guest.playbooks
        ran = None if self._old is None or self.fresh else self._old.provisioned
        return wanted is not None and (ran is None or not ran.has(wanted))

    @property
    def follows(self) -> bool:
        """Whether the guest's own system has something to do once it runs."""
        if self._old is None or self.fresh:
            return False
        unfinished = not self._old.finished and self._guest.spec.ready.kind != "none"
        if self.running and not self.restarts:
            return unfinished or bool(self._fields & FOLLOWED)
        # what boots anew has it from its seed, but where cloud-init reads that
        late = self._old.booted and not self._guest.light
        return late and (unfinished or bool(self._fields & FIRST_BOOT))

    # --- the definition ---------------------------------------------------------------------

    def stop(self, progress: Progress) -> None:
        assert self._there is not None
        stays = self.restarts or any(e.role == "disk" for e in self._there.record.volumes)
        driver = DRIVERS[self._there.record.type]
        stop(self._host, driver, self._there.domain, GRACE if stays else 0.0, progress)

    def define(self, _say: Say) -> None:
        """Defines the domain; its record is the journal of all that follows."""
        files = self._context.image_files.get(self._guest.image.identity)
        if files is not None:
            self._guest = self._guest.with_image(files)
            self._plugging = Plugging(self._host, self._guest)
        guest, domains = self._guest, self._host.domains
        self._check_size()
        self._settle()
        kept = self._context.ledger.kept
        names = self._host.storage.names()
        self._check_free(kept, names)
        self._wanted = render.guest(guest, user_template.rendered(guest))
        self.record = self._new_record(kept, names)
        found = domains.definition(guest.driver, guest.domain)
        if found and not (
            self._is_ours(found) or self._is_ours(domains.live(guest.driver, guest.domain))
        ):
            raise not_ours(self.record, self._host.connections)
        xml = tree.with_record(self._merged(found), record_text.guest_element(self.record))
        domains.define(guest.driver, _with_password(xml), autostart=guest.spec.autostart)
        if self.running:
            domains.write_record(self.record)
        self._forget_other_types()
        self._note_rewritten()

    def listed(self, pool: PoolRecord, names: Collection[str]) -> GuestRecord | None:
        """What the pool's record is to say of the guest before a volume of it is made: all that it
        has and will have. None where somebody else has its name, or that of one of its volumes.

        Args:
            pool: the record, as it stands.
            names: of all volumes in the pool.
        """
        fresh = record.of_guest(self._guest, self._context.options.spec)
        if self._namesake(pool.guests.get(fresh.domain)) or self._taken(pool.kept, names):
            return None
        volumes = tuple(self._volume(each, pool.kept, names) for each in fresh.volumes)
        return replace(self._old or fresh, volumes=(*volumes, *self._left_over(fresh)))

    def _settle(self) -> None:
        """What the last run did for a guest that has no domain by now, where it was interrupted and
        the pool's record does not know: its seed tells, which is made last."""
        if self._there is None or not self._there.lost or self._old is None or self.fresh:
            return
        listed = self._context.ledger.before(self._guest.domain)
        unsure = {e.name for e in listed.volumes if e.state != "made"} if listed else set()
        if not unsure and self._old.instance:
            return
        held, instance = self._in_seed()
        if held is not None and instance:
            self._old = replace(
                self._old,
                host_key=held.host_public,
                instance=instance,
                keys=public_keys.records(held.authorized),
            )
            return
        volumes = tuple(
            replace(each, state="wanted") if each.name in unsure else each
            for each in self._old.volumes
        )
        self._old = replace(self._old, volumes=volumes)
        self.fresh = not any(e.role == "root" and e.state == "made" for e in volumes)

    def _new_record(self, kept: Mapping[str, KeptDisk], names: Collection[str]) -> GuestRecord:
        fresh = record.of_guest(self._guest, self._context.options.spec, self._wanted)
        volumes = tuple(self._volume(each, kept, names) for each in fresh.volumes)
        self._keys = self._new_keys()
        answer = replace(fresh, volumes=(*volumes, *self._left_over(fresh)), keys=self._keys)
        if self._old is None or self.fresh:
            return answer
        live = ""
        if self.running:
            live = self._host.domains.live(self._guest.driver, self._guest.domain)
        known = self._known_keys()
        both = known is not None and answer.keys is not None
        return replace(
            answer,
            # until it has followed, the guest may let in either
            keys=public_keys.joined(known or (), answer.keys or ()) if both else None,
            former_ssh_keys=self._former_ssh_keys(),
            host_key=self._old.host_key,
            instance=self._old.instance,
            booted=self._old.booted,
            provisioned=self._old.provisioned,
            staged=self._staged if self.running else {},
            staged_in=run_of(live) if self.running and self._staged else "",
            leaving=leaving(self._old, self._wanted, live) if self.running else (),
        )

    def _former_ssh_keys(self) -> tuple[str, ...]:
        """The files that the spec named for the keys that the guest has until it followed."""
        if self._old is None or "ssh_keys" not in self._fields:
            return self._old.former_ssh_keys if self._old else ()
        return tuple(dict.fromkeys(self._old.key_files or ()))

    def _merged(self, found: str) -> str:
        """Our XML, laid over libvirt's own where there is one: what others added stays."""
        if not found:
            return self._wanted
        before = self._old.rendered if self._old else ""
        same = self._there is not None and self._there.scheme == self._guest.driver.scheme
        trees = [tree.parse(each, "a domain") for each in (self._wanted, found)]
        return tree.written(
            diff.merged(tree.parse(before, "a domain") if before and same else None, *trees)
        )

    def _is_ours(self, xml: str) -> bool:
        """Whether a domain that is there carries this guest's record."""
        if not xml:
            return False
        known = replace(self.record, volumes=())
        return known.is_of(record_text.read_guest(tree.parse(xml, "a domain")))

    def _note_rewritten(self) -> None:
        """What libvirt has otherwise right after we defined it is no drift later."""
        found = self._host.domains.definition(self._guest.driver, self._guest.domain)
        places = diff.differences(
            tree.parse(self._wanted, "a domain"), tree.parse(found, "a domain")
        )
        self.record = replace(self.record, rewritten=tuple(each.path for each in places))

    def _forget_other_types(self) -> None:
        """Removes the domain of a type that the guest had before, now that the new one stands."""
        if self._there is None:
            return
        for other in {self._there.record.type, *self._there.superseded}:
            if DRIVERS[other].scheme != self._guest.driver.scheme:
                self._host.domains.undefine(DRIVERS[other], self._there.record)

    def _taken(self, kept: Mapping[str, KeptDisk], names: Collection[str]) -> list[str]:
        """The names of the guest's new volumes that others have."""
        own = {each.name for each in self._old.volumes} if self._old else set()
        return [
            each.name
            for each in self._guest.volumes
            if each.name in names
            and each.name not in own
            and not self._kept(each.key, kept.get(each.name))
        ]

    def _namesake(self, listed: GuestRecord | None) -> bool:
        """Whether it is another guest that has this one's name in libvirt: environment a-b, guest
        c against environment a, guest b-c."""
        return listed is not None and listed.environment != self._guest.environment

    def _check_free(self, kept: Mapping[str, KeptDisk], names: Collection[str]) -> None:
        """Looks whether somebody took a name since the plan was made: a volume that is listed as
        wanted is deleted, should there be one."""
        other = self._context.ledger.before(self._guest.domain)
        if other is not None and self._namesake(other):
            raise VirtkitError(
                f"guest {self._guest.name}: domain {other.domain} is not this environment's",
                why=f"it is guest {other.guest} of environment {other.environment}",
                cure="give one of the environments another name; then run again",
                where=f"{self._host.name} guest/{self._guest.name}",
            )
        if taken := self._taken(kept, names):
            raise VirtkitError(
                f"guest {self._guest.name}: volume {', '.join(taken)} exists already",
                why="no record of this guest lists it",
                cure="rename or remove it, or give the guest another name; then run again",
                where=f"{self._host.name} guest/{self._guest.name}",
            )

    def _kept(self, key: str, disk: KeptDisk | None) -> bool:
        """Whether a disk that outlived a guest is this one's."""
        guest = self._guest
        return disk is not None and disk.is_of(guest.environment, guest.name, key)

    def _check_size(self) -> None:
        root = self._guest.volume("root")
        image = self._guest.files.size
        if root is not None and root.size < image:
            raise VirtkitError(
                f"guest {self._guest.name}: its root disk is smaller than its image",
                why=f"disk: {root.size} bytes, image {self._guest.image.name}: {image} bytes",
                cure=f"leave out `disk:`, or say {writable_size(image)} or more",
            )

    # --- volumes ----------------------------------------------------------------------------

    def _volume(
        self, new: VolumeRecord, kept: Mapping[str, KeptDisk], names: Collection[str]
    ) -> VolumeRecord:
        """A volume's record, with what is already known of it."""
        if self._kept(new.key, kept.get(new.name)) and new.name in names:
            return replace(new, state="made")
        for old in self._old.volumes if self._old else ():
            if old.name == new.name:
                if self._anew(new):
                    return replace(new, state="doomed")
                missing = old.state == "made" and self._missing(new, names)
                return replace(new, state="wanted" if missing else old.state)
        return new

    def _anew(self, volume: VolumeRecord) -> bool:
        """Whether a volume that exists is made once more."""
        if self.fresh:
            return volume.role != "disk"
        fields = {"seed": IN_SEED, "kernel": {"kernel"}, "initrd": {"kernel"}}
        return bool(self._fields & fields.get(volume.role, set()))

    def _missing(self, volume: VolumeRecord, names: Collection[str]) -> bool:
        """Whether the plan says (and somebody agreed) that a disk is gone and is made anew."""
        disk = volume.name.removeprefix(f"{self._guest.domain}-")
        return self._causes.get(f"disks.{disk}") == "drift" and volume.name not in names

    def _left_over(self, new: GuestRecord) -> Iterable[VolumeRecord]:
        """Volumes of the old guest that the new one has no use for."""
        names = {each.name for each in new.volumes}
        for old in self._old.volumes if self._old else ():
            if old.name not in names:
                # kept is only what was made
                yield replace(old, state="doomed", keep=old.keep and old.state != "wanted")

    def make_volumes(self, progress: Progress) -> None:
        """Makes every volume that isn't made, and then says so in the record."""
        volumes = {each.name: each for each in self._guest.volumes}
        wanted = [
            volumes[each.name]
            for each in self.record.volumes
            if each.name in volumes and each.state != "made"
        ]
        wanted.sort(key=lambda each: each.content == "seed")  # it is the sign that all are made
        keys = self._seed_keys(any(each.content == "seed" for each in wanted))
        doomed = [each for each in self.record.volumes if each.state == "doomed"]
        held = [each for each in doomed if each.name not in volumes and self._in_use(each)]
        doomed = [each for each in doomed if each not in held]
        if wanted or doomed:
            self._host.domains.check_record(self.record)
        for each in doomed:
            if not each.keep:
                disks.delete(self._host.storage, each)
        for volume in wanted:
            progress(volume.name)
            if volume.content != "log":
                self._make(volume, keys, progress)
        self._check_kept(volumes)
        left = tuple(each for each in self.record.volumes if each.name in volumes)
        self.record = replace(self.record, volumes=left).with_state("made")
        self.record = replace(self.record, volumes=(*self.record.volumes, *held))
        self._host.domains.write_record(self.record)
        self._grow(progress)

    def _in_use(self, volume: VolumeRecord) -> bool:
        """Whether the running guest has a volume that its definition no longer has."""
        live = self._host.domains.live(self._guest.driver, self._guest.domain)
        return self.running and uses(live, volume.name)

    def _grow(self, say: Say) -> None:
        """Gives disks their size, but for those that the running guest grows with (plug)."""
        blocks = [each for each in self._guest.volumes if each.role in ("root", "disk")]
        sizes = self._host.storage.sizes([each.name for each in blocks])
        for volume in blocks:
            field = "disk" if volume.role == "root" else f"disks.{volume.label}.size"
            live = self.running and self._guest.driver.effect(field) == "live"
            if not live and sizes.get(volume.name, volume.size) < volume.size:
                say(volume.name)
                self._host.storage.grow(volume.name, volume.size)

    def _check_kept(self, volumes: Mapping[str, Volume]) -> None:
        kept = [e.name for e in self.record.volumes if e.keep and e.name in volumes]
        for name, size in self._host.storage.sizes(kept).items():
            if size > volumes[name].size:
                raise VirtkitError(
                    f"kept disk {name} is larger than the spec says, and is never shrunk",
                    why=f"it has {size} bytes, the spec says {volumes[name].size}",
                    cure=f"say `size: {writable_size(size)}`; or remove it, with what is on it: "
                    + self._down("--volumes"),
                )

    def _new_keys(self) -> tuple[str, ...] | None:
        """The keys that the guest is to let in: those of its spec, or those that it was made with.

        None where an older virtkit made it, and its seed does not say which these are.
        """
        if self.fresh or self._old is None or "ssh_keys" in self._fields:
            return public_keys.records(access.authorized_keys(self._guest))
        if self._guest.keys is not None:
            return self._guest.keys
        known = self._known_keys()
        if known is not None and not self._old.finished and self._guest.spec.ssh_keys is None:
            # a run that was to give it the caller's own ones was interrupted
            own = public_keys.records(access.own_keys(self._guest.environment))
            if own and set(public_keys.blobs(own)) <= set(public_keys.blobs(known)):
                return own
        return known

    def _known_keys(self) -> tuple[str, ...] | None:
        """The keys that the guest lets in now, by its record, else by its seed."""
        if self._old is None or self._old.keys is not None:
            return self._old.keys if self._old else None
        held = self._held()
        return public_keys.records(held.authorized) if held else None

    def _authorized(self, held: seed.Keys | None) -> Sequence[str]:
        """The lines of authorized_keys; those that ``held`` has may say more than the keys."""
        if self._keys is None:
            return held.authorized if held else access.authorized_keys(self._guest)
        if held and public_keys.same(public_keys.records(held.authorized), self._keys):
            return held.authorized
        named = self._guest.spec.ssh_keys is not None
        given = named and (self.fresh or self._old is None or self._guest.keys is not None)
        return access.authorized_keys(self._guest) if given else self._keys

    def _seed_keys(self, wanted: bool) -> seed.Keys | None:
        """Who may log in, and the host key, for a seed that is about to be made.

        A guest that lives on keeps its instance and its host key.
        """
        if not wanted:
            return None
        held = None if self.fresh else self._held()
        authorized = self._authorized(held)
        if held is not None:
            return replace(held, authorized=authorized)
        if self._old is not None and self._old.booted and not self.fresh:
            return seed.Keys(authorized, "", self._old.host_key)
        private, public = access.new_host_key()
        self.record = replace(self.record, host_key=public, instance=str(uuid.uuid4()))
        self._host.domains.write_record(self.record)
        return seed.Keys(authorized, private, public)

    def _held(self) -> seed.Keys | None:
        """The keys in the seed that the guest has; None where it can't be read."""
        return self._in_seed()[0] if self.record.instance else None

    def _in_seed(self) -> tuple[seed.Keys | None, str]:
        """The keys and the instance in the guest's seed; nothing where it can't be read."""
        files = disks.seed_files(self._host.storage, self._guest)
        return seed.held(files), seed.instance(files)

    def _make(self, volume: Volume, keys: seed.Keys | None, progress: Progress) -> None:
        storage = self._host.storage
        storage.delete(volume.key)  # a leftover of an interrupted run: the record says wanted
        if volume.content == "seed":
            assert keys is not None
            files = seed.documents(self._guest, keys, self.record.instance)
            disks.make_seed(storage, volume, self._guest.driver.seed, files, progress)
        else:
            disks.make(storage, volume, progress)

    # --- the running guest ------------------------------------------------------------------

    def unplug(self, progress: Progress) -> None:
        """Takes from the running guest what it is no longer to have; it unmounts disks first,
        and for that it must not be paused."""
        self._host.domains.resume(self._guest.driver, self._guest.domain)
        if any("/disk[" in each for each in self.record.leaving):
            self.follow(progress)
        self._plugging.unplug(self.record, progress)

    def plug(self, say: Say) -> None:
        self._plugging.plug(self._wanted, say)

    def follow(self, _say: Say) -> None:
        """Lets the guest's own system follow: cards, keys, disks and their size, CPUs."""
        authorized = self._authorized(self._held())
        still = set(public_keys.blobs(authorized))
        former = [e for e in public_keys.blobs(self.record.keys or ()) if e not in still]
        script = seed.update(self._guest, authorized, self._leaving_disks(), former)
        folder = Path(self._guest.source_folder)
        try:
            ran = access.run(self._host, self.record, folder, ["sh", "-c", script], _FOLLOW)
            why = ran.err.decode("utf-8", "replace").strip() if ran.code != 0 else ""
        except Unreachable as error:
            # nobody expects anything of this guest
            why = str(error) if self._guest.spec.ready.kind != "none" else ""
        if why:
            raise VirtkitError(
                f"guest {self._guest.name} did not follow the change",
                why=why,
                cure=self._follow_cure(),
                where=f"{self._host.name} guest/{self._guest.name}",
            )

    def _follow_cure(self) -> str:
        """What helps a guest whose system did not follow."""
        keys = self._keys is not None and not public_keys.same(self._keys, self.record.keys or ())
        if keys:
            again = "run again where a key that it lets in can be used"
            restart = "`virtkit restart` gives it the new keys, which its seed has; or "
            return restart + again if self._guest.light else again
        return (
            "see `virtkit logs`; end what holds the disk or the card in the guest, then run again"
        )

    def _leaving_disks(self) -> dict[str, str]:
        """The disks that the running guest is no longer to have, and what it calls them."""
        answer = {}
        xml = self._host.domains.live(self._guest.driver, self._guest.domain)
        live = tree.parse(xml, "a domain") if xml else None
        for each in self.record.volumes:
            # a template may call it otherwise
            target = diff.target_of(live, each.key) if live is not None else each.target
            if f"devices/disk[{target}]" in self.record.leaving:
                name = each.name.removeprefix(f"{self._guest.domain}-")
                device = self._guest.driver.disk_device
                answer[name] = device.format(name=name, target=target)
        return answer

    def start(self) -> None:
        try:
            self._host.domains.start(self._guest.driver, self._guest.domain)
        except FileUnusable as error:
            cure = _image_cure(self._guest.image.name, self._down())
            raise error.retold(FileUnusable, cure=cure) from error

    def _down(self, *options: str) -> str:
        """The command that removes the guest."""
        return command("down", self._context.options.spec, self._guest.name, *options)

    def wait_ready(self, progress: Progress) -> None:
        folder, known = Path(self._guest.source_folder), self.record.keys or ()
        late = self.follows and self._keys is not None and not public_keys.same(self._keys, known)
        access.wait_ready(self._host, self.record, folder, progress, keys_follow=late)

    def wait_login(self, progress: Progress) -> None:
        wait_login(self._context, self.record, progress, keys_follow=self.follows)

    def provision(self, progress: Progress) -> None:
        assert self._guest.playbooks is not None
        variables = self._guest.spec.vars
        self.record = provision(
            self._context, self.record, self._guest.playbooks, variables, progress
        )

    def finish(self) -> None:
        """Says in the record that all is done, and what still waits for a restart."""
        new = replace(self.record, finished=True, booted=True)
        if self._keys is not None:
            new = replace(new, keys=self._keys, former_ssh_keys=())
        if not self.running or self.restarts:
            new = replace(new, staged={}, staged_in="", leaving=())
        if new != self.record:
            self.record = new
            self._host.domains.write_record(new)


def _with_password(xml: str) -> str:
    """Gives VNC a password that only libvirt's secure XML tells, where it has none yet."""
    root = tree.parse(xml, "a domain")
    for graphics in root.iterfind("./devices/graphics[@type='vnc']"):
        if not graphics.get("passwd"):
            graphics.set("passwd", secrets.token_urlsafe(6))  # VNC takes eight characters
    return tree.written(root)


def _image_cure(image: str, down: str) -> str:
    return (
        f"see that the pool's folder is mounted. `virtkit up` makes image {image} again where it "
        f"is gone or its length is wrong; where it is damaged otherwise: {down} (and whatever else "
        f"uses it), virtkit image rm {image}, virtkit up. Where a disk of the guest's own is gone "
        f"or damaged: {down}, virtkit up"
    )
