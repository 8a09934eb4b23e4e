"""A plan that somebody else overtook, on libvirt's test driver: what the run then says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import samples

from virtkit import access, api
from virtkit.spec import Spec
from virtkit.state import record

NOTE = "host gone is no longer in the spec"

pytestmark = pytest.mark.usefixtures("streams", "own_data")


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hosts that the caller has seen are this test's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def leave_host() -> None:
    """Has the caller's known_hosts name a host that is not in the spec."""
    (guest,) = samples.desired_of("name: ending\nguests: {a: {}}\n").guests
    made = replace(record.of_guest(guest, "/ending.yaml"), host_key="ssh-ed25519 AAAA")
    access.write_known_hosts("ending", [made], "gone")


def test_notes_are_told_where_nothing_is_left_to_change(spec: Spec) -> None:
    leave_host()
    plan = api.plan(spec)
    assert api.apply(spec, plan, consent=True, wait=False).ok
    report = api.apply(spec, plan, consent=True, wait=False)
    assert report.results == []
    (note,) = report.notes
    assert note.startswith(NOTE)


def test_notes_are_those_of_the_plan_that_was_carried_out(spec: Spec) -> None:
    plan = api.plan(spec)
    leave_host()
    assert api.change_state(spec, "start", wait=False).ok
    report = api.apply(spec, plan, consent=True, wait=False)
    assert "guest/web" not in [each.object for each in report.results]
    assert any(note.startswith(NOTE) for note in report.notes)
