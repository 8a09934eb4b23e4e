"""The folder that a network serves by TFTP: looked at before the network is made or changed."""

from __future__ import annotations

import stat
from pathlib import Path

from virtkit.errors import RequestError
from virtkit.spec import LOCAL, Spec
from virtkit.state.desired import Network


def check(network: Network, spec: Spec) -> None:
    """Looks whether libvirt's TFTP server can serve the network's folder, and may.

    Raises:
        RequestError: it is on another machine, missing, outside the spec's folder, or closed to the
            server, which runs as a user without rights.
    """
    if not network.tftp:
        return
    where = spec.where(("networks", network.name, "tftp"))
    what = f"network {network.name}: the folder {network.tftp}"
    if network.host != LOCAL:
        raise RequestError(
            f"{what} is on this machine, and the network on host {network.host}",
            cure="remove `tftp:`, or put the network's guests on this machine",
            where=where,
        )
    folder, own = Path(network.tftp), Path(spec.folder).resolve()
    if not folder.is_dir():
        raise RequestError(f"{what} is not there", cure="make it, or correct the path", where=where)
    if not folder.resolve().is_relative_to(own):
        raise RequestError(
            f"{what} is outside the spec's folder",
            why="whoever is on the network can read all files in it",
            cure=f"put the files into a folder below {own}",
            where=where,
        )
    file = folder / network.bootfile if network.bootfile else folder
    if not file.exists():
        raise RequestError(
            f"{what} has no file {network.bootfile}",
            cure="put it there, or correct `bootfile:`",
            where=spec.where(("networks", network.name, "bootfile")),
        )
    closed = [each for each in (file, *file.parents) if not _is_open(each)]
    if closed:
        rights = "r" if closed[0].is_file() else "rx"
        raise RequestError(
            f"{what} can't be read by libvirt's TFTP server",
            why=f"it runs as a user without rights, and {closed[0]} is closed to others",
            cure=f"chmod o+{rights} {closed[0]}",
            where=where,
        )


def _is_open(path: Path) -> bool:
    """Whether any user may read a file, or pass through a folder."""
    mode = path.stat().st_mode
    return bool(mode & (stat.S_IROTH if stat.S_ISREG(mode) else stat.S_IXOTH))
