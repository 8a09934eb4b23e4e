"""What keeps a container's root off its host, tried from inside and looked at from the host.

Four containers: two in user namespaces, one as on a host that was not prepared (the hook is hidden
while it is made), one privileged.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from integration.lab import POOL, Lab, laboratory, run, until, virsh

from virtkit.host.machine import preparation
from virtkit.state import record_text
from virtkit.state.addresses import ID_COUNT
from virtkit.state.record import GuestRecord
from virtkit.xml import tree

URI = "lxc:///system"
HOOK = Path("/etc/libvirt/hooks/lxc.d/virtkit")
MOUNTS = Path("/run/virtkit/lxc")
PROBE = Path(__file__).with_name("container_escapes.py").read_text()
SPEC = """
name: fenced
defaults: {type: lxc, memory: 256MiB}
guests:
  a: {disks: [{name: data, size: 32MiB, mount: /srv/data, keep: true}]}
  b: {}
  free: {privileged: true}
  hard: {}
"""

#: What root may do all the same. In a user namespace of its own anybody may mount a tmpfs, and sees
#: the container's own cgroup; where its ids are the host's, the files in there are its to write.
OPEN = {
    ("a", ""): set[str](),
    ("a", "nested"): {"mount tmpfs", "mount memory cgroup"},
    ("hard", ""): set[str](),
    ("hard", "nested"): {"mount tmpfs", "mount memory cgroup", "raise the memory limit"},
}
#: Each alone is a way to the host.
OPEN_IF_PRIVILEGED = {
    "mount sysfs",
    "mount devtmpfs",
    "write core pattern",
    "write core pattern in a new proc",
    "load a bpf program",
}


@contextmanager
def unprepared() -> Iterator[None]:
    """A host on which nobody installed the hook."""
    away = HOOK.rename(HOOK.parents[2] / "hidden")
    try:
        yield
    finally:
        away.rename(HOOK)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("fenced"), "fenced", SPEC) as lab:
        report = lab.json("up", "a", "b", "free")
        assert report["ok"], report
        with unprepared():
            (note,) = lab.json("plan")["notes"]
            assert note.startswith("guest/hard: hardened, not unprivileged: libvirt's hook")
            (told,) = [e for e in doctor(lab) if e["name"] == "containers"]
            assert (told["ok"], told["cure"]) == (False, preparation.CURE)
            report = lab.json("up")
            assert report["ok"], report
        yield lab


def doctor(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lab.virtkit("doctor", "--json", code=None).data["checks"]
    return found


def recorded(guest: str) -> GuestRecord:
    xml = virsh("dumpxml", "--inactive", f"fenced-{guest}", uri=URI)
    found = record_text.read_guest(tree.parse(xml, guest))
    assert found is not None
    return found


def init_of(guest: str) -> int:
    controller = virsh("domid", f"fenced-{guest}", uri=URI)
    return int(Path(f"/proc/{controller}/task/{controller}/children").read_text().split()[0])


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def processes(guest: str) -> list[int]:
    """All processes of a container, by its pid namespace."""
    space = Path(f"/proc/{init_of(guest)}/ns/pid").readlink()
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (each / "ns/pid").readlink() == space:
                found.append(int(each.name))
    return found


# --- the modes ---------------------------------------------------------------------------------


def test_each_is_confined_as_its_host_could_when_it_was_made(lab: Lab) -> None:
    found = {each: recorded(each) for each in ("a", "b", "hard", "free")}
    modes = {each: one.confinement for each, one in found.items()}
    assert modes == {"a": "userns", "b": "userns", "hard": "hardened", "free": "privileged"}
    assert lab.json("plan")["changes"] == lab.json("plan")["notes"] == []
    for each, one in found.items():
        inside, outside, count = map(int, lab.sh(each, "cat /proc/self/uid_map").split())
        assert (inside, outside) == (0, one.ids)
        assert (count == ID_COUNT) is bool(one.ids)
    (told,) = [e for e in doctor(lab) if e["name"] == "containers"]
    assert told["ok"] is True


def test_doctor_tells_how_many_containers_the_kernel_allows(lab: Lab) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    inside = Path(f"/proc/{init_of('a')}/ns/pid").readlink()
    held = 0
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended
            if (each / "ns/pid").readlink() == inside:
                held += [str(one.readlink()) for one in (each / "fd").iterdir()].count(
                    "anon_inode:inotify"
                )
    assert 5 < held <= preparation.INOTIFY_EACH
    told = [each["what"] for each in doctor(lab) if each["name"] == "inotify"]
    assert len(told) == (most < preparation.INOTIFY_ENOUGH)
    assert all(f" is {most}," in each for each in told)


def test_a_host_that_was_prepared_later_changes_nothing(lab: Lab) -> None:
    with unprepared():
        assert lab.json("plan")["changes"] == lab.json("plan")["notes"] == []


@pytest.mark.parametrize("guest", ["a", "b", "hard", "free"])
def test_its_system_is_whole(lab: Lab, guest: str) -> None:
    until(lambda: lab.virtkit("exec", guest, "systemctl", "is-system-running", code=None).code, 5)
    said = lab.sh(guest, "systemctl is-system-running --wait; systemctl --failed --no-legend")
    assert said == "running"


# --- from inside -------------------------------------------------------------------------------


def tried(lab: Lab, guest: str, *words: str) -> dict[str, str]:
    ran = lab.virtkit("exec", guest, "--", "python3", "-c", PROBE, *words)
    found: dict[str, str] = json.loads(ran.out)
    assert len(found) > 25
    return found


@pytest.mark.parametrize("nested", ["nested", ""])
@pytest.mark.parametrize("guest", ["a", "hard"])
def test_the_ways_out_are_closed(lab: Lab, guest: str, nested: str) -> None:
    found = tried(lab, guest, nested)
    print(json.dumps(found, indent=1))
    assert {way for way, said in found.items() if said == "open"} <= OPEN[guest, nested]
    assert found["use more memory than allowed"] == "ENOMEM"


def test_privileged_is_no_fence(lab: Lab) -> None:
    found = tried(lab, "free")
    print(json.dumps(found, indent=1))
    assert {way for way, said in found.items() if said == "open"} >= OPEN_IF_PRIVILEGED


@pytest.mark.parametrize("guest", ["a", "hard", "free"])
def test_commands_have_no_more_rights_than_its_own_processes(lab: Lab, guest: str) -> None:
    own = status(init_of(guest))
    inside = lab.sh(guest, "grep -E '^(Cap|Uid|Gid)' /proc/self/status").splitlines()
    found = {key: value.strip() for key, _, value in (each.partition(":") for each in inside)}
    assert found["Uid"].split() == found["Gid"].split() == ["0"] * 4
    assert found["CapBnd"] == own["CapBnd"]
    assert int(found["CapEff"], 16) & ~int(own["CapBnd"], 16) == 0
    sys_admin = int(found["CapEff"], 16) >> 21 & 1
    assert sys_admin == (guest == "free")


def test_a_reboot_from_inside_is_the_containers_own(lab: Lab) -> None:
    before = virsh("domid", "fenced-b", uri=URI)
    host = Path("/proc/stat").read_text().partition("btime")[2].split()[0]
    lab.sh("b", "touch /run/this-boot /root/kept; systemctl reboot")
    assert until(lambda: virsh("domid", "fenced-b", uri=URI) not in (before, "-"), 30)
    assert until(lambda: lab.status("b")["ready"], 30)
    assert lab.sh("b", "ls /run/this-boot /root/kept 2>&1 || :").count("No such file") == 1
    assert Path("/proc/stat").read_text().partition("btime")[2].split()[0] == host


# --- from the host -----------------------------------------------------------------------------


@pytest.mark.parametrize("guest", ["a", "b"])
def test_its_ids_are_its_own(lab: Lab, guest: str) -> None:
    """Every process of it, and all that they make, has ids of its range on the host."""
    lab.sh(guest, "touch /root/made; id -u")
    first = recorded(guest).ids
    ids = {int(each) for pid in processes(guest) for each in status(pid)["Uid"].split()}
    assert len(processes(guest)) > 5
    assert all(first <= each < first + ID_COUNT for each in ids), ids
    made = Path(f"/proc/{init_of(guest)}/root/root/made").stat()
    assert (made.st_uid, made.st_gid) == (first, first)


def test_two_containers_have_nothing_in_common(lab: Lab) -> None:
    """With a's ids on the host, nothing of b's can be had; and the other way round."""
    a, b = recorded("a"), recorded("b")
    assert abs(a.ids - b.ids) >= ID_COUNT
    for one, other in ((a, b), (b, a)):
        uuid = virsh("domuuid", other.domain, uri=URI)
        there = init_of(other.guest)
        cgroup = next(iter(find_cgroups(other.guest)))
        for line in (
            f"ls {MOUNTS}/{uuid}",
            f"cat {MOUNTS}/{uuid}/{other.domain}-root/upper/etc/hostname",
            f"kill -0 {there}",
            f"ls /proc/{there}/root",
            f"echo 0 >{cgroup}/cgroup.procs",
            f"mkdir {cgroup}/inside",
            f"ls {MOUNTS}",
        ):
            words = ["setpriv", f"--reuid={one.ids}", f"--regid={one.ids}", "--clear-groups"]
            done = subprocess.run(
                [*words, "sh", "-c", line], capture_output=True, text=True, check=False
            )
            assert done.returncode != 0, (line, done.stdout)
            assert "ermi" in done.stderr, (line, done.stderr)  # denied, or not permitted


def find_cgroups(guest: str) -> list[Path]:
    """A container's cgroups, version 2, as the host sees them."""
    root = Path("/run/cgroup2")
    root.mkdir(exist_ok=True)
    if not root.is_mount():
        run("mount", "-t", "cgroup2", "cgroup2", root)
    uuid = virsh("domuuid", f"fenced-{guest}", uri=URI)
    return list(root.rglob(f"virtkit-lxc-{uuid}"))


@pytest.mark.parametrize("guest", ["a", "hard", "free"])
def test_none_of_its_processes_leaves_libvirts_limits(lab: Lab, guest: str) -> None:
    del lab
    for pid in processes(guest):
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        paths = {name: path for _, name, path in (line.split(":", 2) for line in lines)}
        for name in ("memory", "devices", "cpu"):
            assert f"fenced-{guest}.libvirt-lxc" in paths[name], (pid, paths)


def test_the_hosts_own_cgroups_stay_the_hosts(lab: Lab) -> None:
    """libvirt gives containers with ids the root of systemd's hierarchy; the hook takes it back."""
    del lab
    folders = [Path("/sys/fs/cgroup/systemd"), *find_cgroups("a")[0].parents]
    for folder in folders:
        if (folder / "cgroup.procs").exists():
            files = [each for each in folder.iterdir() if each.is_file()]
            assert {each.stat().st_uid for each in (folder, *files)} == {0}, folder


# --- its life ----------------------------------------------------------------------------------


def mounted() -> list[str]:
    """What the hook mounted, in libvirtd's own mount namespace."""
    pid = Path("/run/libvirt/libvirtd.pid").read_text().strip()
    lines = Path(f"/proc/{pid}/mounts").read_text().splitlines()
    return sorted(line.split()[1] for line in lines if str(MOUNTS) in line)


def of(guest: str) -> str:
    return f"{MOUNTS}/{virsh('domuuid', f'fenced-{guest}', uri=URI)}"


def restart_libvirtd(number: signal.Signals, *too: int) -> None:
    for each in (int(Path("/run/libvirt/libvirtd.pid").read_text()), *too):
        os.kill(each, number)
    # as long as the old one's threads end, its pid file is locked
    assert until(lambda: works("libvirtd", "-d", "-p", "/run/libvirt/libvirtd.pid"), 30)
    assert until(lambda: works("virsh", "-q", "-c", URI, "uri"), 30)


def works(*line: str) -> bool:
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


def test_what_is_mounted_goes_when_it_stops(lab: Lab) -> None:
    folder = of("a")
    assert len([each for each in mounted() if each.startswith(folder)]) == 4
    assert Path(folder).stat().st_uid == recorded("a").ids
    assert Path(folder).stat().st_mode & 0o7777 == 0o700
    lab.sh("a", "echo kept >/srv/data/file; chown 1000:1000 /srv/data/file; echo kept >/root/file")
    lab.virtkit("stop", "a")
    assert not Path(folder).exists()
    assert not [each for each in mounted() if each.startswith(folder)]
    lab.virtkit("start", "a")
    assert lab.sh("a", "cat /srv/data/file /root/file; stat -c %u:%g /srv/data/file").split() == [
        "kept",
        "kept",
        "1000:1000",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_runs_on_while_libvirt_restarts(lab: Lab, number: signal.Signals) -> None:
    lab.sh("a", "touch /run/this-boot")
    restart_libvirtd(number)
    assert lab.status("a")["ready"]
    assert lab.sh("a", "ls /run/this-boot") == "/run/this-boot"
    assert lab.json("plan")["changes"] == []
    lab.virtkit("restart", "a")
    assert lab.sh("a", "ls /run/this-boot 2>&1 || cat /root/file").split()[-1] == "kept"


def test_a_crash_leaves_nothing_and_ends_nobody_else(lab: Lab) -> None:
    """Without libvirt and its controller a container would run on, and nobody know of it."""
    controller = int(virsh("domid", "fenced-a", uri=URI))
    old = processes("a")
    assert len(old) > 5
    lab.sh("b", "touch /run/this-boot")
    restart_libvirtd(signal.SIGKILL, controller)
    assert lab.status("a")["state"] == "stopped"
    assert not [pid for pid in old if Path(f"/proc/{pid}/root/usr").exists()]
    assert not Path(of("a")).exists()
    assert lab.sh("b", "ls /run/this-boot") == "/run/this-boot"
    assert Path(of("b")).exists()
    assert lab.json("up")["ok"]
    assert lab.sh("a", "cat /root/file") == "kept"
    assert len([each for each in mounted() if each.startswith(of("a"))]) == 4


def test_it_starts_with_the_host(lab: Lab) -> None:
    virsh("autostart", "fenced-b", uri=URI)
    virsh("destroy", "fenced-b", uri=URI)
    try:
        Path("/run/libvirt/lxc/autostarted").unlink(missing_ok=True)  # as after a boot
        restart_libvirtd(signal.SIGTERM)
        assert until(lambda: virsh("domstate", "fenced-b", uri=URI) == "running", 20)
    finally:
        virsh("autostart", "fenced-b", "--disable", uri=URI)
    assert until(lambda: lab.status("b")["ready"], 30)
    assert lab.json("plan", "b")["changes"] == []


def test_an_unprepared_host_does_not_start_it_and_says_so(lab: Lab) -> None:
    lab.sh("b", "systemctl is-system-running --wait || :")  # before, it may not hear for long
    lab.virtkit("stop", "b")
    with unprepared():
        report = lab.json("up", "b", code=1)
        (failed,) = [each for each in report["steps"] if each["outcome"] == "failed"]
        assert "virtkit doctor" in failed["error"]["cure"]
    assert lab.json("up", "b")["ok"]


def test_a_crafted_domain_does_not_start(lab: Lab) -> None:
    """The hook looks at each start, whoever changed the definition."""
    lab.virtkit("stop", "b")
    xml = virsh("dumpxml", "--inactive", "fenced-b", uri=URI)
    file = lab.folder / "crafted.xml"
    first = str(recorded("b").ids)
    try:
        for crafted in (
            xml.replace(f"target='{first}'", "target='0'"),
            xml.replace("/fenced-b-root'", "/fenced-a-root'"),
        ):
            assert crafted != xml
            file.write_text(crafted)
            virsh("define", file, uri=URI)
            line = ["virsh", "-q", "-c", URI, "start", "fenced-b"]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            assert done.returncode != 0
            assert "virtkit: fenced-b, prepare" in done.stderr
            assert not Path(of("b")).exists()
    finally:
        file.write_text(xml)
        virsh("define", file, uri=URI)
    assert lab.json("up", "b")["ok"]


def test_a_kept_disk_serves_a_container_with_other_ids(lab: Lab) -> None:
    """Ids are mapped where it is mounted, never written into the file system."""
    assert lab.json("down", "a")["ok"]
    with unprepared():
        assert lab.json("up", "a")["ok"]
        assert recorded("a").confinement == "hardened"
    assert lab.sh("a", "cat /srv/data/file; stat -c %u:%g /srv/data/file") == "kept\n1000:1000"


@pytest.mark.parametrize("privileged", [False, True])
def test_file_systems_follow_their_files(lab: Lab, privileged: bool) -> None:
    """Also those that libvirt mounts itself."""
    log = Path("/var/log/libvirt/lxc/fenced-grown.log")
    log.unlink(missing_ok=True)

    def sizes() -> list[int]:
        lines = lab.sh("grown", "stat -f -c '%b %S' /srv/data /").splitlines()
        return [int(blocks) * int(size) >> 20 for blocks, size in map(str.split, lines)]

    grown = "  grown: {disk: 4GiB, disks: [{name: data, size: 32MiB, mount: /srv/data}]}\n"
    if privileged:
        grown = grown.replace("{disk:", "{privileged: true, disk:")
    lab.write(SPEC + grown)
    assert lab.json("up", "grown")["ok"]
    lab.sh("grown", "echo kept >/srv/data/file; echo kept >/root/file; sync")
    before = sizes()
    lab.write(SPEC + grown.replace("4GiB", "8GiB").replace("32", "64"))
    assert lab.json("up", "grown")["ok"]
    assert sizes() == before
    (pending,) = lab.json("plan", "grown")["pending"]
    assert pending["effect"] == "restart"
    assert lab.json("up", "grown", "--restart")["ok"]
    data, root = sizes()
    assert data > 1.5 * before[0]
    assert root > 1.5 * before[1]
    assert log.read_text().count(" grew by ") == 2
    for name in ("root", "data"):
        owner = (POOL / f"fenced-grown-{name}").stat()
        assert (owner.st_uid, owner.st_gid) == (0, 0)
    assert lab.sh("grown", "cat /srv/data/file /root/file") == "kept\nkept"
    assert lab.json("plan", "grown")["pending"] == []
    assert lab.json("down", "grown")["ok"]
    lab.write(SPEC)
    assert lab.json("up")["ok"]


def test_privileged_is_a_change_that_asks(lab: Lab) -> None:
    lab.write(SPEC.replace("b: {}", "b: {privileged: true}"))
    (change,) = lab.json("plan", "b")["changes"]
    assert (change["action"], bool(change["lost"])) == ("replace", True)
    assert [each["field"] for each in change["reasons"]] == ["privileged"]
    assert lab.json("up", "b", "--yes")["ok"]
    assert recorded("b").confinement == "privileged"
    assert lab.sh("b", "cat /proc/self/uid_map").split() == ["0", "0", "4294967295"]
    lab.write(SPEC)
    assert lab.json("up", "b", "--yes")["ok"]
    assert recorded("b").confinement == "userns"


def test_down_leaves_nothing(lab: Lab) -> None:
    began = time.monotonic()
    assert lab.json("down", "--volumes")["ok"]
    assert time.monotonic() - began < 30
    assert not lab.left()
    assert not mounted()
    assert not list(MOUNTS.iterdir())
    assert not list(Path("/run/cgroup2").rglob("virtkit-lxc-*"))
    run("umount", "/run/cgroup2")
