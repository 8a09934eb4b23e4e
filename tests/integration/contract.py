"""What every guest type keeps: one contract, run on each of them. A new type is one more word.

Two guests of each type come up once and are shared; the tests stand in the order of a guest's
life and end with nothing left. A file for each place has them all: it says PLACE, the name of the
guests' host, TYPES, and what its `lab` is where that host is another machine.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from integration.lab import Lab, laboratory, run, terminal, until
from lxml import etree

from virtkit.drivers import DRIVERS

HEAD = """
networks:
  front: {cidr: 10.94.0.0/24, ipv6: fd94::/64, domain: contract.test}
  back: {mode: isolated, cidr: 10.94.2.0/24, dhcp: false}
defaults: {memory: 256MiB}
guests:
"""
# The guest NAME, and NAME-own with a cloud_init of the user's own. One processor each, since where
# they are emulated all of them take turns on the machine's few; test_live_changes.py has two.
GUESTS = """
  TYPE:
    type: TYPE
    memory: 288MiB
    disk: 5GiB
    user: admin
    groups: [TYPE-guests, all-of-them]
    networks: [{name: front, address: 10.94.0.HOST, mac: "52:54:00:94:00:HOST"}, back]
    disks:
      - {name: data, size: 64MiB, mount: /srv/data, keep: true}
      - {name: scratch, size: 32MiB, mount: /srv/scratch}
      # - {name: blank, size: 16MiB}
"""
OWN = """\
  TYPE-own:
    type: TYPE
    networks: [front]
    disks: [{name: more, size: 32MiB, mount: /srv/more}]
    cloud_init:
      write_files: [{path: /etc/from-the-spec, content: "a secret\\n", permissions: "0600"}]
      runcmd: [[sh, -c, "id -un >/var/lib/ran"]]
    ready: {command: test -s /var/lib/ran, timeout: 15m}
"""


def spec(types: Sequence[str], own: str = OWN) -> str:
    text = HEAD
    for name in types:
        guests = (GUESTS + own).replace("TYPE", name).replace("HOST", str(number(name)))
        if "disks.blank" not in DRIVERS[name].unsupported:
            guests = guests.replace("# -", "-")
        text += guests
    return text


def number(type: str) -> int:
    return 50 + list(DRIVERS).index(type)


def address(guest: str) -> str:
    return f"10.94.0.{number(guest)}"


def upped(lab: Lab) -> Lab:
    report = lab.json("up")
    assert report["ok"], report
    return lab


@pytest.fixture(scope="module")
def lab(
    types: Sequence[str], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    name = request.path.stem.removeprefix("test_").replace("_", "-")
    with laboratory(tmp_path_factory.mktemp(name), name, spec(types)) as lab:
        yield upped(lab)


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> str:
    return str(request.module.PLACE)


@pytest.fixture(scope="module")
def types(request: pytest.FixtureRequest) -> Sequence[str]:
    return tuple(request.module.TYPES)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for a guest runs for each type."""
    if "guest" in metafunc.fixturenames:
        metafunc.parametrize("guest", metafunc.module.TYPES)


# --- up -------------------------------------------------------------------------------------


def test_up_again_changes_nothing(lab: Lab, place: str) -> None:
    users = replace(lab, program=True)  # and wait for the program to start
    every = [users.virtkit("up", "--json") for _ in range(3)]
    for again in every:
        assert (again.data["ok"], again.data["steps"]) == (True, [])
    quickest = min(again.elapsed for again in every)
    assert quickest < (3 if place == "local" else 60)  # an emulated host shares the processors
    assert lab.json("plan")["changes"] == lab.json("plan")["pending"] == []
    lab.virtkit("plan", "--exit-code")
    assert "nothing to change" in lab.virtkit("up").out


def test_status_tells_all(lab: Lab, place: str, guest: str) -> None:
    found = lab.status(guest)
    wanted = {
        "name": guest,
        "type": guest,
        "host": place,
        "state": "running",
        "ready": True,
        "user": "admin",
        "groups": [f"{guest}-guests", "all-of-them"],
    }
    assert wanted.items() <= found.items()
    assert found["addresses"][0] == address(guest)
    chosen = lab.json("status", f"@{guest}-guests")["guests"]
    assert [each["name"] for each in chosen] == [guest]
    line = next(e for e in lab.virtkit("status").out.splitlines() if e.startswith(f"{guest} "))
    host = [] if place == "local" else [place]
    assert re.split(" {2,}", line)[1 : 4 + len(host)] == [guest, *host, "running", "yes"]


def test_status_without_a_spec_tells_of_all_environments_here(
    lab: Lab, place: str, types: Sequence[str], tmp_path: Path
) -> None:
    line = lab.line("status")[:2]
    found = json.loads(run(*line, "--json", cwd=tmp_path))["guests"]
    names = {each["name"] for each in found if each["environment"] == lab.name}
    assert names >= set(types) if place == "local" else not names


# --- what is inside --------------------------------------------------------------------------


#: What the tests below look at. A session costs seconds where a guest is emulated, so each has one.
LOOKS = {
    "size": """
        sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo
        df -B1 --output=size / | tail -1
    """,
    "names": "hostname; hostname -f; cat /etc/hostname",
    "interfaces": "ip -json address",
    "others": "for n in OTHERS; do getent ahostsv4 $n | sed 's/ .*//;q'; done",
    "other": "getent ahostsv6 GUEST-own.contract.test",
    "mounts": "for n in data scratch; do findmnt -nbo FSTYPE,SIZE /srv/$n; done",
}


@pytest.fixture(scope="module")
def shown(lab: Lab, types: Sequence[str]) -> dict[str, dict[str, str]]:
    """What each of the guests shows."""
    return {guest: observed(lab, guest, others(types, guest)) for guest in types}


def observed(lab: Lab, guest: str, names: Sequence[str]) -> dict[str, str]:
    """What each look shows in one session."""
    script = "\n".join(f"echo; echo '== {name}'; {each}" for name, each in LOOKS.items())
    script = script.replace("GUEST", guest)
    script = script.replace("OTHERS", " ".join(f"{each}.contract.test" for each in names))
    parts = f"\n{lab.sh(guest, script)}".split("\n== ")
    return {name: text.strip() for name, _, text in (each.partition("\n") for each in parts[1:])}


def others(types: Sequence[str], guest: str) -> list[str]:
    return [name for each in types for name in (each, f"{each}-own") if name != guest]


def test_it_has_the_size_that_was_asked_for(shown: dict[str, dict[str, str]], guest: str) -> None:
    memory, disk = shown[guest]["size"].split()
    assert 0.8 < int(memory) / 1024 / 288 <= 1
    assert 0.9 < int(disk) / 1024**3 / 5 <= 1


def test_it_has_its_name(shown: dict[str, dict[str, str]], guest: str) -> None:
    assert shown[guest]["names"].split() == [guest, f"{guest}.contract.test", guest]


def test_it_has_its_addresses(shown: dict[str, dict[str, str]], guest: str) -> None:
    # the container's iproute2 knows its links by the same hardware addresses
    interfaces = json.loads(shown[guest]["interfaces"])
    by_mac = {each["address"]: {a["local"] for a in each["addr_info"]} for each in interfaces}
    front = by_mac.pop(f"52:54:00:94:00:{number(guest)}")
    assert {address(guest), f"fd94::5054:ff:fe94:{number(guest)}"} <= front
    del by_mac["00:00:00:00:00:00"]
    (back,) = by_mac.values()
    assert any(each.startswith("10.94.2.") for each in back)


def test_guests_resolve_each_other(
    lab: Lab, types: Sequence[str], shown: dict[str, dict[str, str]], guest: str
) -> None:
    status = {each["name"]: each["addresses"][0] for each in lab.json("status")["guests"]}
    assert shown[guest]["others"].split() == [status[name] for name in others(types, guest)]
    assert shown[guest]["other"].startswith("fd94::5054:")


def test_its_disks_are_mounted(shown: dict[str, dict[str, str]], guest: str) -> None:
    for line, mib in zip(shown[guest]["mounts"].splitlines(), (64, 32), strict=True):
        kind, size = line.split()
        assert kind == "ext4"
        assert 0.6 < int(size) / 1024**2 / mib <= 1


def test_a_blank_disk_is_blank(lab: Lab, guest: str) -> None:
    if "disks.blank" in DRIVERS[guest].unsupported:
        (lab.folder / "blank.yaml").write_text(
            f"guests: {{a: {{type: {guest}, disks: [{{name: blank, size: 16MiB}}]}}}}"
        )
        (error,) = Lab(lab.folder, "blank").errors("up")
        assert DRIVERS[guest].unsupported["disks.blank"] in error
        return
    disks = json.loads(lab.sh(guest, "lsblk --json --bytes -o NAME,SERIAL,SIZE,FSTYPE"))
    # only QEMU's disks have a serial inside; the others have the name that the XML says
    scheme = DRIVERS[guest].scheme
    xml = etree.fromstring(lab.virsh("dumpxml", f"{lab.name}-{guest}", scheme=scheme))
    name = xml.xpath("string(devices/disk[contains(source/@file, '-blank')]/target/@dev)")
    blank = next(e for e in disks["blockdevices"] if e["serial"] == "blank" or e["name"] == name)
    assert (blank["size"], blank["fstype"]) == (16 * 1024**2, None)


def test_cloud_init_is_the_users_own(lab: Lab, guest: str) -> None:
    name = f"{guest}-own"
    output = lab.sh(name, "cat /etc/from-the-spec /var/lib/ran; hostname -f; findmnt -n /srv/more")
    assert output.split()[:5] == ["a", "secret", "root", f"{name}.contract.test", "/srv/more"]
    assert lab.virtkit("ssh", f"{guest}-own", "--", "id", "-un").out == "virtkit\n"


def test_no_secret_is_in_libvirts_sight(lab: Lab, guest: str) -> None:
    for name in (guest, f"{guest}-own"):
        xml = lab.virsh("dumpxml", f"{lab.name}-{name}", scheme=DRIVERS[guest].scheme)
        assert "PRIVATE" not in xml
        assert "a secret" not in xml
        assert "a secret" not in lab.virtkit("logs", name).out
        assert lab.mode(f"{name}-seed") & 0o077 == 0


# --- into it ---------------------------------------------------------------------------------


def test_exec_is_root_and_passes_all_on(lab: Lab, guest: str) -> None:
    script = "id -un; printf '%s\\n' \"$@\"; echo oops >&2; exit 7"
    words = ["sh", "-c", script, "sh", "two words", "$HOME 'x' \"y\"", "-h"]
    ran = lab.virtkit("exec", guest, "--", *words, code=7)
    assert ran.out.splitlines() == ["root", *words[4:]]
    assert "oops" in ran.err
    assert "oops" not in ran.out
    lab.virtkit("exec", guest, "--", "no-such-program", code=127)


def test_exec_reads_standard_input(lab: Lab, guest: str) -> None:
    """Whatever the way: little, much, binary, slow, none; and it waits for no silent pipe's end."""
    line = lab.line("exec", guest, "--")
    for data in (b"x", os.urandom(1000) + b"\0\r\n\x04", os.urandom(3 * 1024 * 1024)):
        found = subprocess.run([*line, "cat"], input=data, capture_output=True, check=False)
        assert (found.returncode, found.stdout == data) == (0, True), found.stderr
    slow = subprocess.run(
        ["sh", "-c", '(printf a; sleep 2; printf b) | "$@"', "sh", *line, "cat"],
        capture_output=True,
        check=False,
    )
    assert (slow.returncode, slow.stdout) == (0, b"ab"), slow.stderr
    with subprocess.Popen([*line, "echo", "ran"], stdin=PIPE, stdout=PIPE) as silent:
        assert silent.stdout is not None
        assert silent.stdout.read() == b"ran\n"
        assert silent.wait(60) == 0


def test_exec_tells_of_a_signal(lab: Lab, guest: str) -> None:
    lab.virtkit("exec", guest, "--", "sh", "-c", "kill -9 $$", code=137)


def test_ssh_is_the_user_and_passes_all_on(lab: Lab, guest: str) -> None:
    script = "id -un; printf '%s\\n' \"$@\"; cat; exit 7"
    words = ["sh", "-c", script, "sh", "two words", "$HOME 'x' \"y\"", "-h"]
    ran = lab.virtkit("ssh", guest, "--", *words, code=7, stdin="from here\n")
    assert ran.out.splitlines() == ["admin", *words[4:], "from here"]
    assert lab.virtkit("ssh", guest, "--", "sudo", "-n", "id", "-un").out == "root\n"


def test_ssh_checks_the_host_key(lab: Lab, guest: str) -> None:
    config = lab.folder / "ssh-config"
    config.write_text(lab.virtkit("ssh-config").out)
    line = ["ssh", "-F", config, f"{lab.name}-{guest}", "cat /etc/ssh/ssh_host_ed25519_key.pub"]
    key = run(*line)
    (known,) = set(re.findall("UserKnownHostsFile (.*)", config.read_text()))
    assert key.split()[1] in Path(known).read_text()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", lab.folder / f"other-{guest}")
    other = (lab.folder / f"other-{guest}.pub").read_text()
    wrong = lab.folder / "known_hosts"
    wrong.write_text(f"{lab.name}-{guest} {other}")
    text = re.sub("(  UserKnownHostsFile) .*", rf"\1 {wrong}", config.read_text())
    config.write_text(text)
    refused = subprocess.run(line, capture_output=True, text=True, check=False)
    assert refused.returncode == 255
    assert "verification failed" in refused.stderr


def test_cp_goes_both_ways(lab: Lab, guest: str, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    (folder / "below").mkdir(parents=True)
    (folder / "below/bytes").write_bytes(os.urandom(300_000))
    (folder / "run me").write_text("#!/bin/sh\necho ran\n")
    (folder / "run me").chmod(0o755)
    lab.virtkit("cp", folder, f"{guest}:/tmp/there")
    assert lab.virtkit("ssh", guest, "--", "sh", "/tmp/there/run me").out == "ran\n"
    lab.virtkit("cp", f"{guest}:/tmp/there", tmp_path / "back")
    lab.virtkit("cp", f"{guest}:/tmp/there/run me", tmp_path / "file")
    for name in ("below/bytes", "run me"):
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()
    assert (tmp_path / "file").read_text() == (folder / "run me").read_text()
    line = lab.line("cp", "log-12:30.txt", f"{guest}:/tmp/")
    (tmp_path / "log-12:30.txt").write_text("a colon")
    run(*line, cwd=tmp_path)
    run(*lab.line("cp", f"{guest}:/tmp/log-12:30.txt", "back:1"), cwd=tmp_path)
    assert (tmp_path / "back:1").read_text() == "a colon"
    assert lab.virtkit("cp", f"{guest}:/tmp/missing", tmp_path, code=None).code != 0


def test_logs_have_the_boot(lab: Lab, guest: str) -> None:
    text = lab.virtkit("logs", guest).out
    first = "systemd" if DRIVERS[guest].log == "journal" else "Linux version"
    assert first in text
    both = lab.json("logs", guest, f"{guest}-own")["logs"]
    assert both.keys() == {guest, f"{guest}-own"}
    assert all(both.values())


def test_logs_follow(lab: Lab, guest: str) -> None:
    prints = "logger MARK" if DRIVERS[guest].log == "journal" else "echo MARK >/dev/console"
    following = lab.starts("logs", guest, "--follow")
    said: list[str] = []

    def read() -> None:
        assert following.stdout is not None
        said.extend(following.stdout)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def mark() -> bool:
        lab.sh(guest, prints.replace("MARK", "followed-$((40 + 2))"))
        return "followed-42" in "".join(said)

    try:
        assert until(mark, 60), said
    finally:
        following.kill()
        reader.join(10)
        following.communicate()


def test_the_console_is_a_terminal(lab: Lab, guest: str) -> None:
    terminal(lab, guest)


def test_inventory_and_groups(lab: Lab, types: Sequence[str], guest: str) -> None:
    script = lab.virtkit("inventory", "--list").data
    group = f"{guest}-guests".replace("-", "_")
    assert script[group]["hosts"] == [guest]
    assert set(types) == set(script["all_of_them"]["hosts"])
    values = lab.virtkit("inventory", "--host", guest).data
    assert (values["ansible_host"], values["ansible_user"]) == (address(guest), "admin")
    assert values == script["_meta"]["hostvars"][guest]
    static = lab.virtkit("inventory")
    assert f"[{group}]\n{guest}\n" in static.out
    assert static.err.count("group all-of-them is all_of_them here") == 1


# --- its states ------------------------------------------------------------------------------


def test_some_guests_can_go_before_the_others(lab: Lab, types: Sequence[str]) -> None:
    report = lab.json("down", "*-own")
    assert report["ok"]
    assert {name for name in lab.domains() if name.startswith(f"{lab.name}-")} == {
        f"{lab.name}-{each}" for each in types
    }
    assert not [each for each in lab.volumes() if "-own-" in each]
    first = types[0]
    missing = lab.status(f"{first}-own")
    assert (missing["state"], missing["ready"]) == ("missing", False)
    assert lab.status(first)["ready"]


def test_pause_and_resume(lab: Lab, guest: str) -> None:
    why = lab.guests_host().no_pause_reason(DRIVERS[guest])
    if why:
        (error,) = lab.errors("pause", guest)
        assert why in error
        assert lab.status(guest)["state"] == "running"
        return
    lab.virtkit("pause", guest)
    found = lab.status(guest)
    assert (found["state"], found["ready"]) == ("paused", False)
    lab.virtkit("exec", guest, "--", "true", code=2)
    (change,) = lab.json("plan", guest)["changes"]
    assert (change["object"], change["action"]) == (f"guest/{guest}", "start")
    lab.virtkit("resume", guest)
    assert lab.status(guest)["state"] == "running"
    assert lab.sh(guest, "echo here") == "here"


#: Writes a file when it is stopped as it should be, and only then.
MARK = """
touch /run/this-boot
rm -f /srv/data/stopped-well
systemd-run --quiet --unit=mark --property=RemainAfterExit=yes \
    --property=RequiresMountsFor=/srv/data \
    --property=ExecStop='/bin/sh -c "echo well >/srv/data/stopped-well; sync"' true
"""
FILES = "echo kept >/srv/data/file; echo gone >/srv/scratch/file"
LOOK = "cat /srv/data/stopped-well; test ! -e /run/this-boot"


def test_stop_asks_and_start_boots_again(lab: Lab, guest: str) -> None:
    lab.sh(guest, f"{FILES}; {MARK}")
    lab.virtkit("stop", guest)
    found = lab.status(guest)
    assert (found["state"], found["ready"]) == ("stopped", False)
    if DRIVERS[guest].log != "journal":
        last = "\n".join(lab.printed(guest)[-3:])  # a kernel that Xen runs only halts
        assert "Power down" in last or "System halted" in last
    assert f"{guest} is stopped" in lab.virtkit("exec", guest, "--", "true", code=2).err
    lab.virtkit("stop", guest)  # it is
    for verb in ("pause", "resume"):
        assert f"nothing to {verb}" in lab.virtkit(verb, guest, code=2).err
    lab.virtkit("start", guest, "--no-wait")
    assert lab.status(guest)["state"] == "running"
    lab.virtkit("start", guest)  # it is; and now it is waited for
    assert lab.status(guest)["ready"]
    assert lab.sh(guest, f"{LOOK} && {{ {MARK} }}") == "well"


def falls(lab: Lab, guest: str) -> None:
    """A guest that runs goes as where its host lost power. Its boot is not waited for: that a
    guest comes back is told above, and where it is emulated that takes minutes."""
    assert lab.status(guest)["state"] == "running"
    domain, scheme = f"{lab.name}-{guest}", DRIVERS[guest].scheme

    def destroyed() -> bool:
        try:
            lab.virsh("destroy", domain, scheme=scheme)
            return True
        except (AssertionError, RuntimeError) as error:
            # libvirt's own fault with cgroup v2, see host/power.py
            if "/sys/fs/cgroup/" not in str(error):
                raise
            return lab.virsh("domstate", domain, scheme=scheme) == "shut off"

    assert until(destroyed, 60, 2)


def test_restart_asks_too_and_up_starts_what_fell(lab: Lab, guest: str) -> None:
    lab.virtkit("restart", guest, "--no-wait")
    falls(lab, guest)
    assert lab.status(guest)["state"] == "stopped"
    assert lab.read(f"{guest}-data", "stopped-well") == "well"
    (change,) = lab.json("plan", guest)["changes"]
    assert (change["object"], change["action"]) == (f"guest/{guest}", "start")
    assert change["reasons"] == [
        {"field": "state", "from": "stopped", "to": "running", "cause": "drift", "effect": "live"}
    ]
    lab.virtkit("up", guest, "--no-wait")
    falls(lab, guest)


# --- down ------------------------------------------------------------------------------------


def test_a_kept_disk_outlives_its_guest(lab: Lab, types: Sequence[str]) -> None:
    assert lab.json("down")["ok"]
    kept = {f"{each}-data" for each in types}
    assert lab.volumes() == kept
    for line in lab.left():
        assert any(f"{lab.name}-{each}" in line for each in kept), line
    report: dict[str, Any] = lab.json("up", *types, "--no-wait")
    assert report["ok"]
    for each in types:
        falls(lab, each)
        assert lab.read(f"{each}-data", "file") == "kept"
        assert lab.read(f"{each}-scratch", "file") == ""


def test_down_leaves_nothing(lab: Lab, place: str) -> None:
    began = time.monotonic()
    assert lab.json("down", "--volumes")["ok"]
    assert place != "local" or time.monotonic() - began < 90
    assert not lab.left()
    assert lab.json("down")["steps"] == []
    assert {each["state"] for each in lab.json("status")["guests"]} == {"missing"}
