"""A new guest type is one file, one template and one word in the registry. Nothing else.

The test makes a copy of virtkit, adds exactly that, and brings a guest of the new type up on
libvirt's test driver.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
REPO = HERE.parent.parent
SPEC = """
networks: {front: {cidr: 10.20.0.0/24}}
guests:
  web:
    type: toy
    memory: 256MiB
    networks: [front]
    disks: [{name: data, size: 1GiB}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy, with the toy type in it."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("virtkit", "templates"):
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "toy_driver.py", folder / "virtkit" / "drivers" / "toy.py")
    shutil.copy(HERE / "toy.xml.j2", folder / "templates")
    registry = folder / "virtkit" / "drivers" / "__init__.py"
    text = registry.read_text()
    line, found = re.subn(r"(for driver in \([^)]*\w)\)", r"\1, TOY)", text)
    assert found == 1, "the registry's one line looks different now: mend this test"
    registry.write_text(f"from virtkit.drivers.toy import TOY\n{line}")
    (folder / "lab.yaml").write_text(SPEC)
    return folder


def run(folder: Path, *line: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{folder}:{HERE.parent}",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_DATA_HOME": str(folder / "data"),
        "HOME": str(folder),
    }
    return subprocess.run(
        [sys.executable, *line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def seen(folder: Path) -> dict[str, Any]:
    done = run(folder, str(HERE / "toy_run.py"))
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_copy_is_what_runs(folder: Path) -> None:
    done = run(folder, "-c", "import virtkit; print(virtkit.__file__)")
    assert done.stdout.startswith(str(folder))


def test_the_spec_knows_the_type(folder: Path, seen: dict[str, Any]) -> None:
    assert run(folder, "-m", "virtkit", "validate", "lab.yaml").returncode == 0
    assert '"toy"' in seen["schema"]
    assert seen["schemes"][-1] == "test"
    assert seen["reasons"] == []


def test_a_spec_that_asks_for_what_it_lacks_is_refused(folder: Path) -> None:
    text = SPEC.replace("memory: 256MiB", "graphics: vnc")
    (folder / "bad.yaml").write_text(text)
    done = run(folder, "-m", "virtkit", "validate", "bad.yaml")
    assert done.returncode == 2
    assert "a toy has no display" in done.stderr


def test_plan(seen: dict[str, Any]) -> None:
    assert [(each["object"], each["action"]) for each in seen["first"]] == [
        ("network/front", "create"),
        ("guest/web", "create"),
    ]


def test_apply_goes_as_far_as_the_test_driver_can(seen: dict[str, Any]) -> None:
    steps = seen["applied"]
    # the pool and the network are made at the same time
    assert sorted(steps[:4]) == [
        "network/front define done",
        "network/front start done",
        "pool ensure done",
        "pool record done",
    ]
    assert steps[4:] == [
        "guest/web define done",
        "guest/web volumes failed",
        "guest/web start skipped",
        "guest/web finish skipped",
    ]
    assert set(seen["states"]) == {"wanted"}


def test_what_was_left_half_made_is_unfinished(seen: dict[str, Any]) -> None:
    (change,) = seen["after"]
    assert (change["object"], change["action"]) == ("guest/web", "update")
    assert {each["cause"] for each in change["reasons"]} == {"unfinished"}
    fields = [each["field"] for each in change["reasons"]]
    assert (fields[0], fields[-1]) == ("state", "finished")
    assert "volume lab-web-root" in fields


def test_a_second_run_completes_it(seen: dict[str, Any]) -> None:
    assert not [each for each in seen["completed"] if not each.endswith(" done")]
    assert (seen["finished"], seen["state"]) == (True, "running")
    assert seen["second"] == []


def test_down_leaves_nothing(seen: dict[str, Any]) -> None:
    assert {each.rpartition(" ")[2] for each in seen["down"]} == {"done"}
    assert seen["left"] == []
