"""Volumes of one host: made, filled, read, deleted by key; and the pool's own record."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath

import libvirt

from virtkit.errors import VirtkitError
from virtkit.host.errors import libvirt_errors
from virtkit.host.names import checked_name, checked_path
from virtkit.host.storage_pool import StoragePool, volumes_by_name
from virtkit.host.streams import filling, retry_while_busy, send_bytes, send_sparse
from virtkit.state import record_text
from virtkit.state.record import PoolRecord, StoredImage
from virtkit.xml import tree

#: The pool's own record: names of exactly this form, and none longer than this (bytes).
_RECORD = re.compile(r"virtkit-record-([0-9]{6,18})\.json", re.ASCII)
_MAX_RECORD = 64 * 1024**2


class Storage(StoragePool):
    """The pool that virtkit uses on a host, with its volumes and its record."""

    # --- volumes --------------------------------------------------------------------------

    def create(self, xml: str) -> None:
        """Creates a volume from its XML."""
        name = checked_name(tree.parse(xml, "a volume").findtext("name"))
        with libvirt_errors("create", f"volume {name}", where=self._connections.host):
            self._existing().createXML(xml, 0)

    def copy(self, xml: str, source: str) -> None:
        """Creates a volume from its XML that begins with what the pool's file ``source`` holds.

        At once where the file system shares blocks (XFS, btrfs). Else libvirt reads each hole to
        its end; so it copies only where the caller can't read the file.
        """
        name = checked_name(tree.parse(xml, "a volume").findtext("name"))
        with libvirt_errors("copy", f"volume {source} to {name}", where=self._connections.host):
            pool = self._existing()
            original = pool.storageVolLookupByName(checked_name(PurePosixPath(source).name))
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
        name = PurePosixPath(checked_path(key)).name
        with libvirt_errors("delete", f"volume {name}", where=self._connections.host):
            try:
                volume = self._connections.any().storageVolLookupByKey(key)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
                    return False
                raise
            retry_while_busy(partial(volume.delete, 0))
            return True

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """The sizes of those volumes that there are, in bytes."""
        with libvirt_errors("read", f"pool {self._name}", where=self._connections.host):
            pool = self._pool()
            if pool is None or not pool.isActive():
                return {}
            volumes, answer = volumes_by_name(pool), {}
            for name in names:
                size = _size(volumes[name]) if name in volumes else None
                if size is not None:
                    answer[name] = size
            return answer

    def grow(self, name: str, size: int) -> None:
        """Gives a volume that no running guest has ``size`` bytes; it is never shrunk."""
        with libvirt_errors("grow", f"volume {name}", where=self._connections.host):
            volume = self._existing().storageVolLookupByName(name)
            if int(volume.info()[1]) < size:
                retry_while_busy(partial(volume.resize, size, 0))

    def image_damage(self, image: StoredImage) -> str:
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
            return self._existing().storageVolLookupByName(checked_name(name))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
                return None
            raise

    def write(self, name: str, content: bytes) -> None:
        """Fills an existing volume of the right size."""
        with libvirt_errors("upload", f"volume {name}", where=self._connections.host):
            volume = self._existing().storageVolLookupByName(name)
            with filling(volume) as stream:
                retry_while_busy(partial(volume.upload, stream, 0, len(content), 0))
                send_bytes(stream, content)

    def upload(
        self, name: str, path: Path, say: Callable[[int, int], None] = lambda _, __: None
    ) -> None:
        """Fills a volume from a file, holes left out.

        Args:
            say: gets the bytes that are sent and how many there are; it may raise to give up.
        """
        with (
            libvirt_errors("upload", f"volume {name}", where=self._connections.host),
            path.open("rb", buffering=0) as file,
        ):
            volume = self._existing().storageVolLookupByName(name)
            size = os.fstat(file.fileno()).st_size
            with filling(volume) as stream:
                sparse = libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM
                retry_while_busy(partial(volume.upload, stream, 0, size, sparse))
                send_sparse(stream, file.fileno(), size, say)

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
                retry_while_busy(partial(volume.download, stream, offset, length, 0))
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
                content = self.read(name, length=_MAX_RECORD)
                record = record_text.read_pool(content.decode("utf-8", "replace"))
                if record is not None:
                    return record
            before, names = names, _records(self.names())
            if names == before:
                return PoolRecord()

    def write_record(self, new: PoolRecord) -> None:
        """Writes a newer record, then removes the older ones: a crash leaves one that reads."""
        old = _records(self.names())
        number = _number(old[-1]) + 1 if old else 1
        content = record_text.pool_text(new).encode()
        if len(content) > _MAX_RECORD:  # it could not be read again
            raise VirtkitError(
                f"the record of pool {self._name} would be larger than {_MAX_RECORD} bytes",
                why=f"it lists {len(new.guests)} guests",
                cure="make `devices` of the guests shorter, or give some of the environments "
                "another pool: `hosts: {HOST: {pool: NAME}}`",
                where=self._connections.host,
            )
        from virtkit.xml import render  # loads Jinja

        name = f"virtkit-record-{number:06d}.json"
        self.create(render.volume_xml(name, len(content), "raw"))
        self.write(name, content)
        with libvirt_errors("delete", "older records", where=self._connections.host):
            for each in old:
                volume = self._find(each)
                if volume is not None:
                    retry_while_busy(partial(volume.delete, 0))


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


def _records(names: frozenset[str]) -> list[str]:
    """The records among volumes, oldest first."""
    return sorted((each for each in names if _RECORD.fullmatch(each)), key=_number)


def _number(name: str) -> int:
    match = _RECORD.fullmatch(name)
    return int(match[1]) if match else 0


def rotations(names: frozenset[str], log: str) -> Iterator[str]:
    """A console log and what virtlogd rotated it into (NAME.0, NAME.1 …)."""
    for name in names:
        if name == log or (name.startswith(f"{log}.") and name[len(log) + 1 :].isdigit()):
            yield name
