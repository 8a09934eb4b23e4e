"""What the pool's record says of an environment's guests, as a run changes it.

Written once before the run's first volume is made or goes, and once after its last step, for all
guests together. It must never lose sight of a volume: a guest is listed before its first one is
made, and until its last one is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from virtkit.errors import VirtkitError
from virtkit.host import Host, Storage
from virtkit.progress import Progress
from virtkit.state.record import GuestRecord, KeptDisk, PoolRecord

#: What is to be listed of a guest; None where somebody else has its name, or that of one of its
#: volumes. It gets the pool's record and the names of all volumes.
NewEntry = Callable[[PoolRecord, Collection[str]], GuestRecord | None]


class PoolRecords:
    """The records of one host's pools, as a run changes them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._adding: list[NewEntry] = []
        self._removing: list[GuestRecord] = []
        self._storages: dict[str, Storage] = {}
        #: The records of pools, by their names, as the last run left them.
        self._former: dict[str, PoolRecord] = {}
        self._removed: set[str] = set()
        self._deleted: set[str] = set()

    # --- what the run is to do --------------------------------------------------------------

    @property
    def needed(self) -> bool:
        """Whether volumes are made or go."""
        return bool(self._adding or self._removing)

    def will_add(self, entry: NewEntry) -> None:
        """Announces a guest whose volumes are to be made."""
        self._adding.append(entry)

    def will_remove(self, record: GuestRecord) -> None:
        """Announces a guest whose volumes are to be deleted."""
        self._removing.append(record)

    def storage_of(self, record: GuestRecord) -> Storage:
        """The pool in which a guest's volumes lie, though the spec may name another one by now."""
        folder = record.folder
        if folder not in self._storages:
            storage = self._host.storage_at(folder) if folder else self._host.storage
            self._storages[folder] = storage
        return self._storages[folder]

    # --- what the last run left -------------------------------------------------------------

    def _pool_record(self, storage: Storage) -> PoolRecord:
        if storage.pool_name not in self._former:
            self._former[storage.pool_name] = storage.record()
        return self._former[storage.pool_name]

    @property
    def kept(self) -> Mapping[str, KeptDisk]:
        """The kept disks of the spec's pool, as the run began."""
        return self._pool_record(self._host.storage).kept

    def former(self, domain: str) -> GuestRecord | None:
        """A guest in the record of the spec's pool, as the last run left it."""
        return self._pool_record(self._host.storage).guests.get(domain)

    def check(self, record: GuestRecord) -> None:
        """Looks whether the last run left a guest that has no domain in the pool's record, with
        all its volumes.

        Raises:
            VirtkitError: it did not.
        """
        storage = self.storage_of(record)
        if not record.is_covered_by(self._pool_record(storage).guests.get(record.domain)):
            raise VirtkitError(
                f"guest {record.guest} of environment {record.environment} has changed since "
                "this run looked at it",
                why=f"its domain is gone, and pool {storage.pool_name} lists other volumes for "
                "it, or none; nothing was deleted",
                cure="run again",
                where=f"{self._host.name} guest/{record.guest}",
            )

    # --- the two writes ---------------------------------------------------------------------

    def write_before(self, progress: Progress) -> None:
        """Lists what is about to be made, and what is about to be deleted."""
        for storage, removing in self._pools():
            if not storage.active():
                storage.ensure(next((each.folder for each in removing), ""))
            with storage.lock.acquire(on_wait=progress, sleep=progress.sleep):
                before = storage.record()
                adding = self._entries(before) if storage is self._host.storage else ()
                _write(storage, before, _listing(before, [*removing, *adding]))
                self._former[storage.pool_name] = before

    def _pools(self) -> Iterable[tuple[Storage, list[GuestRecord]]]:
        """The pools that the run changes, and the guests that it removes from each."""
        answer: dict[str, tuple[Storage, list[GuestRecord]]] = {}
        for each in self._removing:
            storage = self.storage_of(each)
            answer.setdefault(storage.pool_name, (storage, []))[1].append(each)
        if self._adding:
            own = self._host.storage
            answer.setdefault(own.pool_name, (own, []))
        return answer.values()

    def _entries(self, before: PoolRecord) -> Iterator[GuestRecord]:
        """What is to be listed of the guests that are added."""
        names = self._host.storage.names() if self._adding else frozenset()
        yield from filter(None, (each(before, names) for each in self._adding))

    def mark_removed(self, record: GuestRecord) -> None:
        """Notes a guest of which nothing is left but kept disks."""
        self._removed.add(record.domain)

    def mark_deleted(self, names: Iterable[str]) -> None:
        """Notes kept disks that were deleted."""
        self._deleted.update(names)

    def write_after(self, environment: str, records: Iterable[GuestRecord]) -> bool:
        """Lists an environment's guests as their domains' records say, and no more those that are
        gone. The answer is whether one is still listed that has no domain.

        Args:
            records: of the environment's domains on this host.
        """
        by_pool: dict[str, list[GuestRecord]] = {}
        for each in records:
            by_pool.setdefault(self.storage_of(each).pool_name, []).append(each)
        storages = {each.pool_name: each for each in (self._host.storage, *self._storages.values())}
        any_undefined = False
        for name, storage in storages.items():
            if not storage.active():
                continue
            in_pool = by_pool.get(name, [])
            with storage.lock.acquire():
                before = storage.record()
                after = _listing(self._without_removed(before), in_pool)
                _write(storage, before, after)
            domains = {each.domain for each in in_pool}
            listed = after.guests.items()
            any_undefined |= any(
                e.environment == environment and d not in domains for d, e in listed
            )
        return any_undefined

    def _without_removed(self, pool: PoolRecord) -> PoolRecord:
        return replace(
            pool,
            guests={d: e for d, e in pool.guests.items() if d not in self._removed},
            kept={n: e for n, e in pool.kept.items() if n not in self._deleted},
        )


def _listing(pool: PoolRecord, records: Iterable[GuestRecord]) -> PoolRecord:
    """A pool's record that lists these guests and their kept disks, which outlive them, too."""
    guests, kept = dict(pool.guests), dict(pool.kept)
    for each in records:
        guests[each.domain] = each.for_pool_record()
        _note_kept(kept, each)
    return replace(pool, guests=guests, kept=kept)


def _note_kept(kept: dict[str, KeptDisk], owner: GuestRecord) -> None:
    """Notes a guest's kept disks; those that are no longer to be kept are forgotten."""
    for each in owner.volumes:
        if each.role != "disk":
            continue
        if each.keep and each.state != "wanted":
            kept[each.name] = KeptDisk(
                owner.environment, owner.guest, each.name, each.key, owner.spec, owner.made_from
            )
        elif not each.keep:
            kept.pop(each.name, None)


def _write(storage: Storage, before: PoolRecord, after: PoolRecord) -> None:
    if after != before:
        storage.write_record(after)
