"""Into guests on two hosts whose networks have the same addresses: each way leads to the guest that
was meant, and leaves nothing behind that nobody asked for."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE

import pytest
from ansible_programs import ansible
from integration.lab import VIRTKIT, run, terminal, tiny_disk, until
from integration.several_hosts import HostsLab, LibvirtHost, hosts_laboratory, several_hosts

import virtkit
from virtkit.host import Remote

SPEC = """
images: {tiny: {path: tiny.raw}}
networks: {front: {cidr: 10.94.61.0/24}}
defaults: {type: lxc, memory: 160MiB, networks: [front]}
profiles:
  web: {ready: {port: 8080, timeout: 30s}}
guests:
  one:
    host: h1
    networks: [{name: front, address: 10.94.61.10}]
    playbooks: [site.yml]
    ready: {command: grep -x one /etc/played}
  two:
    host: h2
    networks: [{name: front, address: 10.94.61.10}]
    playbooks: [site.yml]
    ready: {command: grep -x two /etc/played}
  web-one:
    host: h1
    profiles: [web]
    cloud_init: {runcmd: [[systemd-run, python3, -m, http.server, "8080"]]}
  web-two: {host: h2, profiles: [web]}
  vm: {host: h2, type: qemu, image: tiny, memory: 32MiB, ready: none, graphics: vnc, networks: []}
"""
PLAYBOOK = """
- hosts: all
  tasks:
    - ansible.builtin.copy: {content: "{{ inventory_hostname }}\\n", dest: /etc/played, mode: "644"}
      become: true
"""
UP = ("one", "two", "vm")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LibvirtHost]]:
    with several_hosts(tmp_path_factory.mktemp("hosts"), 2) as hosts:
        yield hosts


@contextmanager
def upped(
    folder: Path, name: str, spec: str, hosts: list[LibvirtHost], user: str = "root"
) -> Iterator[HostsLab]:
    (folder / "tiny.raw").write_bytes(tiny_disk())
    (folder / "site.yml").write_text(PLAYBOOK)
    with hosts_laboratory(folder, name, spec, hosts, user) as lab:
        report = lab.json("up", *UP)
        assert report["ok"], report
        yield lab


@pytest.fixture(scope="module")
def lab(hosts: list[LibvirtHost], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsLab]:
    with upped(tmp_path_factory.mktemp("reach"), "reach", SPEC, hosts) as lab:
        yield lab


@pytest.fixture(scope="module")
def ops(hosts: list[LibvirtHost], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsLab]:
    """Who logs in there is in libvirt's group, and no more."""
    spec = SPEC.replace("10.94.61.", "10.94.62.")
    with upped(tmp_path_factory.mktemp("ops"), "ops", spec, hosts, "ops") as lab:
        yield lab


# --- ssh, cp, readiness, inventory, ssh-config ------------------------------------------------


def test_each_guest_is_reached_where_it_is(lab: HostsLab, tmp_path: Path) -> None:
    found = {each["name"]: each for each in lab.json("status", "one", "two")["guests"]}
    assert found["one"]["addresses"] == found["two"]["addresses"] == ["10.94.61.10"]
    assert all(each["ready"] for each in found.values())
    for name in found:
        assert lab.virtkit("ssh", name, "--", "hostname").out == f"{name}\n"
        assert lab.sh(name, "hostname") == name
        (tmp_path / name).write_text(name)
        lab.virtkit("cp", tmp_path / name, f"{name}:/tmp/own")
    for name in found:
        lab.virtkit("cp", f"{name}:/tmp/own", tmp_path / "back")
        assert (tmp_path / "back").read_text() == name


def test_the_playbooks_ran_where_they_were_meant(lab: HostsLab) -> None:
    """Ansible would share a connection to one address between both."""
    for name in ("one", "two"):
        assert lab.sh(name, "cat /etc/played") == name
        assert lab.status(name)["playbooks"]["ended"] == "ok"
    lab.virtkit("provision", "one", "two")
    assert lab.json("plan", *UP)["changes"] == []


def test_ansible_reaches_each(lab: HostsLab) -> None:
    (lab.folder / "hosts").write_text(lab.virtkit("inventory").out)
    tree = lab.folder / "tree"
    line = ("-i", "hosts", "--tree", tree, "one,two", "-m", "command", "-a", "hostname")
    for _ in range(2):  # with new connections, and over those that are kept
        ansible("ansible", *line, folder=lab.folder)
        found = {path.name: json.loads(path.read_text())["stdout"] for path in tree.iterdir()}
        assert found == {"one": "one", "two": "two"}


def test_ansible_reaches_containers_through_their_hosts(lab: HostsLab) -> None:
    listed = lab.virtkit("inventory", "--hypervisor", "--list").data["_meta"]["hostvars"]
    for name in ("one", "two"):
        assert listed[name]["ansible_connection"] == "virtkit.core.exec"
    (lab.folder / "through").write_text(lab.virtkit("inventory", "--hypervisor").out)
    tree = lab.folder / "through-tree"
    line = ("-i", "through", "--tree", tree, "one,two", "-m", "command", "-a", "hostname")
    ansible("ansible", *line, folder=lab.folder)
    found = {path.name: json.loads(path.read_text())["stdout"] for path in tree.iterdir()}
    assert found == {"one": "one", "two": "two"}


def test_ssh_config_beside_shared_connections_of_the_callers(lab: HostsLab) -> None:
    """By the name of the guest's address, as many have it, both guests would be one."""
    shared = f"ControlMaster auto\n  ControlPath {lab.folder}/%r@%h:%p\n  ControlPersist 20\n"
    config = lab.folder / "config"
    config.write_text(lab.virtkit("ssh-config").out + f"\nHost *\n  {shared}")
    for name in ("one", "two", "one"):
        assert run("ssh", "-F", config, f"reach-{name}", "hostname") == f"{name}\n"


def test_a_port_is_ready_on_one_and_not_on_the_other(lab: HostsLab) -> None:
    try:
        report = lab.json("up", "web-one", "web-two", code=1)
        ended = {each["object"]: each for each in report["steps"] if each["step"] == "ready"}
        assert ended["guest/web-one"]["outcome"] == "done"
        assert ended["guest/web-two"]["outcome"] == "failed"
        assert "port 8080 of 10.94.61." in ended["guest/web-two"]["error"]["why"]
        assert "Connection refused" in ended["guest/web-two"]["error"]["why"]
        found = lab.json("status", "web-one", "web-two")["guests"]
        assert [each["ready"] for each in found] == [True, False]
    finally:
        lab.virtkit("down", "web-one", "web-two")


def test_a_port_that_says_nothing_is_not_ready(lab: HostsLab) -> None:
    """A firewall that drops, a guest that is gone: who waits for an answer gets none."""
    host = lab.hosts[0]
    remote = Remote("h1", f"root@{host.address}", 0, str(host.key), str(host.known_hosts))
    bridge = re.findall("Bridge: *(.*)", lab.virsh("net-info", "reach-front"))[0]
    lab.run_on_host(f"ip neigh replace 10.94.61.99 lladdr 52:54:00:00:00:99 dev {bridge}")
    began = time.monotonic()
    assert remote.port_status("10.94.61.99", 80, 1.5) == (
        "port 80 of 10.94.61.99: no answer within 1.5 s"
    )
    assert time.monotonic() - began < 10
    (address,) = lab.status("one")["addresses"]
    assert "refused" in remote.port_status(address, 80, 1.5)
    assert remote.port_status(address, 22, 1.5) == ""


# --- exec -------------------------------------------------------------------------------------


def every_stream(lab: HostsLab) -> None:
    """What a command is given arrives, and so does what it answers."""
    data = os.urandom(3 * 1024 * 1024)
    line = lab.line("exec", "one", "--")
    done = subprocess.run([*line, "cat"], input=data, capture_output=True, check=False)
    assert (done.returncode, done.stdout == data) == (0, True), done.stderr
    ran = lab.virtkit(
        "exec", "two", "--", "sh", "-c", "id -un; hostname; echo no >&2; exit 7", code=7
    )
    assert (ran.out, ran.err) == ("root\ntwo\n", "no\n")
    lab.virtkit("exec", "one", "--", "sh", "-c", "kill -9 $$", code=137)
    lab.virtkit("exec", "one", "--", "no-such-program", code=127)
    lab.virtkit("exec", "one", "--", "sh", "-c", "exit 255", code=255)


def test_exec_passes_all_on(lab: HostsLab) -> None:
    every_stream(lab)
    assert lab.sh("one", "echo ${SUDO_USER:-none}") == "none"


def test_exec_by_who_is_not_root_there_goes_into_the_guest(ops: HostsLab) -> None:
    every_stream(ops)
    assert ops.sh("one", "echo $SUDO_USER") == "virtkit"


@dataclass
class Typist:
    """A run of virtkit's at a terminal of its own."""

    pid: int
    terminal: int
    said: bytes = field(default=b"")

    def hears(self, words: bytes, seconds: float = 60) -> bool:
        """Whether it says this in time."""

        def heard() -> bool:
            if select.select([self.terminal], [], [], 0.2)[0]:
                with suppress(OSError):  # its end
                    self.said += os.read(self.terminal, 65536)
            return words in self.said

        return bool(until(heard, seconds, 0))

    def types(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)

    def ends(self, seconds: float = 30) -> int | None:
        """Its exit code; None where it goes on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.hears(b"\0", 0.1)  # nobody would read it otherwise
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        return None


@contextmanager
def typing(lab: HostsLab, verb: str, *words: str) -> Iterator[Typist]:
    pid, end = pty.fork()
    if pid == 0:
        line = lab.line(verb, *words)
        time.sleep(0.3)  # until the terminal has its size
        os.execv(line[0], line)
    typist = Typist(pid, end)
    typist.resize(33, 77)
    try:
        yield typist
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        with suppress(OSError):
            os.close(end)


#: A shell's trap runs between two commands.
AT_A_TERMINAL = """
test -t 0 && test -t 1 && test -t 2 && echo "a terminal: $TERM"
stty size
trap 'stty size' WINCH
trap 'echo heard; exit 7' INT
echo begun
while :; do sleep .1; done
"""


def at_a_terminal(lab: HostsLab) -> None:
    with typing(lab, "exec", "one", "--", "sh", "-c", AT_A_TERMINAL) as typist:
        assert typist.hears(b"begun"), typist.said
        assert b"a terminal: " in typist.said
        assert b"33 77" in typist.said
        typist.resize(44, 99)
        assert typist.hears(b"44 99", 20), typist.said
        typist.types(b"\x03")
        assert typist.hears(b"heard", 20), typist.said
        assert typist.ends() == 7
    assert b"closed" not in typist.said


def test_exec_at_a_terminal(lab: HostsLab) -> None:
    at_a_terminal(lab)


def test_exec_at_a_terminal_by_who_is_not_root_there(ops: HostsLab) -> None:
    at_a_terminal(ops)


#: What is looked for; each has a number of its own.
QUIET = "exec sleep 4321NUMBER"
FAMILY = "sleep 4321NUMBER; true"
DEAF = "trap '' HUP; sleep 4321NUMBER; true"


def goes_on(lab: HostsLab, number: int) -> bool:
    """As the host sees it, which has all processes of its containers."""
    return lab.run_on_host(f"pgrep -f '^sleep 4321{number}' || :") != ""


@pytest.mark.parametrize(
    ("number", "script", "end"),
    [
        (10, QUIET, signal.SIGKILL),
        (11, FAMILY, signal.SIGKILL),
        (12, DEAF, signal.SIGKILL),
        (13, QUIET, signal.SIGTERM),
        (14, FAMILY, signal.SIGINT),
    ],
)
def test_a_command_ends_with_its_caller(
    lab: HostsLab, number: int, script: str, end: signal.Signals
) -> None:
    line = lab.line("exec", "one", "--", "sh", "-c", script.replace("NUMBER", str(number)))
    with subprocess.Popen(line, stdin=PIPE, stdout=PIPE, stderr=PIPE, process_group=0) as running:
        try:
            assert until(lambda: goes_on(lab, number), 30)
            if end == signal.SIGINT:  # as a terminal does it
                os.killpg(running.pid, end)
            else:
                running.send_signal(end)
            code = running.wait(30)
        finally:
            running.kill()
    assert code == (-end if end == signal.SIGKILL else 128 + end)
    assert until(lambda: not goes_on(lab, number), 15)
    assert until(lambda: not lab.run_on_host(f"pgrep -f '[-]-over-ssh .*4321{number}' || :"), 15)


def test_a_command_at_a_terminal_ends_with_its_caller(lab: HostsLab) -> None:
    script = QUIET.replace("NUMBER", "20")
    with typing(lab, "exec", "one", "--", "sh", "-c", f"echo begun; {script}") as typist:
        assert typist.hears(b"begun"), typist.said
        assert goes_on(lab, 20)
        os.kill(typist.pid, signal.SIGKILL)
        assert until(lambda: not goes_on(lab, 20), 15)


def test_a_command_ends_with_its_connection(lab: HostsLab) -> None:
    """As where the caller's machine is gone; a cut cable, sshd has to notice first."""
    host = lab.hosts[0]
    remote = Remote("h1", f"root@{host.address}", 0, str(host.key), str(host.known_hosts))
    line = lab.line("exec", "one", "--", "sh", "-c", FAMILY.replace("NUMBER", "30"))
    with subprocess.Popen(line, stdin=PIPE, stdout=PIPE, stderr=PIPE) as running:
        try:
            assert until(lambda: goes_on(lab, 30), 30)
            check = [remote.ssh_program(), "-O", "check", remote.address]
            told = subprocess.run(check, capture_output=True, text=True, check=True).stderr
            (pid,) = re.findall(r"pid=(\d+)", told)
            os.kill(int(pid), signal.SIGKILL)
            assert running.wait(30) == 255
        finally:
            running.kill()
    assert until(lambda: not goes_on(lab, 30), 15)
    assert lab.sh("one", "hostname") == "one"


def test_a_command_goes_on_while_somebody_reads_it(lab: HostsLab) -> None:
    line = lab.line("exec", "one", "--", "sh", "-c", "echo a; sleep 4; echo b >&2; exit 3")
    script = '"$@" | head -n 1; true'
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}", "bash", *line],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("a\n", "b\n")


# --- consoles and logs ------------------------------------------------------------------------


def consoles(lab: HostsLab) -> None:
    terminal(lab, "one")
    with typing(lab, "console", "vm") as typist:
        assert typist.hears(b"tiny: tick"), typist.said
        typist.types(b"\x1d")
        assert typist.ends() == 0, typist.said


def test_the_console_is_a_terminal(lab: HostsLab) -> None:
    consoles(lab)


def test_the_console_of_who_is_not_root_there(ops: HostsLab) -> None:
    consoles(ops)


class Follower:
    """`logs --follow` of a guest."""

    def __init__(self, lab: HostsLab, guest: str) -> None:
        self.process = lab.starts("logs", guest, "--follow")
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)
        # what it says of libvirt goes to stderr, which is not read: it is little

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def test_logs_are_followed_through_a_restart_of_libvirtd(lab: HostsLab) -> None:
    host = lab.hosts[1]
    with ExitStack() as stack:
        vm, two = (Follower(lab, guest) for guest in ("vm", "two"))
        for each in (vm, two):
            stack.callback(each.end)
        assert until(lambda: any("tick" in each for each in vm.lines), 60)
        assert until(lambda: two.lines != [], 60)
        host.ssh(f"kill -KILL {host.libvirtd()}")
        time.sleep(3)
        host.start_libvirtd()
        before = len(vm.lines)
        assert until(lambda: sum("tick" in each for each in vm.lines[before:]) > 3, 60), vm.lines
        lab.sh("two", "logger followed-$((40 + 2))")
        assert until(lambda: any("followed-42" in each for each in two.lines), 60)
        assert (vm.process.poll(), two.process.poll()) == (None, None)
    assert "tiny: up" in lab.virtkit("logs", "vm").out
    assert "systemd" in lab.virtkit("logs", "two").out


def displays(lab: HostsLab) -> None:
    running = lab.starts("console", "vm", "--vnc", "--json")
    try:
        assert running.stdout is not None
        text = ""
        while "}" not in text:
            line = running.stdout.readline()
            assert line, running.stderr and running.stderr.read()
            text += line
        found = json.loads(text)
        assert (found["address"], found["password"]) == ("127.0.0.1", None)
        for _ in range(2):
            with socket.create_connection((found["address"], found["port"]), timeout=10) as caller:
                caller.settimeout(20)
                assert caller.recv(12) == b"RFB 003.008\n"
                caller.sendall(b"RFB 003.008\n")
                assert caller.recv(1) == b"\1"
        running.terminate()
        assert running.wait(10) == 0
    finally:
        running.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((found["address"], found["port"]), timeout=10).close()


def test_a_display_is_forwarded_as_long_as_somebody_asks_for_it(lab: HostsLab) -> None:
    displays(lab)
    with typing(lab, "console", "vm", "--vnc") as typist:
        assert typist.hears(b"until ctrl-c"), typist.said
        (shown,) = re.findall(rb"password: (\S+)", typist.said)
        assert shown.decode() in lab.on(lab.hosts[1]).virsh(
            "dumpxml", "--security-info", "reach-vm"
        )
        typist.types(b"\x03")
        assert typist.ends() == 0, typist.said


def test_a_display_for_who_is_not_root_there(ops: HostsLab) -> None:
    displays(ops)


# --- whose it is ------------------------------------------------------------------------------


def orphans(text: str) -> dict[str, bool]:
    """What is told of the environment, and whether that is sure."""
    found = json.loads(text)["orphans"]
    return {
        f"{each['kind']} {each['name']}": each["sure"]
        for each in found
        if each["environment"] == "reach" and each["kind"] != "folder"
    }


def test_the_record_says_from_where_it_was_made(lab: HostsLab, tmp_path: Path) -> None:
    """A host that looks at itself finds no spec, and knows that another machine may have it."""
    here = socket.gethostname()
    xml = lab.virsh("dumpxml", "reach-one", scheme="lxc")
    assert f'"made_from": "{here}"' in xml
    source = Path(virtkit.__file__).parents[1]
    line = f"cd / && PYTHONPATH={source} {VIRTKIT} doctor --orphans --json"
    other = tmp_path / "other.yaml"
    entries = {each.name: each.spec() for each in lab.hosts}
    other.write_text(json.dumps({"name": "other", "hosts": entries}))
    mine = [VIRTKIT, "doctor", other, "--orphans", "--json"]
    assert orphans(run(*mine)) == {}
    text = lab.spec.read_text()
    lab.spec.unlink()
    try:
        printed = lab.run_on_host(line)
        assert orphans(printed) == {"guest reach-one": False, "network reach-front": False}
        why = json.loads(printed)["orphans"][0]["why"]
        assert f"it may still be in use from machine {here}, where it was created" in why
        found = orphans(run(*mine))
        assert found.keys() >= {"guest reach-one", "guest reach-two", "network reach-front"}
        assert all(found.values()), "it was made here, and here it is gone"
    finally:
        lab.write(text)


def test_down_leaves_nothing(lab: HostsLab, ops: HostsLab) -> None:
    for each in (lab, ops):
        assert each.json("down", "--volumes")["ok"]
        for host in each.hosts:
            assert each.on(host).left() == []
    guests = lab.json("status")["guests"]
    assert {each["state"] for each in guests} == {"missing"}
