"""Several libvirt hosts on one machine: each has a sandbox of its own, with its own libvirt, ssh
server, host name, machine-id, users and network interface, and is reached over ssh only.

A test's own sandbox is the outer machine. The hosts' interfaces are on a bridge there; they have no
way out of it. Root, and an ordinary user in libvirt's group, log in with one key.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from integration.lab import run, until
from integration.remote import RemoteLab

TESTS = Path(__file__).parents[1]
#: Who logs in and is not root.
USER = "ops"
#: The outer machine's end of the bridge, and the first host's address is 10.99.0.11.
NET, BRIDGE = "10.99.0", "hosts0"
#: What runs in a host's sandbox until its input ends. $1: the host's folder; $2: its name; $3: the
#: folder that has sshd; $4: its address.
_HOST = f"""
set -eu
hostname "$2"
cp -a /etc/. "$1/etc"
cat /proc/sys/kernel/random/uuid | tr -d - >"$1/etc/machine-id"
mount --bind /etc/libvirt "$1/etc/libvirt"
mount --rbind "$1/etc" /etc
mount -t tmpfs -o mode=755 tmpfs /home
getent passwd sshd >/dev/null || useradd --system --no-create-home --home-dir /run/sshd sshd
getent group libvirt >/dev/null || groupadd --system libvirt
useradd --create-home --shell /bin/bash --groups libvirt {USER}
usermod --password '*' root
usermod --password '*' {USER}
mkdir -p /etc/ssh
cp "$1/../id.pub" /etc/ssh/all_users
echo "127.0.0.1 localhost $2" >/etc/hosts
mkdir -p /run/sshd
kill "$(cat /run/libvirt/libvirtd.pid)"
while [ -e /run/libvirt/libvirtd.pid ]; do sleep .05; done
cat >>/etc/libvirt/libvirtd.conf <<EOF
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
auth_unix_rw = "none"
EOF
libvirtd -d -p /run/libvirt/libvirtd.pid </dev/null
echo "virtkit-$2"
read line # until the interface is there
ip addr add "$4/24" dev eth0
ip link set eth0 up
export LD_LIBRARY_PATH=$(dirname "$3"/usr/lib/*/libwrap.so.0)
"$3/usr/sbin/sshd" -f "$1/sshd_config" -E "$1/sshd.log"
echo ready
read line
"""
_SSHD = """
ListenAddress {address}
HostKey {folder}/hostkey
PidFile {folder}/sshd.pid
AuthorizedKeysFile /etc/ssh/all_users
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
UseDNS no
MaxStartups 100
MaxSessions 100
Subsystem sftp {server}/usr/lib/openssh/sftp-server
"""


@dataclass(frozen=True)
class LibvirtHost:
    """A host. ``folder`` has its files; the key and ``known_hosts`` are those of all hosts."""

    name: str
    address: str
    folder: Path
    process: subprocess.Popen[str]
    interface: str
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Path:
        return self.folder.parent / "id"

    @property
    def known_hosts(self) -> Path:
        return self.folder.parent / "known_hosts"

    def spec(self, user: str = "root", **more: Any) -> dict[str, Any]:
        """Its entry in a spec's ``hosts:``."""
        ssh = {"key": str(self.key), "known_hosts": str(self.known_hosts)}
        place = {"address": f"{user}@{self.address}", "ssh": ssh, "labels": self.labels}
        return place | more

    def ssh_line(self, user: str = "root") -> list[str]:
        """The command line that logs in; what is run there follows it."""
        options = {
            "UserKnownHostsFile": self.known_hosts,
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
        }
        line = ["ssh", "-F", "/dev/null", "-i", str(self.key)]
        return [*line, *(f"-o{k}={v}" for k, v in options.items()), f"{user}@{self.address}"]

    def ssh(self, command: str, user: str = "root") -> str:
        """What a shell command prints on it."""
        return run(*self.ssh_line(user), command).strip()

    def virsh(self, *words: str, scheme: str = "qemu") -> str:
        """What virsh answers on it."""
        return self.ssh(f"virsh -q -c {scheme}:///system {' '.join(words)}")

    def libvirtd(self) -> int:
        """Its daemon's process, as the host numbers it."""
        return int(self.ssh("cat /run/libvirt/libvirtd.pid"))

    def start_libvirtd(self) -> None:
        self.ssh("rm -f /run/libvirt/libvirtd.pid; libvirtd -d -p /run/libvirt/libvirtd.pid")
        assert until(lambda: self.ssh("virsh -q -c qemu:///system uri || :") != "", 30)

    def cut(self) -> None:
        """Pulls its interface's cable."""
        run("ip", "link", "set", self.interface, "nomaster")

    def join(self) -> None:
        """Puts it back."""
        run("ip", "link", "set", self.interface, "master", BRIDGE)

    def off(self) -> None:
        """Ends it at once, with all that runs on it."""
        self.process.kill()
        self.process.wait()


@contextmanager
def several_hosts(folder: Path, count: int) -> Iterator[list[LibvirtHost]]:
    """So many hosts, which are gone afterwards.

    Args:
        folder: an empty one of the test's own.
    """
    server = run(TESTS / "openssh-server").strip()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hosts", "-f", folder / "id")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "addr", "add", f"{NET}.1/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    try:
        with ExitStack() as stack:
            begun = [stack.enter_context(_begun(folder, n, server)) for n in range(1, count + 1)]
            lines = []
            for each in begun:
                _connected(each)
                public = (each.folder / "hostkey.pub").read_text()
                lines.append(f"{each.address} {public}")
            (folder / "known_hosts").write_text("".join(lines))
            yield begun
    finally:
        run("ip", "link", "delete", BRIDGE)


@contextmanager
def _begun(folder: Path, number: int, server: str) -> Iterator[LibvirtHost]:
    """A host whose sandbox is being made."""
    name, address = f"h{number}", f"{NET}.{10 + number}"
    own = folder / name
    (own / "etc").mkdir(parents=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", own / "hostkey")
    (own / "sshd_config").write_text(_SSHD.format(address=address, folder=own, server=server))
    line: Sequence[str | Path] = ["sh", "-c", _HOST, "sh", own, name, server, address]
    with subprocess.Popen(
        [TESTS / "sandbox", *line],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(own / "log").open("w"),
        text=True,
        bufsize=1,
    ) as process:
        try:
            yield LibvirtHost(name, address, own, process, f"v-{name}")
        finally:
            with suppress(BrokenPipeError, ValueError):
                assert process.stdin is not None
                process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _connected(host: LibvirtHost) -> None:
    """Gives a host its interface, once its sandbox is there, and waits for its ssh server."""
    _heard(host, f"virtkit-{host.name}")
    interface, peer = host.interface, f"p-{host.name}"
    run("ip", "link", "add", interface, "type", "veth", "peer", "name", peer)
    run("ip", "link", "set", interface, "master", BRIDGE, "up")
    run("ip", "link", "set", peer, "netns", str(_within(host.process.pid)))
    # it has its name in there only: the outer machine may have an interface of that name
    pid = str(_within(host.process.pid))
    run("nsenter", "-t", pid, "-n", "ip", "link", "set", peer, "name", "eth0")
    assert host.process.stdin is not None
    host.process.stdin.write("go on\n")
    _heard(host, "ready")


def _heard(host: LibvirtHost, expected: str) -> None:
    assert host.process.stdout is not None
    said = host.process.stdout.readline().strip()
    assert said == expected, (said, (host.folder / "log").read_text())


def _within(pid: int) -> int:
    """A process of a sandbox's, by that of the program that made it."""
    own = Path("/proc/self/ns/net").readlink()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        todo = [pid]
        while todo:
            each = todo.pop()
            with suppress(OSError):
                if Path(f"/proc/{each}/ns/net").readlink() != own:
                    return each
                todo += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
    raise AssertionError("the sandbox has no process")


@dataclass
class HostsLab(RemoteLab):
    """A Lab on several hosts; what is asked of one is asked of the first."""

    hosts: Sequence[LibvirtHost] = ()

    def run_on_host(self, command: str) -> str:
        return self.hosts[0].ssh(command)

    def on(self, host: LibvirtHost) -> HostsLab:
        """The same, asking another host."""
        return replace(self, hosts=[host])


@contextmanager
def hosts_laboratory(
    folder: Path, name: str, spec: str, hosts: Sequence[LibvirtHost], user: str = "root"
) -> Iterator[HostsLab]:
    """A Lab on these hosts, whose guests are gone in the end, whatever happened."""
    entries = {each.name: each.spec(user) for each in hosts}
    lab = HostsLab(folder, name, hosts=hosts)
    lab.write(f"hosts: {json.dumps(entries)}\n{spec}")
    try:
        yield lab
    finally:
        lab.virtkit("down", "--volumes", "--yes", code=None)
