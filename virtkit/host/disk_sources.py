"""Disks that a host has, as specs name them: files, block devices, volumes of any pool."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from urllib.parse import quote

import libvirt

from virtkit.facts import DiskSource
from virtkit.host import questions
from virtkit.host.connection import Connections
from virtkit.host.errors import libvirt_errors
from virtkit.host.names import checked_name
from virtkit.xml import tree

_KINDS: Mapping[int, str] = {
    libvirt.VIR_STORAGE_VOL_FILE: "file",
    libvirt.VIR_STORAGE_VOL_BLOCK: "block",
    libvirt.VIR_STORAGE_VOL_NETWORK: "volume",
}


def find(connections: Connections, names: Collection[str]) -> dict[str, DiskSource]:
    """What a host has by these names, each a path or ``POOL/VOLUME``.

    Raises:
        VirtkitError: the host, or its libvirt, was not reached.
    """
    answer = {name: _volume(connections, name) for name in names if not name.startswith("/")}
    paths = [name for name in names if name.startswith("/")]
    if paths:
        kinds = questions.ask(connections.remote, f"kinds={','.join(paths)}")["kinds"]
        answer |= _paths(connections.host, kinds)
    blocks = ",".join(quote(each.path) for each in answer.values() if each.kind == "block")
    if blocks:
        places = questions.ask(connections.remote, f"mounted={blocks}")["mounted"]
        answer = {k: replace(e, mounted=places.get(e.path, "")) for k, e in answer.items()}
    return answer


def real_paths(connections: Connections, paths: Iterable[str]) -> dict[str, str]:
    """Paths of a host without links: one disk may have several.

    Raises:
        VirtkitError: the host was not reached.
    """
    quoted = ",".join(quote(each) for each in sorted(set(paths)))
    answer: dict[str, str] = questions.ask(connections.remote, f"real_paths={quoted}")["real_paths"]
    return answer


def _paths(host: str, kinds: Mapping[str, str]) -> Iterator[tuple[str, DiskSource]]:
    cure = f"see what is there, on host {host}: ls -l {{}}; correct the path, or make it"
    for path, kind in kinds.items():
        look = cure.format(shlex.quote(path))
        if kind == "file":
            yield path, DiskSource("file", path)
        elif kind == "block":
            yield path, DiskSource("block", path)
        elif kind == "other":
            yield (
                path,
                DiskSource("", path, why="it is neither a file nor a block device", cure=look),
            )
        elif not kind:
            yield path, DiskSource("", path, why="there is no such file or device", cure=look)


def _volume(connections: Connections, name: str) -> DiskSource:
    """A volume of a pool, as the path that it has; a ``volume`` is only what has none: libvirt's
    helper for AppArmor knows no pools, and QEMU would be denied the disk."""
    pool_name, _, volume_name = name.partition("/")
    virsh, checked = connections.virsh_command(), checked_name(pool_name)
    with libvirt_errors("read", f"pool {checked}", where=connections.host):
        try:
            pool = connections.any().storagePoolLookupByName(checked)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
            what = f"libvirt has no pool {checked}"
            return DiskSource(
                "", name, why=what, cure=f"see those that there are: {virsh} pool-list --all"
            )
        if not pool.isActive():
            start = f"{virsh} pool-start {shlex.quote(checked)}"
            return DiskSource("", name, why=f"pool {checked} is not active", cure=start)
        try:
            volume = pool.storageVolLookupByName(volume_name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                raise
            look = f"{virsh} pool-refresh {checked} && {virsh} vol-list {checked}"
            what = f"pool {checked} has no volume {volume_name}"
            return DiskSource("", name, why=what, cure=f"see what it has: {look}")
        kind = _KINDS.get(volume.info()[0], "")
        form = tree.parse(volume.XMLDesc(0), "a volume").find("./target/format")
        path = str(volume.path())
    return _described(name, kind, path, form.get("type", "") if form is not None else "")


def _described(name: str, kind: str, path: str, form: str) -> DiskSource:
    if kind == "volume":
        return DiskSource("volume", name, "raw")
    if kind == "file" and form == "qcow2":
        return DiskSource("file", path, "qcow2")
    if kind == "file" and form in ("raw", "iso"):
        return DiskSource("file", path, "raw")
    if kind == "block":
        return DiskSource("block", path, "raw")
    why = f"it is a file of the format {form}" if kind == "file" else "it is no disk"
    return DiskSource("", path, why=why, cure="name a raw or qcow2 volume, or a block device")
