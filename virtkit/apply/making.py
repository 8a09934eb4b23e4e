"""One guest made, made anew, completed or started, in an order that a crash survives."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from lxml import etree

from virtkit import reach, record, render, seed
from virtkit.apply import contents, disks
from virtkit.apply.engine import Say
from virtkit.apply.hands import GRACE, Hands
from virtkit.apply.stop import stop
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.host import DAMAGED, GONE
from virtkit.observed import ObservedGuest
from virtkit.record import GuestRecord, KeptDisk, VolumeRecord
from virtkit.resources import Guest, Volume


class Making:
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
        self._check_free(kept)
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

    def _check_free(self, kept: Mapping[str, KeptDisk]) -> None:
        """A new guest's volumes have no record yet: whatever has their names is another's."""
        names = self._host.storage.names() if self._old is None else frozenset()
        taken = [v.name for v in self._guest.volumes if v.name in names and v.name not in kept]
        if taken:
            raise VirtkitError(
                f"guest {self._guest.name}: volume {', '.join(taken)} exists already",
                why="no record of virtkit's lists it",
                cure="rename or remove it, or give the guest another name; then run again",
                where=f"{self._host.name} guest/{self._guest.name}",
            )

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
                # kept is only what was made
                yield replace(old, state="doomed", keep=old.keep and old.state != "wanted")

    def make_volumes(self, say: Say) -> None:
        """Makes every volume that isn't made, and then says so in the record."""
        volumes = {each.name: each for each in self._guest.volumes}
        doomed = [each for each in self.record.volumes if each.state == "doomed"]
        disks.keep(self._host, self.record, [replace(v, state="made") for v in doomed if v.keep])
        for each in doomed:
            if not each.keep:
                disks.delete(self._host, each)
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
        disks.unkeep(self._host, [each.name for each in self.record.volumes if each.keep])

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
        try:
            self._host.domains.start(self._guest.driver, self._guest.domain)
        except VirtkitError as error:
            if error.cure in (DAMAGED, GONE):
                error.cure = _image_cure(self._guest.image.name, self._guest.name)
            raise

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


def _image_cure(image: str, guest: str) -> str:
    return (
        f"see that the pool's folder is mounted. `virtkit up` makes image {image} again where it "
        "is gone or its length is wrong; where it is damaged otherwise: virtkit down SPEC "
        f"{guest} (and who else leans on it), virtkit image rm {image}, virtkit up. Where a disk "
        f"of the guest's own is gone or damaged: virtkit down SPEC {guest}, virtkit up"
    )
