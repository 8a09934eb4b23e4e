"""A plain Debian machine as its users see it: an ordinary user with the PATH and ids that useradd
gives, in a mount namespace whose /etc, /tmp and /var/tmp are its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

USER, UID = "ops", 54321
IDS = 1_410_720_000
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
CHECKOUT = Path(__file__).parents[2]

#: $1: a folder of all users' own; $2: the checkout, which may be in a folder that is closed.
_SETUP = f"""
set -e
mount --make-rprivate / 2>/dev/null || :
mkdir "$1/etc" "$1/checkout" "$1/tmp" "$1/var"
chmod 1777 "$1/tmp" "$1/var"
cp -a /etc/. "$1/etc"
mount --bind "$1/etc" /etc
mount --rbind "$2" "$1/checkout"
groupadd --gid {UID} {USER}
useradd --uid {UID} --gid {UID} --no-create-home --home-dir "$1/home" {USER}
sed -i '/^{USER}:/d' /etc/subuid /etc/subgid
printf '{USER}:{IDS}:65536\\n' | tee -a /etc/subuid >>/etc/subgid
mkdir -m 700 "$1/home"
chown {USER}: "$1/home"
mount --bind "$1/var" /var/tmp
mount --bind "$1/tmp" /tmp
echo ready
exec sleep 100000
"""


@dataclass(frozen=True)
class Machine:
    """``folder``: open to all users; ``home`` in it is the user's own. ``pid`` has the mounts."""

    folder: Path
    pid: int

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def line(
        self, *words: str | Path, user: bool = True, group: str = USER, **settings: str
    ) -> list[str]:
        """A command line that runs in it, as the user or as root."""
        enter = ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--"]
        environment = {
            "PATH": PATH if user else "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home if user else self.folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": f"{self.folder}/checkout:{self._packages()}",
            "PYTHONDONTWRITEBYTECODE": "1",
            **settings,
        }
        told = [f"{key}={value}" for key, value in environment.items()]
        change = ["setpriv", f"--reuid={USER}", f"--regid={group}", "--init-groups"]
        change += ["--inh-caps=-all", "--"]
        return [*enter, *(change if user else []), "env", "-i", *told, *map(str, words)]

    def run(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        line = self.line(*words, **options)
        return subprocess.run(line, capture_output=True, text=True, check=False, cwd="/")

    @property
    def python(self) -> str:
        """The interpreter that all users have."""
        return os.path.realpath(sys.executable)

    def virtkit(self, *words: str | Path) -> list[str | Path]:
        """What runs virtkit there."""
        return [self.python, "-P", "-m", "virtkit", *words]

    def root(self, script: str) -> None:
        """Changes the machine."""
        done = self.run("sh", "-ec", script, user=False)
        assert done.returncode == 0, (script, done.stderr)

    def _packages(self) -> str:
        site = Path(sysconfig.get_path("purelib"))
        if site.is_relative_to(CHECKOUT):
            site = self.folder / "checkout" / site.relative_to(CHECKOUT)
        return str(site)


@contextmanager
def machine() -> Iterator[Machine]:
    """A machine that goes again with all that runs in it as the user."""
    # not below /tmp, which is another one in there
    with TemporaryDirectory(dir="/srv", prefix="virtkit-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        line = ["unshare", "--mount", "--", "sh", "-c", _SETUP, "sh", name, str(CHECKOUT)]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            try:
                yield Machine(folder, holder.pid)
            finally:
                for pid in processes():
                    os.kill(pid, 9)
                holder.kill()


def processes() -> dict[int, str]:
    """The user's processes, and those of the user's subordinate ids."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            uid = path.stat().st_uid
            if uid == UID or IDS <= uid < IDS + 65536:
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found
