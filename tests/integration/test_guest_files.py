"""Files and a password that guests are given, seen from inside: first boot, changes while they run,
what the guest itself makes of them; and who else sees them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, document, editing, lives, why
from integration.lab import POOL, domains, run, virsh

WORD, TOKEN = f"word of {uuid.uuid4().hex}: it's $(a)", uuid.uuid4().hex
BLOB = os.urandom(250_000)
MOTD = {"path": "/etc/motd", "content": "hello é\n"}
FILES: list[dict[str, Any]] = [
    MOTD,
    {"path": "/srv/new/blob", "source": "blob", "mode": "0640", "owner": "root:adm"},
    {"path": "/home/virtkit/it's", "content": {"env": "LAB_TOKEN"}, "mode": "600"},
    {"path": "/srv/data/first", "content": {"file": "blob"}, "owner": "virtkit:virtkit"},
]
DISK = {"name": "data", "size": "32MiB", "mount": "/srv/data"}
SPEC: dict[str, Any] = {
    "name": "given",
    "networks": {"front": {"cidr": "10.94.81.0/24"}},
    "defaults": {
        "networks": ["front"],
        "memory": "256MiB",
        "ssh_keys": ["id.pub"],
        "password": {"env": "LAB_PASSWORD"},
        "disks": [DISK],
        "files": FILES,
    },
    "guests": {"lxc": {"type": "lxc"}},
}
#: What nobody but the guest may see: of a binary file a line of its base64.
SECRETS = (TOKEN, WORD, base64.b64encode(BLOB[:57]).decode())
INACTIVE = ("--inactive",)
#: What a guest says of a file.
STAT = "stat -c '%a %U:%G' {0}; sha256sum {0} | cut -d' ' -f1"


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("given")
    (folder / "blob").write_bytes(BLOB)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
    with editing(folder, SPEC, LAB_PASSWORD=WORD, LAB_TOKEN=TOKEN) as edits:
        yield edits


def file(edits: Edits, guest: str, path: str) -> list[str]:
    """The mode, the owner and the digest of a file in a guest."""
    return edits.lab.sh(guest, STAT.format(path)).replace("\n", " ").split()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fits(edits: Edits, guest: str, password: str) -> bool:
    """Whether a guest's login has this password."""
    hashed = edits.lab.sh(guest, "getent shadow virtkit").split(":")[1]
    line = "$h = <>; chomp $h; $p = <>; chomp $p; print crypt($p, $h)"
    told = subprocess.run(
        ["perl", "-e", line], input=f"{hashed}\n{password}\n", capture_output=True, text=True
    )
    return told.stdout == hashed


def holds_all(edits: Edits, guest: str) -> None:
    """A guest has all that the spec gives it."""
    expected = {
        "/etc/motd": ["644", "root:root", digest("hello é\n".encode())],
        "/srv/new/blob": ["640", "root:adm", digest(BLOB)],
        '"/home/virtkit/it\'s"': ["600", "root:root", digest(TOKEN.encode())],
        "/srv/data/first": ["644", "virtkit:virtkit", digest(BLOB)],
    }
    assert {path: file(edits, guest, path) for path in expected} == expected
    assert edits.lab.sh(guest, "findmnt -no TARGET -T /srv/data/first") == "/srv/data"
    assert edits.lab.sh(guest, "stat -c %U /home/virtkit; stat -c %a /var/lib/virtkit/given") == (
        "virtkit\n600"
    )
    assert fits(edits, guest, WORD)
    assert not fits(edits, guest, "another word")


@contextmanager
def watched() -> Iterator[set[bytes]]:
    """The arguments of all programs that run meanwhile, as any user sees them."""
    lines: set[bytes] = set()
    end = threading.Event()

    def look() -> None:
        while not end.wait(0.01):
            for process in os.scandir("/proc"):
                if process.name.isdecimal():
                    with suppress(OSError):
                        lines.add(Path(process, "cmdline").read_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lines
    finally:
        end.set()
        thread.join()


def test_the_first_boot_gives_all_of_it(edits: Edits) -> None:
    holds_all(edits, "lxc")
    tells_nobody(edits, "lxc")
    assert edits.plan() == {}


def tells_nobody(edits: Edits, guest: str) -> None:
    """A guest's record has digests alone."""
    name = f"given-{guest}"
    shown = [virsh("-r", "dumpxml", name, *more, uri=domains()[name]) for more in ((), INACTIVE)]
    assert "/srv/new/blob" in shown[0]
    assert [each for each in SECRETS if each in "".join(shown)] == []


def test_a_running_container_follows(edits: Edits) -> None:
    follows(edits, "lxc")


def follows(edits: Edits, guest: str) -> None:
    """A running guest gets what changed, and nothing else."""
    lab, before, word = edits.lab, lives(f"given-{guest}"), f"new {WORD}"
    lab.sh(guest, "echo by hand >/srv/new/blob")
    lab.settings = {**lab.settings, "LAB_PASSWORD": word}
    edits.guest(
        guest,
        files=[
            {**MOTD, "content": {"env": "LAB_TOKEN"}, "mode": "0444"},
            FILES[1],
            {"path": "/srv/data/first", "content": "short", "owner": "root"},
            {"path": "/srv/data/second", "source": "blob"},
        ],
    )
    plan = lab.json("plan", guest)
    assert why(plan["changes"][0]) == dict.fromkeys(
        [
            *("password", "files./etc/motd.content", "files./etc/motd.mode"),
            *("files./srv/data/first.content", "files./srv/data/first.owner"),
            *("files./srv/data/second", "files./home/virtkit/it's"),
        ],
        ("spec", "live"),
    )
    stays = f"guest/{guest}: /home/virtkit/it's: no longer in `files`, and stays in the guest"
    assert plan["notes"] == [stays]
    with watched() as lines:
        ran = lab.virtkit("up", guest, "--debug")
    shown = ran.out + ran.err + lab.virtkit("status", "--debug").out
    for secret in (*SECRETS, word):
        assert secret not in shown
        assert [each for each in lines if secret.encode() in each] == []
    assert lab.json("plan", guest)["changes"] == []
    assert lives(f"given-{guest}") == before, "it is the same run"
    assert file(edits, guest, "/etc/motd") == ["444", "root:root", digest(TOKEN.encode())]
    assert file(edits, guest, "/srv/data/first") == ["644", "root:root", digest(b"short")]
    assert file(edits, guest, "/srv/data/second")[2] == digest(BLOB)
    assert lab.sh(guest, "cat /srv/new/blob") == "by hand", "only what changed is written"
    assert lab.sh(guest, 'cat "/home/virtkit/it\'s"') == TOKEN, "what leaves the list stays"
    assert (fits(edits, guest, word), fits(edits, guest, WORD)) == (True, False)


def test_what_the_guest_made_of_it_stays_over_a_restart(edits: Edits) -> None:
    edits.lab.sh("lxc", "echo by hand >/etc/motd; echo virtkit:mine | chpasswd")
    edits.lab.virtkit("restart", "lxc")
    edits.lab.virtkit("up", "lxc")
    assert edits.lab.sh("lxc", "cat /etc/motd /srv/new/blob") == "by hand\nby hand"
    assert fits(edits, "lxc", "mine")


def test_a_guest_that_is_off_has_it_when_it_boots(edits: Edits) -> None:
    edits.lab.virtkit("stop", "lxc")
    edits.guest("lxc", files=[{**MOTD, "content": "while off"}], start=False)
    effects = {effect for _, effect in why(edits.plan("lxc")["guest/lxc"]).values()}
    assert effects == {"next-boot", "none"}
    edits.lab.virtkit("up", "lxc")
    edits.lab.virtkit("start", "lxc")
    assert edits.lab.sh("lxc", "cat /etc/motd") == "while off"
    edits.guest("lxc", start=True)
    edits.lab.virtkit("up", "lxc")
    assert edits.lab.json("plan", "lxc")["changes"] == []


def test_a_password_that_is_taken_back_is_locked(edits: Edits) -> None:
    edits.spec["guests"]["lxc"]["password"] = None  # back to the default
    edits.write()
    assert {*why(edits.plan("lxc")["guest/lxc"])} == {"password"}
    edits.lab.virtkit("up", "lxc")
    assert edits.lab.sh("lxc", "getent shadow virtkit").split(":")[1].startswith("!")
    assert edits.lab.virtkit("ssh", "lxc", "--", "id", "-un").out == "virtkit\n", "keys still open"


def test_what_can_not_be_written_is_told(edits: Edits) -> None:
    """By the first boot, and by a running guest."""
    bad = {"path": "/etc/bad", "content": "x", "owner": "nobody-here"}
    lab = edits.lab
    lab.settings = {**lab.settings, "LAB_PASSWORD": WORD}
    edits.guest("new", type="lxc", disks=[], files=[MOTD, bad])
    (error,) = [e["error"] for e in lab.json("up", "new", code=1)["steps"] if e["error"]]
    assert error["why"] == "the first boot did not write: /etc/bad"
    assert "`owner:`" in error["cure"]
    assert lab.sh("new", "cat /etc/motd") == "hello é"
    (error,) = [e["error"] for e in lab.json("up", "new", code=1)["steps"] if e["error"]]
    assert "nobody-here" in error["why"]
    edits.guest("new", files=[MOTD, {**bad, "owner": "daemon"}])
    lab.virtkit("up", "new")
    assert file(edits, "new", "/etc/bad")[:2] == ["644", "daemon:root"]
    assert lab.json("plan", "new")["changes"] == []


@pytest.mark.long  # it boots for a minute
def test_a_virtual_machine_too(edits: Edits) -> None:
    edits.lab.settings = {**edits.lab.settings, "LAB_PASSWORD": WORD}
    edits.guest("qemu", type="qemu", ready={"timeout": "12m"})
    edits.lab.virtkit("up", "qemu")
    holds_all(edits, "qemu")
    tells_nobody(edits, "qemu")
    assert edits.lab.json("plan", "qemu")["changes"] == []
    follows(edits, "qemu")


@pytest.mark.long  # an image that only cloud-init sets up, emulated
def test_an_image_with_cloud_init(edits: Edits) -> None:
    """A disk image of somebody's, as cloud images are: user_data, files and a password."""
    lab, folder = edits.lab, edits.lab.folder
    built = document("given-qemu")
    for name in ("kernel", "initrd"):
        (folder / name).write_bytes(Path(built.findtext(f"./os/{name}") or "").read_bytes())
    info = json.loads(run("qemu-img", "info", "-U", "--output=json", POOL / "given-qemu-root"))
    run("qemu-img", "convert", "-O", "qcow2", info["backing-filename"], folder / "cloud.qcow2")
    (folder / "user.yaml").write_text(
        "#cloud-config\nruncmd: [[sh, -c, 'cat /etc/motd >/srv/ran']]\n"
        "write_files: [{path: /etc/own, content: own}]\n"
    )
    edits.spec["images"] = {"cloud": {"path": "cloud.qcow2"}}
    kernel = {"path": "kernel", "initrd": "initrd"}
    edits.guest(
        "cloud",
        type="qemu",
        image="cloud",
        kernel=kernel,
        user_data="user.yaml",
        ready={"timeout": "12m"},
    )
    lab.settings = {**lab.settings, "LAB_PASSWORD": WORD}
    lab.virtkit("up", "cloud")
    lab.sh("cloud", "cloud-init status --wait >/dev/null || true")
    assert lab.sh("cloud", "cloud-init status") == "status: done"
    holds_all(edits, "cloud")
    assert lab.sh("cloud", "cat /etc/own /srv/ran") == "ownhello é"
    assert lab.json("plan", "cloud")["changes"] == []
    lab.sh("cloud", "echo by hand >/srv/new/blob")
    edits.guest("cloud", files=[{**MOTD, "content": "changed"}, *FILES[1:]])
    assert why(edits.plan("cloud")["guest/cloud"]) == {"files./etc/motd.content": ("spec", "live")}
    lab.virtkit("up", "cloud")
    assert lab.sh("cloud", "cat /etc/motd /srv/new/blob") == "changedby hand"
    assert lab.json("plan", "cloud")["changes"] == []


@pytest.mark.long
@pytest.mark.needs_uml
def test_user_mode_linux(edits: Edits) -> None:
    lab = edits.lab
    edits.guest("uml", type="uml")
    lab.settings = {**lab.settings, "LAB_PASSWORD": WORD}
    lab.virtkit("up", "uml")
    holds_all(edits, "uml")
    edits.guest("uml", files=[{**MOTD, "content": "changed"}, *FILES[1:]])
    assert why(edits.plan("uml")["guest/uml"]) == {"files./etc/motd.content": ("spec", "live")}
    lab.virtkit("up", "uml")
    assert lab.sh("uml", "cat /etc/motd") == "changed"
    assert lab.json("plan", "uml")["changes"] == []
