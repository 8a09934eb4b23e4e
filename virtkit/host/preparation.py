"""What a prepared host has, for what it lacks the command that gives it, and which daemon of
libvirt's the host has.

The one list of it: scripts/libvirt runs these commands, `virtkit doctor` and cures print them. It
only reads, and never needs root; it must never ask or start anything.

It is also a program, which runs before virtkit is installed and so imports nothing of it: `lacks`
prints a line of four fields, with tabs between, for each thing that this host lacks; `daemon`
prints libvirt's daemon for containers.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parent
#: What goes into /etc, as it is shipped.
HOOK, LINK = _HERE / "hook.py", _HERE / "80-virtkit.link"

#: What systemd and its daemons in a container take of inotify instances, how many a host should
#: allow at least, and what it then gets (inotify(7)). Seen: the kernel counts those of all
#: containers as root's.
INOTIFY_EACH, INOTIFY_ENOUGH, INOTIFY_GIVEN = 12, 512, 1024

_ROOT = Path("/")
#: What starts libvirt in a checkout of virtkit, where no init system does it.
_SCRIPT = _HERE.parent.parent / "scripts" / "libvirt"
#: libvirt's daemon for all; where each driver has its own, that of a URI's scheme, and of
#: networks, which drivers share.
_ALL = "libvirtd"
_OWN = {
    "qemu": "virtqemud",
    "lxc": "virtlxcd",
    "xen": "virtxend",
    "network": "virtnetworkd",
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


@dataclass(frozen=True)
class Lack:
    """What a host lacks. ``gets`` is what it has afterwards, ``why`` what goes wrong until then.

    ``command`` is for root's shell. It is empty where an administrator has decided otherwise; then
    ``advice`` says what to do.
    """

    name: str
    gets: str
    why: str
    command: str
    advice: str = ""

    @property
    def cure(self) -> str:
        """What the caller does about it."""
        return as_root(self.command) if self.command else self.advice


def as_root(command: str) -> str:
    """A command for root's shell as the caller can type it."""
    return command if os.geteuid() == 0 else f"sudo sh -c {shlex.quote(command)}"


def lacks(root: Path = _ROOT) -> list[Lack]:
    """All that the host whose files are below ``root`` lacks, in the order to give it in."""
    return [*hook(root), *settings(root)]


def settings(root: Path = _ROOT) -> Iterator[Lack]:
    """The same without the hook, of which `virtkit.host.prepared` judges."""
    yield from _link(root)
    yield from _shutdown(root)
    yield from _inotify(root)


# --- libvirt's hook ---------------------------------------------------------------------------


def hook(root: Path = _ROOT) -> Iterator[Lack]:
    """libvirt's hook, and a libvirtd that knows it."""
    known = ready(root) == interface()
    changed = outdated(root, unseen=not known)
    if changed:
        why = "without libvirt's hook containers get no ids of their own"
        yield Lack("hook", "libvirt's hook for containers", why, hook_command(root))
    if changed or not known:
        why = "libvirtd was not restarted since its hook came"
        yield Lack("restart", "a libvirtd that knows its hook", why, restart_command(root))


def installed(root: Path = _ROOT) -> list[Path]:
    """Where libvirt runs the hook; in `daemon.d` it tells that libvirtd knows it."""
    return [root / "etc/libvirt/hooks" / each / "virtkit" for each in ("lxc.d", "daemon.d")]


def outdated(root: Path = _ROOT, *, unseen: bool = False) -> bool:
    """Whether the hook is not there as it is shipped; ``unseen`` where only root may look."""
    return any(_differs(each, HOOK, unseen=unseen) for each in installed(root))


def ready(root: Path = _ROOT) -> str:
    """The interface of the hook that libvirtd found when it started (hook.READY)."""
    path = root / "run/virtkit/hook"
    return path.read_text().strip() if path.is_file() else ""


def interface() -> str:
    """The shipped hook's INTERFACE."""
    found = re.search(r"^INTERFACE = (\d+)$", HOOK.read_text(), re.MULTILINE)
    return found[1] if found else ""


def hook_command(root: Path = _ROOT) -> str:
    """What installs the hook; libvirtd has to be restarted then."""
    return " && ".join(_install(HOOK, each, "755") for each in installed(root))


def restart_command(root: Path = _ROOT, script: Path = _SCRIPT) -> str:
    """What restarts libvirt's daemon for containers, for root's shell; guests go on running."""
    return " && ".join(_restarting("lxc", root, script))


# --- libvirt's daemon -------------------------------------------------------------------------


def restart(part: str = "qemu", root: Path = _ROOT, script: Path = _SCRIPT) -> str:
    """The command that starts libvirt's daemon again, for a user with sudo.

    Not the start of its socket: one that was restarted under a running daemon is gone until the
    daemon itself starts again. Guests run on meanwhile.

    Args:
        part: a URI's scheme, or ``network``.
        root: the machine's files.
        script: starts libvirt by hand; it asks for root's rights itself.
    """
    commands = _restarting(part, root, script)
    own = shlex.quote(str(script))
    return " && ".join(e if e.startswith(own) else f"sudo {e}" for e in commands)


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


def _restarting(part: str, root: Path, script: Path) -> list[str]:
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
    wanted = (each for folder in _UNITS[:2] for each in (root / folder).glob("*.wants"))
    return any(os.path.lexists(folder / unit) for folder in wanted for unit in _units(name))


def _units(name: str) -> Iterator[str]:
    return (f"{name}{kind}" for kind in _KINDS)


def _unit(root: Path, unit: str) -> Path | None:
    """The file of a unit; of a masked one the link to nowhere."""
    paths = (root / folder / unit for folder in _UNITS)
    return next((each for each in paths if os.path.lexists(each)), None)


def _masked(root: Path, unit: str) -> bool:
    found = _unit(root, unit)
    if found is None:
        return False
    if found.is_symlink():
        return str(found.readlink()) == "/dev/null"
    return found.is_file() and found.stat().st_size == 0  # systemd takes an empty file for it, too


# --- settings ---------------------------------------------------------------------------------


def _link(root: Path) -> Iterator[Lack]:
    """udev reads it by itself; the reload is for an interface that comes within seconds."""
    path = root / "etc/systemd/network" / LINK.name
    if not (root / "run/udev/control").exists() or path.is_symlink():  # one to /dev/null masks it
        return
    if _differs(path, LINK):
        command = f"{_install(LINK, path, '644')} && udevadm control --reload"
        yield Lack(
            "udev",
            f"{path}, by which udev leaves guests' MACs alone",
            "udev now and then gives a container's interface another MAC than libvirt did, and the "
            "container has no network then",
            command,
        )


def _shutdown(root: Path) -> Iterator[Lack]:
    """Debian's libvirt-guests.service asks libvirt's default URI only, that of virtual machines."""
    path = root / "etc/default/libvirt-guests"
    if not _systemd(root) or _unit(root, "libvirt-guests.service") is None:
        return
    uris = _uris(path)
    if uris is not None and any(each.startswith("lxc:") for each in uris):
        return
    why = "containers are killed when the host shuts down or reboots, not asked to end"
    gets = f"containers that are asked to end when the host shuts down (URIS in {path})"
    if uris in (None, ["default"]):
        lines = (
            "",
            "# virtkit: of these lines the last one counts",
            'URIS="default lxc:///system"',
        )
        words = " ".join(map(shlex.quote, lines))
        command = rf"printf '%s\n' {words} >>{shlex.quote(str(path))}"
        yield Lack("libvirt-guests", gets, why, command)
    else:
        yield Lack("libvirt-guests", gets, why, "", f"add lxc:///system to URIS in {path}")


def _uris(settings: Path) -> list[str] | None:
    """What libvirt-guests takes for its URIs; None where nothing is set."""
    try:
        text = settings.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return [""]  # somebody's own
    found = re.findall(r"^[ \t]*(?:export[ \t]+)?URIS=(.*)$", text, re.MULTILINE)
    if not found:
        return None
    try:
        words = shlex.split(found[-1], comments=True)
    except ValueError:
        words = []
    return words[0].split() if words else [""]


def _inotify(root: Path) -> Iterator[Lack]:
    value = root / "proc/sys/fs/inotify/max_user_instances"
    if not value.exists():
        return
    most = int(value.read_text())
    if most < INOTIFY_ENOUGH:
        setting, file = "fs.inotify.max_user_instances", root / "etc/sysctl.d/90-virtkit.conf"
        folder, quoted = shlex.quote(str(file.parent)), shlex.quote(str(file))
        yield Lack(
            "inotify",
            f"{setting}={INOTIFY_GIVEN} instead of {most} (in {file})",
            f"{setting} is {most}, and a container's systemd takes {INOTIFY_EACH}: "
            f"after {most // INOTIFY_EACH} containers the next ones do not get ready",
            f"mkdir -p {folder} && echo {setting}={INOTIFY_GIVEN} >{quoted}"
            f" && echo {INOTIFY_GIVEN} >{shlex.quote(str(value))}",
        )


# --- files ------------------------------------------------------------------------------------


def _install(source: Path, target: Path, mode: str) -> str:
    return f"install -D -m {mode} {shlex.quote(str(source))} {shlex.quote(str(target))}"


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


def main(*words: str) -> None:
    """The program."""
    if words == ("daemon",):
        sys.stdout.write(f"{daemon()}\n")
    elif words == ("lacks",):
        for each in lacks():
            why = f"{each.why}; {each.advice}" if each.advice else each.why
            sys.stdout.write("\t".join((each.name, each.gets, why, each.command)) + "\n")
    else:
        raise SystemExit("usage: preparation.py lacks | daemon")


if __name__ == "__main__":
    main(*sys.argv[1:])
