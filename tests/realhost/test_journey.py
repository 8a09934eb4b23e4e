"""From a Debian host as it is installed to guests, and the day after: as its users do it.

    .venv/bin/python -m pytest tests/realhost/test_journey.py     (an hour; RELEASE=trixie)

Not in the sandbox, and not in CI: the emulated host asks the machine's own sources for packages.
The tests are in order, each begins with what the last one left; docs/reliability.md has what was
seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from realhost import realhost
from realhost.person import SPEC, data, kinds, left, make_spec, output_of
from realhost.realhost import RealHost

pytestmark = [pytest.mark.timeout(3600), pytest.mark.long]

RELEASE = os.environ.get("RELEASE", realhost.RELEASES[0])
#: A service whose orderly end leaves a mark.
SERVICE = """
cat >/etc/systemd/system/mark.service <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/usr/bin/touch /var/ended
[Install]
WantedBy=multi-user.target
END
systemctl enable --now mark.service
"""
OTHER = "name: other\nguests: {o: {type: lxc, memory: 192MiB}}\n"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHost]:
    started = realhost.start(tmp_path_factory.mktemp("realhost"), RELEASE, "bare")
    try:
        started.give()
        make_spec(started)
        yield started
    finally:
        started.stop()


BOTH = {"vm": ("kvm", True), "box": ("lxc", True)}


def test_the_first_command(host: RealHost) -> None:
    began = time.monotonic()
    text = output_of(host, f"virtkit/scripts/up {SPEC}")
    print(f"took {time.monotonic() - began:.0f} s")
    assert "new in the group libvirt" in text
    assert "virtkit ssh" in text
    # a new login has the group, and finds virtkit
    assert kinds(host) == BOTH
    assert data(host, f"plan {SPEC}")["changes"] == []


def test_a_second_up_changes_nothing(host: RealHost) -> None:
    began = time.monotonic()
    assert "nothing to change" in output_of(host, f"cd /; ~/virtkit/scripts/up {SPEC}")
    print(f"took {time.monotonic() - began:.0f} s")


def test_doctor_finds_nothing_missing(host: RealHost) -> None:
    checks = data(host, "doctor")["checks"]
    bad = [
        each for each in checks if each["ok"] is False and not each["name"].startswith("type xen")
    ]
    assert [each for each in bad if not each["name"].startswith("libvirt xen")] == []
    names = {each["name"] for each in checks}
    assert not {"udev", "libvirt-guests", "inotify"} & names, "scripts/up prepared this host"


def test_a_reboot_ends_containers_in_order(host: RealHost) -> None:
    output_of(host, f"virtkit ssh {SPEC} box -- 'sudo sh -s' <<'SCRIPT'\n{SERVICE}\nSCRIPT")
    host.reboot()
    assert {each["state"] for each in data(host, f"status {SPEC}")["guests"]} == {"stopped"}
    output_of(host, f"virtkit up {SPEC}")
    output_of(host, f"virtkit ssh {SPEC} box -- test -e /var/ended")
    assert kinds(host) == BOTH
    assert data(host, f"plan {SPEC}")["changes"] == []


def test_a_reload_of_nftables(host: RealHost) -> None:
    output_of(host, "sudo systemctl reload nftables")
    output_of(host, f"cat >~/other.yaml <<'END'\n{OTHER}\nEND")
    text = output_of(host, "virtkit up ~/other.yaml", code=1)
    assert "systemctl restart libvirtd" in text
    assert "rules" in output_of(host, "sudo ~/.local/bin/virtkit doctor | grep -A1 rules")
    output_of(host, "sudo systemctl restart libvirtd")
    output_of(host, "virtkit up ~/other.yaml")
    output_of(host, "virtkit ssh ~/other.yaml o -- getent hosts o")
    output_of(host, "virtkit down ~/other.yaml")
    assert kinds(host) == BOTH


def test_an_own_key_that_comes_later(host: RealHost) -> None:
    output_of(host, "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")
    for guest in BOTH:
        output_of(host, f"virtkit ssh {SPEC} {guest} -- true")
    assert data(host, f"plan {SPEC}")["changes"] == []
    output_of(
        host, f"sed 's|ready:|ssh_keys: [~/.ssh/id_ed25519.pub], ready:|' {SPEC} >~/keys.yaml"
    )
    changes = data(host, "plan ~/keys.yaml")["changes"]
    assert {each["effect"] for each in changes} == {"live"}
    output_of(host, "virtkit up ~/keys.yaml")
    output_of(host, "mv ~/.local/share/virtkit/hello/id_ed25519 ~/old")
    for guest in BOTH:
        output_of(host, f"virtkit ssh ~/keys.yaml {guest} -- true")


def test_another_user(host: RealHost) -> None:
    """By the same spec in a place of his own. It names no keys, so hers are the default."""
    output_of(host, f"virtkit up {SPEC}")
    host.ssh("usermod -aG libvirt bob; chmod 755 /home/alice")
    virtkit = "/home/alice/virtkit/.venv/bin/virtkit"
    output_of(host, "cp /home/alice/mine.yaml ~/hello.yaml", "bob")
    began = time.monotonic()
    text = output_of(host, f"{virtkit} up ~/hello.yaml --yes", "bob")
    assert time.monotonic() - began < 600, "it is ready, whoever it lets in"
    assert "accepts only" in text
    assert "does not let you in" in output_of(
        host, f"{virtkit} ssh ~/hello.yaml box -- true", "bob", 255
    )
    text = output_of(host, f"{virtkit} down ~/hello.yaml", "bob", 2)
    assert "/home/alice/" in text
    assert "--yes" in text


def test_a_user_outside_of_the_group(host: RealHost) -> None:
    host.ssh("gpasswd -d bob libvirt")
    began = time.monotonic()
    text = output_of(host, "/home/alice/virtkit/.venv/bin/virtkit plan ~/hello.yaml", "bob", 2)
    assert "usermod -aG libvirt" in text
    assert time.monotonic() - began < 60


def test_down_leaves_nothing(host: RealHost) -> None:
    output_of(host, f"virtkit down {SPEC} --yes")
    assert left(host, "hello") == []
