"""What this host lacks compared with a prepared one, and which libvirt daemon it runs.

playbooks/host.yml gives what is missing. Looking takes milliseconds and Ansible takes seconds, so
`virtkit doctor`, plans and scripts/up look here first. It only reads, and never needs root; it must
never ask or start anything.

It is also a program, which runs before virtkit is installed and so imports nothing of it: `missing`
prints a line for each thing that is missing and that the playbook gives, its name and why it
matters, with a tab between; `packages` prints the packages of a prepared host; `daemon` prints
libvirt's daemon for containers.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]
#: What goes into /etc, as it is shipped.
HOOK_FILE, LINK_FILE = _PACKAGE / "host/programs/lxc_hook.py", _PACKAGE / "host/80-virtkit.link"

#: What gives this machine all of it.
CURE = "virtkit host prepare local"
#: What systemd and its daemons in a container take of inotify instances, and how many a host should
#: allow at least (inotify(7)). Seen: the kernel counts those of all containers as root's.
INOTIFY_EACH, INOTIFY_ENOUGH = 12, 512
#: A package of dpkg's that is installed; lines stand between the two in some.
_INSTALLED = r"^Package: (.+)\n(?:[A-Z].*\n)*?Status: \S+ \S+ installed$"
#: What packages are for on a machine that runs virtkit and its guests (playbooks/host.yml).
USES = ("libvirt", "virtkit", "kvm", "lxc", "uml")

_ROOT = Path("/")
#: The list of packages: inside an installed virtkit, or beside it in a checkout.
_LIST = "playbooks/roles/packages/files/Debian.list"
#: What starts libvirt in a checkout of virtkit, where no init system does it.
_SCRIPT = _PACKAGE.parent / "scripts" / "libvirt"
#: libvirt's daemon for all; where each driver has its own, that of a URI's scheme, and of
#: networks, which drivers share.
_ALL = "libvirtd"
_OWN = {
    "qemu": "virtqemud",
    "lxc": "virtlxcd",
    "xen": "virtxend",
    "network": "virtnetworkd",
}
#: What a daemon serves: a URI's scheme, or networks.
PARTS = tuple(_OWN)
#: Where units are; what is in one hides what is in the next.
_UNITS = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
_KINDS = (".service", ".socket", "-ro.socket", "-admin.socket")
_PROGRAMS = ("usr/sbin", "usr/local/sbin", "usr/bin", "usr/local/bin")


@dataclass(frozen=True)
class Missing:
    """What is missing on a host, and ``why`` that matters.

    ``advice`` is what to do where the playbook leaves an administrator's decision alone.
    """

    name: str
    why: str
    advice: str = ""

    @property
    def cure(self) -> str:
        """What the caller does about it."""
        return self.advice or CURE


def missing_items(root: Path = _ROOT) -> list[Missing]:
    """All that is missing on the host whose files are below ``root``."""
    parts = (_missing_packages, _missing_group, missing_hook, missing_settings)
    return [each for part in parts for each in part(root)]


def missing_settings(root: Path = _ROOT) -> Iterator[Missing]:
    """The missing settings with which guests run better."""
    yield from _missing_udev_link(root)
    yield from _missing_libvirt_guests(root)
    yield from _missing_inotify(root)


# --- packages and the group -------------------------------------------------------------------


def packages(machine: str = "", *, uses: Collection[str] = USES) -> list[str]:
    """The packages of a prepared Debian, for a machine as uname(1) calls it; this one's if empty.

    Args:
        uses: what they are for, as in the list's first column.
    """
    places = (_PACKAGE / _LIST, _PACKAGE.parent / _LIST)
    path = next(each for each in places if each.is_file())
    rows = (each.split() for each in path.read_text().splitlines() if each.strip()[:1] not in "#")
    kinds = ("any", machine or os.uname().machine)
    return sorted({package for use, kind, package in rows if use in uses and kind in kinds})


def _uses(root: Path) -> list[str]:
    """What host.yml takes by itself: Debian packs User-Mode Linux, others may not."""
    try:
        debian = re.search("^ID=debian$", (root / "etc/os-release").read_text(), re.MULTILINE)
    except OSError:
        debian = None
    return [each for each in USES if debian or each != "uml"]


def _missing_packages(root: Path) -> Iterator[Missing]:
    """The packages that dpkg does not have; none on a machine with another package manager."""
    try:
        text = (root / "var/lib/dpkg/status").read_text(errors="replace")
    except OSError:
        return
    present = set(re.findall(_INSTALLED, text, re.MULTILINE))
    missing = [each for each in packages(uses=_uses(root)) if each not in present]
    if missing:
        yield Missing("packages", f"packages are missing: {' '.join(missing)}")


def _missing_group(root: Path) -> Iterator[Missing]:
    """The group libvirt, where the caller will not be in it after the next login either."""
    if root != _ROOT or os.geteuid() == 0:
        return
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrnam("libvirt").gr_gid
    except KeyError:  # packages are missing, and bring it
        return
    if group not in os.getgrouplist(user.pw_name, user.pw_gid):
        yield Missing(
            "group", f"{user.pw_name} is not in the group libvirt, whose members may use libvirt"
        )


# --- libvirt's hook ---------------------------------------------------------------------------


def missing_hook(root: Path = _ROOT) -> Iterator[Missing]:
    """What is missing of libvirt's hook, and of a libvirtd that has loaded it."""
    loaded = loaded_interface(root) == shipped_interface()
    changed = hook_outdated(root, unseen=not loaded)
    if changed:
        yield Missing("hook", "without libvirt's hook containers don't get their own ids")
    if changed or not loaded:
        yield Missing("restart", "libvirtd was not restarted since its hook was installed")


def hook_paths(root: Path = _ROOT) -> list[Path]:
    """Where libvirt runs the hook; in `daemon.d` it tells that libvirtd knows it."""
    return [root / "etc/libvirt/hooks" / each / "virtkit" for each in ("lxc.d", "daemon.d")]


def hook_outdated(root: Path = _ROOT, *, unseen: bool = False) -> bool:
    """Whether the installed hook is not the shipped one.

    Args:
        unseen: the answer where only root may look.
    """
    return any(_differs(each, HOOK_FILE, unseen=unseen) for each in hook_paths(root))


def loaded_interface(root: Path = _ROOT) -> str:
    """The interface of the hook that libvirtd found when it started (READY in lxc_hook.py)."""
    path = root / "run/virtkit/hook"
    return path.read_text().strip() if path.is_file() else ""


def shipped_interface() -> str:
    """The shipped hook's INTERFACE."""
    match = re.search(r"^INTERFACE = (\d+)$", HOOK_FILE.read_text(), re.MULTILINE)
    return match[1] if match else ""


# --- libvirt's daemon -------------------------------------------------------------------------


def restart_command(part: str = "qemu", root: Path = _ROOT, script: Path = _SCRIPT) -> str:
    """The command that starts libvirt's daemon again, for a user with sudo.

    Not the start of its socket: one that was restarted under a running daemon is gone until the
    daemon itself starts again. Guests run on meanwhile.

    Args:
        part: a URI's scheme, or ``network``.
        root: the machine's files.
        script: starts libvirt by hand; it asks for root's rights itself.
    """
    commands = _restart_commands(part, root, script)
    by_hand = shlex.quote(str(script))
    return " && ".join(e if e.startswith(by_hand) else f"sudo {e}" for e in commands)


def daemon(part: str = "lxc", root: Path = _ROOT) -> str:
    """The daemon that serves a part of libvirt.

    A host may have one for all, libvirtd, or one for each driver, as Fedora has: not tried there.
    Where both are installed, libvirtd counts when it is enabled, or the other one is masked.
    """
    own = _OWN[part]
    all_in_use = _usable(root, _ALL) and _enabled(root, _ALL)
    if _usable(root, own) and not all_in_use:
        return own
    return own if _present(root, own) and not _present(root, _ALL) else _ALL


def _restart_commands(part: str, root: Path, script: Path) -> list[str]:
    """The commands, each for root, that start a daemon again."""
    name = daemon(part, root)
    if _systemd(root) and _unit(root, f"{name}.service") is not None:
        masked = [each for each in _units(name) if _masked(root, each)]
        unmask = [f"systemctl unmask {' '.join(masked)}"] if masked else []
        return [*unmask, f"systemctl restart {name}"]
    if (root / "etc/init.d" / name).exists():
        return [f"service {name} restart"]
    if not any((root / each / name).exists() for each in _PROGRAMS):
        return ["apt-get install libvirt-daemon-system"]
    if script.is_file():
        return [f"{shlex.quote(str(script))} restart"]
    return ["virtlogd -d", f"{name} -d"]


def _present(root: Path, name: str) -> bool:
    """Whether a daemon is installed, as far as its unit or its program tells."""
    programs = any((root / each / name).exists() for each in _PROGRAMS)
    return programs or _unit(root, f"{name}.service") is not None


def _usable(root: Path, name: str) -> bool:
    return _present(root, name) and not _masked(root, f"{name}.service")


def _enabled(root: Path, name: str) -> bool:
    wants = (each for folder in _UNITS[:2] for each in (root / folder).glob("*.wants"))
    return any(os.path.lexists(folder / unit) for folder in wants for unit in _units(name))


def _units(name: str) -> Iterator[str]:
    return (f"{name}{kind}" for kind in _KINDS)


def _unit(root: Path, unit: str) -> Path | None:
    """The file of a unit; of a masked one the link to nowhere."""
    paths = (root / folder / unit for folder in _UNITS)
    return next((each for each in paths if os.path.lexists(each)), None)


def _masked(root: Path, unit: str) -> bool:
    path = _unit(root, unit)
    if path is None:
        return False
    if path.is_symlink():
        return str(path.readlink()) == "/dev/null"
    return path.is_file() and path.stat().st_size == 0  # systemd takes an empty file for it, too


# --- settings ---------------------------------------------------------------------------------


def _missing_udev_link(root: Path) -> Iterator[Missing]:
    """udev reads it by itself; the reload is for an interface that comes within seconds."""
    path = root / "etc/systemd/network" / LINK_FILE.name
    if not (root / "run/udev/control").exists() or path.is_symlink():  # one to /dev/null masks it
        return
    if _differs(path, LINK_FILE):
        yield Missing(
            "udev",
            "udev now and then gives a container's interface another MAC than libvirt did, and the "
            f"container has no network then ({path} is missing)",
        )


def _missing_libvirt_guests(root: Path) -> Iterator[Missing]:
    """Debian's libvirt-guests.service asks libvirt's default URI only, that of virtual machines."""
    path = root / "etc/default/libvirt-guests"
    if not _systemd(root) or _unit(root, "libvirt-guests.service") is None:
        return
    uris = _uris(path)
    if uris is not None and any(each.startswith("lxc:") for each in uris):
        return
    why = "containers are killed, not shut down, when the host goes down"
    custom = uris not in (None, ["default"])
    advice = f"add lxc:///system to URIS in {path}" if custom else ""
    yield Missing("libvirt-guests", f"{why} (URIS in {path})", advice)


def _uris(settings: Path) -> list[str] | None:
    """What libvirt-guests takes for its URIs; None where nothing is set."""
    try:
        text = settings.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return [""]  # somebody's own
    values = re.findall(r"^[ \t]*(?:export[ \t]+)?URIS=(.*)$", text, re.MULTILINE)
    if not values:
        return None
    try:
        words = shlex.split(values[-1], comments=True)
    except ValueError:
        words = []
    return words[0].split() if words else [""]


def _missing_inotify(root: Path) -> Iterator[Missing]:
    value = root / "proc/sys/fs/inotify/max_user_instances"
    if not value.exists():
        return
    limit = int(value.read_text())
    if limit < INOTIFY_ENOUGH:
        setting = "fs.inotify.max_user_instances"
        read_only = os.statvfs(value).f_flag & os.ST_RDONLY  # as in a container
        yield Missing(
            "inotify",
            f"{setting} is {limit}, and a container's systemd takes {INOTIFY_EACH}: "
            f"only {limit // INOTIFY_EACH} containers can become ready",
            f"raise {setting} on the machine that this container runs on" if read_only else "",
        )


# --- files ------------------------------------------------------------------------------------


def _differs(path: Path, shipped: Path, *, unseen: bool = False) -> bool:
    """``unseen`` is the answer where only root may look."""
    try:
        return path.read_bytes() != shipped.read_bytes()
    except PermissionError:
        return unseen
    except OSError:
        return True


def _systemd(root: Path) -> bool:
    return (root / "run/systemd/system").is_dir()


def main(*arguments: str) -> None:
    """The program."""
    match arguments:
        case ("daemon",):
            lines = [daemon()]
        case ("packages",):
            lines = packages()
        case ("missing",):
            lines = [f"{each.name}\t{each.why}" for each in missing_items() if not each.advice]
        case _:
            raise SystemExit("usage: preparation.py missing | packages | daemon")
    sys.stdout.writelines(f"{each}\n" for each in lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
