"""A new guest type is one file, one template and one line in the registry. Nothing else.

The test makes a copy of virtkit, adds exactly that as CONTRIBUTING.md says it, and brings a guest
of the new type up on libvirt's test driver.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import recipes
from recipes import run

HERE = Path(__file__).parent
RECIPE = recipes.section("A new guest type")
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
    return with_toy(recipes.copied(tmp_path_factory.mktemp("copy")))


def with_toy(folder: Path) -> Path:
    shutil.copy(HERE / "toy_driver.py", folder / "virtkit" / "drivers" / "toy.py")
    shutil.copy(HERE / "toy.xml.j2", folder / "templates")
    assert recipes.follow(RECIPE, folder) == {"virtkit/drivers/__init__.py"}
    (folder / "lab.yaml").write_text(SPEC)
    return folder


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
    assert "test" in seen["schemes"]
    assert seen["reasons"] == []


@pytest.mark.parametrize("key", ["graphics: vnc", "kernel: {path: vmlinuz}"])
def test_a_spec_that_asks_for_what_it_lacks_is_refused(folder: Path, key: str) -> None:
    (folder / "bad.yaml").write_text(SPEC.replace("memory: 256MiB", key))
    done = run(folder, "-m", "virtkit", "validate", "bad.yaml")
    assert done.returncode == 2
    assert f"a guest of type toy can't have `{key.partition(':')[0]}:`" in done.stderr
    assert "why: a toy " in done.stderr


def test_it_goes_in_beside_a_type_that_came_after_xens(tmp_path: Path) -> None:
    """A type that is added behind the last one of today, in another place than the recipe's."""
    copy = recipes.copied(tmp_path)
    registry = copy / "virtkit" / "drivers" / "__init__.py"
    text = registry.read_text()
    later = "        XEN_HVM,\n        replace(QEMU, type='later'),\n"
    assert text.count("        XEN_HVM,\n") == 1
    text = text.replace("        XEN_HVM,\n", later)
    registry.write_text(
        text.replace("from virtkit", "from dataclasses import replace\nfrom virtkit", 1)
    )
    line = "from virtkit.drivers import DRIVERS; print(*DRIVERS)"
    done = run(with_toy(copy), "-c", line)
    assert done.stdout.split()[-3:] == ["xen-hvm", "toy", "later"], done.stderr


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
