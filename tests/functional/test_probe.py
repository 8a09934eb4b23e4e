"""What virtkit remembers of KVM: a verdict, and never that libvirt could not run the probe."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtkit.host import Host, probe


def test_what_says_nothing_of_kvm_is_not_remembered(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt's test driver has no function for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told: list[str] = []
    for _ in range(2):
        found = probe.verdict(host.connections, "/pool", told.append)
        assert not found.works
        assert "not supported by the connection driver" in found.why
    assert len(told) == 2, "it was looked at again"
    assert not list(tmp_path.rglob("kvm.json"))
