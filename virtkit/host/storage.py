"""Pools and volumes of one host: made, filled by libvirt's streams, read, deleted by key."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import libvirt

from virtkit.errors import VirtkitError
from virtkit.facts import Pool
from virtkit.host.connection import Connections
from virtkit.host.errors import libvirt_errors, passing_over
from virtkit.host.names import strict, strict_path
from virtkit.state import record_text
from virtkit.state.record import PoolRecord, StoredImage
from virtkit.xml import render, tree

#: Where virtkit makes the pool on a host that has none of the name.
FOLDER = "/var/lib/libvirt/images"
#: Pool types that keep volumes as files in a folder.
_FILES = {"dir", "fs", "netfs"}
#: The pool's own record: names of exactly this form, and none longer than this (bytes).
_RECORD = re.compile(r"virtkit-record-([0-9]{6,18})\.json", re.ASCII)
_LARGEST_RECORD = 64 * 1024**2
#: Seconds in which whoever makes a small volume, or opens one, has done so.
_OPENED = 2.0


class Storage:
    """The pool that virtkit uses on a host."""

    def __init__(self, connections: Connections, pool: str) -> None:
        self._connections = connections
        self._name = strict(pool)
        self._refreshing = threading.Lock()
        #: Of whoever makes the pool or writes its record.
        self.lock = connections.lock(f"pool-{pool}", f"pool {pool}")

    @property
    def pool(self) -> str:
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
                cure="run `virtkit up` or `down` again: they define it anew",
                where=self._connections.host,
            )
        return pool

    def describe(self) -> Pool:
        """The pool as it stands, or as it would be made.

        Raises:
            VirtkitError: it keeps no files (LVM, RBD …).
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
            raise VirtkitError(
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
            self.lock.held(),
            libvirt_errors("activate", f"pool {self._name}", where=self._connections.host),
        ):
            pool = self._pool()
            if pool is None:
                xml = render.pool(Pool(self._name, folder or FOLDER))
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
                # another program's job on this pool: its refresh or upload serves us as well
                if error.get_error_code() != libvirt.VIR_ERR_INTERNAL_ERROR:
                    raise

    def active(self) -> bool:
        """Whether the pool is there and active."""
        with libvirt_errors("read", f"pool {self._name}", where=self._connections.host):
            pool = self._pool()
            return pool is not None and bool(pool.isActive())

    def names(self) -> frozenset[str]:
        """The names of all volumes; none where the pool is not active."""
        with libvirt_errors("read", f"pool {self._name}", where=self._connections.host):
            pool = self._pool()
            if pool is None or not pool.isActive():
                return frozenset()
            # not listVolumes: it asks for their number first, and leaves out what came since
            return frozenset(_named(pool))

    # --- volumes --------------------------------------------------------------------------

    def create(self, xml: str) -> None:
        """Creates a volume from its XML."""
        name = strict(tree.parse(xml, "a volume").findtext("name"))
        with libvirt_errors("create", f"volume {name}", where=self._connections.host):
            self._existing().createXML(xml, 0)

    def copy(self, xml: str, source: str) -> None:
        """Creates a volume from its XML that begins with what the pool's file ``source`` holds.

        At once where the file system shares blocks (XFS, btrfs). Else libvirt reads each hole to
        its end; so it copies only where the caller can't read the file.
        """
        name = strict(tree.parse(xml, "a volume").findtext("name"))
        with libvirt_errors("copy", f"volume {source} to {name}", where=self._connections.host):
            pool = self._existing()
            original = pool.storageVolLookupByName(strict(PurePosixPath(source).name))
            with suppress(libvirt.libvirtError):
                pool.createXMLFrom(xml, original, libvirt.VIR_STORAGE_VOL_CREATE_REFLINK)
                return
            if self._connections.remote or not os.access(source, os.R_OK):
                pool.createXMLFrom(xml, original, 0)
                return
        self.create(xml)
        self.upload(name, Path(source))

    def delete(self, key: str) -> bool:
        """Deletes the volume with this key (its path), and no other of its name; False where no
        active pool has it."""
        name = PurePosixPath(strict_path(key)).name
        with libvirt_errors("delete", f"volume {name}", where=self._connections.host):
            try:
                volume = self._connections.any().storageVolLookupByKey(key)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
                    return False
                raise
            _once_free(partial(volume.delete, 0))
            return True

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """The sizes of those volumes that there are, in bytes."""
        with libvirt_errors("read", f"pool {self._name}", where=self._connections.host):
            pool = self._pool()
            if pool is None or not pool.isActive():
                return {}
            found, answer = _named(pool), {}
            for name in names:
                size = _size(found[name]) if name in found else None
                if size is not None:
                    answer[name] = size
            return answer

    def grow(self, name: str, size: int) -> None:
        """Gives a volume that no running guest has ``size`` bytes; it is never shrunk."""
        with libvirt_errors("grow", f"volume {name}", where=self._connections.host):
            volume = self._existing().storageVolLookupByName(name)
            if int(volume.info()[1]) < size:
                _once_free(partial(volume.resize, size, 0))

    def damage(self, image: StoredImage) -> str:
        """What is wrong with an image's volumes, as far as their names and lengths tell."""
        files = image.files
        for key in filter(None, (files.root, files.kernel, files.initrd)):
            name = PurePosixPath(key).name
            with libvirt_errors("read", f"volume {name}", where=self._connections.host):
                volume = self._find(name)
                if volume is None:
                    return f"its volume {name} is gone"
                length = _length(volume)
            if key == files.root and length is not None and image.bytes not in (0, length):
                return f"its volume {name} has {length} bytes of {image.bytes}"
        return ""

    def _find(self, name: str) -> libvirt.virStorageVol | None:
        try:
            return self._existing().storageVolLookupByName(strict(name))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
                return None
            raise

    def write(self, name: str, content: bytes) -> None:
        """Fills an existing volume of the right size."""
        with libvirt_errors("upload", f"volume {name}", where=self._connections.host):
            volume = self._existing().storageVolLookupByName(name)
            position = 0

            def chunk(_stream: Any, size: int, _opaque: Any) -> bytes:
                nonlocal position
                piece = content[position : position + size]
                position += len(piece)
                return piece

            with _filling(volume) as stream:
                _once_free(partial(volume.upload, stream, 0, len(content), 0))
                stream.sendAll(chunk, None)

    def upload(self, name: str, path: Path, say: Callable[[int], None] = lambda _: None) -> None:
        """Fills a volume from a file, holes left out.

        ``say`` gets the bytes sent so far; it may raise to give up.
        """
        with (
            libvirt_errors("upload", f"volume {name}", where=self._connections.host),
            path.open("rb", buffering=0) as file,
        ):
            volume = self._existing().storageVolLookupByName(name)
            size = os.fstat(file.fileno()).st_size
            with _filling(volume) as stream:
                sparse = libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM
                _once_free(partial(volume.upload, stream, 0, size, sparse))
                _Sparse(file.fileno(), size, say).send(stream)

    def read(self, name: str, offset: int = 0, length: int = 0) -> bytes:
        """What stands in a volume from ``offset`` on; empty where there is none.

        Args:
            length: bytes at most; 0 is all.
        """
        with libvirt_errors("read", f"volume {name}", where=self._connections.host):
            volume = self._find(name)
            if volume is None:
                return b""
            stream = volume.connect().newStream(0)
            try:
                _once_free(partial(volume.download, stream, offset, length, 0))
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
                    return b""  # deleted since it was found
                raise
            pieces: list[bytes] = []
            stream.recvAll(lambda _stream, data, _opaque: pieces.append(data), None)
            stream.finish()
            return b"".join(pieces)

    # --- the pool's record ----------------------------------------------------------------

    def record(self) -> PoolRecord:
        """What the pool's own small volume says; the newest that can be read.

        Others may write a newer one meanwhile: where the last is still empty and the one before
        has gone, it is looked for again.
        """
        names = _records(self.names())
        while True:
            for name in reversed(names):
                content = self.read(name, length=_LARGEST_RECORD)
                found = record_text.read_pool(content.decode("utf-8", "replace"))
                if found is not None:
                    return found
            before, names = names, _records(self.names())
            if names == before:
                return PoolRecord()

    def write_record(self, new: PoolRecord) -> None:
        """Writes a newer record, then removes the older ones: a crash leaves one that reads."""
        old = _records(self.names())
        number = _number(old[-1]) + 1 if old else 1
        content = record_text.pool_text(new).encode()
        if len(content) > _LARGEST_RECORD:  # it could not be read again
            raise VirtkitError(
                f"the record of pool {self._name} would be larger than {_LARGEST_RECORD} bytes",
                why=f"it lists {len(new.guests)} guests",
                cure="make `devices` of the guests shorter, or give some of the environments "
                "another pool: `hosts: {HOST: {pool: NAME}}`",
                where=self._connections.host,
            )
        name = f"virtkit-record-{number:06d}.json"
        self.create(render.volume(name, len(content), "raw"))
        self.write(name, content)
        with libvirt_errors("delete", "older records", where=self._connections.host):
            for each in old:
                volume = self._find(each)
                if volume is not None:
                    _once_free(partial(volume.delete, 0))


def _unfinished(pool: libvirt.virStoragePool) -> bool:
    """Whether a pool of virtkit's making lacks what its making ends with."""
    return f"<path>{FOLDER}</path>" in pool.XMLDesc(0) and not pool.autostart()


def pool_at(connections: Connections, folder: str) -> str | None:
    """The name of the pool that keeps its volumes in ``folder``."""
    with libvirt_errors("read", "the pools", where=connections.host):
        for pool in connections.any().listAllStoragePools():
            with passing_over():
                root = tree.parse(pool.XMLDesc(0), "a pool")
                if (root.findtext("./target/path") or "").rstrip("/") == folder:
                    return str(pool.name())
    return None


def _named(pool: libvirt.virStoragePool) -> dict[str, libvirt.virStorageVol]:
    """A pool's volumes by name. Others' files have any names: one that is no text is none of ours,
    and libvirt's binding can't say it."""
    answer = {}
    for volume in pool.listAllVolumes():
        with suppress(UnicodeDecodeError):
            answer[volume.name()] = volume
    return answer


def _size(volume: libvirt.virStorageVol) -> int | None:
    """A volume's size in bytes; None where another run has deleted it since it was listed."""
    try:
        return int(volume.info()[1])
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise
        return None


def _length(volume: libvirt.virStorageVol) -> int | None:
    """The bytes of a volume's file; None where its driver can't tell."""
    try:
        return int(volume.infoFlags(libvirt.VIR_STORAGE_VOL_GET_PHYSICAL)[2])
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return None


def _once_free(call: Callable[[], object]) -> None:
    """Calls libvirt for a volume; it refuses in the moment in which another makes or opens it."""
    end = time.monotonic() + _OPENED
    while True:
        try:
            call()
            return
        except libvirt.libvirtError as error:
            invalid = error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID
            if not invalid or time.monotonic() > end:
                raise
        time.sleep(0.01)


@contextmanager
def _filling(volume: libvirt.virStorageVol) -> Iterator[libvirt.virStream]:
    """A stream into a new volume; one that can't be filled goes, and so does the space it took."""
    stream = volume.connect().newStream(0)
    try:
        yield stream
        stream.finish()
    except BaseException:  # an interrupt too: else libvirt keeps the volume busy
        for let_go in (stream.abort, lambda: volume.delete(0)):
            with suppress(libvirt.libvirtError):
                let_go()
        raise


def _records(names: frozenset[str]) -> list[str]:
    """The records among volumes, oldest first."""
    return sorted((each for each in names if _RECORD.fullmatch(each)), key=_number)


def _number(name: str) -> int:
    found = _RECORD.fullmatch(name)
    return int(found[1]) if found else 0


class _Sparse:
    """The three callbacks of libvirt's sparse streams, over one file descriptor."""

    def __init__(self, descriptor: int, size: int, say: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._size = size
        self._say = say

    def send(self, stream: libvirt.virStream) -> None:
        stream.sparseSendAll(self._data, self._hole, self._skip, None)

    def _data(self, _stream: Any, size: int, _opaque: Any) -> bytes:
        piece = os.read(self._descriptor, size)
        self._say(os.lseek(self._descriptor, 0, os.SEEK_CUR))
        return piece

    def _hole(self, _stream: Any, _opaque: Any) -> tuple[bool, int]:
        """Whether data (else a hole) comes next, and how many bytes of it."""
        here = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        if here >= self._size:
            return False, 0
        data = self._next(here, os.SEEK_DATA)
        if data > here:
            os.lseek(self._descriptor, here, os.SEEK_SET)
            return False, data - here
        hole = self._next(here, os.SEEK_HOLE)
        os.lseek(self._descriptor, here, os.SEEK_SET)
        return True, hole - here

    def _next(self, here: int, kind: int) -> int:
        try:
            return os.lseek(self._descriptor, here, kind)
        except OSError:  # ENXIO: no data up to the end
            return self._size

    def _skip(self, _stream: Any, length: int, _opaque: Any) -> int:
        os.lseek(self._descriptor, length, os.SEEK_CUR)
        return 0


def rotations(names: frozenset[str], log: str) -> Iterator[str]:
    """A console log and what virtlogd rotated it into (NAME.0, NAME.1 …)."""
    for name in names:
        if name == log or (name.startswith(f"{log}.") and name[len(log) + 1 :].isdigit()):
            yield name
