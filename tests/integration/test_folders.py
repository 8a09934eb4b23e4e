"""Folders and devices of the host in real guests: read, and written as the right user or never."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, document, early, editing, lives, why
from integration.lab import run, virsh

#: Whose the folders are; the login of an image has another id.
OWNER = 1234
SRC = {"source": "./src", "target": "/srv/src"}
READ = {"source": "./read", "target": "/srv/read", "readonly": True}
MORE = {"source": "./more", "target": "/srv/more"}
SPEC: dict[str, Any] = {
    "name": "folders",
    "networks": {"front": {"cidr": "10.94.47.0/24"}},
    "defaults": {"ssh_keys": ["id.pub"], "networks": ["front"], "folders": [SRC, READ]},
    "guests": {
        "vm": {"type": "qemu", "memory": "256MiB"},
        "box": {
            "type": "lxc",
            "memory": "256MiB",
            "host_devices": ["/dev/fuse", "/dev/net/tun"],
            "allow": ["hostdev"],
        },
        "kernel": {"type": "uml", "memory": "256MiB"},
    },
}

#: Guests with a kernel of their own boot for a minute each.
VM, KERNEL = (pytest.param(each, marks=pytest.mark.long) for each in ("vm", "kernel"))


@pytest.fixture(scope="module")
def edits(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("folders")
    for name in ("src", "read", "more"):
        (folder / name).mkdir()
        (folder / name / "hello").write_text(name)
        for path in (folder / name, folder / name / "hello"):
            os.chown(path, OWNER, OWNER)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
    with editing(folder, early(request, SPEC, "vm", "kernel")) as edits:
        yield edits


def inside(edits: Edits, name: str, script: str) -> list[str]:
    """What a script prints in a guest, as root."""
    return edits.lab.virtkit("exec", name, "--", "sh", "-c", script).out.splitlines()


def owner(edits: Edits, path: str) -> int:
    return (edits.lab.folder / path).stat().st_uid


@pytest.mark.parametrize("name", [VM, "box", KERNEL])
def test_folders_are_there(edits: Edits, name: str) -> None:
    script = "for each in src read; do cat /srv/$each/hello; echo; done"
    assert inside(edits, name, script) == ["src", "read"]
    assert inside(edits, name, "touch /srv/read/no 2>&1 || :") == [
        "touch: cannot touch '/srv/read/no': Read-only file system"
    ]
    assert not (edits.lab.folder / "read/no").exists()
    types = {"vm": "virtiofs", "box": "ext4", "kernel": "hostfs"}
    assert inside(edits, name, "findmnt -no FSTYPE /srv/src")[0] in (types[name], "tmpfs", "xfs")


@pytest.mark.parametrize("name", ["box", KERNEL])
def test_what_a_containers_root_writes_is_the_folders_owners(edits: Edits, name: str) -> None:
    inside(edits, name, f"echo it >/srv/src/by-{name}; chmod 640 /srv/src/by-{name}")
    assert owner(edits, f"src/by-{name}") == OWNER
    assert inside(edits, name, "stat -c %u /srv/src /srv/src/hello") == ["0", "0"]


@pytest.mark.long  # it boots for a minute
def test_a_virtual_machine_has_the_hosts_user_ids(edits: Edits) -> None:
    inside(edits, "vm", f"echo it >/srv/src/by-vm; chown {OWNER} /srv/src/by-vm")
    assert owner(edits, "src/by-vm") == OWNER
    assert inside(edits, "vm", "stat -c %u /srv/src/hello") == [str(OWNER)]


def test_another_user_of_a_container_writes_as_nobody_of_the_host(edits: Edits) -> None:
    """A service of the container's may have a part of the folder."""
    inside(edits, "box", "mkdir /srv/src/own && chown 1000 /srv/src/own")
    inside(edits, "box", "setpriv --reuid 1000 --clear-groups touch /srv/src/own/it")
    first = document("folders-box").find("./idmap/uid")
    assert first is not None
    assert owner(edits, "src/own/it") == int(first.get("target", "0")) + 1000


def test_a_container_has_its_devices(edits: Edits) -> None:
    found = inside(edits, "box", "stat -c '%n %t:%T' /dev/fuse /dev/net/tun")
    assert found == ["/dev/fuse a:e5", "/dev/net/tun a:c8"]
    for path in ("/dev/fuse", "/dev/net/tun"):
        assert stat.S_ISCHR(Path(path).stat().st_mode)
        assert inside(edits, "box", f"exec 3<>{path} && echo opened") == ["opened"]


@pytest.mark.long  # it boots for a minute
def test_a_virtual_machines_folders_come_and_go_while_it_runs(edits: Edits) -> None:
    before = lives("folders-vm")
    edits.guest("vm", folders=[SRC, MORE])
    assert why(edits.plan()["guest/vm"]) == {"folders": ("spec", "live")}
    edits.up()
    assert inside(
        edits, "vm", "cat /srv/more/hello; ls -A /srv/read; findmnt -n /srv/read || :"
    ) == ["more"]
    assert edits.pending() == {}
    edits.guest("vm", folders=[])
    edits.up()
    assert inside(edits, "vm", "findmnt -t virtiofs || :; grep folder- /etc/fstab || :") == []
    assert edits.pending() == {}
    assert lives("folders-vm") == before, "it is the same run"


def test_a_containers_folders_wait_for_a_restart(edits: Edits) -> None:
    before = lives("folders-box")
    edits.guest("box", folders=[MORE], host_devices=["/dev/fuse"])
    assert why(edits.plan()["guest/box"]) == {
        "folders": ("spec", "restart"),
        "host_devices": ("spec", "restart"),
    }
    edits.up()
    assert lives("folders-box") == before
    assert edits.pending()["guest/box"]["effect"] == "restart"
    edits.up("--restart")
    assert edits.pending() == {}
    assert inside(edits, "box", "cat /srv/more/hello; test -e /dev/net/tun || echo none") == [
        "more" + "none"
    ]


def test_pci_and_usb_devices_can_be_defined_and_must_be_there(edits: Edits, tmp_path: Path) -> None:
    """No more can be tried here: this machine has none to give."""
    devices = ["0000:7f:1f.7", "usb:ffff:ffff"]
    own: dict[str, Any] = {"type": "qemu", "networks": [], "folders": [], "allow": ["hostdev"]}
    edits.guest("given", host_devices=devices, **own)
    errors = edits.lab.errors("plan")
    assert [
        each for each in errors for name in devices if f"has no device {name}" in each
    ] == errors
    xml = tmp_path / "given.xml"
    xml.write_text(edits.lab.virtkit("render", "given").out)
    virsh("define", "--validate", xml)
    try:
        kinds = [e.get("type") for e in document("folders-given").iterfind("./devices/hostdev")]
        assert kinds == ["pci", "usb"]
    finally:
        virsh("undefine", "folders-given")
        edits.gone("given")


def test_a_link_in_the_place_of_a_folder_is_refused(edits: Edits) -> None:
    """Somebody put it there after the guest was made: libvirt's hook follows none."""
    more = edits.lab.folder / "more"
    more.rename(edits.lab.folder / "away")
    more.symlink_to("/etc")
    try:
        ran = edits.lab.virtkit("restart", "box", code=1)
        assert "can't be opened" in ran.out + ran.err, str(ran)
    finally:
        more.unlink()
        (edits.lab.folder / "away").rename(more)
    edits.up()
