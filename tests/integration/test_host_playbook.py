"""host.yml on this machine: what it gives, virtkit no longer sees as missing.

In a mount namespace of its own whose folders of settings are copies. No systemd is here; with it,
and as an ordinary user by ssh, tests/realhost/prepared.py runs it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from virtkit.host.machine import preparation

pytestmark = pytest.mark.timeout(300)

REPO = Path(__file__).parents[2]
PLAYBOOK = [sys.executable, "-m", "ansible", "playbook", str(REPO / "playbooks/host.yml")]
#: The machine's settings as they are on one that nobody prepared, in folders that go again.
BARE = """
set -eu
state=$1
shift
for folder in /etc/systemd/network /etc/sysctl.d /etc/libvirt/hooks /run/virtkit /run/udev; do
    mkdir -p "$folder" "$state/$folder"
    mount --bind "$state/$folder" "$folder"
done
touch /run/udev/control
mkdir -p "$state/tools"
ln -sf /bin/true "$state/tools/udevadm" # no udev is here to be told
PATH=$state/tools:$PATH
[ -s "$state/instances" ] || echo 128 >"$state/instances"
mount --bind "$state/instances" /proc/sys/fs/inotify/max_user_instances
for folder in /usr /var/lib/dpkg; do
    mount --bind "$folder" "$folder"
    mount -o remount,bind,ro "$folder"
done
exec "$@"
"""


def on_bare(state: Path, *line: str) -> str:
    """What a command says on that machine, on both streams."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", BARE, "-", str(state), *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def changed(said: str) -> tuple[int, int]:
    """How many tasks changed something, and how many failed."""
    (found,) = re.findall(r"changed=(\d+) +unreachable=0 +failed=(\d+)", said)
    return int(found[0]), int(found[1])


def missing(state: Path) -> list[str]:
    said = on_bare(state, sys.executable, "-I", preparation.__file__, "missing")
    return [line.split("\t")[0] for line in said.splitlines()]


def test_what_it_gives_is_no_longer_lacking(tmp_path: Path) -> None:
    assert missing(tmp_path) == ["hook", "restart", "udev", "inotify"]
    told = on_bare(tmp_path, *PLAYBOOK, "--check")
    assert changed(told)[0] > 0, told
    assert missing(tmp_path) == ["hook", "restart", "udev", "inotify"], "it only looked"
    said = on_bare(tmp_path, *PLAYBOOK, "-e", "virtkit_types=lxc")
    assert changed(said)[0] >= 4, said
    # libvirt's daemon runs in the sandbox, which is another machine to this namespace
    assert missing(tmp_path) == ["restart"]
    assert changed(on_bare(tmp_path, *PLAYBOOK, "--check")) == (0, 0)
    virtkit = str(Path(sys.executable).with_name("virtkit"))
    line = f"exec {virtkit} host prepare --json local 2>/dev/null"
    document = json.loads(on_bare(tmp_path, "sh", "-c", line))
    assert (document["ok"], document["changed"]) == (True, 0)


def test_a_type_that_it_does_not_know(tmp_path: Path) -> None:
    line = ["unshare", "--mount", "sh", "-c", BARE, "-", str(tmp_path), *PLAYBOOK]
    done = subprocess.run(
        [*line, "-e", "virtkit_types=qemu"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "kvm (QEMU comes with it)" in " ".join((done.stdout + done.stderr).split())
    assert missing(tmp_path) == ["hook", "restart", "udev", "inotify"], "nothing was touched"
