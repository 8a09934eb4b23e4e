"""The verbs about hosts, and the ways of ssh to them: keys made known, ports, jump hosts, agents,
paths in the caller's home, a user who is not root. Two hosts over real ssh."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.lab import VIRTKIT, Ran, run
from integration.several_hosts import (
    USER,
    HostsLab,
    LibvirtHost,
    hosts_laboratory,
    several_hosts,
)

from virtkit.host import Remote

#: A network of the hosts' own, and the second port of the second host's ssh there.
INNER, PORT = "10.98.0", 2200
#: Of this machine's ssh; the file of the keys that it knows is the fixture's.
SSH_CONFIG = f"""
Host jump
  HostName {{jump}}
  User root
Host inner
  HostName {INNER}.12
  Port {PORT}
  User root
  ProxyJump jump
  RemoteCommand sleep 60
  RequestTTY force
Host aliased
  HostName {{second}}
  User root
  HostKeyAlias rack-two
Host *
  UserKnownHostsFile {{known_hosts}}
  GlobalKnownHostsFile none
  HashKnownHosts yes
"""
#: Starts a host's ssh server once more, on another port. $1: its folder.
SECOND_SSHD = f"""
sshd=$(readlink "/proc/$(cat "$1/sshd.pid")/exe")
export LD_LIBRARY_PATH=$(dirname "${{sshd%/sbin/sshd}}"/lib/*/libwrap.so.0)
"$sshd" -f "$1/sshd_config" -p {PORT} -o PidFile=none -o ListenAddress={INNER}.12 \\
    -o MaxSessions=3 -o MaxStartups=10:30:100
"""
GUESTS = """
defaults: {type: lxc, memory: 256MiB}
guests:
  web: {}
"""

OPS_GUESTS = f"{GUESTS}  bare: {{networks: []}}\n"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LibvirtHost]]:
    """Two hosts; what the second has on the inner network is reached through the first only."""
    with several_hosts(tmp_path_factory.mktemp("hosts"), 2) as hosts:
        for number, each in enumerate(hosts, 11):
            each.ssh(f"ip addr add {INNER}.{number}/24 dev eth0")
        hosts[1].ssh(f"sh -c {shlex.quote(SECOND_SSHD)} sh {hosts[1].folder}")
        yield hosts


@dataclass(frozen=True)
class Ssh:
    """The settings of this machine's ssh: the sandbox's own, so that nobody else's are touched.

    ``known_hosts``: the keys that it knows. ``agent``: the socket of one that has the hosts' key.
    """

    known_hosts: Path
    agent: Path

    @property
    def settings(self) -> dict[str, str]:
        return {"SSH_AUTH_SOCK": str(self.agent)}


@pytest.fixture(scope="module")
def ssh(hosts: list[LibvirtHost], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ssh]:
    folder = tmp_path_factory.mktemp("ssh")
    ssh = Ssh(folder / "known_hosts", folder / "agent")
    text = SSH_CONFIG.format(
        jump=hosts[0].address, second=hosts[1].address, known_hosts=ssh.known_hosts
    )
    (folder / "ssh_config").write_text(text)
    run("mount", "--bind", folder, "/etc/ssh")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", ssh.agent], stdout=subprocess.DEVNULL)
    try:
        environment = os.environ | ssh.settings
        run("sh", "-c", f"until [ -S {ssh.agent} ]; do sleep .05; done; ssh-add -q {hosts[0].key}",
            env=environment)  # fmt: skip
        yield ssh
    finally:
        agent.kill()
        agent.wait()
        run("umount", "/etc/ssh")


@pytest.fixture(scope="module")
def lab(hosts: list[LibvirtHost], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsLab]:
    """Both hosts by their addresses, and no guests."""
    hosts[0].labels["zone"] = "a"
    with hosts_laboratory(tmp_path_factory.mktemp("lab"), "verbs", "guests: {}", hosts) as lab:
        yield lab


def virtkit(*words: str | Path, ssh: Ssh, code: int = 0) -> Ran:
    """Runs virtkit without a spec."""
    done = subprocess.run(
        [VIRTKIT, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | ssh.settings,
    )
    ran = Ran(" ".join(map(str, words)), done.returncode, done.stdout, done.stderr, 0)
    assert ran.code == code, str(ran)
    return ran


def fingerprint(host: LibvirtHost) -> str:
    return run("ssh-keygen", "-lf", host.folder / "hostkey.pub").split()[1]


def typed(words: list[str], answer: str, ssh: Ssh) -> tuple[int, str]:
    """Runs virtkit on a terminal and types an answer; its exit code, and what the terminal saw."""
    pid, end = pty.fork()
    if pid == 0:
        os.environ.update(ssh.settings)
        os.execv(VIRTKIT, [str(VIRTKIT), *words])
    said = b""
    try:
        while b"[y/N]" not in said and (more := _read(end)):
            said += more
        with suppress(OSError):  # it has ended
            os.write(end, answer.encode())
        while more := _read(end):
            said += more
    finally:
        os.close(end)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()


def _read(end: int) -> bytes:
    try:
        return os.read(end, 4096)
    except OSError:  # the other end has gone
        return b""


@contextmanager
def as_written(lab: HostsLab) -> Iterator[None]:
    """The spec is put back at the end."""
    text = lab.spec.read_text()
    try:
        yield
    finally:
        lab.write(text)


# --- keys -------------------------------------------------------------------------------------


def test_a_host_of_the_spec_is_made_known_in_the_specs_own_file(
    lab: HostsLab, hosts: list[LibvirtHost], ssh: Ssh
) -> None:
    host, file = hosts[0], lab.folder / "new_known_hosts"
    entry = host.spec()
    entry["ssh"]["known_hosts"] = file.name  # from the spec's folder
    with as_written(lab):
        lab.write(f"hosts: {json.dumps({'h1': entry})}\nguests: {{}}\n")
        error = lab.json("plan", code=2)["error"]
        assert "Host key verification failed" in error["why"]
        assert error["cure"].endswith(f"virtkit host trust {lab.spec} h1")
        # without a word nothing is written
        refused = lab.json("host trust", "h1", code=2)["error"]
        assert fingerprint(host) in refused["why"]
        wrong = lab.json("host trust", "h1", "--fingerprint", "SHA256:wrong", code=2)["error"]
        assert fingerprint(host) in wrong["why"]
        code, said = typed(["host", "trust", str(lab.spec), "h1"], "n\n", ssh)
        assert (code, fingerprint(host) in said) == (2, True)
        assert not file.exists()
        code, said = typed(["host", "trust", str(lab.spec), "h1"], "y\n", ssh)
        assert (code, f"added to {file}: ED25519" in said) == (0, True), said
        found = run("ssh-keygen", "-lF", host.address, "-f", file)
        assert found.split()[-1] == fingerprint(host)
        assert lab.json("plan")["changes"] == []
        again = lab.json("host trust", "h1")
        assert (again["known"], again["added"]) == (True, [])
        assert len(file.read_text().splitlines()) == 1


def test_a_key_that_changed_is_refused(lab: HostsLab, hosts: list[LibvirtHost]) -> None:
    host, file = hosts[0], lab.folder / "changed_known_hosts"
    other = lab.folder / "other"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other)
    file.write_text(f"{host.address} {other.with_suffix('.pub').read_text()}")
    before = file.read_text()
    entry = host.spec()
    entry["ssh"]["known_hosts"] = str(file)
    with as_written(lab):
        lab.write(f"hosts: {json.dumps({'h1': entry})}\nguests: {{}}\n")
        assert "virtkit host trust" in lab.json("plan", code=2)["error"]["cure"]
        error = lab.json("host trust", "h1", "--yes", code=2)["error"]
        old = run("ssh-keygen", "-lf", f"{other}.pub").split()[1]
        assert old in error["why"]
        assert fingerprint(host) in error["why"]
        assert file.read_text() == before
        run("sh", "-c", error["cure"].partition("reinstalled: ")[2].partition(" && ")[0])
        lab.virtkit("host trust", "h1", "--fingerprint", fingerprint(host))
        assert lab.json("plan")["changes"] == []


def test_a_host_behind_another_one_is_made_known_by_sshs_own_settings(
    hosts: list[LibvirtHost], ssh: Ssh
) -> None:
    """The host on the way first; then the port, and a file whose names are hashed."""
    ssh.known_hosts.unlink(missing_ok=True)
    error = virtkit("host", "trust", "inner", "--yes", "--json", ssh=ssh, code=1).data["error"]
    assert error["cure"].endswith("virtkit host trust jump")
    code, said = typed(["host", "trust", "inner", "--yes"], "", ssh)
    assert (code, "yes/no" in said) == (1, False), said  # ssh asks nobody, on a terminal neither
    assert not ssh.known_hosts.exists()
    jump, inner = (fingerprint(each) for each in hosts)
    virtkit("host", "trust", "jump", "--fingerprint", jump, ssh=ssh)
    virtkit("host", "trust", "inner", "--fingerprint", jump, ssh=ssh, code=2)  # it has another
    virtkit("host", "trust", "inner", "--fingerprint", inner, ssh=ssh)
    text = ssh.known_hosts.read_text()
    assert len(text.splitlines()) == 2
    assert all(line.startswith("|1|") for line in text.splitlines())
    for name in ("jump", "inner"):
        assert virtkit("host", "trust", name, "--json", ssh=ssh).data["known"]
    assert ssh.known_hosts.read_text() == text
    virtkit("host", "trust", "aliased", "--fingerprint", inner, ssh=ssh)
    assert inner in run("ssh-keygen", "-lF", "rack-two", "-f", ssh.known_hosts)
    assert virtkit("host", "trust", "aliased", "--json", ssh=ssh).data["known"]


def test_the_next_connection_is_a_new_login(hosts: list[LibvirtHost]) -> None:
    remote = Remote(
        "h1", f"root@{hosts[0].address}", 0, str(hosts[0].key), str(hosts[0].known_hosts)
    )
    remote.connect()
    first = remote.run("echo $SSH_CONNECTION")
    assert remote.run("echo $SSH_CONNECTION") == first
    remote.disconnect()
    assert remote.run("echo $SSH_CONNECTION") != first


# --- what hosts are ---------------------------------------------------------------------------


@pytest.mark.long  # three quarters of a minute: KVM is tried
def test_hosts_are_listed(lab: HostsLab, hosts: list[LibvirtHost]) -> None:
    listed = {each["name"]: each for each in lab.json("host list")["hosts"]}
    assert [each["answers"] for each in listed.values()] == [True, True]
    one = listed["h1"]
    assert one["address"] == f"root@{hosts[0].address}"
    assert {"qemu", "lxc"} <= set(one["types"])
    assert one["libvirt"] in hosts[0].virsh("version")
    assert one["cpus"] == {"all": os.cpu_count(), "used": 0}
    assert 0 < one["memory"]["free"] <= one["memory"]["all"]
    assert (one["guests"], one["domains"], one["labels"]) == (0, 0, {"zone": "a"})
    assert [each["name"] for each in lab.json("host list", "h2")["hosts"]] == ["h2"]
    rows = lab.virtkit("host list").out.splitlines()
    assert rows[0].split()[:3] == ["host", "address", "libvirt"]
    assert [row.split()[0] for row in rows[1:]] == ["h1", "h2"]
    assert rows[1].endswith("zone=a")


@pytest.mark.long  # three quarters of a minute: KVM is tried
def test_a_host_that_does_not_answer_is_listed_and_checked_beside_the_others(
    lab: HostsLab, hosts: list[LibvirtHost]
) -> None:
    with as_written(lab):
        entries = {each.name: each.spec() for each in hosts}
        entries["gone"] = {"address": "root@127.0.0.1", "ssh": {"port": 9}}  # nobody listens
        lab.write(f"hosts: {json.dumps(entries)}\nguests: {{}}\n")
        listed = {each["name"]: each for each in lab.json("host list")["hosts"]}
        assert {name: each["answers"] for name, each in listed.items()} == {
            "h1": True,
            "h2": True,
            "gone": False,
        }
        assert "Connection refused" in listed["gone"]["error"]["why"]
        text = lab.virtkit("host list").out
        assert "no answer" in text
        assert "Connection refused" in text
        checked = {e["name"]: e for e in lab.json("host check", code=2)["hosts"]}
        assert {name: each["usable"] for name, each in checked.items()} == {
            "h1": True,
            "h2": True,
            "gone": False,
        }
        assert "libvirt qemu" in {each["name"] for each in checked["h1"]["checks"]}
        text = lab.virtkit("host check", "gone", code=2).out.splitlines()
        assert text[0] == "gone (root@127.0.0.1):"
        assert not any(line.startswith("h1") for line in text)


@pytest.mark.long  # half a minute
def test_this_machine_is_a_host_too(ssh: Ssh) -> None:
    (here,) = virtkit("host", "list", "--json", ssh=ssh).data["hosts"]
    assert (here["name"], here["address"], here["answers"]) == ("local", "", True)
    (checked,) = virtkit("host", "check", "--json", ssh=ssh).data["hosts"]
    assert (checked["name"], checked["usable"]) == ("local", True)


# --- the ways there ---------------------------------------------------------------------------


def ways(hosts: list[LibvirtHost], home: Path) -> dict[str, dict[str, Any]]:
    """One host's entry, by the way that ssh takes there."""
    key, known = hosts[1].key, hosts[1].known_hosts
    (home / "a key").write_bytes(key.read_bytes())
    (home / "a key").chmod(0o600)
    (home / "known").write_text(f"[{hosts[1].address}]:{PORT} {_public(hosts[1])}")
    return {
        "settings": {"address": "inner"},  # a jump host, a port, an agent's key
        "plain": {"address": f"root@{hosts[1].address}",
                  "ssh": {"key": str(key), "known_hosts": str(known)}},
        "port": {"address": f"root@{hosts[1].address}",
                 "ssh": {"port": PORT, "key": "~/a key", "known_hosts": "~/known"}},
        "agent": {"address": f"root@{hosts[1].address}", "ssh": {"known_hosts": str(known)}},
    }  # fmt: skip


def _public(host: LibvirtHost) -> str:
    return (host.folder / "hostkey.pub").read_text()


@pytest.fixture(scope="module")
def away(
    hosts: list[LibvirtHost], ssh: Ssh, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HostsLab]:
    """A container on the host that is reached by ssh's settings alone."""
    ssh.known_hosts.write_text(
        f"{hosts[0].address} {_public(hosts[0])}[{INNER}.12]:{PORT} {_public(hosts[1])}"
    )
    lab = HostsLab(tmp_path_factory.mktemp("away"), "away", ssh.settings, hosts=hosts[1:])
    lab.write(f"hosts: {json.dumps({'h2': {'address': 'inner'}})}\n{GUESTS}")
    try:
        yield lab
    finally:
        lab.virtkit("down", "--volumes", "--yes", code=None)


def test_up_through_a_jump_host_with_an_agents_key(
    away: HostsLab, hosts: list[LibvirtHost]
) -> None:
    assert away.json("up")["ok"]
    assert away.status("web")["ready"]
    assert hosts[1].virsh("list", "--name", scheme="lxc") == "away-web"


@pytest.mark.parametrize(
    "way",
    ["settings", *(pytest.param(e, marks=pytest.mark.long) for e in ("plain", "port", "agent"))],
)
def test_every_verb_goes_each_way(
    way: str, away: HostsLab, hosts: list[LibvirtHost], tmp_path: Path
) -> None:
    """libvirt, commands by the hypervisor and by ssh, files, and what other programs are told."""
    home = Path(os.environ["HOME"])
    entry = ways(hosts, home)[way]
    away.write(f"hosts: {json.dumps({'h2': entry})}\n{GUESTS}")
    assert away.json("plan")["changes"] == []
    assert away.json("up")["ok"]
    assert away.virtkit("ssh", "web", "--", "hostname").out == "web\n"
    assert away.sh("web", "id -u") == "0"
    (tmp_path / "file").write_text(way)
    away.virtkit("cp", str(tmp_path / "file"), "web:/tmp/file")
    assert away.virtkit("exec", "web", "--", "cat", "/tmp/file").out == way
    (tmp_path / "config").write_text(away.virtkit("ssh-config").out)
    environment = os.environ | away.settings
    line = ["ssh", "-F", tmp_path / "config", "away-web", "hostname"]
    assert run(*line, env=environment) == "web\n"
    (tmp_path / "inventory").write_text(away.virtkit("inventory").out)
    ansible = VIRTKIT.with_name("ansible")
    words = ["-i", tmp_path / "inventory", "web", "-m", "command", "-a", "hostname"]
    assert run(ansible, *words, env=environment).splitlines()[-1] == "web"


def test_hosts_beside_the_status_of_guests(away: HostsLab) -> None:
    status = away.json("status", "--hosts")
    assert [each["name"] for each in status["guests"]] == ["web"]
    (host,) = status["hosts"]
    assert (host["guests"], host["domains"], host["cpus"]["used"]) == (1, 1, 1)
    assert host["load"] > 0
    text = away.virtkit("status", "--hosts").out
    assert "1 of 1" in text
    assert away.json("down")["ok"]
    assert away.left() == []


# --- a user who is not root -------------------------------------------------------------------


@pytest.fixture(scope="module")
def ops(hosts: list[LibvirtHost], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsLab]:
    folder = tmp_path_factory.mktemp("ops")
    with hosts_laboratory(folder, "byops", OPS_GUESTS, hosts[:1], USER) as lab:
        yield lab


def test_all_that_goes_by_libvirt_a_user_in_its_group_may_do(ops: HostsLab) -> None:
    assert ops.json("up")["ok"]
    assert ops.status("web")["ready"]
    assert ops.json("plan")["changes"] == []
    assert ops.virtkit("ssh", "web", "--", "hostname").out == "web\n"
    assert ops.sh("web", "id -u") == "0"  # by ssh, since nobody is root on the host
    assert "systemd" in ops.virtkit("logs", "web").out
    ops.virtkit("stop", "web")
    ops.virtkit("start", "web")
    assert ops.status("web")["state"] == "running"


def test_what_only_root_can_do_there_is_told_with_its_cure(
    ops: HostsLab, hosts: list[LibvirtHost]
) -> None:
    refused = ops.virtkit("exec", "bare", "--", "true", code=None)
    assert (refused.code, "root on its host" in refused.err) == (1, True), str(refused)
    (checked,) = ops.json("host check", "h1")["hosts"]
    (firewall,) = [each for each in checked["checks"] if each["name"] == "firewall"]
    assert "only root may read" in firewall["what"]
    assert "log in there as root" in firewall["cure"]
    error = ops.json("host prepare", "h1", code=2)["error"]
    assert "you can't become root" in error["what"]
    assert f"root@{hosts[0].address}" in error["cure"]


def test_a_user_whom_libvirt_does_not_let_in(ops: HostsLab, hosts: list[LibvirtHost]) -> None:
    hosts[0].ssh("useradd --create-home --shell /bin/bash stranger")
    hosts[0].ssh("usermod --password '*' stranger")  # else sshd takes it for locked
    with as_written(ops):
        ops.write(f"hosts: {json.dumps({'h1': hosts[0].spec('stranger')})}\n{OPS_GUESTS}")
        error = ops.json("plan", code=2)["error"]
        assert "usermod -aG libvirt" in error["cure"]
        (checked,) = ops.json("host check", code=2)["hosts"]
        assert not checked["usable"]


def test_down_as_that_user(ops: HostsLab) -> None:
    assert ops.json("down")["ok"]
    assert ops.left() == []
