"""User-Mode Linux, beyond the contract: what its kernel may do on the host, and its console."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from integration.lab import Lab, laboratory, until, virsh

from virtkit.host.programs import nsenter
from virtkit.state import record_text
from virtkit.state.addresses import ID_COUNT
from virtkit.xml import tree

URI = "lxc:///system"
PROBE = Path(__file__).with_name("container_escapes.py").read_text()
#: Asks the kernel, by its console for its host, to panic.
PANIC = """
import socket, struct
request = struct.pack("=III512s", 0xCAFEBABE, 2, 7, b"sysrq c")
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(request, "/tmp/guest/mconsole")
"""
SPEC = """
name: program
networks: {front: {cidr: 10.95.0.0/24}, back: {mode: isolated}}
guests:
  u:
    type: uml
    memory: MEMORY
    networks: [front]
    disks: [{name: data, size: 64MiB, mount: /srv/data}]
"""
BEFORE = SPEC.replace("MEMORY", "288MiB")
AFTER = (
    SPEC.replace("MEMORY", "320MiB\n    disk: 5GiB")
    .replace("[front]", "[front, back]")
    .replace("64MiB", "96MiB")
    .replace("/srv/data}", "/srv/data}, {name: new, size: 32MiB, mount: /srv/new}")
)
NET_RAW = 1 << 13

pytestmark = pytest.mark.needs_uml


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("program"), "program", BEFORE) as lab:
        report = lab.json("up")
        assert report["ok"], report
        yield lab


def controller() -> int:
    return int(virsh("domid", "program-u", uri=URI))


def init() -> int:
    pid = controller()
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def kernels() -> list[int]:
    """The kernel's process: init starts one for each boot, so for a moment there is none."""
    found = []
    for each in Path(f"/proc/{init()}/task/{init()}/children").read_text().split():
        with suppress(OSError):
            if Path(f"/proc/{each}/cmdline").read_bytes().startswith(b"/tmp/again\0"):
                found.append(int(each))
    return found


def alive() -> bool:
    return virsh("domstate", "program-u", uri=URI) == "running"


@contextmanager
def console() -> Iterator[Callable[[], str]]:
    """What the kernel says meanwhile: the end of it."""
    terminal = virsh("ttyconsole", "program-u", uri=URI)
    with tempfile.TemporaryFile() as said, subprocess.Popen(["cat", terminal], stdout=said) as cat:
        try:
            yield lambda: os.pread(said.fileno(), 1 << 20, 0).decode("utf-8", "replace")[-8000:]
        finally:
            cat.kill()


def processes() -> list[int]:
    """All processes of the container, by its pid namespace."""
    space = Path(f"/proc/{init()}/ns/pid").readlink()
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (each / "ns/pid").readlink() == space:
                found.append(int(each.name))
    return found


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def in_the_container(*command: str) -> subprocess.CompletedProcess[str]:
    """What somebody can do who took the guest's kernel over."""
    controller = virsh("domid", "program-u", uri=URI)
    line = [sys.executable, "-IS", nsenter.__file__, controller, "program-u", *command]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def panic() -> bool:
    """Has the kernel panic, where it listens yet; whether its container has ended then."""
    in_the_container("/usr/bin/python3", "-IS", "-c", PANIC)
    return until(lambda: not alive(), 1)


# --- on the host ------------------------------------------------------------------------------


def test_its_processes_have_ids_and_namespaces_of_their_own_and_one_right(lab: Lab) -> None:
    del lab
    xml = virsh("dumpxml", "--inactive", "program-u", uri=URI)
    found = record_text.read_guest(tree.parse(xml, "u"))
    assert found is not None
    assert len(processes()) > 5
    for pid in processes():
        with suppress(FileNotFoundError):  # it ended
            said = status(pid)
            ids = {int(each) for key in ("Uid", "Gid") for each in said[key].split()}
            assert all(found.ids <= each < found.ids + ID_COUNT for each in ids), ids
            assert (int(said["CapBnd"], 16) | int(said["CapPrm"], 16)) & ~NET_RAW == 0
            assert said["NoNewPrivs"] == "1"
    for kind in ("user", "mnt", "net", "pid", "ipc", "uts"):
        spaces = {Path(f"/proc/{each}/ns/{kind}").readlink() for each in (init(), os.getpid())}
        assert len(spaces) == 2, kind


def test_its_cgroups_are_libvirts(lab: Lab) -> None:
    del lab
    for pid in processes():
        with suppress(FileNotFoundError):
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
            paths = {name: path for _, name, path in (line.split(":", 2) for line in lines)}
            for name in ("memory", "devices", "cpu"):
                assert "program-u.libvirt-lxc" in paths[name], (pid, paths)
    folder = Path("/sys/fs/cgroup/systemd")
    assert {each.stat().st_uid for each in (folder, *folder.glob("cgroup.*"))} == {0}


@pytest.mark.parametrize("nested", ["nested", ""])
def test_the_ways_out_are_closed(lab: Lab, nested: str) -> None:
    del lab
    done = in_the_container("/usr/bin/python3", "-c", PROBE, nested)
    if nested and done.returncode:  # it can't even make a user namespace
        assert "Operation not permitted" in done.stderr
        return
    found: dict[str, str] = json.loads(done.stdout)
    print(json.dumps(found, indent=1))
    assert len(found) > 25
    mine = {"read a host block device"}  # its own disks
    mine |= {"mount tmpfs", "mount memory cgroup"} if nested else set[str]()
    assert {way for way, said in found.items() if said == "open"} <= mine
    assert found["use more memory than allowed"] == "ENOMEM"


def test_it_sees_programs_and_its_disks(lab: Lab) -> None:
    script = "echo /*; echo /dev/ubd*; touch /usr/x; (: >/dev/ubdc); cat /proc/1/root/etc/shadow"
    done = in_the_container("/usr/bin/sh", "-c", script)
    root, disks = done.stdout.splitlines()
    # /run: container_escapes.py's
    assert root.replace("/run ", "") == "/dev /lib /lib64 /proc /sys /tmp /usr"
    assert disks == "/dev/ubda /dev/ubdb /dev/ubdc"
    assert "'/usr/x': Read-only file system" in done.stderr
    assert "/dev/ubdc: Operation not permitted" in done.stderr
    assert "shadow: No such file" in done.stderr
    assert lab.sh("u", "test -s /var/lib/cloud/seed/nocloud/meta-data && echo whole") == "whole"


# --- its life ---------------------------------------------------------------------------------


def test_its_system_is_whole(lab: Lab) -> None:
    said = lab.sh("u", "systemctl is-system-running --wait; systemctl --failed --no-legend")
    assert said == "running"
    assert lab.sh("u", "systemd-detect-virt; modprobe nf_tables && echo loaded") == "uml\nloaded"


def test_a_console_that_nobody_reads_holds_nothing_up(lab: Lab) -> None:
    line = "head -c 300000 /dev/zero | tr '\\0' x | timeout 60 tee /dev/console >/dev/null; echo $?"
    assert lab.sh("u", line) == "0"


def test_ctrl_c_before_the_kernel_has_its_terminal_means_nothing(lab: Lab) -> None:
    del lab
    os.kill(init(), signal.SIGINT)
    assert not until(lambda: not alive(), 1)


def test_its_memory_is_the_guests_and_its_own_is_beside_it(lab: Lab) -> None:
    hog = """
import os, time
for _ in range(100):
    if os.fork() == 0:
        time.sleep(20)  # a hundred processes at once, for as long as the test takes to look at them
        os._exit(0)
free = next(l for l in open("/proc/meminfo") if l.startswith("MemAvailable")).split()[1]
held = bytearray(int(free) * 900)
for at in range(0, len(held), 4096):
    held[at] = 1
print(len(held) > 100 * 2**20)
"""
    (folder,) = Path("/sys/fs/cgroup/memory/machine").glob("*program-u.libvirt-lxc")
    before = (
        folder / "memory.oom_control"
    ).read_text()  # container_escapes.py had a child of its own killed
    assert lab.sh("u", f"python3 -c '{hog}' | tail -1") == "True"
    assert (folder / "memory.oom_control").read_text() == before
    most = int((folder / "memory.max_usage_in_bytes").read_text())
    print(f"memory: {most // 2**20} MiB at most")


@contextmanager
def another_kernel() -> Iterator[None]:
    """What is done in it starts a new process for the kernel, in the same container."""
    before, first = controller(), kernels()
    with console() as said:
        yield
        assert until(lambda: alive() and kernels() not in (first, []), 60, 0.2), said()
    assert controller() == before


def test_a_reboot_from_inside_is_its_own(lab: Lab) -> None:
    with another_kernel():
        lab.virtkit("exec", "u", "--", "sh", "-c", "touch /run/this-boot; reboot", code=None)
    assert until(lambda: lab.virtkit("exec", "u", "true", code=None).code == 0, 120, 2)
    assert lab.sh("u", "test -e /run/this-boot || echo new") == "new"


@pytest.mark.long  # a boot more; that changes wait for it is as with containers
def test_changes_wait_for_a_restart(lab: Lab) -> None:
    boot = lab.sh("u", "cat /proc/sys/kernel/random/boot_id; echo kept >/srv/data/file")
    lab.write(AFTER)
    (change,) = [e for e in lab.json("plan")["changes"] if e["object"] == "guest/u"]
    assert change["effect"] == "restart"
    fields = {"memory", "disk", "disks.data.size", "disks.new", "networks.back"}
    assert {each["field"] for each in change["reasons"]} == fields
    assert lab.json("up")["ok"]
    assert lab.sh("u", "cat /proc/sys/kernel/random/boot_id") == boot
    (pending,) = lab.json("plan")["pending"]
    assert {each["field"] for each in pending["reasons"]} == fields
    assert lab.json("up", "--restart")["ok"]
    assert lab.json("plan")["changes"] == lab.json("plan")["pending"] == []
    sizes = lab.sh("u", "df -B1M --output=size / /srv/data /srv/new | tail -3").split()
    assert [0.8 < int(e) / mib <= 1 for e, mib in zip(sizes, (5120, 96, 32), strict=True)]
    assert lab.sh("u", "cat /srv/data/file; ls /sys/class/net | grep -c vec") == "kept\n2"


def test_a_panic_in_a_reboot_does_not_end_it_but_another_does(lab: Lab) -> None:
    with another_kernel():
        lab.sh("u", "echo reboot: Restarting system >/dev/kmsg")
        panic()
    assert until(panic, 60)  # once the new kernel listens
    assert lab.status("u")["why"] == "it ended by itself"


def test_a_kernel_that_hangs_is_stopped_in_time(lab: Lab) -> None:
    lab.virtkit("start", "u", "--no-wait")
    (kernel,) = until(kernels, 10)
    os.kill(kernel, signal.SIGSTOP)
    began = time.monotonic()
    lab.virtkit("stop", "u", "--timeout", "5")
    assert time.monotonic() - began < 30
    assert lab.status("u")["state"] == "stopped"


def test_a_host_that_shuts_down_asks_it_to_end(lab: Lab) -> None:
    """What libvirt-guests.service does; it waits for minutes."""
    report = lab.json("up")
    assert report["ok"], report
    lab.virtkit("exec", "u", "touch", "/srv/data/synced")
    virsh("shutdown", "program-u", uri=URI)
    assert until(lambda: virsh("domstate", "program-u", uri=URI) == "shut off", 60)
    (guest,) = lab.json("status")["guests"]
    assert guest["state"] == "stopped"


def test_down_leaves_nothing(lab: Lab) -> None:
    assert lab.json("down")["ok"]
    assert not lab.left()
    assert not list(Path("/run/virtkit/lxc").glob("*"))
