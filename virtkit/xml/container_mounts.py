"""What a container gets mounted beside its own volumes: by ``devices`` or ``template``.

Pure. libvirt mounts them on the shared image, and the container's first process then covers that
with a root of its own. It takes along what is mounted below ``LAYER_FOLDER/mounts``: there they go.
"""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

from virtkit.errors import RequestError
from virtkit.spec import mount_point
from virtkit.state.desired import Guest
from virtkit.state.volumes import LAYER_FOLDER

#: Kinds that are mounted as they are; of all others libvirt mounts an image.
_NO_IMAGE = ("mount", "bind", "ram", None)


def set_targets(guest: Guest, root: etree._Element, where: str) -> None:
    """Gives a container's further file systems, in its domain XML, the targets that they need.

    Raises:
        RequestError: one of them would not be in the guest.
    """
    if not guest.driver.layered:
        return  # a virtual machine's is a device, and its target a name
    taken = [each.mount for each in guest.spec.disks if each.mount]
    taken += [each.target for each in guest.folders]
    for filesystem in list(_extra_filesystems(guest, root)):
        target = filesystem.find("target")
        path = target.get("dir", "") if target is not None else ""
        _check(guest, filesystem, path, taken, where)
        taken.append(path)
        assert target is not None  # else its path is none
        target.set("dir", f"{LAYER_FOLDER}/mounts{path}")


def check_devices(guest: Guest, devices: Iterable[etree._Element], where: str) -> None:
    """Raises RequestError where ``devices`` give a folder to a container that is only a kernel's
    process: what that has mounted is not in the guest."""
    if guest.driver.folders and any(each.tag == "filesystem" for each in devices):
        raise RequestError(
            f"guest {guest.name} would not see the <filesystem> under `devices`",
            why="its container would have it, but the kernel that runs in there can't see it",
            cure="remove it; `type: lxc` can have it, `virtkit cp` copies files",
            where=where,
        )


def _extra_filesystems(guest: Guest, root: etree._Element) -> Iterable[etree._Element]:
    """The file systems in a domain's XML that are not the guest's own."""
    own = {(each.source, each.target) for each in guest.filesystems}
    for each in root.iterfind("devices/filesystem"):
        source, target = each.find("source"), each.find("target")
        path = source.get("file") or source.get("dir") if source is not None else None
        if (path, target.get("dir") if target is not None else None) not in own:
            yield each


def _check(
    guest: Guest, filesystem: etree._Element, path: str, taken: Iterable[str], where: str
) -> None:
    what = f"guest {guest.name}: its <filesystem> on {path or 'no folder'} would not be there"
    try:
        mount_point(path)
    except ValueError as wrong:
        raise RequestError(
            what,
            why=str(wrong),
            cure="give it its own <target dir='…'/>, such as /srv/data",
            where=where,
        ) from wrong
    over = next((each for each in taken if f"{each}/".startswith(f"{path}/")), None)
    under = next((each for each in taken if f"{path}/".startswith(f"{each}/")), None)
    if over or under:
        raise RequestError(
            what,
            why=f"something else is mounted on {over or under}, and one would hide the other",
            cure="give it a <target dir='…'/> that is neither below nor above another one's",
            where=where,
        )
    if guest.confinement.ids and filesystem.get("type") not in _NO_IMAGE:
        raise RequestError(
            what,
            why="a container with its own ids can mount no image",
            cure="mount the image on the host and give the guest that folder "
            "(<filesystem type='mount'>), or give it a disk (`disks: [{name, size, mount}]`)",
            where=where,
        )


def owner_note(guest: Guest, devices: Iterable[etree._Element]) -> str:
    """What the owner of folders of the host should know of a guest that gets them; empty where
    there is nothing."""
    sources = [
        source.get("dir", "")
        for each in devices
        if each.tag == "filesystem" and (source := each.find("source")) is not None
    ]
    shown = [each for each in sources if each]
    if not shown or not guest.confinement.ids:
        return ""
    return (
        f"files of {', '.join(shown)} appear as owned by nobody inside the container, so only "
        f"permissions for everybody apply: its root is the host's user {guest.confinement.ids} "
        f"(`chown` gives it files), its user 1000 is {guest.confinement.ids + 1000}"
    )
