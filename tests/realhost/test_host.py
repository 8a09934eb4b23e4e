"""host.yml on a Debian host as it is installed, as an ordinary user with sudo from elsewhere.

    .venv/bin/python -m pytest -s tests/realhost/test_host.py     (half an hour; RELEASE=trixie)

Not in the sandbox, and not in CI, which has the same on a host that has its packages
(tests/realhost/prepared.py). In order: each test begins with what the last one left.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from realhost import realhost
from realhost.person import missing, playbook
from realhost.realhost import RealHost

pytestmark = [pytest.mark.timeout(3600), pytest.mark.long]

RELEASE = os.environ.get("RELEASE", realhost.RELEASES[0])
POOL = "virsh -c qemu:///system pool-dumpxml data | grep -F '<path>/data/volumes</path>'"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHost]:
    started = realhost.start(tmp_path_factory.mktemp("realhost"), RELEASE, "bare")
    try:
        started.give()
        yield started
    finally:
        started.stop()


def test_check_mode_touches_nothing(host: RealHost) -> None:
    before = missing(host)
    assert before[0] == "packages"
    assert playbook(host, "--check")["changed"] >= 4
    assert missing(host) == before


def test_it_gives_all_that_lacks(host: RealHost) -> None:
    assert playbook(host)["changed"] >= 8
    assert missing(host) == []


def test_again_and_in_check_mode_it_changes_nothing(host: RealHost) -> None:
    assert playbook(host)["changed"] == 0
    assert playbook(host, "--check")["changed"] == 0


def test_it_starts_a_daemon_that_missed_its_hook(host: RealHost) -> None:
    """As where it was killed before the restart."""
    host.ssh("rm /run/virtkit/hook")
    assert missing(host) == ["restart"]
    assert playbook(host, "-e", "virtkit_types=lxc")["changed"] == 1
    assert missing(host) == []


def test_a_pool_elsewhere_and_tls(host: RealHost, tmp_path: Path) -> None:
    """AppArmor lets its helper look there; who has a certificate of the CA gets in by TLS."""
    words = ["-e", "libvirt_pool=data", "-e", "libvirt_pool_path=/data/volumes"]
    words += ["-e", "libvirt_tls=true", "-e", f"libvirt_tls_folder={tmp_path}/tls"]
    words += ["-e", "virtkit_types=kvm"]
    assert playbook(host, *words)["changed"] >= 8
    host.ssh(POOL)
    host.ssh("grep -rF /data/volumes/ /etc/apparmor.d/local")
    assert playbook(host, *words)["changed"] == 0
    # the host itself is the client: nothing but ssh comes in from outside
    archive = subprocess.run(
        [
            "tar",
            "-C",
            tmp_path / "tls",
            "-cf",
            "-",
            "cacert.pem",
            "clientcert.pem",
            "clientkey.pem",
        ],
        capture_output=True,
        check=True,
    ).stdout
    packed = host.run("mkdir -m 700 ~/tls && tar -C ~/tls -xf -", stdin=archive)
    assert packed.returncode == 0, packed.stderr
    uri = "virsh -c 'qemu+tls://127.0.0.1/system?pkipath=/root/{}' uri"
    assert "qemu+tls" in host.ssh(uri.format("tls"))
    host.ssh("mkdir -m 700 ~/none && cp ~/tls/cacert.pem ~/none")
    assert host.run(uri.format("none")).returncode != 0
