"""What people import: virtkit's public names, and the page that tells of them."""

from __future__ import annotations

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


@pytest.mark.parametrize("door", [virtkit, access, ansible, api, images, spec])
def test_every_public_name_is_there(door: object) -> None:
    names = door.__all__  # type: ignore[attr-defined]  # a module has one
    assert set(vars(door)["_sources"]) == set(names)
    assert [each for each in names if getattr(door, each) is None] == []
    assert set(names) <= set(dir(door))


def test_the_page_tells_of_every_public_name() -> None:
    told = set(re.findall(r"`([A-Za-z_]+)`", PAGE)) | set(re.findall(r"virtkit\.(\w+)\(", PAGE))
    assert set(virtkit.__all__) - told == set()
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


def test_a_lock_is_waited_for_as_long_as_the_door_says() -> None:
    assert lock.TIMEOUT == api.LOCK_TIMEOUT
