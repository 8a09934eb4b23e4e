"""What people import: virtkit's public names, and the page that tells of them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import virtkit
from virtkit import access, ansible, api, images, spec
from virtkit.host import lock

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs/api.md").read_text()


@pytest.mark.parametrize("package", [virtkit, access, ansible, api, images, spec])
def test_every_public_name_is_there(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]  # a module has one
    assert set(vars(package)["_sources"]) == set(names)
    assert [each for each in names if getattr(package, each) is None] == []
    assert set(names) <= set(dir(package))


def test_the_page_tells_of_every_public_name() -> None:
    documented = set(re.findall(r"`([A-Za-z_]+)`", PAGE)) | set(
        re.findall(r"virtkit\.(\w+)\(", PAGE)
    )
    assert set(virtkit.__all__) - documented == set()
    assert set(re.findall(r"virtkit\.([A-Za-z_]+)", PAGE)) - {*virtkit.__all__} == set()


def test_a_room_does_not_hide_a_function_of_its_name() -> None:
    program = (
        "import virtkit.plan.changes, virtkit.apply.engine, virtkit.api.status, virtkit\n"
        "from virtkit import api, apply, plan\n"
        "from virtkit.plan import Plan\n"
        "assert api.status is virtkit.status, api.status\n"
        "assert virtkit.plan is plan is api.plan, virtkit.plan\n"
        "print(plan.__name__, apply.__name__, Plan.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("plan apply Plan\n", "")


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'virtkit' has no attribute 'nosuch'"):
        virtkit.nosuch  # type: ignore[attr-defined]  # noqa: B018 - there is none, and asking is the test


def test_type_checkers_may_read_it() -> None:
    assert (Path(virtkit.__file__).parent / "py.typed").is_file()


def test_a_lock_is_waited_for_as_long_as_the_default_says() -> None:
    assert lock.TIMEOUT == api.LOCK_TIMEOUT


def kind_and_name(name: str) -> tuple[int, str]:
    """Constants, classes, functions: the order that ruff (RUF022) keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_the_api_is_sorted() -> None:
    assert api.__all__ == sorted(api.__all__, key=kind_and_name)
    assert len(set(api.__all__)) == len(api.__all__)


def test_the_api_is_complete() -> None:
    tree = ast.parse(Path(str(api.__file__)).read_text())
    seen = {
        each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("virtkit.")
        for each in node.names
    }
    loaded = set(vars(api)["_sources"])
    assert seen - {"load_when_used"} == loaded == set(api.__all__)


def test_the_api_has_docstrings() -> None:
    undescribed = [
        name
        for name in api.__all__
        if callable(getattr(api, name))
        and getattr(api, name).__module__.startswith("virtkit")
        and not getattr(api, name).__doc__
    ]
    assert undescribed == []


def test_the_command_line_uses_the_api() -> None:
    """It takes what it does from api, not from the rooms below."""
    allowed = tuple(
        f"virtkit.{each}"
        for each in ("_dataclass", "api", "cli", "drivers", "errors", "spec", "plan", "system")
    )
    folder = Path(api.__file__).parent.parent / "cli"
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("virtkit."):
                assert node.module is not None
                assert node.module.startswith(allowed), f"{path.name}: {node.module}"
