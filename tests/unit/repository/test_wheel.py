"""The wheel: what it carries, and that it works where nothing else is installed."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[3]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=REPO)
    (built,) = folder.glob("*.whl")
    return built


def carried(folder: Path, inside: str) -> set[str]:
    """The names under which the files of a folder are to stand in the wheel."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {f"{inside}/{path}" for path in files if "__pycache__" not in path.parts}


def test_it_carries_the_package_and_the_folders_beside_it(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = carried(REPO / "virtkit", "virtkit")
    for beside in ("templates", "playbooks"):
        if (REPO / beside).is_dir():
            expected |= carried(REPO / beside, f"virtkit/{beside}")
    assert expected - names == set()
    strangers = {name for name in names - expected if ".dist-info/" not in name}
    assert strangers == set()


def test_what_host_yml_installs_is_carried_once(wheel: Path) -> None:
    """The role finds it from its own folder."""
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("programs/lxc_hook.py", "80-virtkit.link"):
        assert [each for each in names if each.endswith(f"/{name}")] == [f"virtkit/host/{name}"]
    assert "virtkit/playbooks/roles/lxc/tasks/main.yml" in names


def test_it_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    assert "usage: virtkit" in run(programs / "virtkit", "--help", cwd=tmp_path)

    # `init` writes from a template; the folder is not the checkout.
    empty = tmp_path / "empty"
    empty.mkdir()
    run(programs / "virtkit", "init", cwd=empty)
    run(programs / "virtkit", "validate", "virtkit.yaml", cwd=empty)
