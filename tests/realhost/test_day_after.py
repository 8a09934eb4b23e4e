"""The days after on a plain Debian host: daemons that restart under a run, changes of running
guests, a disk that fills up, other firewalls, a pool elsewhere.

    .venv/bin/python -m pytest tests/realhost/test_day_after.py     (RELEASE=trixie)

Not in the sandbox, and not in CI: see test_journey.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from realhost import realhost
from realhost.person import SPEC, data, left, make_spec, output_of
from realhost.realhost import RealHost

pytestmark = [pytest.mark.timeout(3600), pytest.mark.long]

RELEASE = os.environ.get("RELEASE", realhost.RELEASES[0])
DAY = """
name: day
networks: {front: {}, back: {mode: isolated}}
defaults: {memory: 384MiB, networks: [front], ready: {timeout: 1h}}
guests:
  vm: {type: kvm}
  box: {type: lxc, memory: 192MiB}
"""
MORE = DAY.replace("[front]", "[front, back]").replace(
    "{type: kvm}", "{type: kvm, disks: [{name: data, size: 64MiB, mount: /srv/data}]}"
)

GONE = """
name: gone
defaults: {memory: 256MiB, ready: {timeout: 1h}}
guests: {a: {type: TYPE, disks: [{name: data, size: 32MiB, mount: /srv/data}]}}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHost]:
    started = realhost.start(tmp_path_factory.mktemp("realhost"), RELEASE)
    try:
        started.give()
        make_spec(started)
        output_of(started, f"virtkit/scripts/up {SPEC}")
        output_of(started, f"virtkit down {SPEC}")
        yield started
    finally:
        started.stop()


def write(host: RealHost, text: str, name: str = "day.yaml") -> None:
    assert host.run(f"cat >{name}", "alice", stdin=text.encode()).returncode == 0


@pytest.mark.parametrize("after", [1, 4, 9, 16, 30])
def test_libvirtd_restarts_under_a_run(host: RealHost, after: int) -> None:
    """Whatever comes of that run, the next one ends it."""
    write(host, DAY)
    output_of(host, "virtkit down day.yaml")
    running = "virtkit up day.yaml >~/first 2>&1; echo $? >~/code"
    output_of(
        host, f"(setsid bash -c '{running}' &) ; sleep {after}; sudo systemctl restart libvirtd"
    )
    output_of(host, "while ! [ -e ~/code ]; do sleep 1; done; cat ~/first; rm ~/code")
    assert "Traceback" not in output_of(host, "cat ~/first")
    output_of(host, "virtkit up day.yaml")
    assert all(each["ready"] for each in data(host, "status day.yaml")["guests"])
    assert data(host, "plan day.yaml")["changes"] == []


def test_disks_and_interfaces_come_and_go(host: RealHost) -> None:
    write(host, DAY)
    output_of(host, "virtkit up day.yaml")
    boot = output_of(host, "virtkit ssh day.yaml vm -- cat /proc/sys/kernel/random/boot_id")
    write(host, MORE)
    output_of(host, "virtkit up day.yaml")
    output_of(host, "virtkit ssh day.yaml vm -- 'findmnt /srv/data && ip -br addr && echo x | "
         "sudo tee /srv/data/x'")  # fmt: skip
    assert data(host, "plan day.yaml")["changes"] == []
    write(host, DAY)
    output_of(host, "virtkit up day.yaml --yes")
    assert "/srv/data" not in output_of(host, "virtkit ssh day.yaml vm -- cat /proc/mounts")
    again = output_of(host, "virtkit ssh day.yaml vm -- cat /proc/sys/kernel/random/boot_id")
    assert again == boot
    assert data(host, "plan day.yaml")["changes"] == data(host, "plan day.yaml")["pending"] == []
    assert "DENIED" not in host.ssh("journalctl -k -b --no-pager -g apparmor= || true")


def test_a_disk_that_fills_up(host: RealHost) -> None:
    """QEMU pauses the guest; with room again `up` lets it go on."""
    output_of(host, "sudo fallocate -l $(($(df --output=avail -B1 / | tail -1) - 60000000)) /fill")
    host.run("bash -lc 'timeout 120 virtkit ssh day.yaml vm -- sudo dd if=/dev/urandom "
             "of=/big bs=1M count=300 oflag=direct'", "alice")  # fmt: skip
    text = output_of(host, "virtkit status day.yaml")
    output_of(host, "sudo rm /fill")
    assert "paused" in text
    assert "no space left" in text
    output_of(host, "virtkit up day.yaml")
    output_of(host, "virtkit ssh day.yaml vm -- sudo rm -f /big")
    output_of(host, "virtkit down day.yaml")
    assert left(host, "day") == []


@pytest.mark.parametrize("kind", ["kvm", "lxc", "uml"])
def test_somebody_undefines_a_guest(host: RealHost, kind: str) -> None:
    """The next run defines it again over its disks, which keep what was on them."""
    scheme = "qemu" if kind == "kvm" else "lxc"
    write(host, GONE.replace("TYPE", kind), "gone.yaml")
    output_of(host, "virtkit up gone.yaml")
    script = "'echo mine | sudo tee /srv/data/x /var/x >/dev/null; sync'"
    output_of(host, f"virtkit ssh gone.yaml a -- {script}")
    output_of(host, f"virsh -c {scheme}:///system destroy gone-a")
    output_of(host, f"virsh -c {scheme}:///system undefine gone-a")
    before = host.ssh("cd /var/lib/libvirt/images && stat -c '%i %n' gone-*")
    (change,) = data(host, "plan gone.yaml")["changes"]
    assert (change["object"], change["action"]) == ("guest/a", "create")
    output_of(host, "virtkit up gone.yaml")
    assert output_of(host, "virtkit ssh gone.yaml a -- cat /srv/data/x /var/x") == "mine\nmine\n"
    assert host.ssh("cd /var/lib/libvirt/images && stat -c '%i %n' gone-*") == before
    assert data(host, "plan gone.yaml")["changes"] == []
    output_of(host, "virtkit down gone.yaml")
    assert left(host, "gone") == []


def test_a_firewall_that_drops(host: RealHost) -> None:
    """As people write it: ssh gets in, nothing goes through."""
    rules = """
table inet mine {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif lo accept
        tcp dport 22 accept
    }
    chain forward { type filter hook forward priority filter; policy drop; }
}
"""
    assert (
        host.run("cat >/root/mine.nft && nft -f /root/mine.nft", stdin=rules.encode()).returncode
        == 0
    )
    box = "name: walled\nguests: {b: {type: lxc, memory: 192MiB, ready: {timeout: 40s}}}\n"
    write(host, box, "walled.yaml")
    text = output_of(host, "virtkit up walled.yaml", code=1)
    assert "gave it no address" in text
    assert "67" in text
    host.ssh("nft delete table inet mine")
    output_of(host, "virtkit restart walled.yaml")
    output_of(host, "virtkit down walled.yaml")


def test_a_pool_elsewhere_under_apparmor(host: RealHost) -> None:
    output_of(host, "sudo mkdir -p /data/vms && virsh -c qemu:///system pool-define-as big dir "
         "--target /data/vms && virsh -c qemu:///system pool-start big")  # fmt: skip
    text = DAY.replace("name: day", "name: big\nhosts: {local: {pool: big}}")
    write(host, text, "big.yaml")
    output_of(host, "virtkit up big.yaml")
    assert all(each["ready"] for each in data(host, "status big.yaml")["guests"])
    assert data(host, "plan big.yaml")["changes"] == []
    output_of(host, "virtkit down big.yaml")


def test_firewalld(host: RealHost) -> None:
    """libvirt has a zone of its own there."""
    output_of(host, "sudo apt-get -q update && sudo DEBIAN_FRONTEND=noninteractive apt-get -q -y "
         "install --no-install-recommends firewalld")  # fmt: skip
    output_of(host, "sudo systemctl restart libvirtd")
    box = "name: fire\nguests: {b: {type: lxc, memory: 192MiB}}\n"
    write(host, box, "fire.yaml")
    output_of(host, "virtkit up fire.yaml")
    output_of(host, "virtkit down fire.yaml; sudo systemctl stop firewalld; "
         "sudo systemctl restart libvirtd")  # fmt: skip


def test_socket_restarted_under_the_daemon(host: RealHost) -> None:
    """systemd refuses it and removes the socket; the cure that is printed mends it."""
    host.ssh("systemctl restart libvirtd.socket", check=False)
    time.sleep(1)
    done = host.run("bash -lc 'virtkit status 2>&1'", "alice")
    text = done.stdout.decode()
    if done.returncode != 0:
        assert "sudo systemctl restart libvirtd" in text
        output_of(host, "sudo systemctl restart libvirtd")
    output_of(host, "virtkit status")


def test_a_masked_daemon(host: RealHost) -> None:
    sockets = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket"
    host.ssh(f"systemctl stop {sockets} libvirtd; systemctl mask libvirtd.service {sockets}")
    text = output_of(host, "virtkit status", code=2)
    line = text.partition("cure: ")[2].partition("\n")[0]
    assert "unmask" in line
    output_of(host, line[line.index("sudo ") :].partition(";")[0])
    output_of(host, "virtkit status")
