"""What the pool's record says of an environment's guests, as a run changes it.

Written once before the run's first volume is made or goes, and once after its last step, for all
guests together. It must never lose sight of a volume: a guest is listed before its first one is
made, and until its last one is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from virtkit.errors import VirtkitError
from virtkit.host import Host, Storage
from virtkit.record import GuestRecord, KeptDisk, PoolRecord

#: What is to be listed of a guest; None where its volumes' names are taken. It gets the kept disks
#: and the names of all volumes.
Coming = Callable[[Mapping[str, KeptDisk], Collection[str]], GuestRecord | None]


class Ledger:
    """The part of a run in the records of one host's pools."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._coming: list[Coming] = []
        self._leaving: list[GuestRecord] = []
        self._storages: dict[str, Storage] = {}
        self._known: PoolRecord | None = None
        self._before: PoolRecord | None = None
        self._gone: set[str] = set()
        self._deleted: set[str] = set()

    # --- what the run is to do --------------------------------------------------------------

    @property
    def needed(self) -> bool:
        """Whether volumes are made or go."""
        return bool(self._coming or self._leaving)

    def comes(self, coming: Coming) -> None:
        """A guest whose volumes are to be made."""
        self._coming.append(coming)

    def leaves(self, record: GuestRecord) -> None:
        """A guest whose volumes are to go."""
        self._leaving.append(record)

    def storage_of(self, record: GuestRecord) -> Storage:
        """The pool in which a guest's volumes lie, though the spec may name another one by now."""
        folder = record.folder
        if folder not in self._storages:
            found = self._host.storage_at(folder) if folder else self._host.storage
            self._storages[folder] = found
        return self._storages[folder]

    # --- what is known of the spec's pool ---------------------------------------------------

    def _pool(self) -> PoolRecord:
        if self._known is None:
            self._known = self._host.storage.record()
        return self._known

    @property
    def kept(self) -> Mapping[str, KeptDisk]:
        """The kept disks of the spec's pool, as the run began."""
        return self._pool().kept

    def before(self, domain: str) -> GuestRecord | None:
        """A guest in the record of the spec's pool, as the last run left it."""
        return (self._before or self._pool()).guests.get(domain)

    # --- the two writes ---------------------------------------------------------------------

    def begin(self) -> None:
        """Lists what is about to be made, and what is about to go."""
        own = self._host.storage
        leaving: dict[str, tuple[Storage, list[GuestRecord]]] = {}
        for each in self._leaving:
            storage = self.storage_of(each)
            leaving.setdefault(storage.pool, (storage, []))[1].append(each)
        if self._coming:
            leaving.setdefault(own.pool, (own, []))
        for storage, records in leaving.values():
            if not storage.active():
                storage.ensure(*filter(None, [next((e.folder for e in records), "")]))
            with storage.lock.held():
                before = storage.record()
                guests, kept = dict(before.guests), dict(before.kept)
                if storage is own:
                    names = storage.names() if self._coming else frozenset()
                    coming = (each(before.kept, names) for each in self._coming)
                    records = [*records, *filter(None, coming)]
                for each in records:
                    guests[each.domain] = each.listed()
                    _note_kept(kept, each)
                after = replace(before, guests=guests, kept=kept)
                _write(storage, before, after)
            if storage is own:
                self._before, self._known = before, after

    def check(self, record: GuestRecord) -> None:
        """Looks whether the pool's record lists a guest that has no domain, with all its volumes.

        Raises:
            VirtkitError: it does not.
        """
        storage = self.storage_of(record)
        pool = self._pool() if storage is self._host.storage else storage.record()
        if not record.is_of(pool.guests.get(record.domain)):
            raise VirtkitError(
                f"guest {record.guest} of environment {record.environment} is not what this run "
                "knew",
                why=f"its domain is gone, and pool {storage.pool} lists other volumes for it, or "
                "none; nothing was deleted",
                cure="run again: it looks anew",
                where=f"{self._host.name} guest/{record.guest}",
            )

    def gone(self, record: GuestRecord) -> None:
        """A guest of which nothing is left but kept disks."""
        self._gone.add(record.domain)

    def deleted(self, names: Iterable[str]) -> None:
        """Disks that are gone."""
        self._deleted.update(names)

    def end(self, environment: str, records: Iterable[GuestRecord]) -> bool:
        """Lists an environment's guests as their domains' records say, and no more those that are
        gone. The answer is whether one is still listed that has no domain.

        Args:
            records: of the environment's domains on this host.
        """
        own = self._host.storage
        mine: dict[str, list[GuestRecord]] = {own.pool: []}
        storages = {own.pool: own} | {each.pool: each for each in self._storages.values()}
        for each in records:
            if each.folder:
                mine.setdefault(self.storage_of(each).pool, []).append(each)
        storages |= {each.pool: each for each in self._storages.values()}
        left = False
        for name, storage in storages.items():
            if not storage.active():
                continue
            with storage.lock.held():
                before = storage.record()
                guests = {d: e for d, e in before.guests.items() if d not in self._gone}
                kept = {n: e for n, e in before.kept.items() if n not in self._deleted}
                for each in mine.get(name, ()):
                    guests[each.domain] = each.listed()
                    _note_kept(kept, each)
                _write(storage, before, replace(before, guests=guests, kept=kept))
            there = {each.domain for each in mine.get(name, ())}
            left |= any(e.environment == environment and d not in there for d, e in guests.items())
        return left


def _note_kept(kept: dict[str, KeptDisk], owner: GuestRecord) -> None:
    """Notes a guest's kept disks, so that they outlive it; those that are no longer to be kept are
    forgotten."""
    for each in owner.volumes:
        if each.role != "disk":
            continue
        if each.keep and each.state != "wanted":
            entry = KeptDisk(owner.environment, owner.guest, each.name, each.key, owner.spec)
            kept[each.name] = entry
        elif not each.keep:
            kept.pop(each.name, None)


def _write(storage: Storage, before: PoolRecord, after: PoolRecord) -> None:
    if after != before:
        storage.write_record(after)
