"""A plan tells which file of the spec a reason comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
import samples

from virtkit.api._positions import with_positions
from virtkit.cli import output
from virtkit.plan import Plan, diff
from virtkit.plan.resolve import resolve
from virtkit.spec import load
from virtkit.state.desired import Decided

BEFORE = """
name: lab
guests:
  web:
    type: qemu
    networks: []
    disks: [{name: a, size: 1GiB}]
    files: [{path: /etc/a, content: a}, {path: /etc/a.conf, content: a}, {path: /c, content: c}]
"""
BASE = """
defaults:
  networks: []
  memory: 2GiB
networks:
  front: {domain: lab.test}
"""
MAIN = """\
name: lab
include: [sizes/base.yaml]
guests:
  web:
    type: qemu
    cpus: 2
    disks:
      - {name: b, size: 1GiB}
      - {name: a, size: 2GiB}
    files:
      - {path: /etc/a.conf, content: b}
      - {path: /etc/b, content: b}
      - {path: /etc/a, content: a, mode: "0600"}
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(tmp_path)
    Path("sizes").mkdir()
    Path("sizes/base.yaml").write_text(BASE)
    Path("lab.yaml").write_text(MAIN)
    spec = load("lab.yaml", settings=["guests.web.description=set here"])
    observed = samples.up(samples.desired_of(BEFORE), "/specs/lab.yaml")
    desired = resolve(spec, samples.WITH_KVM, Decided())
    return with_positions(diff(desired, observed, spec_path="/specs/lab.yaml"), spec)


def test_each_reason_has_its_place(plan: Plan) -> None:
    (change,) = (each for each in plan.changes if each.object == "guest/web")
    assert {each.field: each.where for each in change.reasons if each.cause == "spec"} == {
        "cpus": "lab.yaml:6:11",
        "description": "--set",
        "disks.a.size": "lab.yaml:9:25",
        "disks.b": "lab.yaml:8:9",
        "files./c": "lab.yaml:10:5",
        "files./etc/a.mode": "lab.yaml:13:42",
        "files./etc/a.conf.content": "lab.yaml:11:38",
        "files./etc/b": "lab.yaml:12:9",
        "memory": "sizes/base.yaml:4:11",
    }


def test_people_see_those_of_other_files(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    output.plan(plan)
    lines = capsys.readouterr().out.splitlines()
    assert next(e for e in lines if "memory" in e).endswith("  sizes/base.yaml:4:11")
    assert next(e for e in lines if "cpus" in e).endswith("1 -> 2")
