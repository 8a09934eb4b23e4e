"""What only Xen's own tools know of a host: guests' console logs, and what `doctor` looks at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from virtkit.host.names import checked_name
from virtkit.host.ssh import Remote
from virtkit.system import commands

#: Where ``xenconsoled --log=guest`` writes; only root may look.
LOGS = Path("/var/log/xen/console")
#: Where libxl runs the scripts that connect a guest's devices, and which virtkit's guests need.
_SCRIPTS, _NEEDED_SCRIPTS = Path("/etc/xen/scripts"), ("block", "vif-bridge")
#: Where libvirt looks for the QEMU of fully virtualized guests, and where Debian has it.
_EMULATOR = "/usr/lib/xen/bin/qemu-system-i386"
_DEBIAN_EMULATOR = "/usr/libexec/xen-qemu-system-i386"
#: MiB of memory below which dom0 starves.
_MIN_DOM0_MEMORY = 512

#: Prints what `checks` reads, a line each; sections begin with @.
_SCRIPT = f"""
PATH=$PATH:{commands.SYSTEM}
echo @info; xl info 2>&1
echo @dom0; sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo
echo @console; tr '\\0' ' ' </proc/"$(pidof xenconsoled || echo self)"/cmdline
echo; echo @scripts; for each in {" ".join(_NEEDED_SCRIPTS)}; do
    [ -x {_SCRIPTS}/$each ] || echo "$each"
done
echo @emulator; ls -L {_EMULATOR} {_DEBIAN_EMULATOR} 2>/dev/null
echo @images; command -v qemu-img
"""


def console_output(remote: Remote | None, domain: str, offset: int) -> bytes:
    """What a guest printed, from ``offset`` on; nothing where it has no log."""
    path = LOGS / f"guest-{checked_name(domain)}.log"
    if remote is not None:
        return remote.run(f"tail -c +{offset + 1} {path} 2>/dev/null || true")
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    except OSError:
        return b""


def checks(remote: Remote | None) -> Iterator[tuple[str, bool | None, str, str]]:
    """What a look at a Xen host finds: name, whether it is well, what it is, and the cure."""
    if remote is None:
        return parse(commands.run("sh", "-c", _SCRIPT).stdout)
    return parse(remote.run(_SCRIPT).decode("utf-8", "replace"))


def parse(output: str) -> Iterator[tuple[str, bool | None, str, str]]:
    """The checks that follow from what ``_SCRIPT`` printed."""
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output.splitlines():
        if line.startswith("@"):
            lines = parts[line[1:]] = []
        elif line.strip():
            lines.append(line.strip())
    info = dict(each.split(":", 1) for each in parts.get("info", ()) if ":" in each)
    info = {key.strip(): value.strip() for key, value in info.items()}
    if "xen_version" not in info:
        cure = (
            "boot the machine into Xen (`sudo apt-get install xen-system-amd64`); only root may "
            "ask Xen"
        )
        yield "toolstack", False, " ".join(parts.get("info", ["xl says nothing"]))[:200], cure
        return
    yield "toolstack", True, f"Xen {info['xen_version']}, xl answers", ""
    yield from _capabilities(info.get("virt_caps", "").split())
    memory = int(next(iter(parts.get("dom0", ())), "0")) // 1024
    free = info.get("free_memory", "?")
    what = f"dom0 has {memory} MiB, {free} MiB are free for guests"
    cure = "give dom0 more: dom0_mem=1024M,max:1024M on Xen's command line"
    yield "memory", memory >= _MIN_DOM0_MEMORY, what, "" if memory >= _MIN_DOM0_MEMORY else cure
    missing = ", ".join(parts.get("scripts", ()))
    what = f"{missing} missing in {_SCRIPTS}" if missing else f"libxl's, in {_SCRIPTS}"
    yield (
        "hotplug scripts",
        not missing,
        what,
        "sudo apt-get install --reinstall xen-utils-common" if missing else "",
    )
    logged = any("--log=guest" in each or "--log=all" in each for each in parts.get("console", ()))
    yield (
        "console logs",
        logged,
        f"xenconsoled keeps them in {LOGS}" if logged else "xenconsoled keeps none",
        ""
        if logged
        else "XENCONSOLED_ARGS=--log=guest in /etc/default/xen, then restart Xen's service",
    )
    yield from _emulator(parts.get("emulator", []))
    converts = bool(parts.get("images"))
    what = "qemu-img makes root disks of qcow2 images" if converts else "raw ones only: no qemu-img"
    cure = "" if converts else "sudo apt-get install qemu-utils"
    yield "disk images", converts or None, what, cure


def _capabilities(caps: list[str]) -> Iterator[tuple[str, bool | None, str, str]]:
    firmware = "turn on VT-x or AMD-V in the machine's firmware"
    for cap, what in (("pv", "xen-pv"), ("hvm", "xen-pvh and xen-hvm")):
        well = cap in caps
        yield cap, well, f"{'for' if well else 'missing for'} {what}", "" if well else firmware
    if "hap" not in caps:
        yield "hap", None, "no hardware help with memory: xen-hvm is slow, xen-pvh slower", ""


def _emulator(paths: list[str]) -> Iterator[tuple[str, bool | None, str, str]]:
    """libvirt looks for the QEMU of HVM guests in Xen's folder, Debian has it elsewhere."""
    if _EMULATOR in paths:
        yield "emulator", True, f"{_EMULATOR}, for xen-hvm", ""
    elif _DEBIAN_EMULATOR in paths:
        cure = f"as root: mkdir -p {Path(_EMULATOR).parent} && ln -s {_DEBIAN_EMULATOR} {_EMULATOR}"
        yield "emulator", False, f"{_EMULATOR} is missing, for xen-hvm", cure
    else:
        yield "emulator", None, "none: xen-hvm needs one", "sudo apt-get install qemu-system-xen"
