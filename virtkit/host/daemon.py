"""Which daemon of libvirt's this machine has, and the command that starts it again.

A machine has one daemon for all (libvirtd), or one for each driver (virtqemud, virtlxcd …). Goes
by unit files and programs alone; it must never ask or start anything.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

ALL = "libvirtd"
#: The daemon of a URI's scheme, and of what drivers share, where each has its own.
_OWN = {
    "qemu": "virtqemud",
    "lxc": "virtlxcd",
    "xen": "virtxend",
    "network": "virtnetworkd",
    "storage": "virtstoraged",
}
#: Where units are; what is in one hides what is in the next.
_UNITS = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
_KINDS = (".service", ".socket", "-ro.socket", "-admin.socket")
_PROGRAMS = ("usr/sbin", "usr/local/sbin", "usr/bin", "usr/local/bin")
#: What starts libvirt in a checkout of virtkit, where no init system does it.
_SCRIPT = Path(__file__).parents[2] / "scripts" / "libvirt"


def restart(part: str = "qemu", root: Path = Path("/"), script: Path = _SCRIPT) -> str:
    """The command that starts the daemon again, for a user with sudo.

    Not the start of its socket: one that was restarted under a running daemon is gone until the
    daemon itself starts again. Guests run on meanwhile.

    Args:
        part: a URI's scheme, or ``network`` or ``storage``.
        root: the machine's files.
        script: starts libvirt by hand.
    """
    candidates = (ALL, _OWN.get(part, ALL))
    if (root / "run/systemd/system").is_dir():
        found = [each for each in candidates if _unit(root, f"{each}.service") is not None]
        if found:
            return _by_systemd(root, min(found, key=lambda each: _rank(root, each)))
    for name in candidates:
        if (root / "etc/init.d" / name).exists():
            return f"sudo service {name} restart"
    if any(_program(root, each) for each in candidates):
        return _by_hand(root, candidates, script)
    return "sudo apt-get install libvirt-daemon-system"


def _by_systemd(root: Path, name: str) -> str:
    masked = [each for each in _units(name) if _masked(root, each)]
    unmask = f"sudo systemctl unmask {' '.join(masked)} && " if masked else ""
    return f"{unmask}sudo systemctl restart {name}"


def _by_hand(root: Path, names: tuple[str, ...], script: Path) -> str:
    if script.exists():
        command = shlex.quote(str(script))
        return f"{command} stop; {command}"
    name = next(each for each in names if _program(root, each))
    return f"sudo virtlogd -d; sudo {name} -d"


def _rank(root: Path, name: str) -> int:
    """How likely a daemon is the one in use: it is enabled, or at least not masked."""
    if _masked(root, f"{name}.service"):
        return 2
    wanted = [each for folder in _UNITS[:2] for each in (root / folder).glob("*.wants")]
    links = (folder / unit for folder in wanted for unit in _units(name))
    return 0 if any(each.is_symlink() for each in links) else 1


def _units(name: str) -> Iterator[str]:
    return (f"{name}{kind}" for kind in _KINDS)


def _unit(root: Path, unit: str) -> Path | None:
    """The file of a unit; of a masked one the link to nowhere."""
    paths = (root / folder / unit for folder in _UNITS)
    return next((each for each in paths if each.is_symlink() or each.exists()), None)


def _masked(root: Path, unit: str) -> bool:
    found = _unit(root, unit)
    if found is None:
        return False
    if found.is_symlink():
        return str(found.readlink()) == "/dev/null"
    return found.is_file() and found.stat().st_size == 0  # systemd takes an empty file for it, too


def _program(root: Path, name: str) -> bool:
    return any((root / folder / name).exists() for folder in _PROGRAMS)
