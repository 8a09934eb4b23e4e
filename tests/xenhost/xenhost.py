"""A real Xen host for tests and for trying things out: dom0 of Debian 12 on an emulated machine.

usage: python -m xenhost.xenhost build | start FOLDER | stop FOLDER     (in tests/)
"""

from __future__ import annotations

import io
import shlex
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import machine
from machine import BOOT, Machine, Tell

from virtkit import images
from virtkit.errors import VirtkitError
from virtkit.host import Host, Remote
from virtkit.images import build, build_errors, sandbox
from virtkit.progress import Progress

HERE = Path(__file__).parent
RELEASE = "bookworm"
#: What dom0 is made of. None of it is configured, so none of it needs another's maintainer script.
PACKAGES = (
    *("base-files", "base-passwd", "bash", "bridge-utils", "busybox-static", "coreutils", "dash"),
    *("dmidecode", "dnsmasq-base", "e2fsprogs", "findutils", "gawk", "grep", "gzip", "iproute2"),
    *("iptables", "kmod", "libc-bin", "libvirt-clients", "libvirt-daemon"),
    *("libvirt-daemon-driver-xen", "linux-image-amd64", "mount", "ncurses-base", "openssh-server"),
    *("procps", "qemu-system-xen", "seabios", "sed", "tar", "util-linux"),
    *("xen-hypervisor-4.17-amd64", "xen-utils-4.17", "xenstore-utils", "xfsprogs"),
)
#: What goes into the tree beside its packages.
PARTS = ("block", "compose", "init", "vif-bridge")

MEMORY, DOM0_MEMORY, DISK = 2560, 1024, "24G"
#: The processor has what Xen needs for PVH and HVM guests, emulated too. One, since Xen's wait for
#: each other by spinning, and here threads of QEMU have to take turns.
MACHINE = ["-machine", "pc,usb=off", "-cpu", "qemu64,+svm,+npt", "-smp", "1", "-m", str(MEMORY)]
#: Nobody attacks this host from its guests: without defences against that they run a sixth faster.
#: A guest that has the processor keeps it for 50 ms, not for Xen's 1, since with each change QEMU
#: forgets what it knew of addresses and code: two that boot together need two thirds of the time.
XEN = (
    "console=com1 com1=115200,8n1 bootscrub=0 dom0_max_vcpus=1 spec-ctrl=no,bti-thunk=jmp "
    f"sched_ratelimit_us=50000 dom0_mem={DOM0_MEMORY}M,max:{DOM0_MEMORY}M"
)
LINUX = "console=hvc0 quiet audit=0 apparmor=0 mitigations=off cryptomgr.notests=1"


class XenHost(Machine):
    """A Xen host that runs."""

    @property
    def address(self) -> str:
        return "root@127.0.0.1"

    @property
    def spec(self) -> str:
        """The lines of a spec that make it the host of its guests."""
        at = self.folder
        return (
            "hosts:\n"
            "  xen1:\n"
            f"    address: {self.address}\n"
            f"    ssh: {{port: {self.port}, key: {at}/id, known_hosts: {at}/known_hosts}}\n"
        )


def start(folder: Path) -> XenHost:
    """A fresh host in ``folder``, from the snapshot; that is built where there is none."""
    started = machine.from_snapshot(built(), folder, _arguments)
    return XenHost(started.folder, started.port)


def _arguments(image: Path, folder: Path) -> list[str]:
    """QEMU's arguments for a machine in ``folder``."""
    return [
        *("-accel", "tcg,thread=multi,tb-size=512", *MACHINE),
        *("-kernel", str(image / "xen"), "-append", XEN),
        *("-initrd", f"{image}/vmlinuz {LINUX},{image}/dom0.cpio"),
        *("-drive", f"file={folder}/disk.qcow2,format=qcow2,if=virtio,cache=unsafe"),
    ]


# --- building -------------------------------------------------------------------------------


def built(*, say: bool = False) -> Path:
    """The folder with the host's snapshot; made where there is none for these scripts and QEMU."""
    key = machine.key_of(*(HERE / name for name in (*PARTS, Path(__file__).name)))
    return machine.built("xenhost", key, _build, say=say)


def _build(into: Path, tell: Tell) -> None:
    tell("unpacking dom0's packages")
    _compose(into)
    tell("booting it")
    machine.run(["qemu-img", "create", "-f", "qcow2", into / "disk.qcow2", DISK])
    new = machine.new_machine(into, into)
    host = XenHost(new.folder, new.port)
    host.boot(_arguments(into, into))
    try:
        serial = into / "serial.log"
        ready = machine.until(
            lambda: "XENHOST READY" in serial.read_text(errors="replace"), BOOT, 0.5
        )
        if not ready:
            raise RuntimeError(f"no Xen host within {BOOT} s:\n{serial.read_text()[-2000:]}")
        tell("putting the image of the tests' guests into its pool")
        _fill(into, host)
        tell("saving the machine")
        host.save()
    except BaseException:
        host.stop()
        raise


def _compose(part: Path) -> None:
    """dom0's initramfs, kernel and hypervisor, of packages that are unpacked and not configured."""
    with tempfile.TemporaryDirectory(prefix="virtkit-xenhost-") as name:
        room = Path(name)
        room.chmod(0o711)  # the ids of the user namespace have to pass through
        files = {"id.pub": part / "id.pub", "hostkey": part / "hostkey"}
        files |= {each: HERE / each for each in PARTS}
        archive = room / "in.tar"
        with tarfile.open(archive, "w") as tar:
            for each, path in files.items():
                info = tarfile.TarInfo(f"in/{each}")
                data = path.read_bytes()
                info.size, info.mode = len(data), 0o755
                tar.addfile(info, io.BytesIO(data))
        excluded = ("doc", "locale", "man", "i18n", "info", "zoneinfo", "perl", "perl5")
        line = ["mmdebstrap", "--mode=root"]
        line += ["--variant=extract", "--format=null", f"--include={','.join(PACKAGES)}"]
        line += [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in excluded]
        line += [f"--extract-hook=tar-in {shlex.quote(str(archive))} /"]
        line += ['--extract-hook=chroot "$1" /bin/dash /in/compose']
        for each in ("xen", "vmlinuz", "dom0.cpio"):
            line.append(f"--extract-hook=download /out/{each} {shlex.quote(str(part / each))}")
        line += [RELEASE, "/dev/null", *build.mirrors(RELEASE)]

        def failed(lines: Sequence[str]) -> VirtkitError:
            what = "dom0's packages were not unpacked"
            return build_errors.failure(what, lines, folder=room)

        sandbox.run(line, root="own", work=room, failed=failed, progress=Progress())


def _fill(part: Path, xen: XenHost) -> None:
    """Uploads the image that tests use; without ssh, which is slow on an emulated processor."""
    port = machine.free_port()
    xen.monitor(f"hostfwd_add net tcp:127.0.0.1:{port}-:16509")
    remote = Remote("xen1", xen.address, xen.port, str(part / "id"), str(part / "known_hosts"))
    host = Host("xen1", uris={"xen": f"xen+tcp://127.0.0.1:{port}/system"}, remote=remote)
    host.storage.ensure()
    ref, local = machine.tests_image()
    images.upload(host, ref, local, Progress())
    host.connections.any().close()
    xen.monitor(f"hostfwd_remove net tcp:127.0.0.1:{port}")


def main(words: list[str]) -> None:
    match words:
        case ["build"]:
            print(built(say=True))
        case ["start", folder]:
            at = Path(folder).absolute()
            there = machine.running(at)
            print((XenHost(at, there.port) if there else start(at)).spec, end="")
        case ["stop", folder]:
            at = Path(folder).absolute()
            Machine(at, 0).stop()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
