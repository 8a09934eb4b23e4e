"""Containers and User-Mode Linux from the archive of a root file system that is not virtkit's."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import machine
import pytest
from integration.lab import Lab, laboratory, run

SPEC = """
name: rootfs
networks: {front: {cidr: 10.97.0.0/24}}
images: {tree: {rootfs: ./rootfs.tar.gz}}
defaults: {image: tree, memory: 256MiB, networks: [front]}
guests:
  c: {type: lxc, disks: [{name: data, size: 32MiB, mount: /srv/data}]}
"""
UML = "  u: {type: uml, memory: 288MiB}\n"
#: What virtkit's own image has of virtkit's.
OURS = (
    *("usr/lib/virtkit", ".virtkit", ".oldroot", "lost+found", "var/lib/cloud"),
    *("etc/systemd/system", "usr/lib/systemd/system/virtkit-seed.service"),
    *("etc/ssh/sshd_config.d/virtkit.conf", "usr/lib/systemd/system.conf.d"),
)


def archive(folder: Path) -> Path:
    """A Debian's root file system as others have it: the tests' image without what is virtkit's,
    in a folder as Incus has it."""
    tree = folder / "rootfs"
    tree.mkdir()
    run("debugfs", "-R", f"rdump / {tree}", machine.tests_image()[1].root)
    assert (tree / "usr/lib/virtkit/init").exists(), "it was one of ours"
    for name in OURS:
        path = tree / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    (tree / "usr/bin/sudo").chmod(0o4755)  # debugfs loses that as it gives files their owners
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "ssh.service").symlink_to("/lib/systemd/system/ssh.service")
    path = folder / "rootfs.tar.gz"
    with (
        path.open("wb") as file,
        subprocess.Popen(["tar", "-C", folder, "-c", "rootfs"], stdout=subprocess.PIPE) as tar,
    ):
        subprocess.run(["gzip", "-1"], stdin=tar.stdout, stdout=file, check=True)
    shutil.rmtree(tree)
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("rootfs")
    cache = {"XDG_CACHE_HOME": str(folder / "cache")}
    with laboratory(folder, "rootfs", SPEC, **cache) as lab:
        archive(lab.folder)
        yield lab


def test_a_container(lab: Lab) -> None:
    (note,) = [each for each in lab.json("plan")["notes"] if each.startswith("image/tree")]
    assert "on this machine it is made a file system of" in note
    report = lab.json("up")
    assert report["ok"], report
    assert lab.sh("c", "hostname; stat -c %U:%a /root; id -un virtkit") == "c\nroot:700\nvirtkit"
    assert lab.sh("c", "findmnt -n -o FSTYPE /srv/data") == "ext4"
    assert lab.sh("c", "touch /usr/here; ls /usr/here; ls -d /lib/modules") != ""
    addresses = lab.status("c")["addresses"]
    assert addresses[0].startswith("10.97.0."), addresses
    ssh = lab.virtkit("ssh", "c", "--", "sudo", "-n", "id", "-u")
    assert ssh.out.strip() == "0", "by its own sshd, with virtkit's key"
    assert lab.json("plan")["changes"] == []
    state = lab.virtkit("exec", "c", "--", "systemctl", "is-failed", "virtkit-seed", code=1)
    assert state.out.strip() == "active"
    assert lab.sh("c", "cat /proc/1/uid_map").split()[1] != "0", "its root is nobody on the host"


@pytest.mark.needs_uml
@pytest.mark.long
def test_user_mode_linux(lab: Lab) -> None:
    lab.write(SPEC + UML)
    report = lab.json("up")
    assert report["ok"], report
    assert lab.sh("u", "hostname; uname -r; findmnt -n -o FSTYPE /").split()[::2] == ["u", "ext4"]
    lab.virtkit("down", "u")


def test_another_archive_is_another_image(lab: Lab) -> None:
    """For new guests; those that are there keep theirs."""
    lab.write(SPEC + "  d: {type: lxc}\n")
    shutil.copy(lab.folder / "rootfs.tar.gz", lab.folder / "other.tar.gz")
    lab.spec.write_text(lab.spec.read_text().replace("./rootfs.tar.gz", "./other.tar.gz"))
    changes = {each["object"]: each for each in lab.json("plan")["changes"]}
    assert changes["guest/c"]["effect"] == "recreate"
    assert changes["guest/d"]["action"] == "create"
    lab.write(SPEC)
    assert lab.json("up")["ok"]


def test_what_lacks_something_is_refused_on_the_way(lab: Lab) -> None:
    tree = lab.folder / "empty"
    (tree / "bin").mkdir(parents=True)
    run("tar", "-C", tree, "-cf", lab.folder / "empty.tar", ".")
    text = SPEC.replace("./rootfs.tar.gz", "./empty.tar").replace("  c:", "  e:")
    lab.write(text)
    report = lab.json("up", "e", code=1)
    (failed,) = [each for each in report["steps"] if each["outcome"] == "failed"]
    assert "lacks bash, find, findmnt" in failed["error"]["what"], failed
    lab.virtkit("down", "e")
    lab.write(SPEC)
