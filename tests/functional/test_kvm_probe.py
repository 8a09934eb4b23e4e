"""What virtkit remembers of KVM: that libvirt could not run the probe, for minutes only."""

from __future__ import annotations

import json
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path

import libvirt
import pytest

from virtkit import api
from virtkit.errors import RequestError
from virtkit.host import Host, Remote, kvm_probe
from virtkit.spec import Spec
from virtkit.xml import render


def test_what_says_nothing_of_kvm_is_not_remembered_for_long(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt's test driver has no function for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines: list[str] = []
    for _ in range(2):
        verdict = kvm_probe.verdict(host.connections, "/pool", host.images_lock, lines.append)
        assert not verdict.works
        assert "not supported by the connection driver" in verdict.why
    assert len(lines) == 1, "a plan and the `up` after it ask once"
    assert kvm_probe.verdict(
        host.connections, "/pool", host.images_lock, lines.append, refresh=True
    ).temporary
    assert len(lines) == 2, "doctor looks again"
    (cache,) = tmp_path.rglob("kvm.json")
    known = json.loads(cache.read_text())
    assert known["until"] <= time.time() + kvm_probe.MIN_HOLD, "and for good nothing is kept of it"
    cache.write_text(json.dumps(known | {"until": time.time() - 1}))
    kvm_probe.verdict(host.connections, "/pool", host.images_lock, lines.append)
    assert len(lines) == 3


def test_each_host_has_its_own_and_its_own_boots(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine, as far as ssh tells: its boot is the one that counts."""
    boot, ssh = tmp_path / "boot", tmp_path / "bin/ssh"
    boot.write_text("first")
    ssh.parent.mkdir()
    answer = f"""printf '{{"boot": "%s", "counting": 0.1}}' "$(cat {boot})\""""
    ssh.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *python3*) {answer}; exit ;; *" -- "*) shift $(($# - 1)); sh -c "$1" ;; esac'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    other = Host("rack", "default", {"qemu": "test:///default"}, Remote("rack", "root@rack"))
    lines: list[str] = []
    for _ in range(2):
        for each in (host, other):
            kvm_probe.verdict(each.connections, "/pool", each.images_lock, lines.append)
    assert len(lines) == 2, "each is asked once"
    boot.write_text("second")
    kvm_probe.verdict(other.connections, "/pool", other.images_lock, lines.append)
    kvm_probe.verdict(host.connections, "/pool", host.images_lock, lines.append)
    assert len(lines) == 3


def test_what_can_not_be_kept_is_no_error(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines: list[str] = []
    for _ in range(2):
        assert not kvm_probe.verdict(
            host.connections, "/pool", host.images_lock, lines.append
        ).works
    assert len(lines) == 2


# --- a pool that is not active --------------------------------------------------------------------


@pytest.fixture
def pool(host: Host) -> libvirt.virStoragePool:
    """One that is off, as after a boot of the host where nobody set autostart."""
    pool = host.connections.get("qemu").storagePoolLookupByName("default")
    pool.destroy()
    return pool


def probing(host: Host) -> AbstractContextManager[libvirt.virStoragePool]:
    """The pool that a probe of KVM has."""
    return kvm_probe._pool(host.connections, "virtkit-probe-1", "/pool", host.images_lock)


def test_it_is_active_for_a_while(host: Host, pool: libvirt.virStoragePool) -> None:
    with probing(host) as used:
        assert used.isActive()
        with (
            pytest.raises(RequestError, match="is in use"),
            host.images_lock.acquire(0, shared=True),
        ):
            pass  # a run that begins waits, and looks again
    assert not pool.isActive()
    pool.create()
    with probing(host), host.images_lock.acquire(0, shared=True):
        pass  # it stays as it is
    assert pool.isActive()


def test_it_stays_active_while_runs_are_at_work(host: Host, pool: libvirt.virStoragePool) -> None:
    """They may have seen it so, and make their volumes now."""
    with host.images_lock.acquire(shared=True):
        with probing(host):
            pass
        pool.createXML(render.volume_xml("made", 4096, "raw"))
    assert pool.isActive()


def test_down_is_such_a_run(spec: Spec) -> None:
    host = Host()
    held: list[str] = []

    def look(event: api.Event) -> None:
        try:
            with host.images_lock.acquire(0):
                held.append("nobody")
        except RequestError:
            held.append("down")

    api.down(spec, run=api.RunOptions(tell=look))
    assert {*held} == {"down"}
