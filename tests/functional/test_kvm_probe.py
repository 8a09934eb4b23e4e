"""What virtkit remembers of KVM: that libvirt could not run the probe, for minutes only."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from virtkit.host import Host, Remote, kvm_probe


def test_what_says_nothing_of_kvm_is_not_remembered_for_long(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt's test driver has no function for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines: list[str] = []
    for _ in range(2):
        verdict = kvm_probe.verdict(host.connections, "/pool", lines.append)
        assert not verdict.works
        assert "not supported by the connection driver" in verdict.why
    assert len(lines) == 1, "a plan and the `up` after it ask once"
    assert kvm_probe.verdict(host.connections, "/pool", lines.append, refresh=True).temporary
    assert len(lines) == 2, "doctor looks again"
    (cache,) = tmp_path.rglob("kvm.json")
    known = json.loads(cache.read_text())
    assert known["until"] <= time.time() + kvm_probe.MIN_HOLD, "and for good nothing is kept of it"
    cache.write_text(json.dumps(known | {"until": time.time() - 1}))
    kvm_probe.verdict(host.connections, "/pool", lines.append)
    assert len(lines) == 3


def test_each_host_has_its_own_and_its_own_boots(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine, as far as ssh tells: its boot is the one that counts."""
    boot, ssh = tmp_path / "boot", tmp_path / "bin/ssh"
    boot.write_text("first")
    ssh.parent.mkdir()
    answer = f"""printf '{{"boot": "%s", "counting": 0.1}}' "$(cat {boot})\""""
    ssh.write_text(f'#!/bin/sh\ncase "$*" in *python3*) {answer} ;; esac\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    other = Host("rack", "default", {"qemu": "test:///default"}, Remote("rack", "root@rack"))
    lines: list[str] = []
    for _ in range(2):
        for each in (host, other):
            kvm_probe.verdict(each.connections, "/pool", lines.append)
    assert len(lines) == 2, "each is asked once"
    boot.write_text("second")
    kvm_probe.verdict(other.connections, "/pool", lines.append)
    kvm_probe.verdict(host.connections, "/pool", lines.append)
    assert len(lines) == 3


def test_what_can_not_be_kept_is_no_error(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines: list[str] = []
    for _ in range(2):
        assert not kvm_probe.verdict(host.connections, "/pool", lines.append).works
    assert len(lines) == 2
