"""A guest's own kernel: what stands in its files is part of what is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import samples

from virtkit.api._own_files import with_kernels
from virtkit.plan import Change, Plan, diff
from virtkit.plan.resolve import resolve
from virtkit.state.desired import Desired
from virtkit.state.observed import Observed

TEXT = """
name: lab
guests:
  web: {type: qemu, networks: [], kernel: {path: vmlinuz, initrd: initrd.img}}
  db: {type: qemu, networks: []}
"""
SPEC = "/lab.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vmlinuz").write_bytes(b"a kernel")
    (tmp_path / "initrd.img").write_bytes(b"an initrd")
    return tmp_path


def desired_of(folder: Path, observed: Observed) -> Desired:
    spec = samples.spec_of(TEXT, str(folder))
    desired = resolve(spec, samples.WITH_KVM, samples.decided(spec, observed))
    return with_kernels(desired, observed, None)


def up(folder: Path, change: Mapping[str, Any] | None = None) -> Observed:
    return samples.up(desired_of(folder, Observed("local")), SPEC, change)


def planned(folder: Path, observed: Observed, *, restart: bool = False) -> Plan:
    return diff(desired_of(folder, observed), observed, spec_path=SPEC, restart=restart)


def reasons_of(changes: tuple[Change, ...]) -> list[tuple[str, str, str, str]]:
    return [(c.object, r.field, r.cause, r.effect) for c in changes for r in c.reasons]


@pytest.mark.parametrize("name", ["vmlinuz", "initrd.img"])
@pytest.mark.parametrize(("state", "effect"), [("running", "restart"), ("stopped", "next-boot")])
def test_another_content_of_the_same_name_is_a_change(
    folder: Path, name: str, state: str, effect: str
) -> None:
    observed = up(folder, {"guests": {"web": {"state": state}}})
    (folder / name).touch()
    if state == "running":
        assert planned(folder, observed).changes == (), "it was only touched"
    (folder / name).write_bytes(b"a newer one")
    plan = planned(folder, observed)
    assert ("guest/web", "kernel", "spec", effect) in reasons_of(plan.changes)
    assert {each.object for each in plan.changes} == {"guest/web"}


def test_it_waits_until_somebody_restarts_the_guest(folder: Path) -> None:
    (folder / "vmlinuz").write_bytes(b"staged before")
    observed = up(folder, {"guests": {"web": {"record": {"staged": {"kernel": "spec"}}}}})
    plan = planned(folder, observed)
    assert plan.changes == ()
    assert reasons_of(plan.pending) == [("guest/web", "kernel", "spec", "restart")]
    assert reasons_of(planned(folder, observed, restart=True).changes) == reasons_of(plan.pending)
    booted = {"staged": {"kernel": "spec"}, "staged_in": "another run"}
    after = planned(folder, up(folder, {"guests": {"web": {"record": booted}}}))
    assert (after.changes, after.pending) == ((), ())


def test_a_file_that_is_gone_is_no_change(folder: Path) -> None:
    """A guest that stands needs it no more; one that is to be made says so itself."""
    observed = up(folder)
    (folder / "initrd.img").unlink()
    assert planned(folder, observed).changes == ()
