"""A pool of one host: found, made, activated, refreshed, and the names in it."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import libvirt

from virtkit.errors import RequestError, VirtkitError
from virtkit.facts import Pool
from virtkit.host.connection import Connections
from virtkit.host.errors import libvirt_errors, skip_unreadable
from virtkit.host.names import checked_name
from virtkit.xml import tree

#: Where virtkit makes the pool on a host that has none of the name.
FOLDER = "/var/lib/libvirt/images"
#: Pool types that keep volumes as files in a folder.
_FILES = {"dir", "fs", "netfs"}


class StoragePool:
    """The pool that virtkit uses on a host."""

    def __init__(self, connections: Connections, pool: str) -> None:
        self._connections = connections
        self._name = checked_name(pool)
        self._refreshing = threading.Lock()
        #: Of whoever makes the pool or writes its record.
        self.lock = connections.lock(f"pool-{pool}", f"pool {pool}")

    @property
    def pool_name(self) -> str:
        """The pool's name."""
        return self._name

    def _pool(self) -> libvirt.virStoragePool | None:
        try:
            return self._connections.any().storagePoolLookupByName(self._name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
                return None
            raise

    def _existing(self) -> libvirt.virStoragePool:
        with libvirt_errors("read", f"pool {self._name}", where=self._connections.host):
            pool = self._pool()
        if pool is None:
            raise VirtkitError(
                f"pool {self._name} is gone",
                why="somebody undefined it since this run began",
                cure="run `virtkit up` or `down` again: they define it again",
                where=self._connections.host,
            )
        return pool

    def describe(self) -> Pool:
        """The pool as it stands, or as it would be made.

        Raises:
            RequestError: it keeps no files (LVM, RBD …).
        """
        with libvirt_errors("read", f"pool {self._name}", where=self._connections.host):
            pool = self._pool()
            if pool is None:
                return Pool(self._name, FOLDER, exists=False, active=False)
            root = tree.parse(pool.XMLDesc(0), f"pool {self._name}")
            active = bool(pool.isActive())
        kind = root.get("type", "")
        path = root.findtext("./target/path") or ""
        if kind not in _FILES:
            raise RequestError(
                f"pool {self._name} is of type {kind}; virtkit needs a folder",
                cure="name a pool of type dir: `hosts: {HOST: {pool: NAME}}`",
                where=self._connections.host,
            )
        return Pool(self._name, path.rstrip("/"), kind, active=active)

    def ensure(self, folder: str = "") -> None:
        """Makes the pool where the host has none, and activates it. One at a time.

        What a run left undone that was interrupted as it made it is done then.

        Args:
            folder: where records say that volumes lie. There the pool is defined again, and the
                folder is never made: it may only be unmounted.
        """
        with (
            self.lock.acquire(),
            libvirt_errors("activate", f"pool {self._name}", where=self._connections.host),
        ):
            pool = self._pool()
            if pool is None:
                from virtkit.xml import render  # loads Jinja

                xml = render.pool_xml(Pool(self._name, folder or FOLDER))
                with self._connections.validating:
                    pool = self._connections.any().storagePoolDefineXML(
                        xml, libvirt.VIR_STORAGE_POOL_DEFINE_VALIDATE
                    )
            unfinished = _unfinished(pool)
            if not pool.isActive():
                missing = self._connections.remote is not None or not Path(FOLDER).is_dir()
                if unfinished and missing and not folder:
                    pool.build(0)
                pool.create(0)
            if unfinished:
                pool.setAutostart(1)

    def unfinished(self) -> bool:
        """Whether a run was interrupted as it made the pool, so that its folder may be missing."""
        with libvirt_errors("read", f"pool {self._name}", where=self._connections.host):
            pool = self._pool()
            return pool is not None and _unfinished(pool)

    def refresh(self) -> None:
        """Lets libvirt see files that came or went behind its back. One at a time."""
        with (
            self._refreshing,
            libvirt_errors("read", f"pool {self._name}", where=self._connections.host),
        ):
            try:
                pool = self._pool()
                if pool is not None and pool.isActive():
                    pool.refresh(0)
            except libvirt.libvirtError as error:
                # another program's job on this pool: its refresh or upload is as good for us
                if error.get_error_code() != libvirt.VIR_ERR_INTERNAL_ERROR:
                    raise

    def active(self) -> bool:
        """Whether the pool is there and active."""
        with libvirt_errors("read", f"pool {self._name}", where=self._connections.host):
            pool = self._pool()
            return pool is not None and bool(pool.isActive())

    def free(self) -> int:
        """Bytes that are free where the pool's volumes lie, now."""
        self.refresh()
        with libvirt_errors("read", f"pool {self._name}", where=self._connections.host):
            return int(self._existing().info()[3])

    def names(self) -> frozenset[str]:
        """The names of all volumes; none where the pool is not active."""
        with libvirt_errors("read", f"pool {self._name}", where=self._connections.host):
            pool = self._pool()
            if pool is None or not pool.isActive():
                return frozenset()
            # not listVolumes: it asks for their number first, and leaves out what came since
            return frozenset(volumes_by_name(pool))


def _unfinished(pool: libvirt.virStoragePool) -> bool:
    """Whether a run was interrupted as it made the pool: its last step, autostart, is missing."""
    return f"<path>{FOLDER}</path>" in pool.XMLDesc(0) and not pool.autostart()


def pool_at(connections: Connections, folder: str) -> str | None:
    """The name of the pool that keeps its volumes in ``folder``."""
    with libvirt_errors("read", "the pools", where=connections.host):
        for pool in connections.any().listAllStoragePools():
            with skip_unreadable():
                root = tree.parse(pool.XMLDesc(0), "a pool")
                if (root.findtext("./target/path") or "").rstrip("/") == folder:
                    return str(pool.name())
    return None


def volumes_by_name(pool: libvirt.virStoragePool) -> dict[str, libvirt.virStorageVol]:
    """A pool's volumes by name. Others' files have any names: one that is no text is none of ours,
    and libvirt's binding can't say it."""
    answer = {}
    for volume in pool.listAllVolumes():
        with suppress(UnicodeDecodeError):
            answer[volume.name()] = volume
    return answer
