"""What virtkit remembers of KVM: that libvirt could not run the probe, for minutes only."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from virtkit.host import Host, probe


def test_what_says_nothing_of_kvm_is_not_remembered_for_long(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt's test driver has no function for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told: list[str] = []
    for _ in range(2):
        found = probe.verdict(host.connections, "/pool", told.append)
        assert not found.works
        assert "not supported by the connection driver" in found.why
    assert len(told) == 1, "a plan and the `up` after it ask once"
    assert probe.verdict(host.connections, "/pool", told.append, anew=True).passing
    assert len(told) == 2, "doctor looks again"
    (cache,) = tmp_path.rglob("kvm.json")
    known = json.loads(cache.read_text())
    assert known["until"] <= time.time() + probe.HOLD, "and for good nothing is kept of it"
    cache.write_text(json.dumps(known | {"until": time.time() - 1}))
    probe.verdict(host.connections, "/pool", told.append)
    assert len(told) == 3
