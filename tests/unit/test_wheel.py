"""The wheel: what it carries, and that it works where nothing else is installed."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]

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
    """The names under which the files of a folder stand in the wheel, as git sees them."""
    listed = run("git", "ls-files", "-co", "--exclude-standard", ".", cwd=folder).splitlines()
    return {f"{inside}/{name}" for name in listed if (folder / name).is_file()}


def test_it_carries_the_package_and_the_folders_beside_it(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = carried(REPO / "virtkit", "virtkit")
    for beside in ("templates", "playbooks"):
        if (REPO / beside).is_dir():
            expected |= carried(REPO / beside, f"virtkit/{beside}")
    assert expected - names == set()
    strangers = {name for name in names - expected if ".dist-info/" not in name}
    assert strangers == set()


def test_it_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    assert "Usage" in run(programs / "virtkit", "--help", cwd=tmp_path)

    # A spec that needs a template, from a folder that is not the checkout.
    spec = tmp_path / "virtkit.yaml"
    spec.write_text("name: wheel\nguests:\n  one: {type: qemu, image: debian-12}\n")
    look_up = "from virtkit import render; print(render.__file__)"
    assert str(tmp_path) in run(programs / "python", "-c", look_up, cwd=tmp_path)
    assert "<domain" in run(programs / "virtkit", "render", "virtkit.yaml", cwd=tmp_path)
