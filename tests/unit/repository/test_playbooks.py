"""The playbook that makes hosts, read: its roles' arguments and its files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from virtkit.host.machine import preparation
from virtkit.host.programs import lxc_hook
from virtkit.system.commands import PROGRAMS

PLAYBOOKS = Path(__file__).parents[3] / "playbooks"
ROLES = sorted(each.name for each in (PLAYBOOKS / "roles").iterdir())


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path) if path.exists() else {}


def test_host_is_a_playbook() -> None:
    line = [sys.executable, "-m", "ansible", "playbook", "--syntax-check", PLAYBOOKS / "host.yml"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_all_variables_of_a_role_are_documented(role: str) -> None:
    folder = PLAYBOOKS / "roles" / role
    options = yaml(folder / "meta/argument_specs.yml")["argument_specs"]["main"].get("options", {})
    defaults = yaml(folder / "defaults/main.yml")
    assert options.keys() == defaults.keys()
    for name, option in options.items():
        assert option["description"]
        given = str(defaults[name])
        assert "default" not in option or "{{" in given or option["default"] == defaults[name]
    assert {f"{role}_"} >= {name[: len(role) + 1] for name in options}
    documented = (PLAYBOOKS.parent / "docs/hosts.md").read_text()
    assert [name for name in options if f"`{name}`" not in documented] == []


def test_its_numbers_are_those_that_are_looked_for() -> None:
    variables = yaml(PLAYBOOKS / "roles/lxc/vars/main.yml")
    given = yaml(PLAYBOOKS / "roles/lxc/defaults/main.yml")["lxc_inotify_instances"]
    assert variables["lxc_inotify_enough"] == preparation.INOTIFY_ENOUGH < given
    assert f"\nINTERFACE = {lxc_hook.INTERFACE}\n" in preparation.HOOK_FILE.read_text(), (
        "what it looks for"
    )


def test_what_virtkit_starts_is_among_the_packages() -> None:
    """Those that every Debian has aside."""
    packages = {*preparation.packages()}
    assert {each.package for each in PROGRAMS.values()} - packages == {"apt", "tar"}
