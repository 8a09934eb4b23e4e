"""A guest's volumes: made, grown, deleted; and its record, which says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from virtkit import seed
from virtkit.apply import volumes as disks
from virtkit.apply.engine import Say
from virtkit.apply.guest.seed_keys import SeedKeys
from virtkit.apply.guest.work import Work
from virtkit.errors import VirtkitError
from virtkit.plan import uses
from virtkit.progress import Progress
from virtkit.spec import writable_size
from virtkit.state.desired import Volume
from virtkit.state.record import VolumeRecord


class Volumes:
    """Makes the volumes of one guest."""

    def __init__(self, work: Work, seed_keys: SeedKeys) -> None:
        self._work = work
        self._seed_keys = seed_keys

    def make(self, progress: Progress) -> None:
        """Makes every volume that isn't made, and then says so in the record."""
        volumes = {each.name: each for each in self._work.guest.volumes}
        wanted = [
            volumes[each.name]
            for each in self._work.record.volumes
            if each.name in volumes and each.state != "made"
        ]
        wanted.sort(key=lambda each: each.content == "seed")  # it is the sign that all are made
        keys = self._seed_keys.made(any(each.content == "seed" for each in wanted))
        deleting = [each for each in self._work.record.volumes if each.state == "deleting"]
        in_use = [each for each in deleting if each.name not in volumes and self._in_use(each)]
        deleting = [each for each in deleting if each not in in_use]
        if wanted or deleting:
            self._work.host.domains.check_record(self._work.record)
        for each in deleting:
            if not each.keep:
                disks.delete(self._work.host.storage, each)
        for volume in wanted:
            progress(volume.name)
            if volume.content != "log":
                self._make_one(volume, keys, progress)
        self._check_kept(volumes)
        staying = tuple(each for each in self._work.record.volumes if each.name in volumes)
        self._work.record = replace(self._work.record, volumes=staying).with_state("made")
        self._work.record = replace(
            self._work.record, volumes=(*self._work.record.volumes, *in_use)
        )
        self._work.host.domains.write_record(self._work.record)
        self._grow(progress)

    def _in_use(self, volume: VolumeRecord) -> bool:
        """Whether the running guest has a volume that its definition no longer has."""
        live = self._work.host.domains.live(self._work.guest.driver, self._work.guest.domain)
        return self._work.running and uses(live, volume.name)

    def _grow(self, say: Say) -> None:
        """Gives disks their size, but for those that the running guest grows with (plug)."""
        blocks = [each for each in self._work.guest.volumes if each.role in ("root", "disk")]
        sizes = self._work.host.storage.sizes([each.name for each in blocks])
        for volume in blocks:
            field = "disk" if volume.role == "root" else f"disks.{volume.label}.size"
            live = self._work.running and self._work.guest.driver.effect(field) == "live"
            if not live and sizes.get(volume.name, volume.size) < volume.size:
                say(volume.name)
                self._work.host.storage.grow(volume.name, volume.size)

    def _check_kept(self, volumes: Mapping[str, Volume]) -> None:
        kept = [e.name for e in self._work.record.volumes if e.keep and e.name in volumes]
        for name, size in self._work.host.storage.sizes(kept).items():
            if size > volumes[name].size:
                raise VirtkitError(
                    f"kept disk {name} is larger than the spec says, and is never shrunk",
                    why=f"it has {size} bytes, the spec says {volumes[name].size}",
                    cure=f"set `size: {writable_size(size)}`; or remove it, with what is on it: "
                    + self._work.down("--volumes"),
                )

    def _make_one(self, volume: Volume, keys: seed.SshKeys | None, progress: Progress) -> None:
        storage = self._work.host.storage
        storage.delete(volume.key)  # a leftover of an interrupted run: the record says wanted
        if volume.content == "seed":
            assert keys is not None
            files = seed.documents(self._work.guest, keys, self._work.record.instance)
            disks.make_seed(storage, volume, self._work.guest.driver.seed, files, progress)
        else:
            disks.make(storage, volume, progress)
