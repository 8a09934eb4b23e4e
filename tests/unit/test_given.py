"""What a guest is given of files and a password: the part of its first boot's script, run here."""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest
import samples

from virtkit import seed
from virtkit.state.desired import Guest
from virtkit.state.given import GivenFile, GivenPassword
from virtkit.xml import render

ME = f"{pwd.getpwuid(os.geteuid()).pw_name}:{grp.getgrgid(os.getegid()).gr_name}"
HASH = "$6$rounds=1000$saltsalt$" + "a" * 86
#: What the scripts around this part bring.
BEGIN = 'set -eu\nuser=eve\nreplace() { cat >"$1.new"; mv "$1.new" "$1"; }\n'


def given_file(path: Path, content: bytes, token: str, **other: str) -> GivenFile:
    return GivenFile(
        str(path), **({"mode": "0644", "owner": ME} | other), token=token, content=content
    )


def run(
    folder: Path, *files: GivenFile, password: GivenPassword | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the part with these files, as it is run in a running guest; programs that would change
    this machine's users only note what they are given."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name in ("chpasswd", "passwd"):
        (programs / name).write_text(f'#!/bin/sh\n{{ echo {name} "$@"; cat; }} >>{folder}/users\n')
        (programs / name).chmod(0o755)
    script = render.text(
        "seed/files.sh.j2",
        files=files,
        password=password,
        password_mark="password:",
        given=folder / "given",
        user="eve",
    )
    return subprocess.run(
        ["sh", "-c", 'eval "$(cat)"'],
        input=BEGIN + script,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
    )


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", bytes(range(256)) * 1500, b"VIRTKIT\nVIRTKIT"]
)
def test_a_file_is_written_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "new" / "it's $(here)"
    done = run(tmp_path, given_file(path, content, "one", mode="2640"))
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o7777 == 0o2640
    assert [each.name for each in path.parent.iterdir()] == [path.name], "nothing is left beside it"
    assert (tmp_path / "given").read_text() == "one\n"
    assert (tmp_path / "given").stat().st_mode & 0o777 == 0o600


def test_what_the_guest_made_of_it_stays_until_the_spec_changes(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    run(tmp_path, given_file(path, b"first", "one"), given_file(other, b"b", "two"))
    path.write_text("by hand")
    run(tmp_path, given_file(path, b"first", "one"), given_file(other, b"c", "three"))
    assert (path.read_text(), other.read_text()) == ("by hand", "c")
    run(tmp_path)
    assert path.read_text() == "by hand", "a file that leaves the list stays"
    assert not (tmp_path / "given").exists()
    run(tmp_path, given_file(path, b"first", "one"))
    assert path.read_text() == "first", "and when it comes back it is written"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    path, target = tmp_path / "link", tmp_path / "target"
    target.write_text("of others")
    path.symlink_to(target)
    run(tmp_path, given_file(path, b"mine", "one"))
    assert (path.is_symlink(), path.read_text(), target.read_text()) == (False, "mine", "of others")


def test_one_that_can_not_be_written_holds_up_no_other(tmp_path: Path) -> None:
    folder, path = tmp_path / "folder", tmp_path / "a"
    folder.mkdir()
    files = (
        given_file(folder, b"x", "one"),
        given_file(tmp_path / "whose", b"x", "two", owner="no-such-user:root"),
        given_file(path, b"a", "three"),
    )
    done = run(tmp_path, *files)
    assert done.returncode == 1
    assert f"virtkit: {folder} is a folder in the guest" in done.stderr
    assert f"virtkit: {tmp_path}/whose was not written" in done.stderr
    assert "no-such-user" in done.stderr
    assert path.read_text() == "a"
    assert (tmp_path / "given").read_text() == "three\n", "the others are tried again"
    assert {each.name for each in tmp_path.iterdir()} == {"folder", "a", "given", "programs"}


def test_a_password_is_set_once_and_taken_back(tmp_path: Path) -> None:
    users = tmp_path / "users"
    password = GivenPassword("one", "it's $(a) \\word: 'x'")
    for _ in range(2):
        assert run(tmp_path, password=password).returncode == 0
    assert users.read_text() == "chpasswd\neve:it's $(a) \\word: 'x'\n"
    users.unlink()
    run(tmp_path, password=GivenPassword("two", HASH))
    assert users.read_text() == f"chpasswd -e\neve:{HASH}\n"
    users.unlink()
    for _ in range(2):
        run(tmp_path)
    assert users.read_text() == "passwd -l eve\n"


def guest_of(**keys: Any) -> Guest:
    return samples.guest_of(json.dumps({"name": "lab", "guests": {"web": keys}}))


def test_a_new_guest_is_asked_what_it_was_given(tmp_path: Path) -> None:
    files = [{"path": "/etc/it's", "content": "a"}, {"path": "/etc/b", "content": "b"}]
    guest = guest_of(files=files, password=HASH)
    given = tmp_path / "given"
    script = seed.check(guest).replace("/var/lib/virtkit/given", str(given))

    def asked() -> tuple[int, str]:
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    missing = " /etc/it's /etc/b the login's password\n"
    assert asked() == (1, f"the first boot did not write:{missing}")
    lines = entries(guest)["/var/lib/virtkit/given"].decode().splitlines(keepends=True)
    given.write_text("".join(lines[1:]))
    assert asked() == (1, "the first boot did not write: /etc/it's\n")
    given.write_text("".join(lines))
    assert asked() == (0, "")


def entries(guest: Guest) -> dict[str, bytes]:
    """What cloud-init is to write, by path."""
    data = seed.user_data(guest, samples.KEYS)
    return {each["path"]: base64.b64decode(each["content"]) for each in data["write_files"]}


def test_no_secret_is_in_the_guests_note() -> None:
    note = entries(guest_of(files=[{"path": "/a", "content": "secret"}], password=HASH))
    assert note["/a"] == b"secret"
    assert b"secret" not in note["/var/lib/virtkit/given"]
    assert len(note["/var/lib/virtkit/given"].splitlines()) == 2


@pytest.mark.parametrize(
    ("path", "owner", "late"),
    [
        ("/etc/a", "root", False),
        ("/etc/a", "root:root", False),
        ("/etc/a", "www-data", True),
        ("/etc/a", "root:adm", True),
        ("/home/virtkit/a", "root", True),
        ("/srv/data/a", "root", True),
        ("/srv/database", "root", False),
    ],
)
def test_cloud_init_writes_late_what_needs_users_or_disks(
    path: str, owner: str, late: bool
) -> None:
    file = {"path": path, "content": "a", "owner": owner}
    disk = {"name": "data", "size": "1GiB", "mount": "/srv/data"}
    data = seed.user_data(guest_of(type="qemu", files=[file], disks=[disk]), samples.KEYS)
    written, note = data["write_files"]
    assert ("defer" in written, "defer" in note) == (late, late), "the note comes with the last"


def test_a_guest_without_any_has_none_of_it() -> None:
    assert "write_files" not in seed.user_data(guest_of(), samples.KEYS)
    login = seed.user_data(guest_of(password=HASH), samples.KEYS)["users"][0]
    assert (login["lock_passwd"], login["hashed_passwd"]) == (False, HASH)
