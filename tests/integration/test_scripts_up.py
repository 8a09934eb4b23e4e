"""scripts/up, where all packages are there: whose root does what, and what its user reads.

It runs with an /etc, a /usr/local/bin and an inotify limit of its own, since it changes them. From
nothing, and with sudo, it runs in tests/bare/run.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from integration.lab import virsh

REPO = Path(__file__).parents[2]
SPEC = """
name: upscript
networks: {default: {mode: nat}}
guests: {c: {type: lxc, image: debian-12, memory: 128MiB, ready: %s}}
"""

FRAME = r"""
mount -t tmpfs -o mode=755 etc /mnt && cp -a /etc/. /mnt && mount --move /mnt /etc
mount -t tmpfs -o mode=755 bin /usr/local/bin
[ ! -d /run/udev ] || mount -t tmpfs -o mode=755 udev /run/udev
rm -f /etc/sysctl.d/90-virtkit.conf
echo 128 >"$1/instances"
mount --bind "$1/instances" /proc/sys/fs/inotify/max_user_instances
cd "$1"
"""

#: `as USER COMMAND…`: by a fresh login of an ordinary user, who has no sudo. The checkout and the
#: folder are where users get to them.
USERS = r"""
mount -t tmpfs -o mode=755 srv /srv
cp -r "$1" /srv
mount --bind "$2" /mnt
closed= folder=$2
while [ -n "$folder" ]; do
    case $(stat -c %A "$folder") in *[xt]) ;; *) closed=$folder ;; esac
    folder=${folder%/*}
done
if [ -n "$closed" ]; then
    mount -t tmpfs -o mode=755 closed "$closed"
    mkdir -p "$2"
    mount --bind /mnt "$2"
fi
cd "/srv/${1##*/}"
as() {
    user=$1
    shift
    id "$user" >/dev/null 2>&1 || useradd -d "/srv/$user" -m "$user"
    setpriv --reuid "$user" --regid "$user" --clear-groups env -u XDG_CACHE_HOME \
        HOME="/srv/$user" USER="$user" PATH=/usr/local/bin:/usr/bin:/bin "$@" </dev/null
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a space and an umlaut, where the caller stands."""
    folder = tmp_path / "my lab ü"
    folder.mkdir()
    return folder


def up(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """What a shell says that stands in the folder; `$UP` is the script."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    names = ("HOME", "XDG_CACHE_HOME")
    return subprocess.run(
        ["unshare", "--mount", "sh", "-euc", f"{FRAME}\n{text}", "-", folder, REPO],
        capture_output=True,
        text=True,
        check=False,
        env={name: os.environ[name] for name in names}
        | {"PATH": path, "UP": str(REPO / "scripts/up")},
    )


def test_a_spec_elsewhere_and_what_to_type(folder: Path) -> None:
    own = REPO.stat().st_uid == 0  # else others could change what all users would start
    typed = "virtkit" if own else f"{REPO}/.venv/bin/virtkit"
    (folder / "the spec.yaml").write_text(SPEC % "ssh")
    text = """
    "$UP" "the spec.yaml"
    echo; echo again
    "$UP" "the spec.yaml"
    cat /etc/sysctl.d/90-virtkit.conf /proc/sys/fs/inotify/max_user_instances
    PATH=$PATH:${UP%/scripts/up}/.venv/bin
    virtkit ssh 'the spec.yaml' c -- hostname
    virtkit down "the spec.yaml"
    """
    done = up(folder, text)
    assert done.returncode == 0, done
    first, _, second = done.stdout.partition("\nagain\n")
    assert f"\nTo get in:\n  {typed} ssh 'the spec.yaml' c\n" in first
    assert "fs.inotify.max_user_instances=1024\n1024\n" in second
    said = [line for line in done.stderr.splitlines() if line.startswith("== ")]
    assert said == [
        *(["== virtkit is a command now: /usr/local/bin/virtkit"] if own else []),
        "== this machine lacks: inotify",
        "== virtkit up 'the spec.yaml'",
        "== virtkit up 'the spec.yaml'",
    ]
    assert "\nc\n" in second
    assert virsh("list", "--all", "--name", uri="lxc:///system") == ""


def test_without_root_it_says_what_an_administrator_does(folder: Path) -> None:
    (folder / "lab.yaml").write_text(SPEC % "none")
    done = up(folder, USERS + 'as nolibvirt "$UP" lab.yaml')
    assert (done.returncode, done.stdout) == (1, "")
    *_, error, cure = done.stderr.splitlines()
    assert error == "error: you are not in the group libvirt, and you can't become root here"
    assert cure == "cure: as root: usermod -aG libvirt nolibvirt"
    assert "== this machine lacks: group inotify" in done.stderr.splitlines()


def test_a_failure_keeps_its_code_and_what_a_login_brings(folder: Path) -> None:
    (folder / "lab.yaml").write_text("guests: {c: {type: nothing}}\n")
    done = up(folder, USERS + 'as new true; usermod -aG libvirt new; as new "$UP" lab.yaml')
    assert done.returncode == 2, done
    assert "there is no guest type 'nothing'" in done.stderr
    assert "fs.inotify.max_user_instances is 128" in done.stderr
    (told,) = [each for each in done.stderr.splitlines() if "an administrator fixes that" in each]
    assert told.endswith(".venv/bin/virtkit host prepare local")
    assert done.stdout.splitlines()[-1].startswith("You are new in the group libvirt: log in again")
    assert "virtkit is a command from your next login on: /srv/new/.local/bin" in done.stderr
