"""The collection virtkit.core and the playbooks beside it, as far as no guest is needed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_programs import COLLECTION, LOCAL_PLAY, PLAYBOOKS, REPO, ansible
from packaging.version import Version

PLUGINS = {
    "virtkit_environment": "module",
    "virtkit_guest": "module",
    "virtkit": "inventory",
    "exec": "connection",
}
PLAYS = sorted(path.name for path in PLAYBOOKS.glob("*.yml"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ansible") is None,
        reason="needs ansible-core: pip install virtkit[ansible]",
    ),
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, built and installed as a user would."""
    folder = tmp_path_factory.mktemp("galaxy")
    ansible("ansible-galaxy", "collection", "build", COLLECTION, folder=folder)
    (archive,) = folder.glob("virtkit-core-*.tar.gz")
    line = ["collection", "install", "--offline", archive, "-p", folder / "collections"]
    ansible("ansible-galaxy", *line, folder=folder, ANSIBLE_COLLECTIONS_PATH=str(folder))
    return folder / "collections"


def test_build_and_install(installed: Path, tmp_path: Path) -> None:
    manifest = installed / "ansible_collections/virtkit/core/MANIFEST.json"
    collection = json.loads(manifest.read_text())["collection_info"]
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert (collection["namespace"], collection["name"]) == ("virtkit", "core")
    assert Version(collection["version"]) == Version(
        project["version"]
    )  # Galaxy's is written otherwise
    line = ["collection", "list", "virtkit.core"]
    listed = ansible(
        "ansible-galaxy", *line, folder=tmp_path, ANSIBLE_COLLECTIONS_PATH=str(installed)
    )
    assert collection["version"] in listed.stdout


def test_documentation(installed: Path, tmp_path: Path) -> None:
    for name, kind in PLUGINS.items():
        line = ["-t", kind, "--json", f"virtkit.core.{name}"]
        printed = ansible(
            "ansible-doc", *line, folder=tmp_path, ANSIBLE_COLLECTIONS_PATH=str(installed)
        )
        page = json.loads(printed.stdout)[f"virtkit.core.{name}"]
        assert all(each["description"] for each in page["doc"]["options"].values())
        if kind == "module":
            assert {"error", "errors", "guests"} <= page["return"].keys()
        if kind != "connection":
            assert [each for each in yaml.safe_load_all(page["examples"]) if each]


def test_licenses_and_imports() -> None:
    """What subclasses Ansible's classes is under their license, and nothing imports virtkit."""
    for path in COLLECTION.rglob("*.py"):
        text = path.read_text()
        own = path.parent.name in ("modules", "module_utils")
        assert f"SPDX-License-Identifier: {'Apache-2.0' if own else 'GPL-3.0-or-later'}\n" in text
        assert "import virtkit" not in text
        assert "from virtkit" not in text


@pytest.mark.parametrize("play", PLAYS)
def test_playbooks(play: str, tmp_path: Path) -> None:
    ansible("ansible-playbook", PLAYBOOKS / play, "--syntax-check", folder=tmp_path)
    head = (PLAYBOOKS / play).read_text().partition("\n- ")[0]
    assert f"ansible-playbook playbooks/{play}" in head or f"playbooks/{play} " in head
    for word in ("# Needs: ", "# Changes: "):
        assert word in head, head


ENVIRONMENT, GUEST = "virtkit.core.virtkit_environment", "virtkit.core.virtkit_guest"
#: A module, its options, and words that its message has.
WRONG: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "spec": (
        *(ENVIRONMENT, {"spec": "wrong.yaml"}),
        [
            *(
                "there is no guest type 'vm'",
                "wrong.yaml:1:33 guests.web.type",
                "cure: did you ",
            ),
            "there is no key 'memroy' here",
        ],
    ),
    "spec in the task": (
        *(ENVIRONMENT, {"spec": {"name": "x", "guests": {"web": {"memory": "1"}}}}),
        ["<stdin>:", "guests.web.memory", "cure: "],
    ),
    "no file": (GUEST, {"spec": "none.yaml"}, ["there is no file", "none.yaml'", "cure: "]),
    "none": (ENVIRONMENT, {}, ["missing required arguments: spec"]),
    "empty": (GUEST, {"spec": ""}, ["no spec is named", "cure: give one"]),
    "both": (ENVIRONMENT, {"spec": ["lab.yaml", {"name": "x"}]}, ["neither a path nor a spec"]),
    "no guests": (
        *(ENVIRONMENT, {"spec": "lab.yaml", "state": "absent", "guests": []}),
        ["guests is empty", "cure: leave it out where all guests are meant"],
    ),
    "no such guest": (
        *(ENVIRONMENT, {"spec": "lab.yaml", "guests": ["wbe"]}),
        ["no guest 'wbe'", "cure: "],
    ),
    "restart": (
        *(ENVIRONMENT, {"spec": "lab.yaml", "state": "absent", "restart": True}),
        ["restart has no meaning with state=absent"],
    ),
    "volumes": (
        *(ENVIRONMENT, {"spec": "lab.yaml", "volumes": True}),
        ["volumes has no meaning with state=present"],
    ),
    "wait": (
        *(ENVIRONMENT, {"spec": "lab.yaml", "state": "planned", "wait": False}),
        ["wait has no meaning with state=planned"],
    ),
    "folder": (ENVIRONMENT, {"spec": "lab.yaml", "chdir": "/none"}, ["there is no folder /none"]),
    "command": (
        *(GUEST, {"spec": "lab.yaml", "executable": "/none/virtkit"}),
        ["there is no command /none/virtkit", "cure: run scripts/up"],
    ),
    "two things": (
        *(GUEST, {"spec": "lab.yaml", "state": "running", "command": "true"}),
        ["state, command and console exclude each other"],
    ),
    "timeout": (
        *(GUEST, {"spec": "lab.yaml", "state": "running", "timeout": 3}),
        ["timeout goes with state=stopped or restarted"],
    ),
    "stdin": (GUEST, {"spec": "lab.yaml", "stdin": "x"}, ["stdin goes with command"]),
    "state": (GUEST, {"spec": "lab.yaml", "state": "off"}, ["value of state must be one of"]),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the modules answered to wrong options, by case."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "wrong.yaml").write_text("guests: {web: {memroy: 1, type: vm}}\n")
    (folder / "lab.yaml").write_text("guests: {web: {}}\n")
    tasks = []
    for number, (module, options, _) in enumerate(WRONG.values()):
        task = {module: options, "ignore_errors": True, "register": f"answer_{number}"}
        tasks.append("    - " + json.dumps(task) + "\n")
    names = json.dumps([f"answer_{number}" for number in range(len(WRONG))])
    content = "{{ names | map('extract', vars) | to_json }}"
    tasks.append(
        f'    - copy: {{dest: answers, content: "{content}"}}\n      vars: {{names: {names}}}\n'
    )
    (folder / "play.yml").write_text(LOCAL_PLAY + "".join(tasks))
    ansible("ansible-playbook", "play.yml", folder=folder)
    return dict(zip(WRONG, json.loads((folder / "answers").read_text()), strict=True))


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options(case: str, refusals: dict[str, Any]) -> None:
    result = refusals[case]
    assert result["failed"]
    assert not result.get("changed")
    for words in WRONG[case][2]:
        assert words in result["msg"]
    if "error" in result:
        assert result["error"] == result["errors"][0]
        assert result["error"].keys() == {"what", "where", "why", "cure", "code"}
        assert result["error"]["code"] == 2
        assert result["error"]["cure"]


def test_the_command_is_found(tmp_path: Path) -> None:
    """The one beside Python first, then PATH, then where scripts/up puts it."""
    text = "import virtkit; print(virtkit.find_command())"
    home = tmp_path / ".local/bin"
    path = tmp_path / "in path"

    def command_of(python: str) -> str:
        done = subprocess.run(
            [python, "-B", "-c", text],
            cwd=COLLECTION / "plugins/module_utils",
            capture_output=True,
            text=True,
            check=False,
            env={"HOME": str(tmp_path), "PATH": f"{path}:{os.defpath}"},
        )
        return done.stdout.strip() or done.stderr.splitlines()[-1]

    other = "/usr/bin/python3"
    assert command_of(sys.executable) == str(Path(sys.executable).with_name("virtkit"))
    if not Path("/usr/local/bin/virtkit").exists():
        assert "the command virtkit is not on this machine" in command_of(other)
    for folder in (home, path):
        folder.mkdir(parents=True)
        (folder / "virtkit").write_text("#!/bin/sh\n")
        (folder / "virtkit").chmod(0o755)
        assert command_of(other) == str(folder / "virtkit")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("spec: wrong.yaml", ["there is no guest type 'vm'", "wrong.yaml:1:", "cure: "]),
        ("spec: none.yaml", ["there is no file", "cure: "]),
        ("executable: /none/virtkit", ["there is no command /none/virtkit"]),
        ("spce: lab.yaml", ["spce"]),
    ],
)
def test_wrong_sources(source: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("guests: {web: {type: vm}}\n")
    path = tmp_path / "inventory.virtkit.yml"
    path.write_text(f"plugin: virtkit.core.virtkit\n{source}\n")
    settings = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"}
    line = ["-i", path, "--list"]
    done = ansible("ansible-inventory", *line, folder=tmp_path, code=None, **settings)
    assert done.returncode != 0
    for each in words:
        assert each in done.stderr
    assert "Traceback" not in done.stderr
