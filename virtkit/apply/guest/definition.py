"""A guest's domain: what its record says, and its definition in libvirt.

The record states what is wanted before anything is done.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from virtkit.apply.engine import Say
from virtkit.apply.guest.context import GuestContext
from virtkit.apply.guest.seed_keys import SeedKeys
from virtkit.drivers import DRIVERS
from virtkit.drivers.fields import IN_SEED
from virtkit.errors import VirtkitError
from virtkit.host import domain_changed
from virtkit.plan import detaching_paths, run_id
from virtkit.spec import writable_size
from virtkit.spec.model import drive_number
from virtkit.state import public_keys, record_text
from virtkit.state.record import GuestRecord, KeptDisk, PoolRecord, VolumeRecord
from virtkit.xml import diff, render, tree, user_template


class GuestDefinition:
    """Defines the domain of one guest."""

    def __init__(self, context: GuestContext, seed_keys: SeedKeys) -> None:
        self._context = context
        self._seed_keys = seed_keys

    def define(self, _say: Say) -> None:
        """Defines the domain; its record is the journal of all that follows."""
        files = self._context.host_context.image_files.get(self._context.guest.image.identity)
        if files is not None:
            self._context.guest = self._context.guest.with_image(files)
        guest, domains = self._context.guest, self._context.host.domains
        self._check_size()
        self._recover_interrupted()
        kept = self._context.host_context.pool_records.kept
        names = self._context.host.storage.names()
        self._check_free(kept, names)
        self._context.xml = render.domain_xml(guest, user_template.rendered(guest))
        self._context.record = self._new_record(kept, names)
        current = domains.definition(guest.driver, guest.domain)
        if current and not (
            self._is_ours(current) or self._is_ours(domains.live(guest.driver, guest.domain))
        ):
            raise domain_changed(self._context.record, self._context.host.connections)
        merged = self._merged(current)
        if current and not self._context.running:
            domains.forget_state(guest.driver, guest.domain, current, merged)
        xml = tree.with_record(merged, record_text.guest_element(self._context.record))
        domains.define(guest.driver, _with_password(xml), autostart=guest.spec.autostart)
        if self._context.running:
            domains.write_record(self._context.record)
        self._forget_other_types()
        self._note_rewritten()

    def pool_entry(self, pool: PoolRecord, names: Collection[str]) -> GuestRecord | None:
        """What the pool's record is to say of the guest before a volume of it is made: all that it
        has and will have. None where somebody else has its name, or that of one of its volumes.

        Args:
            pool: the record, as it stands.
            names: of all volumes in the pool.
        """
        fresh = self._context.host_context.record_of_guest(self._context.guest)
        if self._namesake(pool.guests.get(fresh.domain)) or self._taken_names(pool.kept, names):
            return None
        volumes = tuple(self._volume(each, pool.kept, names) for each in fresh.volumes)
        return replace(self._context.old or fresh, volumes=(*volumes, *self._left_over(fresh)))

    def _recover_interrupted(self) -> None:
        """What the last run did for a guest that has no domain by now, where it was interrupted and
        the pool's record does not know: its seed tells, which is made last."""
        if (
            self._context.observed is None
            or not self._context.observed.undefined
            or self._context.old is None
            or self._context.from_scratch
            or self._context.guest.image.is_none  # a blank volume is whole once it is there
        ):
            return
        listed = self._context.host_context.pool_records.former(self._context.guest.domain)
        unsure = {e.name for e in listed.volumes if e.state != "made"} if listed else set()
        if not unsure and self._context.old.instance:
            return
        held, instance = self._seed_keys.read_seed()
        if held is not None and instance:
            self._context.old = replace(
                self._context.old,
                host_key=held.host_public,
                instance=instance,
                keys=public_keys.canonical(held.authorized),
            )
            return
        volumes = tuple(
            replace(each, state="wanted") if each.name in unsure else each
            for each in self._context.old.volumes
        )
        self._context.old = replace(self._context.old, volumes=volumes)
        has_root = any(e.role == "root" and e.state == "made" for e in volumes)
        self._context.from_scratch = not has_root

    def _new_record(self, kept: Mapping[str, KeptDisk], names: Collection[str]) -> GuestRecord:
        fresh = self._context.host_context.record_of_guest(self._context.guest, self._context.xml)
        volumes = tuple(self._volume(each, kept, names) for each in fresh.volumes)
        self._context.keys = self._seed_keys.requested()
        new = replace(fresh, volumes=(*volumes, *self._left_over(fresh)), keys=self._context.keys)
        if self._context.old is None or self._context.from_scratch:
            return new
        live = ""
        if self._context.running:
            live = self._context.host.domains.live(
                self._context.guest.driver, self._context.guest.domain
            )
        current_keys = self._seed_keys.current()
        both = current_keys is not None and new.keys is not None
        return replace(
            new,
            # until it has followed, the guest may let in either
            keys=public_keys.joined(current_keys or (), new.keys or ()) if both else None,
            former_ssh_keys=self._former_ssh_keys(),
            host_key=self._context.old.host_key,
            instance=self._context.old.instance,
            booted=self._context.old.booted,
            provisioned=self._context.old.provisioned,
            staged=self._context.staged if self._context.running else {},
            staged_in=run_id(live) if self._context.running and self._context.staged else "",
            detaching=detaching_paths(self._context.old, self._context.xml, live)
            if self._context.running
            else (),
        )

    def _former_ssh_keys(self) -> tuple[str, ...]:
        """The files that the spec named for the keys that the guest has until it followed."""
        if self._context.old is None or "ssh_keys" not in self._context.fields:
            return self._context.old.former_ssh_keys if self._context.old else ()
        return tuple(dict.fromkeys(self._context.old.key_files or ()))

    def _merged(self, current: str) -> str:
        """Our XML, laid over libvirt's own where there is one: what others added stays."""
        if not current:
            return self._context.xml
        before = self._context.old.rendered if self._context.old else ""
        same_scheme = (
            self._context.observed is not None
            and self._context.observed.scheme == self._context.guest.driver.scheme
        )
        trees = [tree.parse(each, "a domain") for each in (self._context.xml, current)]
        return tree.to_text(
            diff.merged(tree.parse(before, "a domain") if before and same_scheme else None, *trees)
        )

    def _is_ours(self, xml: str) -> bool:
        """Whether a domain that is there carries this guest's record."""
        if not xml:
            return False
        expected = replace(self._context.record, volumes=())
        return expected.is_covered_by(record_text.read_guest(tree.parse(xml, "a domain")))

    def _note_rewritten(self) -> None:
        """What libvirt has otherwise right after we defined it is no drift later."""
        current = self._context.host.domains.definition(
            self._context.guest.driver, self._context.guest.domain
        )
        places = diff.differences(
            tree.parse(self._context.xml, "a domain"), tree.parse(current, "a domain")
        )
        self._context.record = replace(
            self._context.record, rewritten=tuple(each.path for each in places)
        )

    def _forget_other_types(self) -> None:
        """Removes the domain of a type that the guest had before, now that the new one stands."""
        if self._context.observed is None:
            return
        for old_type in {self._context.observed.record.type, *self._context.observed.superseded}:
            if DRIVERS[old_type].scheme != self._context.guest.driver.scheme:
                self._context.host.domains.undefine(
                    DRIVERS[old_type], self._context.observed.record
                )

    def _taken_names(self, kept: Mapping[str, KeptDisk], names: Collection[str]) -> list[str]:
        """The names of the guest's new volumes that others have."""
        own = {each.name for each in self._context.old.volumes} if self._context.old else set()
        return [
            each.name
            for each in self._context.guest.volumes
            if each.name in names
            and each.name not in own
            and not self._is_kept_disk(each.key, kept.get(each.name))
        ]

    def _namesake(self, listed: GuestRecord | None) -> bool:
        """Whether it is another guest that has this one's name in libvirt: environment a-b, guest
        c against environment a, guest b-c."""
        return listed is not None and listed.environment != self._context.guest.environment

    def _check_free(self, kept: Mapping[str, KeptDisk], names: Collection[str]) -> None:
        """Looks whether somebody took a name since the plan was made: a volume that is listed as
        wanted is deleted, should there be one."""
        listed = self._context.host_context.pool_records.former(self._context.guest.domain)
        if listed is not None and self._namesake(listed):
            raise VirtkitError(
                f"guest {self._context.guest.name}: domain {listed.domain} does not belong to "
                "this environment",
                why=f"it is guest {listed.guest} of environment {listed.environment}",
                cure="give one of the environments another name; then run again",
                where=f"{self._context.host.name} guest/{self._context.guest.name}",
            )
        if taken := self._taken_names(kept, names):
            raise VirtkitError(
                f"guest {self._context.guest.name}: volume {', '.join(taken)} exists already",
                why="no record of this guest lists it",
                cure="rename or remove it, or give the guest another name; then run again",
                where=f"{self._context.host.name} guest/{self._context.guest.name}",
            )

    def _is_kept_disk(self, key: str, disk: KeptDisk | None) -> bool:
        """Whether a disk that outlived a guest is this one's."""
        guest = self._context.guest
        return disk is not None and disk.belongs_to(guest.environment, guest.name, key)

    def _check_size(self) -> None:
        root = self._context.guest.volume("root")
        image = self._context.guest.files.size
        if root is not None and root.size < image:
            raise VirtkitError(
                f"guest {self._context.guest.name}: its root disk is smaller than its image",
                why=f"disk: {root.size} bytes, "
                f"image {self._context.guest.image.name}: {image} bytes",
                cure=f"leave out `disk:`, or use {writable_size(image)} or more",
            )

    def _volume(
        self, new: VolumeRecord, kept: Mapping[str, KeptDisk], names: Collection[str]
    ) -> VolumeRecord:
        """A volume's record, with what is already known of it."""
        if self._is_kept_disk(new.key, kept.get(new.name)) and new.name in names:
            return replace(new, state="made")
        for old in self._context.old.volumes if self._context.old else ():
            if old.name == new.name:
                if self._recreates(new):
                    return replace(new, state="deleting")
                missing = old.state == "made" and self._missing(new, names)
                return replace(new, state="wanted" if missing else old.state)
        return new

    def _recreates(self, volume: VolumeRecord) -> bool:
        """Whether a volume that exists is made once more."""
        if self._context.from_scratch:
            return volume.role != "disk"
        if volume.role == "cdrom":
            own = volume.name.removeprefix(f"{self._context.guest.domain}-")
            return f"cdroms.{drive_number(own)}.disc" in self._context.causes
        fields = {"seed": IN_SEED, "kernel": {"kernel"}, "initrd": {"kernel"}}
        return bool(self._context.fields & fields.get(volume.role, set()))

    def _missing(self, volume: VolumeRecord, names: Collection[str]) -> bool:
        """Whether the plan says (and it was confirmed) that a disk is gone and is recreated."""
        disk = volume.name.removeprefix(f"{self._context.guest.domain}-")
        return self._context.causes.get(f"disks.{disk}") == "drift" and volume.name not in names

    def _left_over(self, new: GuestRecord) -> Iterable[VolumeRecord]:
        """Volumes of the old guest that the new one has no use for."""
        names = {each.name for each in new.volumes}
        for old in self._context.old.volumes if self._context.old else ():
            if old.name not in names:
                # kept is only what was made
                yield replace(old, state="deleting", keep=old.keep and old.state != "wanted")


def _with_password(xml: str) -> str:
    """Gives a display a password that only libvirt's secure XML tells, where it has none yet."""
    root = tree.parse(xml, "a domain")
    for graphics in root.iterfind("./devices/graphics"):
        if graphics.get("type") in ("vnc", "spice") and not graphics.get("passwd"):
            graphics.set("passwd", secrets.token_urlsafe(6))  # VNC takes eight characters
    return tree.to_text(root)
