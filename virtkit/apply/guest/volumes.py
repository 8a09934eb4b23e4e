"""The step that makes, grows and deletes a guest's volumes, and says so in its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from virtkit import seed
from virtkit.apply.engine import Say
from virtkit.apply.guest.context import GuestContext
from virtkit.apply.guest.seed_keys import SeedKeys
from virtkit.apply.volumes import delete_volume, make_given, make_seed, make_volume
from virtkit.errors import VirtkitError
from virtkit.plan import has_volume
from virtkit.progress import Progress
from virtkit.spec import writable_size
from virtkit.state.desired import Volume
from virtkit.state.record import VolumeRecord


class Volumes:
    """Makes the volumes of one guest."""

    def __init__(self, context: GuestContext, seed_keys: SeedKeys) -> None:
        self._context = context
        self._seed_keys = seed_keys

    def make(self, progress: Progress) -> None:
        """Makes every volume that isn't made, and then says so in the record."""
        volumes = {each.name: each for each in self._context.guest.volumes}
        wanted = [
            volumes[each.name]
            for each in self._context.record.volumes
            if each.name in volumes and each.state != "made"
        ]
        wanted.sort(key=lambda each: each.content == "seed")  # it is the sign that all are made
        makes_seed = any(each.content == "seed" for each in wanted)
        keys = self._seed_keys.for_new_seed() if makes_seed else None
        deleting = [each for each in self._context.record.volumes if each.state == "deleting"]
        in_use = [each for each in deleting if each.name not in volumes and self._in_use(each)]
        deleting = [each for each in deleting if each not in in_use]
        if wanted or deleting:
            self._context.host.domains.check_record(self._context.record)
        for each in deleting:
            if not each.keep:
                delete_volume(self._context.host.storage, each)
        for volume in wanted:
            progress(volume.name)
            if volume.content != "log":
                self._make_volume(volume, keys, progress)
        self._check_kept(volumes)
        staying = tuple(each for each in self._context.record.volumes if each.name in volumes)
        self._context.record = replace(self._context.record, volumes=staying).with_state("made")
        self._context.record = replace(
            self._context.record, volumes=(*self._context.record.volumes, *in_use)
        )
        self._context.host.domains.write_record(self._context.record)
        self._grow(progress)

    def _in_use(self, volume: VolumeRecord) -> bool:
        """Whether the running guest has a volume that its definition no longer has."""
        live = self._context.host.domains.live(
            self._context.guest.driver, self._context.guest.domain
        )
        return self._context.running and has_volume(live, volume.name)

    def _grow(self, say: Say) -> None:
        """Gives disks their size, but for those that the running guest grows with (plug)."""
        blocks = [each for each in self._context.guest.volumes if each.role in ("root", "disk")]
        sizes = self._context.host.storage.sizes([each.name for each in blocks])
        for volume in blocks:
            field = "disk" if volume.role == "root" else f"disks.{volume.label}.size"
            live = self._context.running and self._context.guest.driver.effect(field) == "live"
            if not live and sizes.get(volume.name, volume.size) < volume.size:
                say(volume.name)
                self._context.host.storage.grow(volume.name, volume.size)

    def _check_kept(self, volumes: Mapping[str, Volume]) -> None:
        kept = [e.name for e in self._context.record.volumes if e.keep and e.name in volumes]
        for name, size in self._context.host.storage.sizes(kept).items():
            if size > volumes[name].size:
                raise VirtkitError(
                    f"kept disk {name} is larger than the spec says, and is never shrunk",
                    why=f"it has {size} bytes, the spec says {volumes[name].size}",
                    cure=f"set `size: {writable_size(size)}`; or remove it, with what is on it: "
                    + self._context.command("down", "--volumes"),
                )

    def _make_volume(self, volume: Volume, keys: seed.SshKeys | None, progress: Progress) -> None:
        storage = self._context.host.storage
        storage.delete(volume.key)  # a leftover of an interrupted run: the record says wanted
        if volume.content == "seed":
            assert keys is not None
            files = seed.files(self._context.guest, keys, self._context.record.instance)
            make_seed(storage, volume, self._context.guest.driver.seed, files, progress)
        elif volume.content == "given":
            make_given(storage, volume, self._context.guest.spec.ignition_bytes)
        else:
            make_volume(storage, volume, progress)
