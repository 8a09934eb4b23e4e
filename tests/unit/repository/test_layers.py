"""The layers of pyproject.toml: every module is in one, and an import that goes up is refused."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).parents[3]
CONTRACTS = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
(LAYERS,) = (each["layers"] for each in CONTRACTS if each["type"] == "layers")
ROOMS = [line.split(" | ") for line in LAYERS]
#: Of no layer: what starts it, its name, and rooms whose modules are in several.
OUTSIDE = {"virtkit", "virtkit.__main__", "virtkit.state", "virtkit.system", "virtkit.xml"}


def modules() -> list[str]:
    """All of virtkit's modules and packages."""
    paths = (each.relative_to(REPO).with_suffix("") for each in (REPO / "virtkit").rglob("*.py"))
    return sorted(".".join(each.parts).removesuffix(".__init__") for each in paths)


def test_every_module_is_in_a_layer() -> None:
    rooms = {name for line in ROOMS for name in line}
    lost = [
        each
        for each in modules()
        if each not in OUTSIDE and not any(f"{each}.".startswith(f"{room}.") for room in rooms)
    ]
    assert lost == [], "name it in pyproject.toml, as low as what it imports allows"


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says of a copy in which each room imports all that are above or beside it."""
    copy = tmp_path_factory.mktemp("planted")
    shutil.copy(REPO / "pyproject.toml", copy)
    shutil.copytree(
        REPO / "virtkit", copy / "virtkit", ignore=shutil.ignore_patterns("__pycache__")
    )
    for room, above in planted():
        path = copy / room.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        path.write_text(f"{path.read_text()}\nimport {above}\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=copy,
        env={"PYTHONPATH": str(copy), "PATH": "", "COLUMNS": "500"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def planted() -> list[tuple[str, str]]:
    """Each room with one of the layer above it, and those beside it."""
    pairs = [(line[0], above[0]) for above, line in itertools.pairwise(ROOMS)]
    pairs += [(line[0], each) for line in ROOMS for each in line[1:]]
    # what was once held for groups of rooms alone
    return [*pairs, ("virtkit.host", "virtkit.apply"), ("virtkit.state.record", "virtkit.plan")]


@pytest.mark.parametrize(("room", "above"), planted())
def test_an_import_that_goes_up_is_refused(refused: str, room: str, above: str) -> None:
    name = re.escape(room)
    assert re.search(rf"{name}(\.\w+)* -> {re.escape(above)}\b", refused), refused
